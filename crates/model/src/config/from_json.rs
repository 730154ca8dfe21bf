//! `config.json` and `generation_config.json` of Hugging Face, in the spellings before and since transformers 5.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Architecture, KeyNames, ModelConfig, count, head_dim, limit, number_between, token_ids, validated};
use crate::error::ModelError;
use crate::rope::{RopeConfig, RopeScaling, yarn_attention_factor};

/// What transformers takes when a config gives no `rope_theta`.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

impl ModelConfig {
    /// Parses the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// If the text is not JSON, a key is missing or out of range, or the model needs something unsupported.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, ModelError> {
        let root = parse_object(text, path)?;
        let keys = Keys { object: &root, path, prefix: "" };
        let architecture =
            Architecture::from_name(keys.required("model_type", keys.str("model_type")?)?, path, "model_type")?;
        keys.refuse_unsupported(architecture)?;

        let names = KeyNames {
            path,
            hidden_size: "hidden_size",
            heads: "num_attention_heads",
            kv_heads: "num_key_value_heads",
            head_dim: "head_dim",
            rms_norm_eps: "rms_norm_eps",
            rope_theta: "rope_theta",
        };
        let vocab_size = keys.required_count("vocab_size", limit::VOCAB_SIZE)?;
        let hidden_size = keys.required_count("hidden_size", limit::HIDDEN_SIZE)?;
        let n_heads = keys.required_count("num_attention_heads", limit::HEADS)?;
        let explicit_head_dim = match architecture {
            // Transformers reads this key only where the architecture has it.
            Architecture::Qwen2 => None,
            Architecture::Llama => keys.count("head_dim", limit::HEAD_DIM)?,
            Architecture::Qwen3 => Some(keys.required_count("head_dim", limit::HEAD_DIM)?),
        };
        let n_kv_heads = match architecture {
            Architecture::Llama => keys.count("num_key_value_heads", limit::HEADS)?.unwrap_or(n_heads),
            Architecture::Qwen2 | Architecture::Qwen3 => keys.required_count("num_key_value_heads", limit::HEADS)?,
        };
        let attention_bias = keys.bool("attention_bias")?.unwrap_or(false);
        let (qkv_bias, o_bias) = match architecture {
            Architecture::Qwen2 => (true, false),
            Architecture::Llama | Architecture::Qwen3 => (attention_bias, attention_bias),
        };
        let max_position_embeddings = keys.required_count("max_position_embeddings", limit::POSITIONS)?;
        let config = Self {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size: keys.required_count("intermediate_size", limit::INTERMEDIATE_SIZE)?,
            n_layers: keys.required_count("num_hidden_layers", limit::LAYERS)?,
            n_heads,
            n_kv_heads,
            head_dim: head_dim(explicit_head_dim, hidden_size, n_heads, &names)?,
            rms_norm_eps: keys.required("rms_norm_eps", keys.number("rms_norm_eps")?)? as f32,
            rope: keys.rope(max_position_embeddings)?,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias,
            o_bias,
            max_position_embeddings,
            bos_token_id: keys.token_ids("bos_token_id", vocab_size)?.and_then(|ids| ids.first().copied()),
            eos_token_ids: keys.token_ids("eos_token_id", vocab_size)?.unwrap_or_default(),
        };
        validated(config, &names)
    }

    /// Takes over the end-of-text tokens of a `generation_config.json`, which go before those of `config.json`.
    ///
    /// # Errors
    /// If the text is not JSON, or a token is not in the vocabulary.
    pub fn apply_generation_config(&mut self, text: &str, path: &Path) -> Result<(), ModelError> {
        let root = parse_object(text, path)?;
        let keys = Keys { object: &root, path, prefix: "" };
        if let Some(ids) = keys.token_ids("eos_token_id", self.vocab_size)? {
            self.eos_token_ids = ids;
        }
        Ok(())
    }
}

fn parse_object(text: &str, path: &Path) -> Result<Map<String, Value>, ModelError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(ModelError::damaged(path, format!("expected a JSON object, found {}", described(&other)))),
        Err(error) => Err(ModelError::damaged(path, format!("not valid JSON: {error}"))),
    }
}

/// A value as it appears in error messages: short, whatever its length.
fn described(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
        other => other.to_string(),
    }
}

