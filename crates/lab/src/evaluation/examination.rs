//! An examination: the items of a task as a model is asked them, and the task's texts as tokens of that model.

use std::collections::BTreeMap;
use std::sync::Arc;

use aloud_measure::metrics::step_coverage::n_written_values;
use aloud_measure::run_files::Extracted;
use aloud_measure::statistics::choose_items;
use aloud_model::checkpoint::lineage::ItemKey;
use aloud_session::error::{Context as _, SessionError};
use aloud_session::prompts::{EncodedPrompt, Template};
use aloud_session::task_text::TaskText;
use aloud_tasks::answer_form::{PromptForm, THINK_CLOSE};
use aloud_tasks::item::Split;
use aloud_tasks::task::{self, Amount, ExaminationItem, Task};
use aloud_text::text_codec::TextCodec;

#[cfg(test)]
mod tests;

/// One item as a model is asked it.
#[derive(Clone, Debug)]
pub(crate) struct EvaluationItem {
    /// The item as its task knows it.
    pub(crate) asked: ExaminationItem,
    /// Name, text, tokens and gold answer.
    pub(crate) prompt: EncodedPrompt,
}

/// A way in which every item is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arm {
    /// Its name in sample keys.
    pub(crate) name: &'static str,
    /// Tokens that every response begins with.
    pub(crate) start: Vec<u32>,
    /// Whether responses hold a trace: what metrics of depth, length and externalisation are of.
    pub(crate) has_trace: bool,
}

/// A response, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadResponse {
    /// The whole text.
    pub(crate) completion: String,
    /// The trace.
    pub(crate) trace: String,
    /// What stands after it.
    pub(crate) answer_text: String,
    /// Whether the trace was closed.
    pub(crate) closed: bool,
    /// Number of tokens of the trace, its end mark included.
    pub(crate) n_trace: usize,
    /// Answers found.
    pub(crate) extracted: Extracted,
    /// Whether the answer is right, by name of the scorer.
    pub(crate) correct: BTreeMap<String, bool>,
}

/// How many items are asked, of which part, and with which limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How many.
    pub(crate) amount: Amount,
    /// Part of the data.
    pub(crate) split: Split,
    /// Seed of the items.
    pub(crate) seed: u64,
    /// Most tokens of a response.
    pub(crate) max_new_tokens: usize,
}

/// The items of a task, asked of a model with its codec.
#[derive(Clone, Debug)]
pub(crate) struct Examination<'a> {
    task: Arc<dyn Task>,
    text: TaskText<'a>,
    items: Vec<EvaluationItem>,
    arms: Vec<Arm>,
    stop_tokens: Vec<u32>,
    max_new_tokens: usize,
    /// The prompt of the first item: all end alike.
    prompt: String,
    /// Whether the model has tokens that mark a trace.
    marks_traces: bool,
    /// Variables of the chat template, for records.
    variables: BTreeMap<String, String>,
}

impl<'a> Examination<'a> {
    /// Items of a task. The choice of fewer items is part of the choice of more. `stop_tokens` end a response in words.
    pub(crate) fn new(
        task: &Arc<dyn Task>,
        extent: Extent,
        codec: &'a TextCodec,
        template: &Template,
        stop_tokens: Vec<u32>,
    ) -> Result<Self, SessionError> {
        let text = TaskText::new(task.as_ref(), codec)?;
        let items = task.examination(extent.amount, extent.seed, extent.split)?;
        let items = if task.is_endless() { items } else { chosen(&items, extent.amount, task.short_name()) };
        let items = items
            .into_iter()
            .map(|item| encoded(item, task.instruction(), text, codec, template))
            .collect::<Result<Vec<EvaluationItem>, SessionError>>()?;
        let arm = |arm: &task::Arm| {
            let start = if arm.start.is_empty() { Some(Vec::new()) } else { text.tokens(arm.start) };
            let start = start.with_context(|| format!("the model cannot write `{}`", arm.start))?;
            Ok(Arm { name: arm.name, start, has_trace: arm.has_trace })
        };
        let end = task.end().and_then(|end| text.tokens(end));
        let (variables, stop_tokens) = match text.symbols() {
            Some(_) => (BTreeMap::new(), end.unwrap_or_default()),
            None => (template.variables.texts().collect(), stop_tokens),
        };
        Ok(Self {
            arms: task.arms().iter().map(arm).collect::<Result<_, SessionError>>()?,
            stop_tokens,
            max_new_tokens: extent.max_new_tokens,
            prompt: items.first().map_or_else(String::new, |item| item.prompt.text.clone()),
            marks_traces: codec.tokenizer.token_to_id(THINK_CLOSE).is_some(),
            variables,
            task: Arc::clone(task),
            text,
            items,
        })
    }

