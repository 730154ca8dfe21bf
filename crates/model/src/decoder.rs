//! The decoder of the Llama family over packed rows: one forward for teacher, student, rollouts and serving, with
//! active-row compaction at every exit, and the backward of the whole.
//!
//! Residual convention (arXiv 2603.21376): a token's depth `d` is the number of blocks whose output was added to its
//! residual. After its exit the residual is frozen and still provides keys and values to every later block, through
//! that block's own input norm and projections.

mod backward;
mod batch;
mod block;
mod forward;
mod policy;
mod propagation;
mod readout;

use aloud_kernels::backend::{Backend, Heads};
use aloud_kernels::rope_table::RopeTable;
use aloud_kernels::rows::Rows;

pub use backward::{Gradients, Trained};
pub use batch::{BatchError, PackedBatch};
pub use block::{AttentionInputs, BlockOutput};
pub use forward::Forward;
pub use policy::{ParameterGroup, Policy};

use crate::config::ModelConfig;
use crate::weights::{ModelWeights, Parameter};

/// A model's parameters on a device, with what is needed to run them.
pub struct Decoder<B: Backend> {
    backend: B,
    config: ModelConfig,
    weights: ModelWeights<B::Matrix, B::Rows>,
    rope: RopeTable,
}

impl<B: Backend> std::fmt::Debug for Decoder<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<B: Backend> Decoder<B> {
    /// Puts a model on a device. `weights` must have the shapes of `config`, as loading guarantees. On the CPU the
    /// values are shared, not copied.
    pub fn new(backend: &B, config: &ModelConfig, weights: &ModelWeights) -> Self {
        Self {
            backend: backend.clone(),
            config: config.clone(),
            weights: weights.map(
                |matrix| backend.matrix(matrix),
                |factor| backend.factor(factor),
                |values| backend.upload(Rows::new(values.len(), values.clone())),
            ),
            rope: config.rope.table(config.head_dim, config.max_position_embeddings),
        }
    }

    /// The same architecture with every parameter widened to f32, for full-parameter training. A start adapter is folded
    /// into the weights: `W + (alpha / r) B A` is what is trained then.
    pub fn widened(backend: &B, config: &ModelConfig, weights: &ModelWeights) -> Self {
        let mut weights = weights.clone();
        for (_, parameter) in weights.parameters_mut() {
            if let Parameter::Matrix(matrix) = parameter {
                *matrix = matrix.widened();
            }
        }
        weights.fold_start_adapter();
        Self::new(backend, config, &weights)
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The model's dimensions.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Number of blocks `L`, which is also the full depth.
    pub fn n_blocks(&self) -> usize {
        self.config.n_layers
    }

    /// Head geometry.
    pub fn heads(&self) -> Heads {
        let ModelConfig { n_heads, n_kv_heads, head_dim, .. } = self.config;
        Heads { n_heads, n_kv_heads, head_dim }
    }

    /// The unembedding matrix, `[V, H]`.
    pub fn unembedding(&self) -> &B::Matrix {
        self.weights.unembedding()
    }

    /// Embeds tokens, `[R, H]`.
    pub fn embed(&self, token_ids: &[u32]) -> B::Rows {
        self.backend.embedding_forward(&self.weights.embed_tokens, token_ids)
    }

    /// Lets `f` change each parameter (f32 ones only), given its Hugging Face name. Visits in a fixed order.
    pub fn update_parameters(&mut self, f: &mut dyn FnMut(&str, &mut [f32])) {
        let backend = &self.backend;
        for (name, parameter) in self.weights.parameters_mut() {
            match parameter {
                Parameter::Matrix(matrix) => {
                    backend.update_matrix(matrix, &mut |values| f(&name, values));
                }
                Parameter::Vector(rows) => {
                    let mut values = backend.download(rows);
                    f(&name, values.values_mut());
                    *rows = backend.upload(values);
                }
            }
        }
    }

    /// The parameters as they are on the device; without a start adapter that was folded into them.
    pub fn export(&self) -> ModelWeights {
        let backend = &self.backend;
        let matrix = |matrix| backend.download_matrix(matrix);
        self.weights.map(matrix, matrix, |rows| backend.download(rows).into_values())
    }
}
