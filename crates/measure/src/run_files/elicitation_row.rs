//! A row of `elicitations.jsonl`: one answer that was asked for after a part of a trace.

use serde::{Deserialize, Serialize};

use super::{LogRow, RunIdentity};
use crate::metric_record::ReplayMode;

/// What was put before the answer's suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElicitationKind {
    /// The first `position` of `n_positions` parts of the sample's trace; all of them gives the reference answer.
    Prefix,
    /// An empty trace, closed at once.
    NoTrace,
}

impl ElicitationKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::NoTrace => "no_trace",
        }
    }
}

/// One elicited answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElicitationRow {
    /// Key of the sample whose trace it is.
    pub sample: String,
    /// Name of the item.
    pub item: String,
    /// What was put before the suffix.
    pub kind: ElicitationKind,
    /// Name of the suffix, for instance `default`.
    #[serde(default = "default_suffix")]
    pub suffix: String,
    /// Number of parts of the trace that were kept.
    pub position: usize,
    /// Number of parts of the whole trace.
    pub n_positions: usize,
    /// Share of the trace's tokens that were kept, 0 to 1.
    pub fraction: f64,
    /// The depths that the kept part ran at.
    pub mode: ReplayMode,
    /// The answer; none if none was found.
    #[serde(default)]
    pub answer: Option<String>,
    /// Log-probability (nats, a sum) of the reference answer's tokens after the suffix.
    #[serde(default)]
    pub logp: Option<f64>,
    /// The same of the gold answer's tokens.
    #[serde(default)]
    pub logp_gold: Option<f64>,
    /// Whether the answer equals the reference answer; none if the item has no reference answer.
    #[serde(default)]
    pub same: Option<bool>,
    /// Whether the last of the kept parts brings a value of the gold solution that no part before it brought; none where the
    /// solution's steps are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_value: Option<bool>,
}

fn default_suffix() -> String {
    "default".to_owned()
}

impl LogRow for ElicitationRow {
    const FILE: &'static str = "elicitations";

    fn key(&self) -> String {
        let mode = match self.mode {
            ReplayMode::Recorded => "recorded",
            ReplayMode::Free => "free",
            ReplayMode::Full => "full",
        };
        format!("{}/{}/{}/{mode}/{}", self.sample, self.kind.as_str(), self.suffix, self.position)
    }

    fn fault(&self, _: &RunIdentity) -> Option<String> {
        if self.position > self.n_positions {
            return Some(format!("position {} of {} parts", self.position, self.n_positions));
        }
        if !(0.0..=1.0).contains(&self.fraction) {
            return Some(format!("fraction {} is not in 0..1", self.fraction));
        }
        [("logp", self.logp), ("logp_gold", self.logp_gold)]
            .into_iter()
            .find(|(_, value)| value.is_some_and(|value| !value.is_finite() || value > 1e-3))
            .map(|(name, value)| format!("{name} {value:?} is not a number up to 0"))
    }
}
