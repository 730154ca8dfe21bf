//! A story with everything that is known of it. What is written of it is in `row`, how it is told in prose in `infill`.

use serde::Serialize;

use super::cast::Cast;
use super::family::Plan;
use super::part::Part;
use super::question::Question;
use super::telling::Telling;
use super::world::World;

/// One story with its questions.
#[derive(Debug)]
pub struct Story {
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) part: Part,
    pub(super) plan: Plan,
    pub(super) cast: Cast,
    pub(super) world: World,
    pub(super) telling: Telling,
    /// Those that are asked.
    pub(super) questions: Vec<Question>,
    pub(super) needs_tom_at_order_1: bool,
    pub(super) structure: u64,
    /// Accuracy of the flawed readers on all questions of orders 1 and 2, or of the language model on those it was asked.
    pub(super) accuracy: f64,
    /// Whose accuracy it is.
    pub(super) reader: String,
    /// Random stories, or searches, that were tried before this one.
    pub(super) n_rejected: usize,
    /// The story as a language model tells it, if one was asked.
    pub(super) prose: Option<Prose>,
}

/// A story in prose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Prose {
    #[serde(rename = "infilled_text")]
    pub(crate) text: String,
    /// Who wrote it.
    #[serde(rename = "infill_model")]
    pub(crate) model: String,
    /// Rewrites of its passages that did not pass.
    #[serde(rename = "infill_rejected_rewrites")]
    pub(crate) n_rejected_rewrites: u64,
    /// Stories before this one that had a passage without a rewrite that passed.
    #[serde(rename = "infill_rejected_stories")]
    pub(crate) n_rejected_stories: u64,
}