    fn form(&self) -> PromptForm<'_> {
        PromptForm { prompt: &self.prompt, marks_traces: self.marks_traces }
    }

    /// The task.
    pub(crate) fn task(&self) -> &dyn Task {
        self.task.as_ref()
    }

    /// The name of the task in records.
    pub(crate) fn name(&self) -> &'static str {
        self.task.short_name()
    }

    /// The items in order.
    pub(crate) fn items(&self) -> &[EvaluationItem] {
        &self.items
    }

    /// The number of each item among the items, by its name.
    pub(crate) fn places(&self) -> BTreeMap<&str, usize> {
        self.items.iter().enumerate().map(|(place, item)| (item.prompt.id.as_str(), place)).collect()
    }

    /// Keeps the items that are to be kept: one flag an item.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.items.retain(|_| keep.next().copied().unwrap_or(true));
    }

    /// How every item is asked.
    pub(crate) fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// Whether responses in the arm of this name hold a trace.
    pub(crate) fn has_trace(&self, arm: &str) -> bool {
        self.arms.iter().any(|known| known.has_trace && known.name == arm)
    }

    /// Tokens that end a response.
    pub(crate) fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Most tokens of a response.
    pub(crate) fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    /// Reads a response to item number `item`; `truncated` says that it was ended by the limit on its tokens.
    pub(crate) fn read(&self, item: usize, ids: &[u32], truncated: bool) -> Result<ReadResponse, SessionError> {
        let completion = self.text.text(ids)?;
        let end = self.task.trace_end(&completion, &self.prompt);
        let score = self.task.score(&self.items[item].asked.item, &completion, truncated);
        let (trace_end, answer_start) = end.unwrap_or((completion.len(), completion.len()));
        Ok(ReadResponse {
            trace: completion[..trace_end].to_owned(),
            answer_text: completion[answer_start..].to_owned(),
            closed: end.is_some(),
            n_trace: match end {
                Some(_) => n_tokens_of(&self.text.byte_ends(ids), answer_start),
                None => ids.len(),
            },
            extracted: Extracted { strict: score.strict, flex: score.flexible },
            correct: score.correct,
            completion,
        })
    }

    /// Where answers are elicited from a trace: the number of response tokens up to the end of each step, ascending; the first is that
    /// of no step at all. `None` if nothing can be elicited from it: it was not closed.
    pub(crate) fn steps(&self, ids: &[u32]) -> Option<Vec<usize>> {
        let completion = self.text.text(ids).ok()?;
        let (end, _) = self.task.trace_end(&completion, &self.prompt)?;
        self.trace_steps(ids, &completion[..end])
    }

    /// The steps of a trace, the text at the beginning of a response of tokens `ids`; `None` if there is no step.
    fn trace_steps(&self, ids: &[u32], trace: &str) -> Option<Vec<usize>> {
        let bytes = self.text.byte_ends(ids);
        let ends: Vec<usize> = self.task.step_ends(trace).into_iter().map(|end| n_tokens_of(&bytes, end)).collect();
        Some(step_ends(&ends, self.task.min_step_tokens())).filter(|ends| ends.len() > 1)
    }

    /// The texts that models are given, by name.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let mut texts = self.task.suffixes(self.form());
        texts.extend(self.variables.clone());
        texts
    }

    /// What is appended to the first `length` tokens of a response to have the answer at once, in the form in which the response
    /// gives it. Of length 0, it stands for no trace.
    pub(crate) fn suffix(&self, response: &[u32], length: usize) -> Vec<u32> {
        let text = |ids: &[u32]| self.text.text(ids).unwrap_or_default();
        let suffix = self.task.suffix(self.form(), &text(response), &text(&response[..length]));
        self.text.tokens(&suffix).unwrap_or_default()
    }

    /// The same in other words, for the question how much depends on them; `None` if there are no others.
    pub(crate) fn second_suffix(&self) -> Option<Vec<u32>> {
        self.text.tokens(&self.task.second_suffix()?)
    }

    /// The answer in tokens that follow a suffix.
    pub(crate) fn read_answer(&self, ids: &[u32]) -> Option<String> {
        self.task.elicited_answer(&self.text.text(ids).ok()?)
    }

    /// How many values of item number `item`'s gold solution the beginning of a response brings; `None` where the solution's steps are
    /// not known.
    pub(crate) fn n_written_values(&self, item: usize, beginning: &[u32]) -> Option<usize> {
        let item = &self.items.get(item)?.asked.item;
        let beginning = self.text.text(beginning).ok()?;
        if self.task.has_exact_steps() {
            return self.task.n_written_steps(item, &beginning);
        }
        n_written_values(&item.question, item.solution.as_deref()?, item.answer.as_deref()?, &beginning)
    }

    /// The answer that a response gives by itself, to be compared with elicited ones.
    pub(crate) fn own_answer<'e>(&self, extracted: &'e Extracted) -> Option<&'e str> {
        self.task.own_answer(extracted.strict.as_deref(), extracted.flex.as_deref())
    }

    /// The tokens of an answer after a suffix; `None` if it cannot be written.
    pub(crate) fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>> {
        self.text.tokens(answer).filter(|ids| !ids.is_empty())
    }

    /// Of item number `item` the kind of its question, and whether that kind has only two answers; `None` where all questions
    /// are alike.
    pub(crate) fn question_kind(&self, item: usize) -> Option<(&'static str, bool)> {
        self.items.get(item)?.asked.kind.map(|kind| (kind.name, kind.is_binary))
    }

    /// Whether each step of item number `item` is written rightly and in its place; `None` where steps are not known exactly.
    pub(crate) fn written_steps(&self, item: usize, completion: &str) -> Option<Vec<bool>> {
        self.task.written_steps(&self.items.get(item)?.asked.item, completion)
    }
}

