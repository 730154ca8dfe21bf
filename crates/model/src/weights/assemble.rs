//! From stored tensors to a model's weights, with nothing missing and nothing left over.

use std::collections::BTreeSet;

use super::stored::{StoredTensors, TensorReader};
use super::{EMBED_TOKENS, LM_HEAD, LayerWeights, LinearWeights, ModelWeights, NORM, layer_name};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::lora::Projection;

impl ModelWeights {
    /// Reads all parameters that `config` calls for, and the SHA-256 over names, shapes, formats and bytes. The hash does
    /// not depend on how tensors are spread over files.
    ///
    /// If `config` ties the unembedding to the embedding but a different unembedding is stored, the stored one is taken
    /// (as transformers 5 does).
    pub(crate) fn read(config: &ModelConfig, stored: &StoredTensors) -> Result<(Self, String), ModelError> {
        check_names(config, stored)?;
        let mut reader = TensorReader::new(stored);
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embed_tokens = reader.matrix(EMBED_TOKENS, vocab, hidden)?;
        let stored_lm_head = stored.tensors.contains_key(LM_HEAD);
        let untied = stored_lm_head && {
            !config.tie_word_embeddings || {
                let embedding_bytes = reader.last_bytes().to_vec();
                let lm_head = reader.unhashed_matrix(LM_HEAD, vocab, hidden)?;
                lm_head.dtype() != embed_tokens.dtype() || reader.last_bytes() != embedding_bytes
            }
        };
        let norm = reader.vector(NORM, hidden)?;
        let layers =
            (0..config.n_layers).map(|layer| read_layer(config, layer, &mut reader)).collect::<Result<_, _>>()?;
        let lm_head = untied.then(|| reader.matrix(LM_HEAD, vocab, hidden)).transpose()?;
        Ok((Self { embed_tokens, layers, norm, lm_head, start_adapter: None }, reader.finish()))
    }
}

fn has_bias(config: &ModelConfig, projection: Projection) -> bool {
    match projection {
        Projection::QProj | Projection::KProj | Projection::VProj => config.qkv_bias,
        Projection::OProj => config.o_bias,
        Projection::GateProj | Projection::UpProj | Projection::DownProj => false,
    }
}

fn read_layer(config: &ModelConfig, layer: usize, reader: &mut TensorReader<'_>) -> Result<LayerWeights, ModelError> {
    let hidden = config.hidden_size;
    let mut linear = |projection: Projection| {
        let (rows, columns) = projection.shape(config);
        let name = |part: &str| layer_name(layer, &format!("{}.{part}", projection.path()));
        let weight = reader.matrix(&name("weight"), rows, columns)?;
        let bias = if has_bias(config, projection) { Some(reader.vector(&name("bias"), rows)?) } else { None };
        Ok::<_, ModelError>(LinearWeights { weight, bias })
    };
    let (q_proj, k_proj) = (linear(Projection::QProj)?, linear(Projection::KProj)?);
    let (v_proj, o_proj) = (linear(Projection::VProj)?, linear(Projection::OProj)?);
    let (gate_proj, up_proj) = (linear(Projection::GateProj)?, linear(Projection::UpProj)?);
    let down_proj = linear(Projection::DownProj)?;
    let mut norm = |name: &str, length: usize| reader.vector(&layer_name(layer, name), length);
    let (mut q_norm, mut k_norm) = (None, None);
    if config.has_query_key_norm() {
        q_norm = Some(norm("self_attn.q_norm.weight", config.head_dim)?);
        k_norm = Some(norm("self_attn.k_norm.weight", config.head_dim)?);
    }
    Ok(LayerWeights {
        input_layernorm: norm("input_layernorm.weight", hidden)?,
        post_attention_layernorm: norm("post_attention_layernorm.weight", hidden)?,
        q_proj,
        k_proj,
        v_proj,
        o_proj,
        q_norm,
        k_norm,
        gate_proj,
        up_proj,
        down_proj,
    })
}

/// Names of all parameters that `config` calls for.
fn expected_names(config: &ModelConfig) -> BTreeSet<String> {
    let mut names = BTreeSet::from([EMBED_TOKENS.to_owned(), NORM.to_owned()]);
    if !config.tie_word_embeddings {
        names.insert(LM_HEAD.to_owned());
    }
    for layer in 0..config.n_layers {
        names.insert(layer_name(layer, "input_layernorm.weight"));
        names.insert(layer_name(layer, "post_attention_layernorm.weight"));
        if config.has_query_key_norm() {
            names.insert(layer_name(layer, "self_attn.q_norm.weight"));
            names.insert(layer_name(layer, "self_attn.k_norm.weight"));
        }
        for projection in Projection::ALL {
            names.insert(layer_name(layer, &format!("{}.weight", projection.path())));
            if has_bias(config, projection) {
                names.insert(layer_name(layer, &format!("{}.bias", projection.path())));
            }
        }
    }
    names
}

/// Whether a tensor that nobody asks for is no sign of a wrong configuration: an unembedding beside tied embeddings, and
/// the rope frequencies that old checkpoints store.
fn is_harmless(name: &str) -> bool {
    name == LM_HEAD || name.ends_with(".rotary_emb.inv_freq") || name == "rope_freqs.weight"
}

fn check_names(config: &ModelConfig, stored: &StoredTensors) -> Result<(), ModelError> {
    let expected = expected_names(config);
    let missing: Vec<_> = expected.iter().filter(|name| !stored.tensors.contains_key(*name)).cloned().collect();
    let unused: Vec<_> =
        stored.tensors.keys().filter(|name| !expected.contains(*name) && !is_harmless(name)).cloned().collect();
    if missing.is_empty() && unused.is_empty() {
        Ok(())
    } else {
        Err(ModelError::TensorNames { path: stored.path.clone(), missing, unused })
    }
}
