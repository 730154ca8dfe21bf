//! Reading a trace store: everything is checked when it is opened, tensors are read one trace at a time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_base::digest::Digest;
use aloud_model::checkpoint::files::{self, FileError, Tensor, TensorFile};
use safetensors::Dtype;

use super::{HEADER, HiddenDType, Trace, TraceError, TraceHeader, TraceRecord, shard_path};

/// A complete shard.
#[derive(Debug)]
struct Shard {
    tensors: TensorFile,
    /// Index of the store's trace that is its first one.
    first_trace: usize,
    /// First token id of each of its traces.
    token_offsets: Vec<usize>,
}

/// An opened trace store. Damaged, truncated or foreign files are found when it is opened; values are checked as they are
/// read.
#[derive(Debug)]
pub struct TraceReader {
    directory: PathBuf,
    header: TraceHeader,
    shards: Vec<Shard>,
    records: Vec<TraceRecord>,
}

impl TraceReader {
    /// Opens a store and checks its header, every record, and the shape of every tensor.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit the others; the error names the file and the field.
    pub fn open(directory: &Path) -> Result<Self, TraceError> {
        let header = read_header(directory)?;
        let mut reader = Self { directory: directory.to_owned(), header, shards: Vec::new(), records: Vec::new() };
        let mut ids = HashSet::new();
        for shard in 0..count_shards(directory)? {
            reader.open_shard(shard, &mut ids)?;
        }
        Ok(reader)
    }

    /// What all traces have in common.
    pub fn header(&self) -> &TraceHeader {
        &self.header
    }

    /// Number of traces.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no trace.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of complete shards.
    pub fn n_shards(&self) -> usize {
        self.shards.len()
    }

    /// Everything about the traces but their tensors, in the order of their indices.
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }

    /// Reads a trace.
    ///
    /// # Errors
    /// If there is no such trace, the file cannot be read, or a value is not finite.
    pub fn read(&self, index: usize) -> Result<Trace, TraceError> {
        let (record, shard) = self.locate(index)?;
        let rows = |name| -> Result<Vec<f32>, FileError> { finite_rows(shard, record, name) };
        let token_ids = read_token_ids(record, shard, index)?.to_u32().unwrap_or_default();
        Ok(Trace {
            index,
            id: record.id.clone(),
            item: record.item,
            prompt: record.prompt.clone(),
            response: record.response.clone(),
            token_ids,
            prompt_len: record.prompt_len,
            final_hidden: rows("final_hidden")?,
            lens_kl: rows("lens_kl")?,
            token_log_probabilities: rows("token_log_probability")?,
            finish_reason: record.finish_reason,
        })
    }

    /// Reads the lens KLs of a trace alone, `[T, n_candidates]`, nats: all that targets need.
    ///
    /// # Errors
    /// If there is no such trace, the file cannot be read, or a value is not finite.
    pub fn read_lens_kl(&self, index: usize) -> Result<Vec<f32>, TraceError> {
        let (record, shard) = self.locate(index)?;
        Ok(finite_rows(shard, record, "lens_kl")?)
    }

    /// SHA-256 (hexadecimal) of what a run trains on: candidates and number format, and of every trace, in order, its id,
    /// tokens and lens KLs (the hidden states follow from the model and the tokens). A store that was extended has another one.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digest(&self) -> Result<String, TraceError> {
        let mut hash = Digest::new();
        hash.add(format!("{:?} {:?}\n", self.header.candidates, self.header.hidden_dtype));
        for index in 0..self.len() {
            let (record, shard) = self.locate(index)?;
            hash.add(format!("{:?} {} {}\n", record.id, record.prompt_len, record.response_len));
            hash.add(read_token_ids(record, shard, index)?.bytes());
            hash.add(shard.tensors.read_rows("lens_kl", record.row_offset, record.response_len)?.bytes());
        }
        Ok(hash.digits())
    }

    fn locate(&self, index: usize) -> Result<(&TraceRecord, &Shard), TraceError> {
        let record = self.records.get(index);
        let shard = self.shards.partition_point(|shard| shard.first_trace <= index).checked_sub(1);
        record.zip(shard.and_then(|shard| self.shards.get(shard))).ok_or_else(|| TraceError::NoSuchTrace {
            path: self.directory.clone(),
            index,
            n_traces: self.records.len(),
        })
    }

    fn open_shard(&mut self, shard: usize, ids: &mut HashSet<String>) -> Result<(), TraceError> {
        let path = shard_path(&self.directory, shard, "jsonl");
        let text = files::read_text(&path)?;
        if !text.ends_with('\n') {
            return Err(FileError::content(&path, "last line", "a final newline", "a cut line").into());
        }
        let first_trace = self.records.len();
        let mut token_offsets = Vec::new();
        let (mut n_rows, mut n_tokens) = (0_usize, 0_usize);
        for (number, line) in text.lines().enumerate() {
            let wrong = |field: &str, expected: String, found: String| {
                FileError::content(&path, format!("line {}, {field}", number + 1), expected, found)
            };
            let record: TraceRecord = serde_json::from_str(line)
                .map_err(|error| wrong("JSON", "a trace record".to_owned(), error.to_string()))?;
            if record.index != self.records.len() {
                return Err(wrong("index", self.records.len().to_string(), record.index.to_string()).into());
            }
            if record.row_offset != n_rows {
                return Err(wrong("row_offset", n_rows.to_string(), record.row_offset.to_string()).into());
            }
            for (field, len) in [("prompt_len", record.prompt_len), ("response_len", record.response_len)] {
                if len == 0 {
                    return Err(wrong(field, "at least 1".to_owned(), "0".to_owned()).into());
                }
            }
            if !ids.insert(record.id.clone()) {
                return Err(wrong("id", "an id that no other trace has".to_owned(), record.id).into());
            }
            token_offsets.push(n_tokens);
            n_rows = n_rows.saturating_add(record.response_len);
            n_tokens = n_tokens.saturating_add(record.prompt_len).saturating_add(record.response_len);
            self.records.push(record);
        }

        let tensors = TensorFile::open(&shard_path(&self.directory, shard, "safetensors"))?;
        let hidden_dtype = match self.header.hidden_dtype {
            HiddenDType::F32 => Dtype::F32,
            HiddenDType::Bf16 => Dtype::BF16,
        };
        tensors.expect("token_ids", &[Dtype::U32], &[n_tokens])?;
        tensors.expect("final_hidden", &[hidden_dtype], &[n_rows, self.header.hidden_size])?;
        tensors.expect("lens_kl", &[Dtype::F32], &[n_rows, self.header.candidates.len()])?;
        tensors.expect("token_log_probability", &[Dtype::F32], &[n_rows])?;
        self.shards.push(Shard { tensors, first_trace, token_offsets });
        Ok(())
    }
}

