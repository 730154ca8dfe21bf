//! GGUF metadata as ggml's converters write it for the supported architectures.

use super::{Architecture, KeyNames, ModelConfig, count, head_dim, limit, number_between, token_ids, validated};
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::rope::{RopeConfig, RopeScaling, yarn_attention_factor};

/// What ggml takes when a file gives no `rope.freq_base`.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

const RMS_NORM_EPS: &str = "attention.layer_norm_rms_epsilon";
const ROPE_FACTOR: &str = "rope.scaling.factor";

impl ModelConfig {
    /// Reads the metadata of a GGUF file. `rope_divisors` are the values of its tensor `rope_freqs.weight`, if it has one.
    ///
    /// # Errors
    /// If a key is missing or out of range, or the model needs something unsupported.
    pub fn from_gguf(gguf: &GgufFile, rope_divisors: Option<Vec<f32>>) -> Result<Self, ModelError> {
        let path = gguf.path.as_path();
        let name = gguf
            .string("general.architecture")?
            .ok_or_else(|| ModelError::key(path, "general.architecture", "is missing"))?;
        let architecture = Architecture::from_name(name, path, "general.architecture")?;
        let keys = Keys { gguf, architecture: architecture.name() };
        keys.refuse_unsupported()?;

        let vocab_size = keys.vocab_size()?;
        let hidden_size = keys.required_count("embedding_length", limit::HIDDEN_SIZE)?;
        let n_heads = keys.required_count("attention.head_count", limit::HEADS)?;
        let explicit_head_dim = keys.count("attention.key_length", limit::HEAD_DIM)?;
        let names = KeyNames {
            path,
            hidden_size: &keys.name("embedding_length"),
            heads: &keys.name("attention.head_count"),
            kv_heads: &keys.name("attention.head_count_kv"),
            head_dim: &keys.name("attention.key_length"),
            rms_norm_eps: &keys.name(RMS_NORM_EPS),
            rope_theta: &keys.name("rope.freq_base"),
        };
        let head_dim = head_dim(explicit_head_dim, hidden_size, n_heads, &names)?;
        keys.expect_equal_to_head_dim("attention.value_length", head_dim)?;
        keys.expect_equal_to_head_dim("rope.dimension_count", head_dim)?;

        let config = Self {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size: keys.required_count("feed_forward_length", limit::INTERMEDIATE_SIZE)?,
            n_layers: keys.required_count("block_count", limit::LAYERS)?,
            n_heads,
            n_kv_heads: keys.count("attention.head_count_kv", limit::HEADS)?.unwrap_or(n_heads),
            head_dim,
            rms_norm_eps: keys.required(RMS_NORM_EPS, keys.number(RMS_NORM_EPS)?)? as f32,
            rope: keys.rope(rope_divisors, head_dim)?,
            tie_word_embeddings: !gguf.tensors.contains_key("output.weight"),
            qkv_bias: gguf.tensors.contains_key("blk.0.attn_q.bias"),
            o_bias: gguf.tensors.contains_key("blk.0.attn_output.bias"),
            max_position_embeddings: keys.required_count("context_length", limit::POSITIONS)?,
            bos_token_id: keys.token_id("tokenizer.ggml.bos_token_id", vocab_size)?,
            eos_token_ids: keys.eos_token_ids(vocab_size)?,
        };
        validated(config, &names)
    }
}

