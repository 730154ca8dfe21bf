//! A task: where its items come from, how they are put, what a response is worth, and how answers are elicited from a trace.
//! One implementation a task, for training and evaluation alike. Text in, text out: what these texts are as tokens of a model is
//! not known here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::answer_form::{self, PromptForm};
use crate::error::{RewardError, TasksError};
use crate::extract::{self, Scoring};
use crate::gsm8k_scorers::Gsm8kScorer;
use crate::item::{Item, Split, choose};
use crate::pieces::piece_ends;
use crate::reward::{Completion, numeric_or_text_reward};

/// A way in which every item of an evaluation is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Its name in records.
    pub name: &'static str,
    /// What every response begins with.
    pub start: &'static str,
    /// Whether responses hold a trace: what metrics of depth, length and externalisation are of.
    pub has_trace: bool,
}

/// A kind of question, of a task that asks several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemKind {
    /// Its name in records.
    pub name: &'static str,
    /// Whether there are only two answers.
    pub is_binary: bool,
}

/// One item of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct ExaminationItem {
    /// What is asked; a worked solution with its calculator annotations, if there is one whose steps can be compared.
    pub item: Item,
    /// Its task, of several that are asked together.
    pub task: &'static str,
    /// Its number among all items of the task, whichever of them are asked.
    pub number: u64,
    /// Steps of a full solution, if that is known.
    pub n_steps: Option<usize>,
    /// Its kind; `None` where all are alike.
    pub kind: Option<ItemKind>,
}

impl ExaminationItem {
    /// An item whose steps are not counted, of a task whose questions are all alike.
    pub fn of(item: Item, task: &'static str, number: u64) -> Self {
        Self { item, task, number, n_steps: None, kind: None }
    }
}

/// How many items an evaluation asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// As many as there are; of a task without end as many as its figures are of.
    All,
    /// So many of each task, of several that are asked together.
    OfEachTask(usize),
    /// At least so many in all.
    InAll(usize),
}

impl Amount {
    /// The number of items of one task that is asked alone; `all` for all of them.
    pub fn of_one_task(self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::OfEachTask(n) | Self::InAll(n) => n,
        }
    }
}

/// What a response answers, and whether that is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// The answer in the form that was asked for.
    pub strict: Option<String>,
    /// The answer in any form.
    pub flexible: Option<String>,
    /// Whether the answer is right, by name of the scorer.
    pub correct: BTreeMap<String, bool>,
}

/// A task. The methods that have a body are those of a task whose gold answers are numbers or short texts, asked once, in words.
///
/// An **examination** is what an evaluation asks of a task: [`Task::examination_size`] says whether there is one.
pub trait Task: fmt::Debug + Send + Sync {
    /// Its name on the command line, such as `gsm8k:PATH`: read again, it gives the same task.
    fn name(&self) -> String;

    /// Its name in records, without options and paths.
    fn short_name(&self) -> &'static str;

    /// Whether there is no last item: a number has to be given.
    fn is_endless(&self) -> bool {
        false
    }

    /// Whether both splits are the same items: then nothing of this task can be tuned or trained on and evaluated too.
    fn has_one_part(&self) -> bool {
        false
    }

