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

pub use calibration::calibrate;
pub use corruption::{Corruption, LADDER_CLEAN, corrupt, ladder_items};
pub use gates::{
    GateResult, failure_difference_gate, failure_rate_gate, ladder_drops, ladder_gate, mean_absolute_difference,
    reliability_gate,
};
pub use judgement::{JudgePart, Judgement};
pub use kinship::{Kinship, kinship};
pub use markup::strip_markup;
pub use material::{JudgeMaterial, JudgedRun, JudgedTask, judged_item};
pub use pairwise::{PairwiseItem, PairwiseRow, PairwiseSummary, Verdict, judge_pairs, summarise_pairs};
pub use records::JudgedRecords;
pub use rows::{JudgeRow, JudgeStatus, read_judge_rows, write_judge_rows};
pub use rubric::{LEGIBILITY, QUALITY, Rubric};
pub use run::{JudgeItem, JudgeSettings, Judging, judge};
pub use scores::{Scores, parse_scores};
pub use statistics::{correlation, krippendorff_alpha, mean, standard_deviation};
pub use summary::{CriterionSummary, LengthRelation, ModelSummary, length_relation, summarise_models};