/// The metadata keys of one architecture.
struct Keys<'a> {
    gguf: &'a GgufFile,
    architecture: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    fn count(&self, key: &str, limit: usize) -> Result<Option<usize>, ModelError> {
        let name = self.name(key);
        self.gguf.u64(&name)?.map(|value| count(&self.gguf.path, &name, value, limit)).transpose()
    }

    fn required_count(&self, key: &str, limit: usize) -> Result<usize, ModelError> {
        self.required(key, self.count(key, limit)?)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.gguf.f64(&self.name(key))
    }

    fn rope_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let name = self.name(key);
        self.number(key)?.map(|v| number_between(&self.gguf.path, &name, v, 0.0, limit::ROPE_NUMBER)).transpose()
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        ModelError::key(&self.gguf.path, &self.name(key), problem)
    }

    fn refuse_unsupported(&self) -> Result<(), ModelError> {
        for (key, problem) in [
            ("expert_count", "mixtures of experts are not supported"),
            ("attention.sliding_window", "sliding-window attention is not supported"),
        ] {
            if self.gguf.u64(&self.name(key))?.unwrap_or(0) > 0 {
                return Err(self.error(key, problem));
            }
        }
        Ok(())
    }

    /// Not every converter writes the vocabulary's size; the list of tokens has it too.
    fn vocab_size(&self) -> Result<usize, ModelError> {
        if let Some(vocab_size) = self.count("vocab_size", limit::VOCAB_SIZE)? {
            return Ok(vocab_size);
        }
        let tokens = "tokenizer.ggml.tokens";
        match self.gguf.array(tokens)? {
            Some(array) => count(&self.gguf.path, tokens, array.len() as u64, limit::VOCAB_SIZE),
            None => self.required("vocab_size", None),
        }
    }

    fn expect_equal_to_head_dim(&self, key: &str, head_dim: usize) -> Result<(), ModelError> {
        match self.count(key, limit::HEAD_DIM)? {
            Some(length) if length != head_dim => {
                Err(self
                    .error(key, format!("{length} is not the length of a head, {head_dim}; nothing else is supported")))
            }
            _ => Ok(()),
        }
    }

    fn token_id(&self, key: &str, vocab_size: usize) -> Result<Option<u32>, ModelError> {
        let id = self.gguf.u64(key)?;
        Ok(token_ids(&self.gguf.path, key, id.as_slice(), vocab_size)?.first().copied())
    }

    /// The end of a text, of a turn and of a message, as far as the file names them.
    fn eos_token_ids(&self, vocab_size: usize) -> Result<Vec<u32>, ModelError> {
        let mut ids = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            if let Some(id) = self.token_id(key, vocab_size)?
                && !ids.contains(&id)
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn rope(&self, divisors: Option<Vec<f32>>, head_dim: usize) -> Result<RopeConfig, ModelError> {
        let theta = self.number("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_THETA);
        let scaling = match (self.gguf.string(&self.name("rope.scaling.type"))?, divisors) {
            (None | Some("none"), None) => match self.rope_number("rope.scale_linear")? {
                None | Some(1.0) => RopeScaling::Default,
                Some(factor) => RopeScaling::Linear { factor },
            },
            (None | Some("none"), Some(divisors)) => {
                if divisors.len() != head_dim / 2 || !divisors.iter().all(|d| d.is_finite() && *d > 0.0) {
                    let problem = format!("expected {} finite positive numbers, one per rotation", head_dim / 2);
                    return Err(ModelError::tensor(&self.gguf.path, "rope_freqs.weight", problem));
                }
                RopeScaling::Divisors { divisors }
            }
            (Some(_), Some(_)) => {
                let problem = "together with the tensor `rope_freqs.weight` no other scaling is supported";
                return Err(self.error("rope.scaling.type", problem));
            }
            (Some("linear"), None) => {
                RopeScaling::Linear { factor: self.required(ROPE_FACTOR, self.rope_number(ROPE_FACTOR)?)? }
            }
            (Some("yarn"), None) => self.yarn()?,
            (Some(other), None) => {
                let problem =
                    format!("rotary embeddings of type `{other}` are not supported; none, linear and yarn are");
                return Err(self.error("rope.scaling.type", problem));
            }
        };
        Ok(RopeConfig::new(theta, scaling))
    }

    fn yarn(&self) -> Result<RopeScaling, ModelError> {
        let factor = self.required(ROPE_FACTOR, self.rope_number(ROPE_FACTOR)?)?;
        let original = self.required_count("rope.scaling.original_context_length", limit::POSITIONS)?;
        // In GGUF the factor given multiplies the recommended one; in `config.json` it replaces it.
        let attention_factor = self.rope_number("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original as f64,
            attention_factor: attention_factor * yarn_attention_factor(factor, 1.0),
            beta_fast: self.rope_number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.rope_number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: true,
        })
    }
}
