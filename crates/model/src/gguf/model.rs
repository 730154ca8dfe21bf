//! The model in a GGUF file: ggml's tensors under Hugging Face's names.

use std::collections::BTreeMap;

use aloud_kernels::matrix::Matrix;

use super::GgufFile;
use crate::config::{Architecture, ModelConfig};
use crate::error::ModelError;
use crate::weights::{EMBED_TOKENS, LM_HEAD, NORM, StoredTensor, StoredTensors, TensorReader};

/// What Llama 3's frequencies are divided by, `[head_dim / 2]`.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// ggml's names within a block and Hugging Face's.
const BLOCK_NAMES: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl GgufFile {
    /// Reads the matrix of this name, with its rows as they are stored.
    ///
    /// # Errors
    /// If there is no such tensor, it has not two dimensions or a number format that is not supported, or the file cannot
    /// be read.
    pub fn read_matrix(&self, name: &str) -> Result<Matrix, ModelError> {
        let stored = self.stored(str::to_owned)?;
        match self.tensors.get(name).map(|tensor| tensor.shape.as_slice()) {
            Some(&[rows, columns]) => TensorReader::new(&stored).matrix(name, rows, columns),
            Some(shape) => {
                Err(ModelError::tensor(&self.path, name, format!("expected two dimensions, found the shape {shape:?}")))
            }
            None => Err(ModelError::tensor(&self.path, name, "is missing")),
        }
    }

    /// The model's shape and the places of its tensors.
    pub(crate) fn model(&self) -> Result<(ModelConfig, StoredTensors), ModelError> {
        let mut stored = self.stored(hugging_face_name)?;
        let config = ModelConfig::from_gguf(self, read_rope_divisors(&stored)?)?;
        if config.architecture == Architecture::Llama {
            for (name, tensor) in &mut stored.tensors {
                if name.contains(".self_attn.q_proj.") || name.contains(".self_attn.k_proj.") {
                    tensor.interleaved_heads = Some(config.head_dim);
                }
            }
        }
        Ok((config, stored))
    }

    /// The places of all tensors, under the names that `rename` gives them.
    fn stored(&self, rename: impl Fn(&str) -> String) -> Result<StoredTensors, ModelError> {
        let mut stored = StoredTensors { path: self.path.clone(), files: self.files.clone(), tensors: BTreeMap::new() };
        for (name, tensor) in &self.tensors {
            let placed = StoredTensor {
                file: tensor.file,
                name: name.clone(),
                format: tensor.ggml_type.dtype().ok_or_else(|| tensor.ggml_type.name()),
                shape: tensor.shape.clone(),
                start: tensor.start,
                size_bytes: tensor.size_bytes,
                interleaved_heads: None,
            };
            if let Some(other) = stored.tensors.insert(rename(name), placed) {
                return Err(ModelError::tensor(&self.path, name, format!("is the same tensor as `{}`", other.name)));
            }
        }
        Ok(stored)
    }
}

fn read_rope_divisors(stored: &StoredTensors) -> Result<Option<Vec<f32>>, ModelError> {
    match stored.tensors.get(ROPE_DIVISORS).map(|tensor| tensor.shape.as_slice()) {
        None => Ok(None),
        Some(&[length]) => TensorReader::new(stored).vector(ROPE_DIVISORS, length).map(Some),
        Some(shape) => Err(ModelError::tensor(
            &stored.path,
            ROPE_DIVISORS,
            format!("expected one dimension, found the shape {shape:?}"),
        )),
    }
}

/// Hugging Face's name for a tensor, or its own name if there is none.
fn hugging_face_name(name: &str) -> String {
    let of_block = || {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let layer = layer.parse::<usize>().ok()?;
        let (module, parameter) = rest.rsplit_once('.')?;
        let (_, module) = BLOCK_NAMES.iter().find(|(ggml, _)| *ggml == module)?;
        Some(format!("model.layers.{layer}.{module}.{parameter}"))
    };
    match name {
        "token_embd.weight" => EMBED_TOKENS.to_owned(),
        "output_norm.weight" => NORM.to_owned(),
        "output.weight" => LM_HEAD.to_owned(),
        _ => of_block().unwrap_or_else(|| name.to_owned()),
    }
}
