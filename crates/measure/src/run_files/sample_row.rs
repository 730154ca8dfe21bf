//! A row of `samples.jsonl`: one response to one item.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LogRow, RunIdentity};

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// By an end token.
    Eos,
    /// By the limit on its tokens: what would have come is not known.
    Cap,
    /// By a stop text.
    Stop,
}

/// Answers that were found in a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// In the form that was asked for.
    #[serde(default)]
    pub strict: Option<String>,
    /// In any form.
    #[serde(default)]
    pub flex: Option<String>,
}

/// One response to one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// Unique in the file: [`sample_key`].
    pub key: String,
    /// Name of the task.
    pub task: String,
    /// Name of the item.
    pub item_id: String,
    /// What was done to the item, for instance `plain`.
    pub arm: String,
    /// Number of the response among those to the same item, from 0.
    pub sample_idx: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// SHA-256 of the prompt as the model saw it.
    pub prompt_hash: String,
    /// The prompt as the model saw it; empty where the file does not have it.
    #[serde(default)]
    pub prompt: String,
    /// The whole response.
    pub completion: String,
    /// The trace: what stands before the answer.
    pub cot: String,
    /// What stands after the trace.
    pub answer_text: String,
    /// Why it ended.
    pub stop: Stop,
    /// Whether the trace was closed.
    pub closed: bool,
    /// Answers found.
    #[serde(default)]
    pub extracted: Extracted,
    /// The gold answer.
    #[serde(default)]
    pub gold: Option<String>,
    /// Whether the answer is right, by name of the scorer: `strict`, `flex`, `compat_source_strict`, ...
    #[serde(default)]
    pub correct: BTreeMap<String, bool>,
    /// Tokens of the prompt.
    #[serde(default)]
    pub n_prompt: usize,
    /// Tokens of the trace, its end mark included.
    pub n_cot: usize,
    /// Tokens after the trace.
    pub n_answer: usize,
    /// Mean depth (blocks) over eligible tokens; none if there are none.
    #[serde(default)]
    pub mean_depth: Option<f64>,
    /// Steps that a full solution of the item has, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_steps: Option<usize>,
    /// Share of the solution's intermediate steps that the trace writes down; none for a wrong answer and where there are no
    /// such steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_coverage: Option<f64>,
    /// Time that it took, in milliseconds.
    #[serde(default)]
    pub ms: f64,
}

/// The key of a sample: `TASK/ITEM/ARM/NUMBER`.
pub fn sample_key(task: &str, item_id: &str, arm: &str, sample_idx: usize) -> String {
    format!("{task}/{item_id}/{arm}/{sample_idx}")
}

impl SampleRow {
    /// Number of response tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_cot + self.n_answer
    }

    /// Whether an answer of any form was found in the response.
    pub fn has_answer(&self) -> bool {
        self.extracted.strict.is_some() || self.extracted.flex.is_some()
    }
}

impl LogRow for SampleRow {
    const FILE: &'static str = "samples";

    fn key(&self) -> String {
        self.key.clone()
    }

    fn fault(&self, _: &RunIdentity) -> Option<String> {
        let expected = sample_key(&self.task, &self.item_id, &self.arm, self.sample_idx);
        if self.key != expected {
            return Some(format!("key `{}` is not that of its item, `{expected}`", self.key));
        }
        self.mean_depth
            .is_some_and(|depth| !depth.is_finite() || depth <= 0.0)
            .then(|| format!("mean_depth {:?} is no depth", self.mean_depth))
    }
}
