//! Questions for an evaluation: as many of each group, and, in groups of two answers, as many of each answer. So neither a
//! frequent kind of question nor a frequent answer decides the result.

use super::generator::{StoryGenerator, StorySettings};
use super::part::Part;
use super::question::{Answer, Question, QuestionKind};
use super::story::Story;
use aloud_tasks::error::TasksError;
use aloud_tasks::item::Item;

/// Stories of each group and answer are numbered from a multiple of this.
const STORIES_A_SLOT: u64 = 10_000_000;

/// What a question of an evaluation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuestionGroup {
    /// Where somebody will search for something.
    FirstOrderPlace,
    /// Where somebody thinks that another will search.
    SecondOrderPlace,
    /// Whether somebody thinks that another knows a piece of news.
    KnowsAbout,
    /// Whether somebody knows something, or thinks that another does; yes or no.
    YesNo,
}

impl QuestionGroup {
    /// All groups.
    pub const ALL: [Self; 4] = [Self::FirstOrderPlace, Self::SecondOrderPlace, Self::KnowsAbout, Self::YesNo];

    /// The name in files, such as `first-order-place`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstOrderPlace => "first-order-place",
            Self::SecondOrderPlace => "second-order-place",
            Self::KnowsAbout => "knows-about",
            Self::YesNo => "yes-no",
        }
    }

    /// Whether there are only two answers.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::KnowsAbout | Self::YesNo)
    }

    fn has(self, kind: QuestionKind) -> bool {
        match self {
            Self::FirstOrderPlace => matches!(kind, QuestionKind::Belief1Box | QuestionKind::Belief1Room),
            Self::SecondOrderPlace => matches!(kind, QuestionKind::Belief2Box | QuestionKind::Belief2Room),
            Self::KnowsAbout => kind == QuestionKind::Know2,
            Self::YesNo => matches!(kind, QuestionKind::Know1 | QuestionKind::State1 | QuestionKind::State2),
        }
    }
}

/// A question of an evaluation with the story that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct ExaminationItem {
    /// Story and question, and the true answer.
    pub item: Item,
    /// What it is about.
    pub group: QuestionGroup,
}

/// `n` questions of a part, the groups and their answers in turn, each about a story of its own. The items of a smaller number
/// are the beginning of those of a larger one.
///
/// # Errors
/// If a story cannot be made.
pub fn examination(n: usize, seed: u64, part: Part) -> Result<Vec<ExaminationItem>, TasksError> {
    let generator = StoryGenerator::new(StorySettings::default(), seed)?;
    let n_groups = QuestionGroup::ALL.len();
    let mut next_story = vec![0; 2 * n_groups];
    let mut items = Vec::with_capacity(n);
    for number in 0..n {
        let group = QuestionGroup::ALL[number % n_groups];
        let wanted = match (group.is_binary(), number / n_groups % 2) {
            (false, _) => None,
            (true, 0) => Some(Answer::Yes),
            (true, _) => Some(Answer::No),
        };
        let slot = number % n_groups + if wanted == Some(Answer::No) { n_groups } else { 0 };
        let fits = |question: &Question| group.has(question.kind()) && wanted.is_none_or(|it| it == question.answer);
        let item = loop {
            let story: Story = generator.story(slot as u64 * STORIES_A_SLOT + next_story[slot], Some(part))?;
            next_story[slot] += 1;
            if let Some(at) = story.questions.iter().position(fits) {
                break story.item_of(at);
            }
        };
        items.extend(item.map(|item| ExaminationItem { item, group }));
    }
    Ok(items)
}
