//! What can be wrong with records and with what is computed from them.

use std::path::{Path, PathBuf};

use aloud_base::durable_file::WriteError;

/// What can be wrong with the files of records and with what is computed from them.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// One line of a file is not a response record.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file as a whole is not what its format asks for.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Logs or runs that were given together do not belong together.
    #[error("{}: {field} is {found}, expected {expected}: {next_step}", path.display())]
    Foreign {
        /// The file that differs.
        path: PathBuf,
        /// What differs, for instance `tokenizer_sha256`.
        field: &'static str,
        /// Its value there.
        found: String,
        /// The value of the others.
        expected: String,
        /// What to do.
        next_step: &'static str,
    },
    /// A record contradicts itself.
    #[error("record `{id}`: {reason}")]
    Record {
        /// The record's id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Groups of responses do not cover the responses.
    #[error("the groups of the page have {expected} responses together, but {found} were given")]
    Groups {
        /// Responses of all groups.
        expected: usize,
        /// Responses given.
        found: usize,
    },
    /// There is nothing to compute from.
    #[error("no response records: expected at least one")]
    Empty,
    /// Records that were given together come from different models.
    #[error(
        "record `{id}` has {n_blocks} blocks and exit candidates {candidates:?}, the records before it have \
         {expected_n_blocks} and {expected_candidates:?}: show and summarise each model by itself"
    )]
    MixedModels {
        /// The first record that differs.
        id: String,
        /// Its number of blocks.
        n_blocks: usize,
        /// Its candidates.
        candidates: Vec<usize>,
        /// Number of blocks of the records before it.
        expected_n_blocks: usize,
        /// Candidates of the records before it.
        expected_candidates: Vec<usize>,
    },
    /// A histogram is not one over the given depths.
    #[error("{name}: {reason}")]
    Histogram {
        /// Which histogram.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl MeasureError {
    /// [`MeasureError::File`].
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), reason: reason.into() }
    }

    /// [`MeasureError::File`], if something is wrong.
    pub(crate) fn check_file(path: &Path, fault: Option<String>) -> Result<(), Self> {
        fault.map_or(Ok(()), |reason| Err(Self::file(path, reason)))
    }

    /// The text of a file.
    pub(crate) fn read(path: &Path) -> Result<String, Self> {
        std::fs::read_to_string(path).map_err(|source| Self::Read { path: path.to_path_buf(), source })
    }
}

impl From<WriteError> for MeasureError {
    fn from(WriteError { path, source }: WriteError) -> Self {
        Self::Write { path, source }
    }
}
