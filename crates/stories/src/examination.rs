//! Questions for an evaluation: as many of each group, and, in groups of two answers, as many of each answer. So neither a
//! frequent kind of question nor a frequent answer decides the result.

use super::generator::{StoryGenerator, StorySettings};
use super::part::Part;
use super::question::{Answer, Question, QuestionKind};
use aloud_tasks::error::TasksError;
use aloud_tasks::item::Item;
use aloud_tasks::task::{ExaminationItem, ItemKind};

/// Stories of each group and answer are numbered from a multiple of this.
const STORIES_A_SLOT: u64 = 10_000_000;

/// What a question of an evaluation is about: where somebody will search for something, or thinks that another will; whether
/// somebody thinks that another knows a piece of news; other questions whose answer is yes or no.
pub(crate) const GROUPS: [(ItemKind, &[QuestionKind]); 4] = [
    (ItemKind { name: "first-order-place", is_binary: false }, &[QuestionKind::Belief1Box, QuestionKind::Belief1Room]),
    (ItemKind { name: "second-order-place", is_binary: false }, &[QuestionKind::Belief2Box, QuestionKind::Belief2Room]),
    (ItemKind { name: "knows-about", is_binary: true }, &[QuestionKind::Know2]),
    (ItemKind { name: "yes-no", is_binary: true }, &[QuestionKind::Know1, QuestionKind::State1, QuestionKind::State2]),
];

/// `n` questions of a part, the groups and their answers in turn, each about a story of its own. The items of a smaller number
/// are the beginning of those of a larger one.
///
/// # Errors
/// If a story cannot be made.
pub(crate) fn examination(
    n: usize,
    seed: u64,
    part: Part,
    task: &'static str,
) -> Result<Vec<ExaminationItem>, TasksError> {
    let generator = StoryGenerator::new(StorySettings::default(), seed)?;
    let mut next_story = [0; 2 * GROUPS.len()];
    let mut items = Vec::with_capacity(n);
    for number in 0..n {
        let (kind, questions) = GROUPS[number % GROUPS.len()];
        let is_second = number / GROUPS.len() % 2 == 1;
        let wanted = kind.is_binary.then_some(if is_second { Answer::No } else { Answer::Yes });
        let slot = number % GROUPS.len() + if wanted == Some(Answer::No) { GROUPS.len() } else { 0 };
        let fits = |question: &Question| {
            questions.contains(&question.kind()) && wanted.is_none_or(|wanted| wanted == question.answer)
        };
        let item = loop {
            let story = generator.story(slot as u64 * STORIES_A_SLOT + next_story[slot], Some(part))?;
            next_story[slot] += 1;
            if let Some(item) = story.questions.iter().position(fits).and_then(|at| story.item_of(at)) {
                break item;
            }
        };
        // Solutions are compared by the numbers of their steps; those of stories have none.
        let item = Item { solution: None, ..item };
        items.push(ExaminationItem { kind: Some(kind), ..ExaminationItem::of(item, task, number as u64) });
    }
    Ok(items)
}
