//! Evaluation runs: a model and its controls answer the same items with the same random numbers, and what they did is
//! written to one folder a model, from which metrics are computed.
//!
//! Only this folder lets models run for an evaluation. Metrics are functions of the rows, in `aloud-measure`.

mod accuracy_items;
mod answer_form;
mod arguments;
mod base_reading;
mod digest;
mod divergence;
mod elicitation;
mod family;
mod forced_depth;
mod gates;
mod judging;
mod leave_out;
mod matching;
mod metrics;
mod number_family;
mod parts;
mod question_kinds;
mod quick_stories;
mod reading;
mod run;
mod run_manifest;
mod samples;
mod serial_family;
mod story_family;
mod subject;
mod sweep_points;
#[cfg(test)]
mod test_codec;
mod text_steps;
mod training;
mod verdicts;
mod written_steps;

pub(crate) use arguments::{AskedArgs, AskedKind};
pub(crate) use judging::{JudgedFolder, judge_folders, judged_tasks};
pub(crate) use leave_out::{TrainedOn, check_enough_left};
pub(crate) use question_kinds::kinds_text;
pub(crate) use quick_stories::evaluate_stories;
pub(crate) use run::{AskedItems, RunSettings, evaluate};
pub(crate) use subject::{Matched, ModelKey, Models};
pub(crate) use sweep_points::{PointCheckpoint, SweepPoint, SweptDial, sweep_points};
