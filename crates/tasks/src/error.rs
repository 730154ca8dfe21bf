//! What can be wrong with a data set, its name, or the scoring of completions.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

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
    /// One row of an array in a file is not what the format asks for.
    #[error("{}, row {row}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, counted from 1.
        row: u64,
        /// What is wrong with it.
        reason: String,
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
    /// A setting of the stories is out of range, or contradicts another.
    #[error("stories: `{key}`: {reason}")]
    StorySetting {
        /// The setting.
        key: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// No story of the kind that was asked for was found.
    #[error(
        "no story of `{family}` with {people} people and {moves} moves was found in {attempts} attempts: allow other numbers of \
         people or moves, or leave out this family"
    )]
    InfeasibleStory {
        /// The family of stories.
        family: &'static str,
        /// Number of people.
        people: usize,
        /// Number of moves.
        moves: usize,
        /// Stories or searches tried.
        attempts: usize,
    },
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

    /// An error about one line of a file, counted from 1.
    pub fn line(path: &std::path::Path, line: u64, reason: impl Into<String>) -> Self {
        Self::Line { path: path.to_path_buf(), line, reason: reason.into() }
    }

    /// An error about a file as a whole.
    pub fn file(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// How many of the last lines of a program's error output are shown in a message.
const SHOWN_LINES: usize = 3;

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
    /// The program ended, or closed its output, while an answer was due.
    #[error(
        "the reward program {} {}{}; try it by hand on one line of JSON",
        how(status.as_ref()), when(id.as_deref()), ending(error_output)
    )]
    Ended {
        /// The item that waited for its reward; `None` if the program ended as soon as it was started.
        id: Option<String>,
        /// How it ended; `None` if it closed its output and went on running.
        status: Option<ExitStatus>,
        /// The last few kilobytes of its error output.
        error_output: String,
    },
    /// No answer came within the time allowed.
    #[error(
        "the reward program gave no answer for item `{id}` within {timeout:?}{}; it has to answer each line as it \
         comes and flush its output after it (in Python `print(..., flush=True)`); if it is only slow, allow \
         it more time",
        ending(error_output)
    )]
    Timeout {
        /// The item that waited for its reward.
        id: String,
        /// The time allowed for one answer.
        timeout: Duration,
        /// The last few kilobytes of the program's error output.
        error_output: String,
    },
    /// An answer is not what the protocol asks for.
    #[error(
        "the reward program answered `{line}` for item `{id}`; expected one line `{{\"reward\": NUMBER}}` or a bare \
         number, and everything else on its error output"
    )]
    Answer {
        /// The item that waited for its reward.
        id: String,
        /// The answer, cut to 200 characters.
        line: String,
    },
    /// A reward is not a finite number.
    #[error(
        "the reward program answered `{line}` for item `{id}`, which is not a finite number; give a response that \
         cannot be scored a finite reward, for instance 0"
    )]
    NotFinite {
        /// The item that waited for its reward.
        id: String,
        /// The answer, cut to 200 characters.
        line: String,
    },
    /// An answer names another item than the one that is due.
    #[error(
        "the reward program answered for item `{found}` where the answer for item `{id}` was due; it has to answer \
         once for each line, in the order in which they come"
    )]
    Order {
        /// The item that waited for its reward.
        id: String,
        /// The item that the answer names.
        found: String,
    },
    /// The program wrote a line that no completion asked for.
    #[error(
        "the reward program wrote `{line}`, a line more than it was given; it has to write one line for each \
         completion and everything else to its error output"
    )]
    ExtraLine {
        /// The line, cut to 200 characters.
        line: String,
    },
    /// The program was ended by an earlier error.
    #[error("the reward program was ended after an earlier error: start it anew")]
    Over,
}

fn how(status: Option<&ExitStatus>) -> String {
    match status {
        Some(status) => format!("ended ({status})"),
        None => "closed its output".to_owned(),
    }
}

fn when(id: Option<&str>) -> String {
    match id {
        Some(id) => format!("before it answered for item `{id}`"),
        None => "as soon as it was started".to_owned(),
    }
}

/// The last lines of a program's error output, as the end of a sentence.
fn ending(error_output: &str) -> String {
    let lines: Vec<&str> = error_output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.get(lines.len().saturating_sub(SHOWN_LINES)..) {
        Some(last) if !last.is_empty() => format!(", after it said: {}", last.join(" / ")),
        _ => String::new(),
    }
}
