//! Files of stories, written one story at a time: memory does not grow with their number, an interrupted file goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::card::{DataCard, WrittenRow};
use super::row::StoryRow;
use super::story::Story;
use aloud_tasks::error::TasksError;

/// Structures that are remembered to recognise duplicates, one a place: 8 MiB. Of two structures with the same place the
/// later is remembered, so a few duplicates pass where there are many more stories than places.
const N_REMEMBERED: usize = 1 << 20;

/// The format of a file of stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoryFormat {
    /// One JSON object a line.
    Jsonl,
    /// A header and one record a row; lists are JSON in a cell.
    Csv,
}

impl StoryFormat {
    /// The format by the ending of a file name.
    ///
    /// # Errors
    /// If it ends neither in `.jsonl` nor in `.csv`.
    pub fn of(path: &Path) -> Result<Self, TasksError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            _ => Err(TasksError::file(path, "the name must end in `.jsonl` or `.csv`")),
        }
    }

    /// A row as text with its line end.
    ///
    /// # Errors
    /// If it cannot be written as text.
    pub fn row(self, row: &StoryRow) -> io::Result<Vec<u8>> {
        match self {
            Self::Jsonl => {
                let mut line = serde_json::to_vec(row)?;
                line.push(b'\n');
                Ok(line)
            }
            Self::Csv => {
                let fields = serde_json::to_value(row)?;
                csv_record(fields.as_object().into_iter().flat_map(|fields| fields.values()).map(cell))
            }
        }
    }

    /// What stands above the rows.
    fn header(self, row: &StoryRow) -> io::Result<Vec<u8>> {
        match self {
            Self::Jsonl => Ok(Vec::new()),
            Self::Csv => {
                let fields = serde_json::to_value(row)?;
                csv_record(fields.as_object().into_iter().flat_map(|fields| fields.keys()).cloned())
            }
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn csv_record(cells: impl Iterator<Item = String>) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// A file of stories that is being written. Until it is finished it has the ending `.partial`.
pub struct StoryFile {
    path: PathBuf,
    partial: PathBuf,
    settings: PathBuf,
    format: StoryFormat,
    out: BufWriter<File>,
    /// Recently written structures, each at its place.
    remembered: Vec<u64>,
    card: DataCard,
    next_index: u64,
    has_header: bool,
}

impl StoryFile {
    /// Begins a file, or goes on with one that was interrupted. `description` tells everything that its stories depend on.
    ///
    /// # Errors
    /// If the file cannot be written, or was begun with another description.
    pub fn open(path: &Path, description: &str) -> Result<Self, TasksError> {
        let format = StoryFormat::of(path)?;
        let with_ending = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
        let (partial, settings) = (with_ending(".partial"), with_ending(".partial.settings"));
        let mut file = Self {
            out: BufWriter::new(open_partial(&partial, &settings, description)?),
            path: path.to_path_buf(),
            partial,
            settings,
            format,
            remembered: vec![0; N_REMEMBERED],
            card: DataCard::default(),
            next_index: 0,
            has_header: false,
        };
        file.take_up()?;
        Ok(file)
    }

    /// Number of the story to be made next.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Number of stories in the file.
    pub fn n_stories(&self) -> u64 {
        self.card.n_stories()
    }

    /// Whether a story of the same structure is there already.
    pub fn has(&self, story: &Story) -> bool {
        self.remembered[story.structure as usize % N_REMEMBERED] == story.structure
    }

    fn remember(&mut self, structure: u64) {
        self.remembered[structure as usize % N_REMEMBERED] = structure;
    }

    /// Goes on without the story of this number.
    pub fn leave_out(&mut self, index: u64) {
        self.next_index = index + 1;
    }

    /// Adds a story unless one of the same structure is there already. Whether it was added.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, story: &Story) -> Result<bool, TasksError> {
        self.next_index = story.index() + 1;
        if self.has(story) {
            return Ok(false);
        }
        self.remember(story.structure);
        let rows = story.rows();
        let written = self.put(&rows).map_err(|source| self.write_error(source))?;
        self.card.count(&written);
        Ok(true)
    }

    /// Writes the rows. What can be read of them again.
    fn put(&mut self, rows: &[StoryRow]) -> io::Result<Vec<WrittenRow>> {
        let mut written = Vec::new();
        for row in rows {
            if !self.has_header {
                self.out.write_all(&self.format.header(row)?)?;
                self.has_header = true;
            }
            self.out.write_all(&self.format.row(row)?)?;
            written.push(serde_json::from_value(serde_json::to_value(row)?)?);
        }
        Ok(written)
    }

    /// Gives the file its name. What is in it is told by the card.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<DataCard, TasksError> {
        let finished = (self.out.flush())
            .and_then(|()| self.out.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .and_then(|()| fs::remove_file(&self.settings));
        finished.map_err(|source| self.write_error(source))?;
        self.card.set_n_candidates(self.next_index);
        Ok(self.card)
    }

    fn write_error(&self, source: io::Error) -> TasksError {
        TasksError::Write { path: self.partial.clone(), source }
    }

    /// Counts what an interrupted call has written, and cuts off its last story, which may not be whole.
    fn take_up(&mut self) -> Result<(), TasksError> {
        let end = self.scan().map_err(TasksError::read(&self.partial))?;
        let file = self.out.get_mut();
        let cut = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
        cut.map_err(|source| self.write_error(source))?;
        self.has_header = end > 0;
        Ok(())
    }

    /// Where the last story of the file begins. The stories before it are counted.
    fn scan(&mut self) -> io::Result<u64> {
        let mut lines = Lines { reader: BufReader::new(File::open(&self.partial)?), end: 0 };
        let header = match self.format {
            StoryFormat::Jsonl => None,
            StoryFormat::Csv => lines.record(self.format)?,
        };
        let mut last_begin = lines.end;
        let mut story: Vec<WrittenRow> = Vec::new();
        loop {
            let begin = lines.end;
            let Some(record) = lines.record(self.format)? else { break };
            let Some(row) = read_row(self.format, header.as_deref(), &record) else { break };
            if story.first().is_some_and(|first| first.story != row.story) {
                self.take_up_story(&story);
                story.clear();
            }
            if story.is_empty() {
                last_begin = begin;
            }
            story.push(row);
        }
        // Without a story there is nothing worth keeping, not even a header.
        Ok(if self.next_index == 0 { 0 } else { last_begin })
    }

    fn take_up_story(&mut self, rows: &[WrittenRow]) {
        let Some(first) = rows.first() else { return };
        self.next_index = first.story + 1;
        if let Ok(structure) = u64::from_str_radix(&first.structure, 16) {
            self.remember(structure);
        }
        self.card.count(rows);
    }
}

/// Opens the unfinished file, which must have been begun with the same description.
fn open_partial(partial: &Path, settings: &Path, description: &str) -> Result<File, TasksError> {
    let error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TasksError::Write { path, source }
    };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    match fs::read_to_string(settings) {
        Ok(found) if found == description => options.open(partial).map_err(error(partial)),
        Ok(_) if partial.exists() => Err(TasksError::file(
            partial,
            format!(
                "an unfinished file of other settings ({}); go on with the same arguments, or remove it",
                settings.display()
            ),
        )),
        _ => {
            fs::write(settings, description).map_err(error(settings))?;
            options.clone().truncate(true).open(partial).map_err(error(partial))
        }
    }
}

/// Reads whole records; one that was cut off is none.
struct Lines {
    reader: BufReader<File>,
    /// Where the last record ends.
    end: u64,
}

impl Lines {
    /// The next record with its line end. A record of CSV goes on over lines while a quotation mark is open.
    fn record(&mut self, format: StoryFormat) -> io::Result<Option<Vec<u8>>> {
        let mut record = Vec::new();
        loop {
            let n_read = self.reader.read_until(b'\n', &mut record)?;
            if n_read == 0 || record.last() != Some(&b'\n') {
                return Ok(None);
            }
            let is_quote_open = record.iter().fold(false, |is_open, byte| is_open != (*byte == b'"'));
            if format == StoryFormat::Jsonl || !is_quote_open {
                self.end += record.len() as u64;
                return Ok(Some(record));
            }
        }
    }
}

/// What a record says; `None` if it is damaged.
fn read_row(format: StoryFormat, header: Option<&[u8]>, record: &[u8]) -> Option<WrittenRow> {
    match format {
        StoryFormat::Jsonl => serde_json::from_slice(record).ok(),
        StoryFormat::Csv => {
            let text = [header?, record].concat();
            csv::Reader::from_reader(text.as_slice()).deserialize().next()?.ok()
        }
    }
}
