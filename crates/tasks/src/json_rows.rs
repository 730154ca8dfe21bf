//! The rows of a JSON file, one at a time: JSON Lines, or one array that holds them all.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::TasksError;

/// Where a row stands in its file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a line.
    Line(u64),
    /// In an array.
    Row(u64),
}

impl Place {
    /// An error about this place.
    pub(crate) fn error(self, path: &Path, reason: impl Into<String>) -> TasksError {
        TasksError::File { path: path.to_path_buf(), place: format!(", {self}"), reason: reason.into() }
    }
}

/// `line 3`, `row 3`.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Row(row) => write!(formatter, "row {row}"),
        }
    }
}

/// What is done with a row.
type Take<'a> = &'a mut dyn FnMut(Place, Value) -> Result<(), TasksError>;

/// Hands on every row of a file, which is never held as a whole. A byte order mark, CRLF and blank lines are fine.
///
/// # Errors
/// If the file cannot be read or is no such file (the error names the line), or the first error of `take`.
pub(crate) fn for_each_row(path: &Path, take: Take<'_>) -> Result<(), TasksError> {
    let read = TasksError::read(path);
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let is_array = first_character(&mut file).map_err(read)? == Some(b'[');
    file.rewind().map_err(read)?;
    if file.fill_buf().map_err(read)?.starts_with(MARK) {
        file.consume(MARK.len());
    }
    if is_array { each_element(path, file, take) } else { each_line(path, file, take) }
}

/// UTF-8's byte order mark.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// The first byte that is neither white space nor part of a byte order mark.
fn first_character(file: &mut BufReader<File>) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = file.fill_buf()?;
        let length = buffer.len();
        if length == 0 {
            return Ok(None);
        }
        if let Some(byte) = buffer.iter().find(|byte| !byte.is_ascii_whitespace() && !MARK.contains(byte)) {
            return Ok(Some(*byte));
        }
        file.consume(length);
    }
}

fn each_line(path: &Path, mut file: BufReader<File>, take: Take<'_>) -> Result<(), TasksError> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = file.read_until(b'\n', &mut bytes);
        if read.map_err(TasksError::read(path))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| TasksError::line(path, number, "not UTF-8 text"))?.trim();
        if !text.is_empty() {
            let value = serde_json::from_str(text)
                .map_err(|error| TasksError::line(path, number, format!("not a JSON object: {error}")))?;
            take(Place::Line(number), value)?;
        }
    }
    Ok(())
}

fn each_element(path: &Path, file: BufReader<File>, take: Take<'_>) -> Result<(), TasksError> {
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_reader(file);
    let read = json.deserialize_seq(Elements { take, failed: &mut failed }).and_then(|()| json.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => {
            Err(TasksError::line(path, error.line() as u64, format!("not an array of JSON objects: {error}")))
        }
        (None, Ok(())) => Ok(()),
    }
}

struct Elements<'a> {
    take: Take<'a>,
    failed: &'a mut Option<TasksError>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut row = 0;
        while let Some(value) = elements.next_element()? {
            row += 1;
            if let Err(error) = (self.take)(Place::Row(row), value) {
                *self.failed = Some(error);
                return Err(A::Error::custom("a row was refused"));
            }
        }
        Ok(())
    }
}
