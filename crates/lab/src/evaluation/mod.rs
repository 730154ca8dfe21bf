//! Evaluation runs: a model and its controls answer the same items with the same random numbers, and what they did is
//! written to one folder a model, from which metrics are computed.
//!
//! Only this folder lets models run for an evaluation. Metrics are functions of the rows, in `aloud-measure`.

pub mod accuracy_items;
pub mod answer_form;
pub mod base_reading;
pub mod digest;
pub mod divergence;
pub mod elicitation;
pub mod family;
pub mod forced_depth;
pub mod gates;
pub mod judging;
pub mod leave_out;
pub mod matching;
pub mod metrics;
pub mod number_family;
pub mod parts;
pub mod question_kinds;
pub mod quick_stories;
pub mod reading;
pub mod run;
pub mod run_manifest;
pub mod samples;
pub mod serial_family;
pub mod story_family;
pub mod subject;
pub mod sweep_points;
pub mod task_choice;
#[cfg(test)]
mod test_codec;
pub mod text_steps;
pub mod training;
pub mod verdicts;
pub mod written_steps;
