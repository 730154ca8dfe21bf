//! Logs as JSON Lines: a header, then one row a line, appended and brought to the disk one by one. A row that is complete
//! is never lost, and never written twice.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ExitConvention, RunIdentity};
use crate::error::MeasureError;

/// A row of a log.
pub trait LogRow: Serialize + DeserializeOwned {
    /// What the header calls the file's rows.
    const FILE: &'static str;

    /// What a row is known by. It stands once in a file.
    fn key(&self) -> String;

    /// Turns what the file counts into depths (blocks).
    fn convert(&mut self, _convention: ExitConvention) {}

    /// The first contradiction.
    fn fault(&self, identity: &RunIdentity) -> Option<String>;
}

/// The first line of a log.
#[derive(Serialize, Deserialize)]
struct Header {
    file: String,
    #[serde(flatten)]
    identity: RunIdentity,
}

/// A log that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Log<Row> {
    /// Whose rows these are. Depths were converted: the convention is `before_block`.
    pub identity: RunIdentity,
    /// The complete rows.
    pub rows: Vec<Row>,
    /// Whether a cut last line was left out: its writer was interrupted, or is at work.
    pub cut: bool,
}

/// Reads a log. A last line without its end is left out, and the log says so.
///
/// # Errors
/// If the file cannot be read, its header is not one of these rows and of this schema, or a line is damaged, contradicts
/// itself or has a key that was there before. The error names file and line.
pub fn read_log<Row: LogRow>(path: &Path) -> Result<Log<Row>, MeasureError> {
    let bytes = std::fs::read(path).map_err(|source| MeasureError::Read { path: path.to_path_buf(), source })?;
    let parsed = parse::<Row>(path, &bytes)?;
    let identity = RunIdentity { exit_convention: ExitConvention::BeforeBlock, ..parsed.identity };
    Ok(Log { identity, rows: parsed.rows, cut: parsed.n_whole_bytes < bytes.len() })
}

struct Parsed<Row> {
    /// As the header has it.
    identity: RunIdentity,
    rows: Vec<Row>,
    keys: HashSet<String>,
    /// Length of the header and the complete rows.
    n_whole_bytes: usize,
}

fn parse<Row: LogRow>(path: &Path, bytes: &[u8]) -> Result<Parsed<Row>, MeasureError> {
    let error = |line, reason| MeasureError::Line { path: path.to_path_buf(), line, reason };
    let n_whole_bytes = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = (1..).zip(bytes[..n_whole_bytes].split_inclusive(|byte| *byte == b'\n'));
    let header: Header = match lines.next() {
        Some((line, text)) => serde_json::from_slice(text)
            .map_err(|e| error(line, format!("not the header of an evaluation log: {e}")))?,
        None => return Err(error(1, "the header is missing or cut; remove the file and evaluate again".to_owned())),
    };
    if header.file != Row::FILE {
        return Err(error(1, format!("the file holds `{}`, expected `{}`", header.file, Row::FILE)));
    }
    if let Some(reason) = header.identity.fault() {
        return Err(error(1, reason));
    }
    let (mut rows, mut keys) = (Vec::new(), HashSet::new());
    for (line, text) in lines.filter(|(_, text)| !text.trim_ascii().is_empty()) {
        let mut row: Row =
            serde_json::from_slice(text).map_err(|e| error(line, format!("not a row of `{}`: {e}", Row::FILE)))?;
        row.convert(header.identity.exit_convention);
        if let Some(reason) = row.fault(&header.identity) {
            return Err(error(line, format!("`{}`: {reason}", row.key())));
        }
        if !keys.insert(row.key()) {
            return Err(error(line, format!("`{}` is there a second time", row.key())));
        }
        rows.push(row);
    }
    Ok(Parsed { identity: header.identity, rows, keys, n_whole_bytes })
}

/// Appends rows to a log. There is one writer at a time: the file is locked until the writer is dropped.
#[derive(Debug)]
pub struct LogWriter<Row> {
    path: PathBuf,
    file: File,
    identity: RunIdentity,
    keys: HashSet<String>,
    row: PhantomData<fn(Row)>,
}

