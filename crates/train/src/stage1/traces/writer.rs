//! Writing a trace store, shard by shard, so that an interrupted run goes on where it stopped.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::checkpoint::files::{self, FileError, Tensor};
use half::bf16;

use super::{
    HEADER, HiddenDType, Trace, TraceError, TraceHeader, TraceReader, TraceRecord, reader::read_header, shard_path,
};
use crate::lock::{WriterLock, first_foreign_file};
use crate::numerics;

/// The one writer of a trace store.
///
/// Traces are gathered in memory and written a shard at a time: the tensors first, the records last, each by rename. A
/// shard whose records are missing does not count, and is written anew.
#[derive(Debug)]
pub struct TraceWriter {
    directory: PathBuf,
    header: TraceHeader,
    traces_per_shard: usize,
    n_shards: usize,
    n_completed: usize,
    ids: HashSet<String>,
    pending: Vec<Trace>,
    _lock: WriterLock,
}

impl TraceWriter {
    /// Traces of a shard unless [`TraceWriter::with_traces_per_shard`] says otherwise.
    pub const TRACES_PER_SHARD: usize = 16;

    /// Creates the store, or opens it to go on. The source of the base model is not compared, its hash is.
    ///
    /// # Errors
    /// If the store is another base model's or was made with other settings or numerics, is damaged, has another writer, or if the
    /// header contradicts itself.
    pub fn create_or_resume(directory: &Path, header: TraceHeader) -> Result<Self, TraceError> {
        if let Some((field, expected, found)) = header.broken_rule() {
            let (what, field) = ("the header".to_owned(), field.to_owned());
            return Err(TraceError::Invalid { what, field, expected, found });
        }
        fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
        let lock = WriterLock::acquire(directory)?;
        let path = directory.join(HEADER);
        let (mut n_shards, mut records) = (0, Vec::new());
        if path.exists() {
            compare(directory, &read_header(directory)?, &header)?;
            let reader = TraceReader::open(directory)?;
            n_shards = reader.n_shards();
            records = reader.records().to_vec();
        } else {
            if let Some(name) = first_foreign_file(directory)? {
                let expected = format!("`{HEADER}`, or an empty directory to create a trace store in");
                return Err(FileError::content(directory, "content", expected, format!("`{name}`")).into());
            }
            files::write_json(&path, &header)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            header,
            traces_per_shard: Self::TRACES_PER_SHARD,
            n_shards,
            n_completed: records.len(),
            ids: records.into_iter().map(|record| record.id).collect(),
            pending: Vec::new(),
            _lock: lock,
        })
    }

    /// Sets how many traces are gathered for a shard, at least 1.
    #[must_use]
    pub fn with_traces_per_shard(mut self, traces_per_shard: usize) -> Self {
        self.traces_per_shard = traces_per_shard.max(1);
        self
    }

    /// Number of traces that are safely on the disk.
    pub fn n_completed(&self) -> usize {
        self.n_completed
    }

    /// Whether the store has, or will have with its next shard, a trace of this id.
    pub fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Adds a trace, sets its index, and writes a shard when enough are gathered. Returns the index.
    ///
    /// # Errors
    /// If the trace contradicts itself or the header, a value is not finite, its id is taken, or the shard cannot be
    /// written; the trace is not added then, or is written with the next call that succeeds.
    pub fn append(&mut self, mut trace: Trace) -> Result<usize, TraceError> {
        check(&trace, &self.header)?;
        if !self.ids.insert(trace.id.clone()) {
            return Err(invalid(&trace, "id", "an id that no other trace has".to_owned(), trace.id.clone()));
        }
        trace.index = self.n_completed + self.pending.len();
        let index = trace.index;
        self.pending.push(trace);
        if self.pending.len() >= self.traces_per_shard {
            self.flush()?;
        }
        Ok(index)
    }

    /// Writes the gathered traces as a shard, which may be smaller than the others. Traces that were gathered but never
    /// written are lost, so call this at the end and when a run is interrupted.
    ///
    /// # Errors
    /// If the operating system refuses; the traces stay gathered then.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let tensors_path = shard_path(&self.directory, self.n_shards, "safetensors");
        files::write_atomic(&tensors_path, &self.tensor_bytes(&tensors_path)?)?;
        let records_path = shard_path(&self.directory, self.n_shards, "jsonl");
        files::write_atomic(&records_path, &self.record_bytes(&records_path)?)?;
        self.n_shards += 1;
        self.n_completed += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    /// Writes what is gathered and gives the store free.
    ///
    /// # Errors
    /// As [`TraceWriter::flush`].
    pub fn finish(mut self) -> Result<(), TraceError> {
        self.flush()
    }

    fn tensor_bytes(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let token_ids: Vec<u32> = self.pending.iter().flat_map(|trace| trace.token_ids.iter().copied()).collect();
        let gather = |field: fn(&Trace) -> &Vec<f32>| -> Vec<f32> {
            self.pending.iter().flat_map(|trace| field(trace).iter().copied()).collect()
        };
        let final_hidden = gather(|trace| &trace.final_hidden);
        let lens_kl = gather(|trace| &trace.lens_kl);
        let log_probability = gather(|trace| &trace.token_log_probabilities);
        let n_rows = log_probability.len();
        let hidden_shape = [n_rows, self.header.hidden_size];
        let final_hidden = match self.header.hidden_dtype {
            HiddenDType::F32 => Tensor::from_f32(&hidden_shape, &final_hidden),
            HiddenDType::Bf16 => {
                let rounded: Vec<bf16> = final_hidden.into_iter().map(bf16::from_f32).collect();
                Tensor::from_bf16(&hidden_shape, &rounded)
            }
        };
        let tensors = [
            ("token_ids", Tensor::from_u32(&[token_ids.len()], &token_ids)),
            ("final_hidden", final_hidden),
            ("lens_kl", Tensor::from_f32(&[n_rows, self.header.candidates.len()], &lens_kl)),
            ("token_log_probability", Tensor::from_f32(&[n_rows], &log_probability)),
        ];
        let tensors: Vec<(&str, Tensor)> =
            tensors.into_iter().filter_map(|(name, tensor)| Some((name, tensor?))).collect();
        files::tensor_file_bytes(path, tensors.iter().map(|(name, tensor)| (*name, tensor)))
    }

    fn record_bytes(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let mut row_offset = 0;
        for trace in &self.pending {
            let record = TraceRecord {
                index: trace.index,
                id: trace.id.clone(),
                item: trace.item,
                prompt_len: trace.prompt_len,
                response_len: trace.response_len(),
                finish_reason: trace.finish_reason,
                row_offset,
                prompt: trace.prompt.clone(),
                response: trace.response.clone(),
            };
            row_offset += record.response_len;
            serde_json::to_writer(&mut bytes, &record)
                .map_err(|error| FileError::content(path, format!("trace `{}`", trace.id), "JSON", error))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}

fn invalid(trace: &Trace, field: &str, expected: String, found: String) -> TraceError {
    TraceError::Invalid { what: format!("trace `{}`", trace.id), field: field.to_owned(), expected, found }
}

/// Checks a trace against itself and the header.
fn check(trace: &Trace, header: &TraceHeader) -> Result<(), TraceError> {
    let n_rows = trace.response_len();
    if trace.prompt_len == 0 {
        return Err(invalid(trace, "prompt_len", "at least 1".to_owned(), "0".to_owned()));
    }
    if n_rows == 0 {
        return Err(invalid(trace, "number of response tokens", "at least 1".to_owned(), "0".to_owned()));
    }
    for (field, values, width) in [
        ("final_hidden", &trace.final_hidden, header.hidden_size),
        ("lens_kl", &trace.lens_kl, header.candidates.len()),
        ("token_log_probabilities", &trace.token_log_probabilities, 1),
    ] {
        if Some(values.len()) != n_rows.checked_mul(width) {
            let expected = format!("{n_rows} rows of {width}");
            return Err(invalid(trace, field, expected, format!("{} values", values.len())));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let field = format!("{field} of response token {}", at / width.max(1));
            return Err(invalid(trace, &field, "finite".to_owned(), values[at].to_string()));
        }
    }
    Ok(())
}

/// Names the first field in which the header of a store differs from that of a run.
fn compare(directory: &Path, found: &TraceHeader, expected: &TraceHeader) -> Result<(), TraceError> {
    let other = |field: &str, expected: String, found: String| TraceError::OtherSettings {
        path: directory.to_owned(),
        field: field.to_owned(),
        expected,
        found,
    };
    let (base, other_base) = (&expected.base_model, &found.base_model);
    if !base.sha256.eq_ignore_ascii_case(&other_base.sha256) {
        let name = |base: &aloud_model::checkpoint::BaseIdentity| format!("{} (`{}`)", base.sha256, base.source);
        return Err(other("base_model.sha256", name(base), name(other_base)));
    }
    let fields = [
        ("candidates", format!("{:?}", expected.candidates), format!("{:?}", found.candidates)),
        ("n_blocks", expected.n_blocks.to_string(), found.n_blocks.to_string()),
        ("hidden_size", expected.hidden_size.to_string(), found.hidden_size.to_string()),
        ("hidden_dtype", format!("{:?}", expected.hidden_dtype), format!("{:?}", found.hidden_dtype)),
    ];
    for (field, expected, found) in fields {
        if expected != found {
            return Err(other(field, expected, found));
        }
    }
    let content = |header: &TraceHeader| header.items.as_ref().and_then(|items| items.sha256.clone());
    let items = |header: &TraceHeader| serde_json::json!({ "sha256": content(header) });
    let difference = first_difference("settings", &expected.settings, &found.settings)
        .or_else(|| first_difference("items", &items(expected), &items(found)))
        .or_else(|| numerics::difference(expected.numerics.as_ref(), found.numerics.as_ref()));
    match difference {
        None => Ok(()),
        Some((field, expected, found)) => Err(other(&field, expected, found)),
    }
}

/// The dotted path at which two JSON values first differ, with both values there.
fn first_difference(
    path: &str,
    expected: &serde_json::Value,
    found: &serde_json::Value,
) -> Option<(String, String, String)> {
    if let (Some(expected), Some(found)) = (expected.as_object(), found.as_object()) {
        let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
        let null = serde_json::Value::Null;
        return keys.into_iter().find_map(|key| {
            let (expected, found) = (expected.get(key).unwrap_or(&null), found.get(key).unwrap_or(&null));
            first_difference(&format!("{path}.{key}"), expected, found)
        });
    }
    (expected != found).then(|| (path.to_owned(), expected.to_string(), found.to_string()))
}
