//! Training, validation and test: which stories belong to which.

use std::fmt;

use serde::{Deserialize, Serialize};

use aloud_tasks::item::Split;

/// A part of the stories. No two parts share a structure or, with the settings of the program, a
/// setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// For training.
    Train,
    /// For the choice of settings and checkpoints.
    Validation,
    /// Held out.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The part that stories of this structure belong to: half of the structures are for training.
    pub(super) fn of_structure(hash: u64) -> Self {
        match hash % 4 {
            0 | 1 => Self::Train,
            2 => Self::Validation,
            _ => Self::Test,
        }
    }

    /// The part of story `index` where all parts are mixed: eight, one and one of ten.
    pub(super) fn of_index(index: u64) -> Self {
        match index % 10 {
            8 => Self::Validation,
            9 => Self::Test,
            _ => Self::Train,
        }
    }
}

/// The name: `train`, `validation` or `test`.
impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

impl From<Split> for Part {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Test => Self::Test,
        }
    }
}
