//! Questions about theory-of-mind stories, as an evaluation asks them.

use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_measure::run_files::Extracted;
use aloud_tasks::stories::{QuestionGroup, STORY_INSTRUCTION, StoryScoring, examination, story_answer};
use aloud_tasks::{Split, answer_region};
use aloud_text::text_codec::TextCodec;

use super::family::{Arm, EvaluationItem, ReadResponse, TaskFamily, TraceSteps};
use super::leave_out::retain;
use super::text_steps::{split_response, trace_steps};
use aloud_session::prompts::Template;

/// Marks of a trace, as the instruction asks for them.
const THINK_OPEN: &str = "<think>";
const THINK_CLOSE: &str = "</think>";

/// Stands before the answer; in responses in any capitals.
const ANSWER_MARK: &str = "ANSWER:";

/// Most tokens of an elicited answer.
const ANSWER_TOKENS: usize = 24;

/// Held-out stories with a question each.
pub(crate) struct StoryFamily<'a> {
    codec: &'a TextCodec,
    items: Vec<EvaluationItem>,
    groups: Vec<QuestionGroup>,
    arms: [Arm; 1],
    stop_tokens: Vec<u32>,
    max_new_tokens: usize,
    /// The texts that ask for the answer, by name, and the tokens after no trace and after an open one.
    texts: BTreeMap<String, String>,
    without_trace: Vec<u32>,
    open: Vec<u32>,
}

impl<'a> StoryFamily<'a> {
    /// Questions if all are asked for: of a source without end, "all" are as many as in the headline figures, 100 of each group.
    pub(crate) const ALL_QUESTIONS: usize = 400;

    /// `n` questions, or all of them. The items of a smaller number are among those of a larger one.
    ///
    /// # Errors
    /// If a story cannot be made or the model cannot be asked.
    pub(crate) fn new(
        n: Option<usize>,
        split: Split,
        seed: u64,
        codec: &'a TextCodec,
        template: &Template,
        stop_tokens: Vec<u32>,
        max_new_tokens: usize,
    ) -> Result<Self, SessionError> {
        let asked = examination(n.unwrap_or(Self::ALL_QUESTIONS), seed, split.into())?;
        let groups = asked.iter().map(|asked| asked.group).collect();
        let mut items = Vec::with_capacity(asked.len());
        for (number, asked) in (0..).zip(&asked) {
            items.push(EvaluationItem {
                task: "tom".to_owned(),
                number,
                prompt: template.encode(&asked.item, Some(STORY_INSTRUCTION), codec)?,
                n_steps: None,
                question: asked.item.question.clone(),
                // Solutions are compared by the numbers of their steps; those of stories have none.
                solution: None,
            });
        }
        let open = format!("\n{THINK_CLOSE}\n{ANSWER_MARK} ");
        let is_opened = items.first().is_some_and(|item| item.prompt.text.trim_end().ends_with(THINK_OPEN));
        let without_trace = if is_opened { open.clone() } else { format!("{THINK_OPEN}{open}") };
        let encode = |text: &str| codec.tokenizer.encode(text, false);
        Ok(Self {
            codec,
            items,
            groups,
            arms: [Arm { name: "plain", start: Vec::new(), has_trace: true }],
            stop_tokens,
            max_new_tokens,
            without_trace: encode(&without_trace)?,
            open: encode(&open)?,
            texts: [("suffix", open), ("suffix_without_trace", without_trace)]
                .map(|(name, text)| (name.to_owned(), text))
                .into_iter()
                .chain(template.variables.texts())
                .collect(),
        })
    }

    fn text(&self, ids: &[u32]) -> Result<String, SessionError> {
        Ok(self.codec.tokenizer.decode(ids, true)?)
    }
}

/// Where a completion's trace ends, and where what follows it begins (bytes); `None`: it is not closed. A completion without
/// marks of a trace has one that ends at its answer.
fn trace_end(completion: &str) -> Option<(usize, usize)> {
    let region = answer_region(completion);
    if !region.no_close {
        let start = completion.len() - region.text.len();
        return Some((start - THINK_CLOSE.len(), start));
    }
    completion.to_ascii_uppercase().rfind(ANSWER_MARK).map(|start| (start, start))
}

impl TaskFamily for StoryFamily<'_> {
    fn name(&self) -> &'static str {
        "tom"
    }

    fn items(&self) -> &[EvaluationItem] {
        &self.items
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.groups, keep);
        retain(&mut self.items, keep);
    }

    fn arms(&self) -> &[Arm] {
        &self.arms
    }

    fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    fn read(&self, item: usize, ids: &[u32], _truncated: bool) -> Result<ReadResponse, SessionError> {
        let completion = self.text(ids)?;
        let end = trace_end(&completion);
        let answer = story_answer(&completion).filter(|answer| !answer.is_empty());
        let gold = self.items[item].prompt.answer.as_deref();
        let is_right = |scoring: StoryScoring| match (answer, gold) {
            (Some(answer), Some(gold)) => scoring.is_right(answer, gold),
            _ => false,
        };
        let correct = StoryScoring::ALL.map(|scoring| (scoring.name().to_owned(), is_right(scoring))).into();
        let form = |scoring: StoryScoring| answer.map(|answer| scoring.form(answer));
        let extracted = Extracted { strict: form(StoryScoring::Strict), flex: form(StoryScoring::Lenient) };
        Ok(split_response(self.codec, ids, completion, end, extracted, correct))
    }

    fn steps(&self, ids: &[u32]) -> Option<TraceSteps> {
        let completion = self.text(ids).ok()?;
        let (end, _) = trace_end(&completion)?;
        trace_steps(self.codec, ids, &completion[..end])
    }

    fn texts(&self) -> BTreeMap<String, String> {
        self.texts.clone()
    }

    /// Beginnings of traces end before the mark that closes them.
    fn suffix(&self, _response: &[u32], length: usize) -> Vec<u32> {
        if length == 0 { self.without_trace.clone() } else { self.open.clone() }
    }

    fn max_answer_tokens(&self) -> usize {
        ANSWER_TOKENS
    }

    fn read_answer(&self, ids: &[u32]) -> Option<String> {
        let text = self.text(ids).ok()?;
        let answer = StoryScoring::Strict.form(text.lines().next()?);
        (!answer.is_empty()).then_some(answer)
    }

    fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>> {
        self.codec.tokenizer.encode(answer, false).ok().filter(|ids| !ids.is_empty())
    }

    fn scorers(&self) -> Vec<&'static str> {
        StoryScoring::ALL.map(StoryScoring::name).to_vec()
    }

    fn question_kind(&self, item: usize) -> Option<(&'static str, bool)> {
        self.groups.get(item).map(|group| (group.name(), group.is_binary()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_at_its_mark_or_before_the_answer() {
        assert_eq!(trace_end("<think>a</think>\nANSWER: tin"), Some((8, 16)));
        assert_eq!(trace_end("It is there.\nAnswer: tin"), Some((13, 13)));
        // What is answered while thinking is no answer.
        assert_eq!(trace_end("ANSWER: tin </think> no"), Some((12, 20)));
        assert_eq!(trace_end("It is in the tin."), None);
    }
}
