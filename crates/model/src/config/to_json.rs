//! Writing of a `config.json` that transformers and this program read back.

use serde_json::{Value, json};

use super::{Architecture, ModelConfig};
use crate::rope::RopeScaling;

impl ModelConfig {
    /// The object of a `config.json`, in the spelling before transformers 5, which every version reads.
    ///
    /// `None` if no keys say what the model is: rope frequencies given one by one ([`RopeScaling::Divisors`]), or biases
    /// on other projections than the architecture has them.
    pub fn to_json(&self) -> Option<Value> {
        let rope_scaling = match &self.rope.scaling {
            RopeScaling::Divisors { .. } => return None,
            RopeScaling::Default => Value::Null,
            // The fields and the tag are named as in `config.json`.
            scaling => serde_json::to_value(scaling).ok()?,
        };
        let biases_can_be_said = match self.architecture {
            Architecture::Qwen2 => self.qkv_bias && !self.o_bias,
            Architecture::Llama | Architecture::Qwen3 => self.qkv_bias == self.o_bias,
        };
        if !biases_can_be_said {
            return None;
        }
        let class = match self.architecture {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
        };
        Some(json!({
            "architectures": [class],
            "model_type": self.architecture.name(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": self.o_bias,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope.theta,
            "rope_scaling": rope_scaling,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": (!self.eos_token_ids.is_empty()).then_some(&self.eos_token_ids),
        }))
    }
}
