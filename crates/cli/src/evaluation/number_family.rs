//! Word problems with a number for an answer, as an evaluation asks them: GSM8K and the built-in generator.

use std::collections::BTreeMap;

use aloud_eval::{Extracted, choose_items, n_written_values};
use aloud_model::text_codec::TextCodec;
use aloud_tasks::{Annotations, DataSource, Extraction, Gsm8kScorer, Item, Number, Split, extract_answer};

use super::family::{Arm, EvaluationItem, ReadResponse, TaskFamily, TraceSteps};
use super::leave_out::retain;
use super::text_steps::{split_response, trace_steps};
use crate::prompts::{TemplateArgs, default_instruction};

/// Marks of a trace that some models write.
const THINK_OPEN: &str = "<think>";
const THINK_CLOSE: &str = "</think>";

/// Stands before the answer.
const ANSWER_MARK: &str = "####";

/// Most tokens of an elicited answer.
const ANSWER_TOKENS: usize = 16;

/// Held-out problems.
pub(crate) struct NumberFamily<'a> {
    name: &'static str,
    codec: &'a TextCodec,
    items: Vec<EvaluationItem>,
    gold: Vec<Option<Number>>,
    arms: [Arm; 1],
    stop_tokens: Vec<u32>,
    max_new_tokens: usize,
    suffixes: Suffixes,
}

/// The tokens that ask for the answer.
struct Suffixes {
    /// Texts by name.
    texts: BTreeMap<String, String>,
    /// After no trace.
    without_trace: Vec<u32>,
    /// After an open trace.
    open: Vec<u32>,
    /// After a trace that was closed.
    closed: Vec<u32>,
}

impl Suffixes {
    /// For a model that marks its traces, or not; `prompt` says whether it is asked with an open one.
    fn new(codec: &TextCodec, prompt: &str) -> anyhow::Result<Self> {
        let marks = codec.tokenizer.token_to_id(THINK_CLOSE).is_some();
        let closed = format!("\n\n{ANSWER_MARK} ");
        let open = if marks { format!("\n{THINK_CLOSE}{closed}") } else { format!("\n{ANSWER_MARK} ") };
        let opens = marks && !prompt.trim_end().ends_with(THINK_OPEN);
        let without_trace = match (marks, opens) {
            (true, true) => format!("{THINK_OPEN}{open}"),
            (true, false) => open.clone(),
            (false, _) => format!("{ANSWER_MARK} "),
        };
        let encode = |text: &str| codec.tokenizer.encode(text, false);
        Ok(Self {
            without_trace: encode(&without_trace)?,
            open: encode(&open)?,
            closed: encode(&closed)?,
            texts: [("suffix", open), ("suffix_after_closed_trace", closed), ("suffix_without_trace", without_trace)]
                .map(|(name, text)| (name.to_owned(), text))
                .into(),
        })
    }
}

impl<'a> NumberFamily<'a> {
    /// Of a source without end, "all" are as many as GSM8K's test part has.
    pub(super) const ENDLESS: usize = 1319;

    /// `n` items of a source, or all of them. The choice of fewer items is part of the choice of more.
    ///
    /// # Errors
    /// If the source cannot be read or the model cannot be asked.
    pub(crate) fn new(
        source: &DataSource,
        n: Option<usize>,
        split: Split,
        seed: u64,
        codec: &'a TextCodec,
        template: &TemplateArgs,
        stop_tokens: Vec<u32>,
        max_new_tokens: usize,
    ) -> anyhow::Result<Self> {
        let name = if matches!(source, DataSource::WordProblems { .. }) { "word-problems" } else { "gsm8k" };
        let items = if source.is_endless() {
            let items = source.load_with(Some(n.unwrap_or(Self::ENDLESS)), seed, split, Annotations::Keep)?;
            items.into_iter().enumerate().collect::<Vec<(usize, Item)>>()
        } else {
            let items = source.load_with(None, seed, split, Annotations::Keep)?;
            let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
            let chosen = choose_items(name, &ids, n.unwrap_or(items.len()));
            chosen.into_iter().map(|place| (place, items[place].clone())).collect()
        };
        let instruction = default_instruction(source);
        let ask = |(number, item): &(usize, Item)| {
            Ok(EvaluationItem {
                task: name.to_owned(),
                number: *number as u64,
                prompt: template.encode(item, instruction, codec)?,
                n_steps: None,
                question: item.question.clone(),
                solution: item.solution.clone(),
            })
        };
        let gold = items.iter().map(|(_, item)| item.gold()).collect();
        let items = items.iter().map(ask).collect::<anyhow::Result<Vec<EvaluationItem>>>()?;
        let suffixes = Suffixes::new(codec, items.first().map_or("", |item| &item.prompt.text))?;
        let arms = [Arm { name: "plain", start: Vec::new(), has_trace: true }];
        Ok(Self { name, codec, items, gold, arms, stop_tokens, max_new_tokens, suffixes })
    }

