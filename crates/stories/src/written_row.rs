//! What is read again of a row of a file of stories.

use serde::Deserialize;

use super::family::Family;
use super::part::Part;
use super::question::QuestionKind;
use super::row::StoryRow;

/// What is read of a row that was written before: enough to go on, and to count.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct WrittenRow {
    pub(super) story: u64,
    pub(super) split: Part,
    pub(super) family: Family,
    pub(super) asymmetric: bool,
    pub(super) answer: String,
    pub(super) kind: QuestionKind,
    pub(super) order: i8,
    pub(super) interesting: bool,
    pub(super) g: f64,
    pub(super) structure: String,
    pub(super) rejected: usize,
    pub(super) target_name: String,
    #[serde(default)]
    pub(super) infill_model: Option<String>,
    #[serde(default)]
    pub(super) infill_rejected_rewrites: Option<u64>,
    #[serde(default)]
    pub(super) infill_rejected_stories: Option<u64>,
}

impl From<&StoryRow> for WrittenRow {
    fn from(row: &StoryRow) -> Self {
        Self {
            story: row.story,
            split: row.split,
            family: row.family,
            asymmetric: row.asymmetric,
            answer: row.answer.clone(),
            kind: row.kind,
            order: row.order,
            interesting: row.interesting,
            g: row.g,
            structure: row.structure.clone(),
            rejected: row.rejected,
            target_name: row.target_name.clone(),
            infill_model: row.infill_model.clone(),
            infill_rejected_rewrites: row.infill_rejected_rewrites,
            infill_rejected_stories: row.infill_rejected_stories,
        }
    }
}
