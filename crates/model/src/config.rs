//! The shape of a model: read from Hugging Face's `config.json` or from GGUF metadata, validated once.

mod from_gguf;
mod from_json;
mod to_json;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::rope::RopeConfig;

/// A family of decoders. All have RMS norms, rotary positions, grouped-query attention and a SwiGLU MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama and its many relatives, among them SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen3: queries and keys are normalised per head before the rotation.
    Qwen3,
}

impl Architecture {
    /// All families that can be read.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// The name in `config.json` (`model_type`) and in GGUF (`general.architecture`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family of this name; an error that lists the known ones otherwise.
    fn from_name(name: &str, path: &Path, key: &str) -> Result<Self, ModelError> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            ModelError::key(path, key, format!("the architecture `{name}` is not supported; supported are {known}"))
        })
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Length of the residual stream.
    pub hidden_size: usize,
    /// Length of the MLP's hidden layer.
    pub intermediate_size: usize,
    /// Number of blocks `L`.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Length of a head; even.
    pub head_dim: usize,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f32,
    /// Frequencies of the rotary position embedding.
    pub rope: RopeConfig,
    /// Whether the unembedding is the token embedding.
    pub tie_word_embeddings: bool,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub o_bias: bool,
    /// Longest context, in tokens.
    pub max_position_embeddings: usize,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generated text.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Whether queries and keys are RMS-normalised per head before the rotation.
    pub fn has_query_key_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Length of all query heads together: outputs of `q_proj`, inputs of `o_proj`.
    pub fn query_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Length of all key heads together (values the same): outputs of `k_proj` and `v_proj`.
    pub fn key_value_size(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

/// Upper bounds, far above any published model, so that a damaged number is recognised as such.
mod limit {
    pub(super) const VOCAB_SIZE: usize = 1 << 24;
    pub(super) const HIDDEN_SIZE: usize = 1 << 18;
    pub(super) const INTERMEDIATE_SIZE: usize = 1 << 20;
    pub(super) const LAYERS: usize = 1 << 12;
    pub(super) const HEADS: usize = 1 << 12;
    pub(super) const HEAD_DIM: usize = 1 << 12;
    /// Beyond this not every position is an f32, and rotations are computed in f32.
    pub(super) const POSITIONS: usize = 1 << 24;
    pub(super) const ROPE_THETA: f64 = 1e15;
    pub(super) const ROPE_NUMBER: f64 = 1e9;
}

/// Most blocks of a model.
pub(crate) const MAX_LAYERS: usize = limit::LAYERS;

/// Where a config comes from, and what its keys are called there.
struct KeyNames<'a> {
    path: &'a Path,
    hidden_size: &'a str,
    heads: &'a str,
    kv_heads: &'a str,
    head_dim: &'a str,
    rms_norm_eps: &'a str,
    rope_theta: &'a str,
}

/// `value`, if it is in `1..=limit`.
fn count(path: &Path, key: &str, value: u64, limit: usize) -> Result<usize, ModelError> {
    usize::try_from(value)
        .ok()
        .filter(|count| (1..=limit).contains(count))
        .ok_or_else(|| ModelError::key(path, key, format!("expected a number from 1 to {limit}, found {value}")))
}

/// `value`, if it is finite, above `low` and at most `high`.
fn number_between(path: &Path, key: &str, value: f64, low: f64, high: f64) -> Result<f64, ModelError> {
    if value > low && value <= high {
        Ok(value)
    } else {
        Err(ModelError::key(path, key, format!("expected a number above {low} and up to {high}, found {value}")))
    }
}

/// The head length: as given, or the hidden size divided among the heads.
fn head_dim(
    explicit: Option<usize>,
    hidden_size: usize,
    n_heads: usize,
    names: &KeyNames<'_>,
) -> Result<usize, ModelError> {
    let head_dim = match explicit {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
        None => {
            let problem = format!("its value {hidden_size} is not a multiple of `{}`, which is {n_heads}", names.heads);
            return Err(ModelError::key(names.path, names.hidden_size, problem));
        }
    };
    if head_dim.is_multiple_of(2) && head_dim > 0 {
        Ok(head_dim)
    } else {
        let problem = format!("heads of {head_dim} numbers cannot be rotated in pairs; expected an even number");
        Err(ModelError::key(names.path, if explicit.is_some() { names.head_dim } else { names.hidden_size }, problem))
    }
}

/// The checks that involve more than one key.
fn validated(config: ModelConfig, names: &KeyNames<'_>) -> Result<ModelConfig, ModelError> {
    let path = names.path;
    if !config.n_heads.is_multiple_of(config.n_kv_heads) {
        let problem = format!(
            "{} key/value heads do not divide `{}`, which is {}",
            config.n_kv_heads, names.heads, config.n_heads
        );
        return Err(ModelError::key(path, names.kv_heads, problem));
    }
    number_between(path, names.rms_norm_eps, config.rms_norm_eps.into(), 0.0, 1.0)?;
    number_between(path, names.rope_theta, config.rope.theta, 1.0, limit::ROPE_THETA)?;
    Ok(config)
}

/// `ids`, if all are below the vocabulary's size.
fn token_ids(path: &Path, key: &str, ids: &[u64], vocab_size: usize) -> Result<Vec<u32>, ModelError> {
    ids.iter()
        .map(|&id| {
            u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size).ok_or_else(|| {
                ModelError::key(path, key, format!("token {id} is outside of the vocabulary of {vocab_size} tokens"))
            })
        })
        .collect()
}