    fn text(&self, ids: &[u32]) -> anyhow::Result<String> {
        Ok(self.codec.tokenizer.decode(ids, true)?)
    }
}

/// Where a completion's trace ends, and where what follows it begins (bytes); `None`: it is not closed.
fn trace_end(completion: &str) -> Option<(usize, usize)> {
    let think = completion.rfind(THINK_CLOSE).map(|start| (start, start + THINK_CLOSE.len()));
    think.or_else(|| completion.rfind(ANSWER_MARK).map(|start| (start, start)))
}

impl TaskFamily for NumberFamily<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn items(&self) -> &[EvaluationItem] {
        &self.items
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.gold, keep);
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

    fn read(&self, item: usize, ids: &[u32], _truncated: bool) -> anyhow::Result<ReadResponse> {
        let completion = self.text(ids)?;
        let end = trace_end(&completion);
        let is_right =
            |scorer: Gsm8kScorer| self.gold[item].as_ref().is_some_and(|gold| scorer.is_correct(&completion, gold));
        let correct = Gsm8kScorer::ALL.into_iter().map(|scorer| (scorer.name().to_owned(), is_right(scorer))).collect();
        let extracted = Extracted {
            strict: Gsm8kScorer::Strict.extract(&completion),
            flex: Gsm8kScorer::Flexible.extract(&completion),
        };
        Ok(split_response(self.codec, ids, completion, end, extracted, correct))
    }

    fn steps(&self, ids: &[u32]) -> Option<TraceSteps> {
        let completion = self.text(ids).ok()?;
        let (end, _) = trace_end(&completion)?;
        trace_steps(self.codec, ids, &completion[..end])
    }

    fn texts(&self) -> BTreeMap<String, String> {
        self.suffixes.texts.clone()
    }

    fn suffix(&self, beginning: &[u32]) -> Vec<u32> {
        let is_closed = self.text(beginning).is_ok_and(|text| text.contains(THINK_CLOSE));
        match beginning {
            [] => self.suffixes.without_trace.clone(),
            _ if is_closed => self.suffixes.closed.clone(),
            _ => self.suffixes.open.clone(),
        }
    }

    fn max_answer_tokens(&self) -> usize {
        ANSWER_TOKENS
    }

    fn read_answer(&self, ids: &[u32]) -> Option<String> {
        let text = self.text(ids).ok()?;
        let line = text.lines().next()?;
        extract_answer(&format!("{ANSWER_MARK} {line}"), Extraction::Strict).map(|number| number.to_string())
    }

    fn accuracy_id(&self) -> &'static str {
        "B1"
    }

    fn scorers(&self) -> Vec<&'static str> {
        Gsm8kScorer::ALL.map(Gsm8kScorer::name).to_vec()
    }

    fn n_written_values(&self, item: usize, beginning: &[u32]) -> Option<usize> {
        let asked = self.items.get(item)?;
        let (solution, gold) = (asked.solution.as_deref()?, asked.prompt.answer.as_deref()?);
        n_written_values(&asked.question, solution, gold, &self.text(beginning).ok()?)
    }

    fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>> {
        self.codec.tokenizer.encode(answer, false).ok().filter(|ids| !ids.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_at_its_mark_or_before_the_answer() {
        assert_eq!(trace_end("a\n</think>\n\n#### 3"), Some((2, 10)));
        assert_eq!(trace_end("2 + 2 = 4\n#### 4"), Some((10, 10)));
        assert_eq!(trace_end("2 + 2 = 4"), None);
    }
}
