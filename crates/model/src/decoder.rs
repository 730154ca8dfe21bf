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
mod start_adapter;
mod tape;

use aloud_kernels::backend::{Backend, Heads};
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rope_table::RopeTable;
use aloud_kernels::rows::Rows;

pub use backward::{Gradients, Trained};
pub use batch::{BatchError, PackedBatch};
pub use block::AttentionInputs;
pub use forward::Forward;
pub use policy::{ParameterGroup, Policy};

use crate::config::ModelConfig;
use start_adapter::FrozenPair;

use crate::lora::Projection;
use crate::weights::{LayerWeights, LinearWeights, ModelWeights, Parameter};

/// A linear layer on the device.
pub(crate) struct DeviceLinear<B: Backend> {
    pub(crate) weight: B::Matrix,
    pub(crate) bias: Option<B::Rows>,
    /// Its part of the start adapter, if the model has one: frozen like the weight.
    pub(crate) start: Option<FrozenPair<B>>,
}

/// A block's parameters on the device.
pub(crate) struct DeviceLayer<B: Backend> {
    pub(crate) input_layernorm: B::Rows,
    pub(crate) post_attention_layernorm: B::Rows,
    pub(crate) q_norm: Option<B::Rows>,
    pub(crate) k_norm: Option<B::Rows>,
    linears: [DeviceLinear<B>; 7],
}

impl<B: Backend> DeviceLayer<B> {
    pub(crate) fn linear(&self, projection: Projection) -> &DeviceLinear<B> {
        &self.linears[projection as usize]
    }
}

