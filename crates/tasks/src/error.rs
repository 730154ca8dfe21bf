//! What can be wrong with a data set, its name, or the scoring of completions.

use std::path::{Path, PathBuf};

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
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file, or a line or row of it, is not what the format asks for.
    #[error("{}{place}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// `, line 3` or `, row 3`, counted from 1; empty for the file as a whole.
        place: String,
        /// What is wrong there and what was expected.
        reason: String,
    },
    /// The name of a data source is not understood.
    #[error("unknown data source `{name}`: {reason}")]
    SourceName {
        /// The name that was given.
        name: String,
        /// What is wrong with it, and which names exist.
        reason: String,
    },
    /// An item was asked for with a number of steps that its generator does not make.
    #[error("a {item} has 1 to {max} steps, {given} were asked for")]
    Steps {
        /// What is made.
        item: &'static str,
        /// The number of steps asked for.
        given: usize,
        /// The largest number of steps.
        max: usize,
    },
    /// A setting of the stories is out of range, or contradicts another.
    #[error("stories: `{key}`: {reason}")]
    StorySetting {
        /// The setting.
        key: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// No story of the kind that was asked for was found: of which kind.
    #[error("no story of {0}: allow other numbers of people or moves, or leave out this family")]
    InfeasibleStory(String),
    /// A language model that stories are made with could not be asked.
    #[error("the model `{name}`: {source}")]
    Model {
        /// Its name.
        name: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A source without an end was asked for all of its items.
    #[error("`{name}` has no end: say how many items to take")]
    Endless {
        /// The data source.
        name: String,
    },
}

impl TasksError {
    /// An error about the name of a task.
    pub fn name(name: &str, reason: impl Into<String>) -> Self {
        Self::SourceName { name: name.to_owned(), reason: reason.into() }
    }

    /// What the operating system said about a file or folder that cannot be read, as an error.
    pub fn read(path: &Path) -> impl Fn(std::io::Error) -> Self + Copy {
        move |source| Self::Read { path: path.to_path_buf(), source }
    }

    /// An error about one line of a file, counted from 1.
    pub fn line(path: &Path, line: u64, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), place: format!(", line {line}"), reason: reason.into() }
    }

    /// An error about a file as a whole.
    pub fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), place: String::new(), reason: reason.into() }
    }

    /// A file without items.
    pub(crate) fn empty(path: &Path) -> Self {
        Self::file(path, "the data set is empty")
    }
}

/// Why completions could not be scored. Messages name the item and say what to do next.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// An item has no gold answer to compare with.
    #[error("item `{id}` has no gold answer: give it an `answer` field, or score with a reward program")]
    NoAnswer {
        /// The item.
        id: String,
    },
    /// An item has a gold answer that no line of a response can equal.
    #[error(
        "item `{id}` has a gold answer of several lines, which no answer can equal: give it a number, one line, or a \
         last line `#### ` and the answer, or score with a reward program"
    )]
    LongAnswer {
        /// The item.
        id: String,
    },
    /// A prompt is no item of the serial tasks.
    #[error("`{prompt}` is no item of the serial tasks")]
    NoSerialItem {
        /// The prompt.
        prompt: String,
    },
    /// The shell or its pipes could not be set up.
    #[error("cannot start the reward program `{command}` through `sh`: {source}")]
    Start {
        /// The command line that was given.
        command: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A reward program did not do what it has to; the end of a sentence about it.
    #[error("the reward program {0}")]
    Program(String),
}
