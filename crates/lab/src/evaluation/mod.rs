//! Evaluation runs: a model and its controls answer the same items with the same random numbers, and what they did is
//! written to one folder a model, from which metrics are computed.
//!
//! Only this folder lets models run for an evaluation. Metrics are functions of the rows, in `aloud-measure`.

mod accuracy_items;
mod base_reading;
mod deciders;
mod divergence;
mod elicitation;
mod examination;
mod forced_depth;
mod gates;
pub mod judging;
pub(crate) mod leave_out;
mod matching;
mod metrics;
mod parts;
pub mod question_kinds;
pub mod quick;
mod reading;
pub mod run;
mod run_manifest;
pub mod run_settings;
mod samples;
pub mod subject;
pub mod task_choice;
#[cfg(test)]
mod test_codec;
mod training;
mod verdicts;
mod written_steps;

use aloud_engine::decode::batching::Limits;

/// How much of an evaluation's requests is done together.
fn limits(max_sequences: usize) -> Limits {
    Limits { max_sequences, max_prompt_rows: 2048 }
}
