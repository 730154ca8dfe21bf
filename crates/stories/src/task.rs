//! Questions about stories as a task: endless, one question about each story.

use std::collections::BTreeMap;
use std::ops::Range;

use aloud_tasks::answer_form::{PromptForm, THINK_CLOSE, THINK_OPEN};
use aloud_tasks::error::{RewardError, TasksError};
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::{Item, Split};
use aloud_tasks::reward::Completion;
use aloud_tasks::task::{Amount, ExaminationItem, Score, Task};

use super::examination::examination;
use super::generator::{StoryGenerator, StorySettings};
use super::part::Part;
use super::scoring::{form, is_right, story_answer, story_reward};

/// How stories are asked for. Written below a story and its question.
pub const STORY_INSTRUCTION: &str = "\
Answer from the story alone. Think about where things are, what each person has seen or been told, and what each person \
believes about the others. Reason step by step between <think> and </think>. End with one line: ANSWER: <short answer>";

/// Questions of the largest examination, as in the headline figures: 100 of each group.
const ALL_QUESTIONS: usize = 400;

/// The scorers by their names in records, the strict one first.
const SCORERS: [(&str, Scoring); 2] = [("strict", Scoring::Strict), ("lenient", Scoring::Flexible)];

/// Stands before the answer; in responses in any capitals.
const ANSWER_MARK: &str = "ANSWER:";

/// The built-in generator of theory-of-mind stories, one question about each, without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stories;

impl Stories {
    /// Reads `tom`; `None` if it is the name of another task.
    pub fn named(name: &str) -> Option<Result<Self, TasksError>> {
        (name == "tom").then_some(Ok(Self))
    }
}

impl Task for Stories {
    fn name(&self) -> String {
        self.short_name().to_owned()
    }

    fn short_name(&self) -> &'static str {
        "tom"
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn range(&self, numbers: Range<u64>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        let generator = StoryGenerator::new(StorySettings::default(), seed)?;
        numbers.map(|index| generator.item(index, Part::from(split))).collect()
    }

    fn instruction(&self) -> Option<&'static str> {
        Some(STORY_INSTRUCTION)
    }

    fn reward(&self, completion: &Completion<'_>, scoring: Scoring) -> Result<f64, RewardError> {
        story_reward(completion, scoring)
    }

    fn suggests_flexible(&self, _response: &str) -> bool {
        false
    }

    fn examination_size(&self) -> Option<usize> {
        Some(ALL_QUESTIONS)
    }

    fn examination(&self, amount: Amount, seed: u64, split: Split) -> Result<Vec<ExaminationItem>, TasksError> {
        examination(amount.of_one_task(ALL_QUESTIONS), seed, split.into(), self.short_name())
    }

    fn scorers(&self) -> Vec<&'static str> {
        SCORERS.map(|(name, _)| name).to_vec()
    }

    fn score(&self, item: &Item, completion: &str, _truncated: bool) -> Score {
        let answer = story_answer(completion).filter(|answer| !answer.is_empty());
        let both = answer.zip(item.answer.as_deref());
        let is_right = |scoring| both.is_some_and(|(answer, gold)| is_right(answer, gold, scoring));
        Score {
            strict: answer.map(|answer| form(answer, Scoring::Strict)),
            flexible: answer.map(|answer| form(answer, Scoring::Flexible)),
            correct: SCORERS.map(|(name, scoring)| (name.to_owned(), is_right(scoring))).into(),
        }
    }

    fn own_answer<'a>(&self, strict: Option<&'a str>, _flexible: Option<&'a str>) -> Option<&'a str> {
        strict
    }

    /// A completion without marks of a trace has one that ends at its answer.
    fn trace_end(&self, completion: &str, _prompt: &str) -> Option<(usize, usize)> {
        if let Some(start) = completion.rfind(THINK_CLOSE) {
            return Some((start, start + THINK_CLOSE.len()));
        }
        completion.to_ascii_uppercase().rfind(ANSWER_MARK).map(|start| (start, start))
    }

    /// Beginnings of traces end before the mark that closes them.
    fn suffix(&self, form: PromptForm<'_>, _response: &str, beginning: &str) -> String {
        let open = format!("\n{THINK_CLOSE}\n{ANSWER_MARK} ");
        let is_open = !beginning.is_empty() || form.prompt.trim_end().ends_with(THINK_OPEN);
        if is_open { open } else { format!("{THINK_OPEN}{open}") }
    }

    fn suffixes(&self, form: PromptForm<'_>) -> BTreeMap<String, String> {
        [("suffix", "a trace"), ("suffix_without_trace", "")]
            .map(|(name, beginning)| (name.to_owned(), self.suffix(form, "", beginning)))
            .into()
    }

    fn max_answer_tokens(&self) -> usize {
        24
    }

    fn elicited_answer(&self, text: &str) -> Option<String> {
        let answer = form(text.lines().next()?, Scoring::Strict);
        (!answer.is_empty()).then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_at_its_mark_or_before_the_answer() {
        let trace_end = |completion| Stories.trace_end(completion, "");
        assert_eq!(trace_end("<think>a</think>\nANSWER: tin"), Some((8, 16)));
        assert_eq!(trace_end("It is there.\nAnswer: tin"), Some((13, 13)));
        // What is answered while thinking is no answer.
        assert_eq!(trace_end("ANSWER: tin </think> no"), Some((12, 20)));
        assert_eq!(trace_end("It is in the tin."), None);
    }
}
