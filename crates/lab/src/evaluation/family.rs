//! What an evaluation asks, and how it reads the answers: one implementation a kind of task.

use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_measure::run_files::Extracted;

use aloud_session::prompts::EncodedPrompt;

/// One item as a model is asked it.
#[derive(Clone, Debug)]
pub struct EvaluationItem {
    /// Name of its task.
    pub task: String,
    /// Number of the item among all of its family, whichever of them are evaluated: what its random numbers are drawn by.
    pub number: u64,
    /// Name, text, tokens and gold answer.
    pub prompt: EncodedPrompt,
    /// Written steps that a full solution has, if that is known.
    pub n_steps: Option<usize>,
    /// What is asked, without instructions and marks.
    pub question: String,
    /// A worked solution, with its calculator annotations, if there is one.
    pub solution: Option<String>,
}

/// A way in which every item is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Its name in sample keys.
    pub name: &'static str,
    /// Tokens that every response begins with.
    pub start: Vec<u32>,
    /// Whether responses hold a trace: what metrics of depth, length and externalisation are of.
    pub has_trace: bool,
}

/// A response, read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadResponse {
    /// The whole text.
    pub completion: String,
    /// The trace.
    pub trace: String,
    /// What stands after it.
    pub answer_text: String,
    /// Whether the trace was closed.
    pub closed: bool,
    /// Number of tokens of the trace, its end mark included.
    pub n_trace: usize,
    /// Answers found.
    pub extracted: Extracted,
    /// Whether the answer is right, by name of the scorer.
    pub correct: BTreeMap<String, bool>,
}

/// Where answers are elicited from a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSteps {
    /// Number of response tokens up to the end of step `j`, ascending; the first is that of no step at all.
    pub ends: Vec<usize>,
}

/// A kind of task.
pub trait TaskFamily: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its items in order.
    fn items(&self) -> &[EvaluationItem];

    /// Keeps the items that are to be kept: one flag an item.
    fn retain(&mut self, keep: &[bool]);

    /// How every item is asked.
    fn arms(&self) -> &[Arm];

    /// Tokens that end a response.
    fn stop_tokens(&self) -> &[u32];

    /// Most tokens of a response.
    fn max_new_tokens(&self) -> usize;

    /// Reads a response to item number `item`; `truncated` says that it was ended by the limit on its tokens.
    ///
    /// # Errors
    /// If its tokens are no text.
    fn read(&self, item: usize, ids: &[u32], truncated: bool) -> Result<ReadResponse, SessionError>;

    /// The steps of a trace; `None` if nothing can be elicited from it: it was not closed.
    fn steps(&self, ids: &[u32]) -> Option<TraceSteps>;

    /// The texts that models are given, by name.
    fn texts(&self) -> BTreeMap<String, String>;

    /// What is appended to the first `length` tokens of a response to have the answer at once, in the form in which the response
    /// gives it. Of length 0, it stands for no trace.
    fn suffix(&self, response: &[u32], length: usize) -> Vec<u32>;

    /// The same in other words, for the question how much depends on them; `None` if there are no others.
    fn second_suffix(&self, _beginning: &[u32]) -> Option<Vec<u32>> {
        None
    }

    /// Most tokens of an elicited answer.
    fn max_answer_tokens(&self) -> usize;

    /// The answer in tokens that follow a suffix.
    fn read_answer(&self, ids: &[u32]) -> Option<String>;

    /// How many values of item number `item`'s gold solution the beginning of a response brings; `None` where the solution's steps are
    /// not known.
    fn n_written_values(&self, _item: usize, _beginning: &[u32]) -> Option<usize> {
        None
    }

    /// The answer that a response gives by itself, to be compared with elicited ones.
    fn own_answer<'e>(&self, extracted: &'e Extracted) -> Option<&'e str> {
        extracted.strict.as_deref()
    }

    /// The tokens of an answer after a suffix; `None` if it cannot be written.
    fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>>;

    /// Names of its scorers, the strict one first.
    fn scorers(&self) -> Vec<&'static str> {
        vec!["strict", "flex"]
    }

    /// Of item number `item` the kind of its question, and whether that kind has only two answers; `None` where all questions
    /// are alike.
    fn question_kind(&self, _item: usize) -> Option<(&'static str, bool)> {
        None
    }

    /// Accuracy of a blind guess at a task's answers; 0 where there is no telling.
    fn chance(&self, _task: &str) -> f64 {
        0.0
    }

    /// Whether the steps of items are known symbol by symbol.
    fn has_exact_steps(&self) -> bool {
        false
    }

    /// Whether each step of item number `item` is written rightly and in its place; `None` where steps are not known exactly.
    fn written_steps(&self, _item: usize, _completion: &str) -> Option<Vec<bool>> {
        None
    }
}