/// Reads the tokens of trace `index` of the store, which is in `shard`: prompt and response.
fn read_token_ids(record: &TraceRecord, shard: &Shard, index: usize) -> Result<Tensor, FileError> {
    let offset = shard.token_offsets.get(index - shard.first_trace).copied().unwrap_or(0);
    shard.tensors.read_rows("token_ids", offset, record.prompt_len + record.response_len)
}

/// The rows of a trace in a tensor of its shard. An error about a value that is not finite names the trace and the token.
fn finite_rows(shard: &Shard, record: &TraceRecord, name: &str) -> Result<Vec<f32>, FileError> {
    let tensor = shard.tensors.read_rows(name, record.row_offset, record.response_len)?;
    let values = tensor.to_f32().unwrap_or_default();
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
    let token = at / (values.len() / record.response_len).max(1);
    let field = format!("tensor `{name}`, trace `{}`, response token {token}", record.id);
    Err(FileError::content(shard.tensors.path(), field, "a finite value", values[at]))
}

/// Reads and checks `traces.json`.
pub(super) fn read_header(directory: &Path) -> Result<TraceHeader, TraceError> {
    let path = directory.join(HEADER);
    let header: TraceHeader = files::read_json(&path)?;
    match header.broken_rule() {
        None => Ok(header),
        Some((field, expected, found)) => Err(FileError::content(&path, field, expected, found).into()),
    }
}

/// Number of complete shards: their `.jsonl` files must be numbered without a gap.
fn count_shards(directory: &Path) -> Result<usize, TraceError> {
    let entries = fs::read_dir(directory).map_err(FileError::io("list", directory))?;
    let mut n_shards = 0_usize;
    let mut last = None;
    for entry in entries {
        let name = entry.map_err(FileError::io("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("shard-")?.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) {
            n_shards += 1;
            last = last.max(Some(number));
        }
    }
    match last {
        Some(last) if last.checked_add(1) != Some(n_shards) => {
            let expected = format!("shards 0 to {last}, one `.jsonl` file each");
            let found = format!("{n_shards} files; restore the missing ones");
            Err(FileError::content(directory, "shards", expected, found).into())
        }
        _ => Ok(n_shards),
    }
}