impl<Row: LogRow> LogWriter<Row> {
    /// Begins a log, or goes on with the one that is there: rows that it has are kept, a cut last line is removed.
    ///
    /// # Errors
    /// If another writer is at work, the log is of another run (the error names the field that differs) or damaged, or
    /// the file cannot be written. Depths are written as they are, so the convention has to be `before_block`.
    pub fn open(path: &Path, identity: &RunIdentity) -> Result<Self, MeasureError> {
        let write_error = |source| MeasureError::Write { path: path.to_path_buf(), source };
        MeasureError::check_file(path, identity.fault())?;
        if identity.exit_convention != ExitConvention::BeforeBlock {
            return Err(MeasureError::file(path, "logs are written with the exit_convention before_block only"));
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(write_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(MeasureError::file(path, "another evaluation is writing it; wait for it or stop it"));
            }
            Err(TryLockError::Error(source)) => return Err(write_error(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| MeasureError::Read { path: path.to_path_buf(), source })?;
        let mut writer =
            Self { path: path.to_path_buf(), file, identity: identity.clone(), keys: HashSet::new(), row: PhantomData };
        if bytes.contains(&b'\n') {
            let parsed = parse::<Row>(path, &bytes)?;
            parsed.identity.same_run_as(identity, path)?;
            writer.keys = parsed.keys;
            writer.cut_to(parsed.n_whole_bytes as u64)?;
        } else {
            // Nothing, or a header that was cut while it was written.
            writer.cut_to(0)?;
            let mut header = Vec::new();
            writer.add_line(&mut header, &Header { file: Row::FILE.to_owned(), identity: identity.clone() })?;
            writer.append_bytes(&header)?;
        }
        Ok(writer)
    }

    /// Whether the log has the row of this key.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.keys.len()
    }

    /// Appends rows and waits once until all are on the disk. Rows whose keys are there already are not written again; returns
    /// how many were written.
    ///
    /// # Errors
    /// If a row contradicts itself, or the file cannot be written; then none of these rows is.
    pub fn append_all(&mut self, rows: &[Row]) -> Result<usize, MeasureError> {
        let (mut bytes, mut keys) = (Vec::new(), HashSet::new());
        for row in rows {
            let key = row.key();
            if self.has(&key) || keys.contains(&key) {
                continue;
            }
            if let Some(reason) = row.fault(&self.identity) {
                return Err(MeasureError::Record { id: key, reason });
            }
            self.add_line(&mut bytes, row)?;
            keys.insert(key);
        }
        self.append_bytes(&bytes)?;
        let n_written = keys.len();
        self.keys.extend(keys);
        Ok(n_written)
    }

    fn add_line<Line: Serialize>(&self, bytes: &mut Vec<u8>, line: &Line) -> Result<(), MeasureError> {
        serde_json::to_writer(&mut *bytes, line).map_err(|e| self.write_error(e.into()))?;
        bytes.push(b'\n');
        Ok(())
    }

    fn append_bytes(&mut self, bytes: &[u8]) -> Result<(), MeasureError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = self.file.stream_position().map_err(|e| self.write_error(e))?;
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // What was written must not run into the next line; the first error is the one to report.
            let _ = self.cut_to(start);
            return Err(self.write_error(source));
        }
        Ok(())
    }

    /// Shortens the file and goes to its end.
    fn cut_to(&mut self, length: u64) -> Result<(), MeasureError> {
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        cut.map(|_| ()).map_err(|source| self.write_error(source))
    }

    fn write_error(&self, source: std::io::Error) -> MeasureError {
        MeasureError::Write { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::run_files::{ElicitationRow, SampleRow, TokenRow};
    use crate::test_runs::{elicitation, identity, sample, token_row as row};

    /// Writes the rows of a log.
    fn write<Row: LogRow>(path: &Path, rows: &[Row]) {
        LogWriter::open(path, &identity()).unwrap().append_all(rows).unwrap();
    }

    fn refusal(path: &Path) -> String {
        read_log::<TokenRow>(path).unwrap_err().to_string()
    }

    #[test]
    fn all_rows_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.jsonl");
        write(&path, &[sample("a"), sample("b")]);
        let log = read_log::<SampleRow>(&path).unwrap();
        assert_eq!((log.rows, log.identity, log.cut), (vec![sample("a"), sample("b")], identity(), false));

        let path = folder.path().join("elicitations.jsonl");
        write(&path, &[elicitation()]);
        assert_eq!(read_log::<ElicitationRow>(&path).unwrap().rows, [elicitation()]);
        let error = refusal(&path);
        assert!(
            error.contains("elicitations.jsonl, line 1: the file holds `elicitations`, expected `tokens`"),
            "{error}"
        );
    }

    #[test]
    fn finished_rows_are_skipped_and_a_cut_line_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.jsonl");
        let (a, b, c) = (row("a", &[28, 5]), row("b", &[28, 10, 10]), row("c", &[28]));
        write(&path, std::slice::from_ref(&a));
        write(&path, std::slice::from_ref(&b));
        let whole = std::fs::read(&path).unwrap();
        // Cut everywhere about the ends of lines, and here and there within them.
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
        let first_two_lines = ends[1] + 1;
        let near_end = |length: usize| ends.iter().any(|end| length.abs_diff(*end) <= 2);
        for length in (0..whole.len()).filter(|length| length % 37 == 0 || near_end(*length)) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut writer = LogWriter::<TokenRow>::open(&path, &identity()).unwrap();
            assert_eq!(writer.has("a"), length >= first_two_lines, "{length}");
            for row in [&a, &b, &c, &c] {
                let had = writer.has(&row.key);
                assert_eq!(writer.append_all(std::slice::from_ref(row)).unwrap(), usize::from(!had));
            }
            assert_eq!(writer.n_rows(), 3);
            drop(writer);
            assert_eq!(read_log::<TokenRow>(&path).unwrap().rows, [a.clone(), b.clone(), c.clone()], "{length}");
        }
        // Several at once: one file as row by row, each key once.
        std::fs::remove_file(&path).unwrap();
        let mut writer = LogWriter::<TokenRow>::open(&path, &identity()).unwrap();
        assert_eq!(writer.append_all(&[a.clone(), a.clone(), b.clone()]).unwrap(), 2);
        assert_eq!(writer.append_all(&[a.clone(), b.clone()]).unwrap(), 0);
        assert_eq!(writer.append_all(&[]).unwrap(), 0);
        drop(writer);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let log = read_log::<TokenRow>(&path).unwrap();
        assert_eq!((log.rows, log.cut), (vec![a], true));
    }

    #[test]
    fn there_is_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.jsonl");
        let writer = LogWriter::<TokenRow>::open(&path, &identity()).unwrap();
        let error = LogWriter::<TokenRow>::open(&path, &identity()).unwrap_err().to_string();
        assert!(error.contains("another evaluation is writing it"), "{error}");
        drop(writer);
        LogWriter::<TokenRow>::open(&path, &identity()).unwrap();
    }

    #[test]
    fn logs_of_another_run_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.jsonl");
        LogWriter::<TokenRow>::open(&path, &identity()).unwrap();
        let other = RunIdentity { tokenizer_sha256: "dd".to_owned(), ..identity() };
        let error = LogWriter::<TokenRow>::open(&path, &other).unwrap_err().to_string();
        assert!(
            error.contains("tokens.jsonl: tokenizer_sha256 is cc, expected dd: the log is of another run"),
            "{error}"
        );
        let after = RunIdentity { exit_convention: ExitConvention::AfterBlock, ..identity() };
        let error = LogWriter::<TokenRow>::open(&path, &after).unwrap_err().to_string();
        assert!(error.contains("before_block only"), "{error}");
    }

    #[test]
    fn the_other_convention_is_converted_and_a_wrong_one_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.jsonl");
        write(&path, &[row("a", &[28, 5, 25])]);
        let before = std::fs::read_to_string(&path).unwrap();
        let indices = before.replace("[28,5,25]", "[27,4,24]");
        std::fs::write(&path, indices.replace("before_block", "after_block")).unwrap();
        let log = read_log::<TokenRow>(&path).unwrap();
        assert_eq!((&log.rows[0].depth, log.identity), (&vec![28, 5, 25], identity()));
        std::fs::write(&path, indices).unwrap();
        let error = refusal(&path);
        assert!(
            error.contains("line 2: `a`: token 0: depth 27 is neither") && error.contains("exit_convention"),
            "{error}"
        );
        std::fs::write(&path, before.replace("before_block", "after_block")).unwrap();
        let error = refusal(&path);
        assert!(error.contains("line 2: `a`: token 0: depth 29 is neither"), "{error}");
    }

    #[test]
    fn errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.jsonl");
        write(&path, &[row("a", &[28, 5])]);
        let whole = std::fs::read_to_string(&path).unwrap();
        let line = whole.lines().nth(1).unwrap();
        for (content, expected) in [
            (format!("{whole}{line}\n"), "line 3: `a` is there a second time"),
            (format!("{whole}\n{{\"key\": 3}}\n"), "line 4: not a row of `tokens`: invalid type"),
            (format!("{whole}\u{0}\n"), "line 3: not a row of `tokens`"),
            (line.to_owned() + "\n", "line 1: not the header of an evaluation log: missing field `file`"),
            (whole.replace("\"schema\":1", "\"schema\":3"), "line 1: schema is 3, this program reads 1"),
            (String::new(), "line 1: the header is missing or cut"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = refusal(&path);
            assert!(error.contains("tokens.jsonl, ") && error.contains(expected), "{error}");
        }
        let mut writer = LogWriter::open(&folder.path().join("new.jsonl"), &identity()).unwrap();
        let error = writer.append_all(&[row("b", &[28, 6])]).unwrap_err().to_string();
        assert!(error.contains("record `b`: token 1: depth 6 is neither"), "{error}");
        // Unknown fields are no error.
        std::fs::write(&path, whole.replace("\"ids\"", "\"news\":{},\"ids\"")).unwrap();
        assert_eq!(read_log::<TokenRow>(&path).unwrap().rows.len(), 1);
    }

    /// A log of one row.
    fn good_bytes() -> &'static [u8] {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        BYTES.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokens.jsonl");
            write(&path, &[row("a", &[28, 5])]);
            std::fs::read(&path).unwrap()
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, flip: u8) {
            let _ = parse::<TokenRow>(Path::new("tokens.jsonl"), &bytes);
            let mut damaged = good_bytes().to_vec();
            let at = at.index(damaged.len());
            damaged[at] = flip;
            let _ = parse::<TokenRow>(Path::new("tokens.jsonl"), &damaged);
        }
    }
}
