//! Grades of responses by a judge: another language model that is asked by a rubric.
//!
//! A judge sees a task and a response and nothing else: not who wrote it, not how deep its tokens were. What cannot be read
//! as a grade is `null` and counted, never 0. Gates say whether the grades may be used at all.

mod ask;
mod calibration;
mod corruption;
mod gates;
mod judgement;
mod kinship;
mod lines;
mod markup;
mod material;
mod pairwise;
mod prompt;
mod records;
mod rows;
mod rubric;
mod run;
mod scores;
mod statistics;
mod summary;
#[cfg(test)]
mod tests;

pub use ask::JudgeSettings;
pub use calibration::calibrate;
pub use judgement::{JudgePart, Judgement};
pub use kinship::{Kinship, kinship};
pub use material::{JudgeMaterial, JudgedRun, JudgedTask, judged_item};
pub use records::JudgedRecords;
