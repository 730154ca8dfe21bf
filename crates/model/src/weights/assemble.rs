//! From stored tensors to a model's weights, with nothing missing and nothing left over.

use std::collections::BTreeSet;

use super::stored::{StoredTensors, TensorReader};
use super::{
    EMBED_TOKENS, INPUT_NORM, KEY_NORM, LM_HEAD, LayerWeights, LinearWeights, ModelWeights, NORM, POST_ATTENTION_NORM,
    QUERY_NORM, layer_name,
};
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
            (0..config.n_layers).map(|block| read_layer(config, block, &mut reader)).collect::<Result<_, _>>()?;
        let lm_head = untied.then(|| reader.matrix(LM_HEAD, vocab, hidden)).transpose()?;
        Ok((Self { embed_tokens, layers, norm, lm_head, start_adapter: None }, reader.finish()))
    }
}

fn read_layer(config: &ModelConfig, block: usize, reader: &mut TensorReader<'_>) -> Result<LayerWeights, ModelError> {
    let [q, k, v, o, gate, up, down] = Projection::ALL.map(|projection| {
        let (rows, columns) = projection.shape(config);
        let weight = reader.matrix(&projection.weight_name(block), rows, columns)?;
        let has_bias = projection.has_bias(config);
        let bias = has_bias.then(|| reader.vector(&projection.bias_name(block), rows)).transpose()?;
        Ok::<_, ModelError>(LinearWeights { weight, bias })
    });
    let linears = [q?, k?, v?, o?, gate?, up?, down?];
    let mut gain = |name: &str, length: usize| reader.vector(&layer_name(block, name), length);
    let (mut q_norm, mut k_norm) = (None, None);
    if config.has_query_key_norm() {
        q_norm = Some(gain(QUERY_NORM, config.head_dim)?);
        k_norm = Some(gain(KEY_NORM, config.head_dim)?);
    }
    let input_layernorm = gain(INPUT_NORM, config.hidden_size)?;
    let post_attention_layernorm = gain(POST_ATTENTION_NORM, config.hidden_size)?;
    Ok(LayerWeights { input_layernorm, q_norm, k_norm, post_attention_layernorm, linears })
}

/// Names of all parameters that `config` calls for.
fn expected_names(config: &ModelConfig) -> BTreeSet<String> {
    let mut names = BTreeSet::from([EMBED_TOKENS.to_owned(), NORM.to_owned()]);
    names.extend((!config.tie_word_embeddings).then(|| LM_HEAD.to_owned()));
    let head_norms: &[&str] = if config.has_query_key_norm() { &[QUERY_NORM, KEY_NORM] } else { &[] };
    for block in 0..config.n_layers {
        let gains = [INPUT_NORM, POST_ATTENTION_NORM];
        names.extend(gains.iter().chain(head_norms).map(|name| layer_name(block, name)));
        for projection in Projection::ALL {
            names.insert(projection.weight_name(block));
            names.extend(projection.has_bias(config).then(|| projection.bias_name(block)));
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