/// Some of all items of a task with an end.
fn chosen(items: &[ExaminationItem], amount: Amount, name: &str) -> Vec<ExaminationItem> {
    let ids: Vec<&str> = items.iter().map(|item| item.item.id.as_str()).collect();
    let chosen = choose_items(name, &ids, amount.of_one_task(items.len()));
    chosen.into_iter().map(|place| items[place].clone()).collect()
}

/// An item as the model is asked it.
fn encoded(
    asked: ExaminationItem,
    instruction: Option<&str>,
    text: TaskText<'_>,
    codec: &TextCodec,
    template: &Template,
) -> Result<EvaluationItem, SessionError> {
    let item = &asked.item;
    let prompt = match text.symbols() {
        Some(symbols) => EncodedPrompt {
            id: item.id.clone(),
            text: item.question.clone(),
            token_ids: symbols.tokens(&item.question).context("the item is not written in the task's symbols")?,
            answer: item.answer.clone(),
            item: ItemKey::of_question(&item.question),
        },
        None => template.encode(item, instruction, codec)?,
    };
    Ok(EvaluationItem { asked, prompt })
}

/// Numbers of tokens at which steps end, beginning with 0 for no step: `ends` without those that would make a step of fewer
/// than `least` tokens. The last end stays, and takes a short piece before it in.
fn step_ends(ends: &[usize], least: usize) -> Vec<usize> {
    let mut steps = vec![0];
    for &end in ends {
        if steps.last().is_some_and(|last| end >= last + least) {
            steps.push(end);
        }
    }
    if let Some(&whole) = ends.last()
        && steps.last() != Some(&whole)
    {
        if steps.len() > 1 {
            steps.pop();
        }
        steps.push(whole);
    }
    steps
}

/// The smallest number of tokens whose text has at least `length` bytes; all of them if there is none.
fn n_tokens_of(byte_ends: &[usize], length: usize) -> usize {
    if length == 0 { 0 } else { (byte_ends.partition_point(|end| *end < length) + 1).min(byte_ends.len()) }
}