/// The keys of one object; absent and `null` are the same.
struct Keys<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
    /// Keys of the enclosing objects, for messages: `rope_scaling.`.
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        ModelError::key(self.path, &format!("{}{key}", self.prefix), problem)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        view: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        view(value).map(Some).ok_or_else(|| self.error(key, format!("expected {expected}, found {}", described(value))))
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    /// The keys of the object under `key`.
    fn nested(&self, key: &str, prefix: &'a str) -> Result<Option<Self>, ModelError> {
        let object = self.typed(key, "an object", Value::as_object)?;
        Ok(object.map(|object| Self { object, path: self.path, prefix }))
    }

    fn str(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.typed(key, "a string", Value::as_str)
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn count(&self, key: &str, limit: usize) -> Result<Option<usize>, ModelError> {
        let expected = format!("a whole number from 1 to {limit}");
        self.typed(key, &expected, Value::as_u64)?.map(|value| count(self.path, key, value, limit)).transpose()
    }

    fn required_count(&self, key: &str, limit: usize) -> Result<usize, ModelError> {
        self.required(key, self.count(key, limit)?)
    }

    /// One token or a list of them.
    fn token_ids(&self, key: &str, vocab_size: usize) -> Result<Option<Vec<u32>>, ModelError> {
        let ids: Option<Vec<u64>> = self.typed(key, "a token id or a list of them", |value| match value {
            Value::Array(values) => values.iter().map(Value::as_u64).collect(),
            value => value.as_u64().map(|id| vec![id]),
        })?;
        ids.map(|ids| token_ids(self.path, key, &ids, vocab_size)).transpose()
    }

    fn refuse_unsupported(&self, architecture: Architecture) -> Result<(), ModelError> {
        if let Some(activation) = self.str("hidden_act")?
            && activation != "silu"
        {
            return Err(self.error("hidden_act", format!("`{activation}` is not supported; `silu` is")));
        }
        if self.bool("mlp_bias")?.unwrap_or(false) {
            return Err(self.error("mlp_bias", "biases in the MLP are not supported"));
        }
        if self.get("quantization_config").is_some() {
            let problem = "quantised safetensors are not supported; use the unquantised model, or a GGUF file of it";
            return Err(self.error("quantization_config", problem));
        }
        // Llama ignores these two keys.
        if architecture != Architecture::Llama {
            let sliding = self.bool("use_sliding_window")?.unwrap_or(false) && self.get("sliding_window").is_some();
            let full_layers = self.typed("max_window_layers", "a whole number", Value::as_u64)?;
            let layers = self.typed("num_hidden_layers", "a whole number", Value::as_u64)?;
            if sliding && self.get("layer_types").is_none() && full_layers < layers {
                return Err(self.error("use_sliding_window", "sliding-window attention is not supported"));
            }
        }
        if let Some(layer_types) = self.typed("layer_types", "a list", Value::as_array)?
            && let Some(other) = layer_types.iter().find(|layer_type| layer_type.as_str() != Some("full_attention"))
        {
            let problem = format!("layers of type {} are not supported; `full_attention` is", described(other));
            return Err(self.error("layer_types", problem));
        }
        Ok(())
    }

    /// `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before).
    fn rope(&self, max_position_embeddings: usize) -> Result<RopeConfig, ModelError> {
        self.refuse_partial_rotation()?;
        let outer_theta = self.number("rope_theta")?.unwrap_or(DEFAULT_ROPE_THETA);
        let inner = self.nested("rope_parameters", "rope_parameters.")?;
        let Some(inner) =
            inner.map_or_else(|| self.nested("rope_scaling", "rope_scaling."), |inner| Ok(Some(inner)))?
        else {
            return Ok(RopeConfig::new(outer_theta, RopeScaling::Default));
        };
        inner.refuse_partial_rotation()?;
        let theta = inner.number("rope_theta")?.unwrap_or(outer_theta);
        let original_context = match self.number("original_max_position_embeddings")? {
            Some(context) => Some(context),
            None => inner.number("original_max_position_embeddings")?,
        };
        let scaling = inner.rope_scaling(original_context, max_position_embeddings as f64)?;
        Ok(RopeConfig::new(theta, scaling))
    }

    fn refuse_partial_rotation(&self) -> Result<(), ModelError> {
        match self.number("partial_rotary_factor")? {
            None | Some(1.0) => Ok(()),
            Some(part) => {
                let problem = format!("rotating a part ({part}) of each head is not supported; 1.0 is");
                Err(self.error("partial_rotary_factor", problem))
            }
        }
    }

    fn rope_scaling(&self, original_context: Option<f64>, context: f64) -> Result<RopeScaling, ModelError> {
        let key = if self.get("rope_type").is_some() { "rope_type" } else { "type" };
        let original = number_between(
            self.path,
            "original_max_position_embeddings",
            original_context.unwrap_or(context),
            0.0,
            limit::POSITIONS as f64,
        )?;
        match self.str(key)?.unwrap_or("default") {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: self.rope_number("factor")? }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: self.rope_number("factor")? }),
            "llama3" => {
                let low_freq_factor = self.rope_number("low_freq_factor")?;
                let high_freq_factor = self.rope_number("high_freq_factor")?;
                if high_freq_factor <= low_freq_factor {
                    let problem =
                        format!("{high_freq_factor} is not above `low_freq_factor`, which is {low_freq_factor}");
                    return Err(self.error("high_freq_factor", problem));
                }
                let factor = self.rope_number("factor")?;
                let original_max_position_embeddings = original;
                Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings })
            }
            "yarn" => self.yarn(original, context),
            other => {
                let problem = format!(
                    "rotary embeddings of type `{other}` are not supported; default, linear, dynamic, llama3 and yarn are"
                );
                Err(self.error(key, problem))
            }
        }
    }

    fn yarn(&self, original: f64, context: f64) -> Result<RopeScaling, ModelError> {
        let factor = match self.optional_rope_number("factor")? {
            Some(factor) => factor,
            None => context / original,
        };
        // Zero counts as absent, as in transformers.
        let scale = |key| Ok::<_, ModelError>(self.number(key)?.filter(|scale| *scale != 0.0));
        let attention_factor =
            match (self.optional_rope_number("attention_factor")?, scale("mscale")?, scale("mscale_all_dim")?) {
                (Some(attention_factor), _, _) => attention_factor,
                (None, Some(scale), Some(scale_all)) => {
                    let ratio = yarn_attention_factor(factor, scale) / yarn_attention_factor(factor, scale_all);
                    number_between(self.path, "mscale", ratio, 0.0, limit::ROPE_NUMBER)?
                }
                (None, ..) => yarn_attention_factor(factor, 1.0),
            };
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            attention_factor,
            beta_fast: self.optional_rope_number("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_rope_number("beta_slow")?.unwrap_or(1.0),
            truncate: self.bool("truncate")?.unwrap_or(true),
        })
    }

    fn optional_rope_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let name = format!("{}{key}", self.prefix);
        self.number(key)?.map(|value| number_between(self.path, &name, value, 0.0, limit::ROPE_NUMBER)).transpose()
    }

    fn rope_number(&self, key: &str) -> Result<f64, ModelError> {
        self.required(key, self.optional_rope_number(key)?)
    }
}
