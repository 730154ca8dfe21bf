//! The trace store: prompts, responses and what the teacher knew at each response token.
//!
//! ```text
//! traces.json                 TraceHeader: base model, candidates, shapes, settings
//! shard-00000.safetensors     token_ids [tokens], final_hidden [rows, hidden_size], lens_kl [rows, n_candidates],
//!                             token_log_probability [rows], of all traces of the shard one after the other
//! shard-00000.jsonl           one line a trace; its presence says that the shard is complete
//! ```
//!
//! A trace with `P` prompt and `T` response tokens has `P + T` token ids and `T` rows. Row `t` belongs to the position
//! that *emits* response token `t`, which is the one that consumes the token before it: positions `P - 1 ..= P + T - 2`.

mod reader;
mod writer;

use std::path::PathBuf;

use aloud_base::numerics::Numerics;
use aloud_engine::read::reading::RecordedSequence;
use aloud_model::checkpoint::{BaseIdentity, files::FileError, lineage::ItemKey};
use serde::{Deserialize, Serialize};

pub use reader::TraceReader;
pub use writer::TraceWriter;

/// Version of the trace format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const HEADER: &str = "traces.json";

/// Number format of the stored hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenDType {
    /// 32-bit floats.
    #[default]
    F32,
    /// The upper half of a 32-bit float, rounded to nearest: half the space.
    Bf16,
}

/// `traces.json`: what all traces of a store have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceHeader {
    /// [`FORMAT_VERSION`] of the program that wrote the store.
    pub format_version: u32,
    /// The teacher.
    pub base_model: BaseIdentity,
    /// Depths of the lens KLs, strictly increasing, each in `1..n_blocks`.
    pub candidates: Vec<usize>,
    /// Number of blocks of the teacher.
    pub n_blocks: usize,
    /// Width of its hidden state.
    pub hidden_size: usize,
    /// Number format of the stored hidden states.
    pub hidden_dtype: HiddenDType,
    /// How the traces were made: prompts, sampling, seed. Compared as a whole when a store is resumed.
    pub settings: serde_json::Value,
    /// Number formats, device and instructions of the teacher; absent in stores that were made before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<Numerics>,
    /// Where the items come from; absent in stores that were made before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemSource>,
}

/// The part of a data source that the items of a store are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemSource {
    /// Name of the source, such as `chain` or a path.
    pub source: String,
    /// Part of the source: `train`, `test`, or `all` of a source that has one part only.
    pub split: String,
    /// Seed of the choice of items.
    pub seed: u64,
    /// SHA-256 (hexadecimal) of the file that they are read from; `None` of a generator.
    pub sha256: Option<String>,
}

impl TraceHeader {
    /// The first rule that the header breaks: field, what it must be, what it is.
    fn broken_rule(&self) -> Option<(&'static str, String, String)> {
        let candidates_fit = self.candidates.iter().all(|depth| (1..self.n_blocks).contains(depth))
            && self.candidates.is_sorted_by(|a, b| a < b)
            && !self.candidates.is_empty();
        if self.format_version != FORMAT_VERSION {
            Some(("format_version", FORMAT_VERSION.to_string(), self.format_version.to_string()))
        } else if !candidates_fit {
            let expected = format!("strictly increasing depths from 1 to {}", self.n_blocks.saturating_sub(1));
            Some(("candidates", expected, format!("{:?}", self.candidates)))
        } else if self.hidden_size == 0 {
            Some(("hidden_size", "at least 1".to_owned(), "0".to_owned()))
        } else {
            None
        }
    }
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model emitted its end token.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// The response was given, not generated.
    Given,
}

/// A trace. `P = prompt_len`, `T` response tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Position in the store, from 0. Set by the writer.
    pub index: usize,
    /// Name of the prompt, unique in the store.
    pub id: String,
    /// Key of the item that the prompt was made of, if it was made of one.
    pub item: Option<ItemKey>,
    /// Text of the prompt, as templated.
    pub prompt: String,
    /// Text of the response.
    pub response: String,
    /// Prompt and response, `[P + T]`.
    pub token_ids: Vec<u32>,
    /// Number of prompt tokens `P`, at least 1.
    pub prompt_len: usize,
    /// The teacher's hidden state after the final norm, `[T, hidden_size]`, row `t` at the position that emits response
    /// token `t`.
    pub final_hidden: Vec<f32>,
    /// `KL(p_L || p_d)` at the same rows, `[T, n_candidates]`, nats.
    pub lens_kl: Vec<f32>,
    /// The teacher's log-probability of each response token at temperature 1, `[T]`, nats.
    pub token_log_probabilities: Vec<f32>,
    /// Why the response ended.
    pub finish_reason: FinishReason,
}

impl Trace {
    /// Number of response tokens `T`.
    pub fn response_len(&self) -> usize {
        self.token_ids.len().saturating_sub(self.prompt_len)
    }

    /// Prompt and response for a pass whose steps run to these depths (blocks).
    pub(crate) fn at_depths<'a>(&'a self, depths: &'a [usize]) -> RecordedSequence<'a> {
        RecordedSequence::new(&self.token_ids, self.prompt_len, depths)
    }
}

/// A line of a shard's `.jsonl` file: everything about a trace but its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRecord {
    /// Position in the store, from 0.
    pub index: usize,
    /// Name of the prompt, unique in the store.
    pub id: String,
    /// Key of the item that the prompt was made of; absent in stores that were made before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemKey>,
    /// Number of prompt tokens.
    pub prompt_len: usize,
    /// Number of response tokens.
    pub response_len: usize,
    /// Why the response ended.
    pub finish_reason: FinishReason,
    /// First row of the trace in the shard.
    pub row_offset: usize,
    /// Text of the prompt, as templated.
    pub prompt: String,
    /// Text of the response.
    pub response: String,
}

/// A trace store that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A file is missing, damaged or does not fit the others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store was made by another teacher or with other settings.
    #[error(
        "the trace store `{}` was made with another {field}: it has {found}, this run has {expected}; choose another \
         directory, or use the store's own settings", path.display()
    )]
    OtherSettings {
        /// The store.
        path: PathBuf,
        /// The field that differs, dotted.
        field: String,
        /// The value of this run.
        expected: String,
        /// The value of the store.
        found: String,
    },
    /// A header or trace given to the writer contradicts itself.
    #[error("cannot store {what}: {field} must be {expected}, found {found}")]
    Invalid {
        /// `the header` or the trace.
        what: String,
        /// Field at fault.
        field: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// There is no trace of this index.
    #[error("there is no trace {index}: the store `{}` has {n_traces}", path.display())]
    NoSuchTrace {
        /// The store.
        path: PathBuf,
        /// The index asked for.
        index: usize,
        /// Traces in the store.
        n_traces: usize,
    },
}

fn shard_path(directory: &std::path::Path, shard: usize, extension: &str) -> PathBuf {
    directory.join(format!("shard-{shard:05}.{extension}"))
}
