//! Random first values of a model that is trained from nothing.

use aloud_base::random::{Domain, KeyedRandom, normal_pair};
use aloud_kernels::matrix::Matrix;
use aloud_model::config::ModelConfig;
use aloud_model::lora::Projection;
use aloud_model::weights::{LayerWeights, LinearWeights, ModelWeights};

/// Weights of this shape: gains 1, biases 0, matrices normal with standard deviation `1 / sqrt(inputs)`; those that write
/// to the residual stream (`o_proj`, `down_proj`) smaller by `sqrt(2 L)`, so that the stream keeps its scale over the
/// blocks (as in GPT-2).
pub fn initial_weights(config: &ModelConfig, seed: u64) -> ModelWeights {
    let mut number = 0;
    let mut matrix = |rows: usize, columns: usize, deviation: f64| {
        number += 1;
        let mut random = KeyedRandom::new(seed, Domain::WEIGHT_INIT, [number, 0]);
        let mut normal = |i: u64| normal_pair([0, 1].map(|place| random.uniform_at(i, place)))[0];
        let values = (0..rows * columns).map(|i| (normal(i as u64) * deviation) as f32).collect();
        match Matrix::from_f32(rows, columns, values) {
            Ok(matrix) => matrix,
            Err(error) => unreachable!("as many values as rows times columns: {error}"),
        }
    };
    let deviation = |inputs: usize| 1.0 / (inputs as f64).sqrt();
    let to_residual = 1.0 / (2.0 * config.n_layers as f64).sqrt();
    let hidden = config.hidden_size;
    let embed_tokens = matrix(config.vocab_size, hidden, deviation(hidden));
    let layers = (0..config.n_layers)
        .map(|_| {
            let linear = |projection: Projection| {
                let (outputs, inputs) = projection.shape(config);
                let writes_residual = matches!(projection, Projection::OProj | Projection::DownProj);
                let scale = if writes_residual { to_residual } else { 1.0 };
                let weight = matrix(outputs, inputs, scale * deviation(inputs));
                LinearWeights { weight, bias: projection.has_bias(config).then(|| vec![0.0; outputs]) }
            };
            let head_norm = config.has_query_key_norm().then(|| vec![1.0; config.head_dim]);
            LayerWeights {
                input_layernorm: vec![1.0; hidden],
                q_norm: head_norm.clone(),
                k_norm: head_norm,
                post_attention_layernorm: vec![1.0; hidden],
                linears: Projection::ALL.map(linear),
            }
        })
        .collect();
    let lm_head = (!config.tie_word_embeddings).then(|| matrix(config.vocab_size, hidden, deviation(hidden)));
    ModelWeights { embed_tokens, layers, norm: vec![1.0; hidden], lm_head, start_adapter: None }
}