    /// Name of the part that the items of a split are: `train`, `test`, or `all` of a task with one part.
    fn part(&self, split: Split) -> &'static str {
        if self.has_one_part() { "all" } else { split.as_str() }
    }

    /// The file that the items of a split are read from, `None` of a generator.
    ///
    /// # Errors
    /// If it cannot be found.
    fn file(&self, _split: Split) -> Result<Option<PathBuf>, TasksError> {
        Ok(None)
    }

    /// All items of a split.
    ///
    /// # Errors
    /// If they cannot be read (the error names file and line), or have no end.
    fn all_items(&self, _split: Split) -> Result<Vec<Item>, TasksError> {
        Err(TasksError::Endless { name: self.name() })
    }

    /// Items of these numbers of a task without an end.
    ///
    /// # Errors
    /// If the task has an end, or cannot make such items.
    fn range(&self, _numbers: Range<u64>, _seed: u64, _split: Split) -> Result<Vec<Item>, TasksError> {
        Err(TasksError::name(&self.name(), "it has an end"))
    }

    /// Up to `n` items; all of them if `None`. Generators make exactly `n`. Of a file the choice is random but fixed by `seed`,
    /// and a smaller choice is the beginning of a larger one; a prompt file has one split, which is both. Worked solutions come
    /// without calculator annotations.
    ///
    /// # Errors
    /// If the items cannot be read or made, or have no end and `n` is `None`.
    fn load(&self, n: Option<usize>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        match n {
            Some(n) if self.is_endless() => self.range(0..n as u64, seed, split),
            Some(n) => Ok(choose(self.all_items(split)?, n, seed)),
            None => self.all_items(split),
        }
    }

    /// What is written below a question, if nothing else is asked for.
    fn instruction(&self) -> Option<&'static str> {
        None
    }

    /// Symbols that the first tokens of a model have to be, each one token, in this order: texts of the task are these with
    /// spaces between them. `None` for a task in words.
    fn symbols(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// The symbol that ends a response; `None` for what ends a response of the model.
    fn end(&self) -> Option<&'static str> {
        None
    }

    /// Most tokens of a response, if nothing is said.
    fn max_response_tokens(&self) -> usize {
        400
    }

    /// Temperature at which a teacher's responses are drawn, if nothing is said.
    fn teacher_temperature(&self) -> f32 {
        0.7
    }

    /// The reward of a completion.
    ///
    /// # Errors
    /// If the item has no gold answer, or none that can be compared.
    fn reward(&self, completion: &Completion<'_>, scoring: Scoring) -> Result<f64, RewardError> {
        numeric_or_text_reward(completion, scoring)
    }

    /// Further shares of these completions that are worth a record in training, by name.
    fn measures(&self, _completions: &[Completion<'_>]) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Whether [`Scoring::Flexible`] sees an answer in a response that [`Scoring::Strict`] does not see.
    fn suggests_flexible(&self, response: &str) -> bool {
        extract::suggests_flexible(response)
    }

    /// Number of items of the largest examination; `None` if there is none of this task.
    fn examination_size(&self) -> Option<usize> {
        None
    }

    /// The items of an examination, in order; those of a smaller one are among those of a larger one. A task with an end gives
    /// all of its items: the choice among them is the evaluation's.
    ///
    /// # Errors
    /// If they cannot be read or made.
    fn examination(&self, _amount: Amount, _seed: u64, _split: Split) -> Result<Vec<ExaminationItem>, TasksError> {
        Ok(Vec::new())
    }

    /// How every item of an examination is asked.
    fn arms(&self) -> &'static [Arm] {
        &[Arm { name: "plain", start: "", has_trace: true }]
    }

    /// Names of the scorers in a [`Score`], the strict one first.
    fn scorers(&self) -> Vec<&'static str> {
        Gsm8kScorer::ALL.map(Gsm8kScorer::name).to_vec()
    }

    /// Accuracy of a blind guess at the answers of one of the tasks that are asked together; 0 where there is no telling.
    fn chance(&self, _task: &str) -> f64 {
        0.0
    }

    /// Reads the answer of a completion; `truncated` says that it was ended by the limit on its tokens.
    fn score(&self, item: &Item, completion: &str, _truncated: bool) -> Score {
        let gold = item.gold();
        let is_right = |scorer: Gsm8kScorer| gold.as_ref().is_some_and(|gold| scorer.is_correct(completion, gold));
        Score {
            strict: Gsm8kScorer::Strict.extract(completion),
            flexible: Gsm8kScorer::Flexible.extract(completion),
            correct: Gsm8kScorer::ALL.map(|scorer| (scorer.name().to_owned(), is_right(scorer))).into(),
        }
    }

    /// The answer that a response gives by itself, of those of its [`Score`], to be compared with elicited ones.
    fn own_answer<'a>(&self, strict: Option<&'a str>, flexible: Option<&'a str>) -> Option<&'a str> {
        strict.or(flexible)
    }

    /// Where a completion's trace ends, and where what follows it begins (bytes); `None`: it is not closed. The prompt may have
    /// begun the trace.
    fn trace_end(&self, completion: &str, prompt: &str) -> Option<(usize, usize)> {
        answer_form::trace_end(completion, prompt)
    }

    /// Byte offsets at which the steps of a trace end, ascending, the last at its end; none if there are no steps.
    fn step_ends(&self, trace: &str) -> Vec<usize> {
        piece_ends(trace.trim_end())
    }

    /// Pieces of a trace shorter than this many tokens are no steps of their own.
    fn min_step_tokens(&self) -> usize {
        3
    }

    /// The text that asks for the answer after the beginning of a response, in the form in which the response gives it. An empty
    /// beginning is no trace.
    fn suffix(&self, form: PromptForm<'_>, response: &str, beginning: &str) -> String {
        answer_form::suffix(form, response, beginning)
    }

    /// The same in other words, for the question how much depends on them; `None` if there are no others.
    fn second_suffix(&self) -> Option<String> {
        None
    }

    /// All texts that ask for an answer, by name.
    fn suffixes(&self, form: PromptForm<'_>) -> BTreeMap<String, String> {
        answer_form::suffixes(form)
    }

    /// Most tokens of an elicited answer.
    fn max_answer_tokens(&self) -> usize {
        16
    }

    /// The answer in a text that follows a suffix.
    fn elicited_answer(&self, text: &str) -> Option<String> {
        answer_form::elicited_answer(text)
    }

    /// Whether the steps of items are known exactly; then [`Task::written_steps`] and [`Task::n_written_steps`] tell of them.
    fn has_exact_steps(&self) -> bool {
        false
    }

    /// Whether each step of the item is written rightly and in its place; `None` where steps are not known exactly.
    fn written_steps(&self, _item: &Item, _completion: &str) -> Option<Vec<bool>> {
        None
    }

    /// How many steps of the item the beginning of a response writes in their order, whatever stands between them; `None` where
    /// steps are not known exactly.
    fn n_written_steps(&self, _item: &Item, _beginning: &str) -> Option<usize> {
        None
    }
}

/// As on the command line.
impl fmt::Display for dyn Task + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}