/// A model's parameters on a device, with what is needed to run them.
pub struct Decoder<B: Backend> {
    backend: B,
    config: ModelConfig,
    embed_tokens: B::Matrix,
    layers: Vec<DeviceLayer<B>>,
    norm: B::Rows,
    lm_head: Option<B::Matrix>,
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
        let vector = |values: &[f32]| backend.upload(Rows::new(values.len(), values.to_vec()));
        let linear = |at: (usize, Projection), linear: &LinearWeights| DeviceLinear {
            weight: backend.matrix(&linear.weight),
            bias: linear.bias.as_deref().map(vector),
            start: weights.start_adapter.as_ref().and_then(|adapter| FrozenPair::of(backend, adapter, at)),
        };
        let layer = |(block, layer): (usize, &LayerWeights)| DeviceLayer {
            input_layernorm: vector(&layer.input_layernorm),
            post_attention_layernorm: vector(&layer.post_attention_layernorm),
            q_norm: layer.q_norm.as_deref().map(vector),
            k_norm: layer.k_norm.as_deref().map(vector),
            linears: Projection::ALL.map(|projection| linear((block, projection), layer.projection(projection))),
        };
        Self {
            backend: backend.clone(),
            config: config.clone(),
            embed_tokens: backend.matrix(&weights.embed_tokens),
            layers: weights.layers.iter().enumerate().map(layer).collect(),
            norm: vector(&weights.norm),
            lm_head: weights.lm_head.as_ref().map(|lm_head| backend.matrix(lm_head)),
            rope: config.rope.table(config.head_dim, config.max_position_embeddings),
        }
    }

    /// The same architecture with every parameter widened to f32, for full-parameter training. A start adapter is folded
    /// into the weights: `W + (alpha / r) B A` is what is trained then.
    pub fn widened(backend: &B, config: &ModelConfig, weights: &ModelWeights) -> Self {
        let mut weights = weights.clone();
        for (_, parameter) in weights.parameters_mut() {
            if let crate::weights::ParameterMut::Matrix(matrix) = parameter {
                *matrix = matrix.widened();
            }
        }
        start_adapter::fold(&mut weights);
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
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Embeds tokens, `[R, H]`.
    pub fn embed(&self, token_ids: &[u32]) -> B::Rows {
        self.backend.embedding_forward(&self.embed_tokens, token_ids)
    }

    /// Hidden states after the final norm, of residuals at whatever depth: what the unembedding reads.
    pub fn final_norm(&self, residual: &B::Rows) -> B::Rows {
        self.backend.rms_norm_forward(residual, &self.norm, self.config.rms_norm_eps)
    }

    /// Number of parameters of a named kind, by Hugging Face name, with a chance to change each (f32 ones only).
    /// Visits in a fixed order.
    pub fn update_parameters(&mut self, f: &mut dyn FnMut(&str, &mut [f32])) {
        let backend = self.backend.clone();
        let update_rows = |rows: &mut B::Rows, name: &str, f: &mut dyn FnMut(&str, &mut [f32])| {
            let mut values = backend.download(rows);
            f(name, values.values_mut());
            *rows = backend.upload(values);
        };
        backend.update_matrix(&mut self.embed_tokens, &mut |values| f("model.embed_tokens.weight", values));
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for projection in Projection::ALL {
                let linear = &mut layer.linears[projection as usize];
                let name = weight_name(index, projection);
                backend.update_matrix(&mut linear.weight, &mut |values| f(&name, values));
                if let Some(bias) = &mut linear.bias {
                    update_rows(bias, &bias_name(index, projection), f);
                }
            }
            let norms = [
                (Some(&mut layer.input_layernorm), Norm::Input),
                (Some(&mut layer.post_attention_layernorm), Norm::PostAttention),
                (layer.q_norm.as_mut(), Norm::Query),
                (layer.k_norm.as_mut(), Norm::Key),
            ];
            for (gain, norm) in norms {
                if let Some(gain) = gain {
                    update_rows(gain, &norm.name(index), f);
                }
            }
        }
        update_rows(&mut self.norm, FINAL_NORM, f);
        if let Some(lm_head) = &mut self.lm_head {
            backend.update_matrix(lm_head, &mut |values| f("lm_head.weight", values));
        }
    }

    /// The parameters as they are on the device, in the structure of `like`; no start adapter if it was folded into them.
    pub fn export(&self, like: &ModelWeights) -> ModelWeights {
        let mut weights = like.clone();
        if !self.has_start_adapter() {
            weights.start_adapter = None;
        }
        let vector = |rows: &B::Rows| self.backend.download(rows).into_values();
        weights.embed_tokens = self.backend.download_matrix(&self.embed_tokens);
        weights.norm = vector(&self.norm);
        weights.lm_head = self.lm_head.as_ref().map(|lm_head| self.backend.download_matrix(lm_head));
        for (host, device) in weights.layers.iter_mut().zip(&self.layers) {
            host.input_layernorm = vector(&device.input_layernorm);
            host.post_attention_layernorm = vector(&device.post_attention_layernorm);
            host.q_norm = device.q_norm.as_ref().map(vector);
            host.k_norm = device.k_norm.as_ref().map(vector);
            let linear = |projection| {
                let linear = device.linear(projection);
                LinearWeights {
                    weight: self.backend.download_matrix(&linear.weight),
                    bias: linear.bias.as_ref().map(vector),
                }
            };
            host.q_proj = linear(Projection::QProj);
            host.k_proj = linear(Projection::KProj);
            host.v_proj = linear(Projection::VProj);
            host.o_proj = linear(Projection::OProj);
            host.gate_proj = linear(Projection::GateProj);
            host.up_proj = linear(Projection::UpProj);
            host.down_proj = linear(Projection::DownProj);
        }
        weights
    }
}

/// Name of the final norm's gain.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";

/// The norms of a block.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    Input,
    PostAttention,
    Query,
    Key,
}

impl Norm {
    pub(crate) fn name(self, block: usize) -> String {
        let name = match self {
            Self::Input => "input_layernorm",
            Self::PostAttention => "post_attention_layernorm",
            Self::Query => "self_attn.q_norm",
            Self::Key => "self_attn.k_norm",
        };
        format!("model.layers.{block}.{name}.weight")
    }
}

/// Hugging Face name of a projection's weight.
pub(crate) fn weight_name(block: usize, projection: Projection) -> String {
    format!("model.layers.{block}.{}.weight", projection.path())
}

/// Hugging Face name of a projection's bias.
pub(crate) fn bias_name(block: usize, projection: Projection) -> String {
    format!("model.layers.{block}.{}.bias", projection.path())
}

/// Whether all matrices of a model are f32, as full-parameter training needs.
pub fn is_f32(weights: &ModelWeights) -> bool {
    weights.parameters().iter().all(|(_, parameter)| match parameter {
        Parameter::Matrix(matrix) => Matrix::as_f32(matrix).is_some(),
        Parameter::Vector(_) => true,
    })
}
