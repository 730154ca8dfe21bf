//! What can be wrong with a data set or its name.

use std::path::PathBuf;

/// An error of the tasks crate. Messages name the file and, where there is one, the line (counted from 1).
#[derive(Debug, thiserror::Error)]
pub enum TasksError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// One line of a file is not what the format asks for.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong there and what was expected.
        reason: String,
    },
    /// A file as a whole is not what the format asks for.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A file holds no items.
    #[error("{}: the data set is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The name of a data source is not understood.
    #[error("unknown data source `{name}`: {reason}")]
    SourceName {
        /// The name that was given.
        name: String,
        /// What is wrong with it, and which names exist.
        reason: String,
    },
    /// A word problem was asked for with a number of steps that the generator cannot write.
    #[error("a word problem has 1 to {max} steps, {given} were asked for")]
    Steps {
        /// The number of steps asked for.
        given: usize,
        /// The largest number of steps.
        max: usize,
    },
    /// A serial item was asked for with a number of steps that the generators do not make.
    #[error("a serial item has 1 to {max} steps, {given} were asked for")]
    SerialSteps {
        /// The number of steps asked for.
        given: usize,
        /// The largest number of steps.
        max: usize,
    },
    /// A source without an end was asked for all of its items.
    #[error("`{name}` has no end: say how many items to take")]
    Endless {
        /// The data source.
        name: String,
    },
}

impl TasksError {
    pub(crate) fn line(path: &std::path::Path, line: u64, reason: impl Into<String>) -> Self {
        Self::Line { path: path.to_path_buf(), line, reason: reason.into() }
    }

    pub(crate) fn file(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), reason: reason.into() }
    }
}
