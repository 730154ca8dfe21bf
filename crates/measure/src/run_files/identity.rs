//! Which model a log is of, and how its depths are to be read.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::MeasureError;
use crate::record::candidates_fault;

/// Version of the files of an evaluation run, and the only one that is read.
pub const RUN_SCHEMA: u32 = 1;

/// What the numbers in a log's `depth` count. They are converted on reading; in memory depths are always numbers of
/// blocks whose output was added to a token's residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitConvention {
    /// The exit is decided at the input of block `i`, and `i` is logged: depth `i`. Aloud writes this.
    #[default]
    BeforeBlock,
    /// The exit is decided after block `i`, and `i` is logged: depth `i + 1`. Full depth is block `L - 1`.
    AfterBlock,
}

impl ExitConvention {
    /// The depth that a logged block index means, in blocks.
    pub(super) fn depth(self, block: usize) -> usize {
        match self {
            Self::BeforeBlock => block,
            Self::AfterBlock => block.saturating_add(1),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::BeforeBlock => "before_block",
            Self::AfterBlock => "after_block",
        }
    }
}

/// Which model the rows of a log are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// [`RUN_SCHEMA`] of the program that wrote the log.
    pub schema: u32,
    /// SHA-256 of the base model's parameters.
    pub model_sha256: String,
    /// SHA-256 of what was trained on top of it, if something was.
    #[serde(default)]
    pub adapter_sha256: Option<String>,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// What logged depths count.
    pub exit_convention: ExitConvention,
    /// Number of blocks.
    #[serde(rename = "L")]
    pub n_blocks: usize,
    /// Depths (blocks, whatever the convention) at which tokens may stop: strictly increasing, in `1..L`.
    pub exit_candidates: Vec<usize>,
}

impl RunIdentity {
    /// The first contradiction.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.schema != RUN_SCHEMA {
            return Some(format!("schema is {}, this program reads {RUN_SCHEMA}", self.schema));
        }
        if self.n_blocks == 0 {
            return Some("L is 0".to_owned());
        }
        candidates_fault("exit_candidates", &self.exit_candidates, self.n_blocks)
    }

    /// Whether a log at `path` of the identity `self` continues, or stands beside, logs of `expected` in one run. The error
    /// names the first field that differs.
    pub(crate) fn same_run_as(&self, expected: &Self, path: &Path) -> Result<(), MeasureError> {
        const NEXT: &str = "the log is of another run; choose another folder, or remove the log";
        self.same_in(&FIELDS, expected, path, NEXT)
    }

    /// Whether runs of the two identities can be compared token by token and depth by depth: the same tokenizer, the
    /// same number of blocks. Models, adapters and candidates may differ; conventions are converted.
    ///
    /// # Errors
    /// If they cannot; the error names what differs.
    pub fn comparable_with(&self, expected: &Self, path: &Path) -> Result<(), MeasureError> {
        const NEXT: &str = "token counts and depths of the two cannot be compared; report each model by itself";
        self.same_in(&[TOKENIZER, BLOCKS], expected, path, NEXT)
    }

    fn same_in(
        &self,
        fields: &[Field],
        expected: &Self,
        path: &Path,
        next_step: &'static str,
    ) -> Result<(), MeasureError> {
        let Some((field, value)) = fields.iter().find(|(_, value)| value(self) != value(expected)) else {
            return Ok(());
        };
        let (found, expected) = (value(self), value(expected));
        Err(MeasureError::Foreign { path: path.to_path_buf(), field, found, expected, next_step })
    }
}

/// A field of an identity and how its value is written in messages.
type Field = (&'static str, fn(&RunIdentity) -> String);

const TOKENIZER: Field = ("tokenizer_sha256", |identity| identity.tokenizer_sha256.clone());
const BLOCKS: Field = ("L", |identity| identity.n_blocks.to_string());

/// All but the schema.
const FIELDS: [Field; 6] = [
    ("model_sha256", |identity| identity.model_sha256.clone()),
    ("adapter_sha256", |identity| format!("{:?}", identity.adapter_sha256)),
    TOKENIZER,
    ("exit_convention", |identity| identity.exit_convention.as_str().to_owned()),
    BLOCKS,
    ("exit_candidates", |identity| format!("{:?}", identity.exit_candidates)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_runs::identity;

    #[test]
    fn what_differs_is_named() {
        type Change = fn(&mut RunIdentity);
        let changes: &[(Change, &str, bool)] = &[
            (|i| i.model_sha256 = "dd".to_owned(), "model_sha256 is dd, expected aa", true),
            (|i| i.adapter_sha256 = None, "adapter_sha256 is None, expected Some(\"bb\")", true),
            (|i| i.tokenizer_sha256 = "dd".to_owned(), "tokenizer_sha256 is dd, expected cc", false),
            (|i| i.exit_convention = ExitConvention::AfterBlock, "exit_convention is after_block", true),
            (|i| i.n_blocks = 30, "L is 30, expected 28", false),
            (|i| i.exit_candidates = vec![5], "exit_candidates is [5], expected [5, 10", true),
        ];
        for (change, expected, comparable) in changes {
            let mut other = identity();
            change(&mut other);
            let error = other.same_run_as(&identity(), Path::new("run/tokens.jsonl")).map_err(|e| e.to_string());
            assert!(
                error.clone().is_err_and(|e| e.contains("run/tokens.jsonl: ") && e.contains(expected)),
                "{error:?}"
            );
            assert_eq!(other.comparable_with(&identity(), Path::new("b")).is_ok(), *comparable, "{expected}");
        }
        assert!(identity().same_run_as(&identity(), Path::new("a")).is_ok());
    }
}
