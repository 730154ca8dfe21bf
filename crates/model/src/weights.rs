//! A model's parameters, by structure and by their Hugging Face names.

mod assemble;
mod fold;
mod save;
mod stored;

use std::borrow::Cow;

use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;

pub use save::{SavedFormat, save_in_formats, save_safetensors};
pub(crate) use stored::{StoredTensor, StoredTensors, TensorReader};

use crate::lora::{Lora, Projection};

/// A linear layer `y = W x + b`.
#[derive(Clone, Debug)]
pub struct LinearWeights<M = Matrix, V = Vec<f32>> {
    /// `W`, `[out, in]`, in the number format of its file.
    pub weight: M,
    /// `b`, `[out]`.
    pub bias: Option<V>,
}

/// The parameters of one block.
#[derive(Clone, Debug)]
pub struct LayerWeights<M = Matrix, V = Vec<f32>> {
    /// Gain of the norm before attention, `[hidden]`.
    pub input_layernorm: V,
    /// Gain of the per-head norm of queries, `[head_dim]` (Qwen3).
    pub q_norm: Option<V>,
    /// Gain of the per-head norm of keys, `[head_dim]` (Qwen3).
    pub k_norm: Option<V>,
    /// Gain of the norm before the MLP, `[hidden]`.
    pub post_attention_layernorm: V,
    /// The linear layers, in the order of [`Projection::ALL`]. Rows of a head of queries or keys are ordered for the
    /// rotate-half form of rope.
    pub linears: [LinearWeights<M, V>; 7],
}

/// The parameters of a whole model: matrices and vectors in memory or, with a backend's types, on its device.
#[derive(Clone, Debug)]
pub struct ModelWeights<M = Matrix, V = Vec<f32>> {
    /// Token embedding, `[vocab, hidden]`.
    pub embed_tokens: M,
    /// The blocks in order.
    pub layers: Vec<LayerWeights<M, V>>,
    /// Gain of the final norm, `[hidden]`.
    pub norm: V,
    /// Unembedding, `[vocab, hidden]`; `None` if it is the token embedding.
    pub lm_head: Option<M>,
    /// The adapter that is part of the model, beside which stage 1 trains one of its own. Frozen, and none of the
    /// [`ModelWeights::parameters`].
    pub start_adapter: Option<Lora<M>>,
}

/// One named parameter.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<M, V> {
    /// A weight matrix.
    Matrix(M),
    /// A bias or the gain of a norm.
    Vector(V),
}

impl<'a> Parameter<&'a Matrix, &'a Vec<f32>> {
    /// Lengths, slowest first.
    pub fn shape(self) -> Vec<usize> {
        match self {
            Self::Matrix(matrix) => vec![matrix.rows(), matrix.columns()],
            Self::Vector(vector) => vec![vector.len()],
        }
    }

    /// The values, row-major.
    pub fn values(self) -> Cow<'a, [f32]> {
        match self {
            Self::Matrix(matrix) => matrix.as_f32().map_or_else(|| matrix.to_f32().into(), Cow::Borrowed),
            Self::Vector(vector) => Cow::Borrowed(vector),
        }
    }
}

impl<M, V> LayerWeights<M, V> {
    /// The linear layer of this name.
    pub fn projection(&self, projection: Projection) -> &LinearWeights<M, V> {
        &self.linears[projection as usize]
    }

    /// The linear layer of this name, for changing.
    pub fn projection_mut(&mut self, projection: Projection) -> &mut LinearWeights<M, V> {
        &mut self.linears[projection as usize]
    }

    fn as_mut(&mut self) -> LayerWeights<&mut M, &mut V> {
        LayerWeights {
            input_layernorm: &mut self.input_layernorm,
            q_norm: self.q_norm.as_mut(),
            k_norm: self.k_norm.as_mut(),
            post_attention_layernorm: &mut self.post_attention_layernorm,
            linears: self
                .linears
                .each_mut()
                .map(|linear| LinearWeights { weight: &mut linear.weight, bias: linear.bias.as_mut() }),
        }
    }

    fn map<'a, N, W>(
        &'a self,
        matrix: &mut impl FnMut(&'a M) -> N,
        vector: &mut impl FnMut(&'a V) -> W,
    ) -> LayerWeights<N, W> {
        LayerWeights {
            input_layernorm: vector(&self.input_layernorm),
            q_norm: self.q_norm.as_ref().map(&mut *vector),
            k_norm: self.k_norm.as_ref().map(&mut *vector),
            post_attention_layernorm: vector(&self.post_attention_layernorm),
            linears: self.linears.each_ref().map(|linear| LinearWeights {
                weight: matrix(&linear.weight),
                bias: linear.bias.as_ref().map(&mut *vector),
            }),
        }
    }

    /// The parameters with their names in a model.
    fn into_parameters(self, block: usize) -> impl Iterator<Item = (String, Parameter<M, V>)> {
        let gains = [
            (INPUT_NORM, Some(self.input_layernorm)),
            (QUERY_NORM, self.q_norm),
            (KEY_NORM, self.k_norm),
            (POST_ATTENTION_NORM, Some(self.post_attention_layernorm)),
        ];
        let gains =
            gains.into_iter().filter_map(move |(name, gain)| Some((layer_name(block, name), Parameter::Vector(gain?))));
        let linears = Projection::ALL.into_iter().zip(self.linears).flat_map(move |(projection, linear)| {
            let bias = linear.bias.map(|bias| (projection.bias_name(block), Parameter::Vector(bias)));
            [(projection.weight_name(block), Parameter::Matrix(linear.weight))].into_iter().chain(bias)
        });
        gains.chain(linears)
    }
}

impl<M, V> ModelWeights<M, V> {
    /// All parameters with their Hugging Face names, such as `model.layers.3.self_attn.q_proj.weight`.
    pub fn parameters(&self) -> Vec<(String, Parameter<&M, &V>)> {
        self.map(|matrix| matrix, |factor| factor, |vector| vector).into_parameters()
    }

    /// All parameters for changing, in the order of [`ModelWeights::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<(String, Parameter<&mut M, &mut V>)> {
        let all = ModelWeights {
            embed_tokens: &mut self.embed_tokens,
            layers: self.layers.iter_mut().map(LayerWeights::as_mut).collect(),
            norm: &mut self.norm,
            lm_head: self.lm_head.as_mut(),
            start_adapter: None,
        };
        all.into_parameters()
    }

    fn into_parameters(self) -> Vec<(String, Parameter<M, V>)> {
        let mut all = vec![
            (EMBED_TOKENS.to_owned(), Parameter::Matrix(self.embed_tokens)),
            (NORM.to_owned(), Parameter::Vector(self.norm)),
        ];
        all.extend(self.layers.into_iter().enumerate().flat_map(|(block, layer)| layer.into_parameters(block)));
        all.extend(self.lm_head.map(|lm_head| (LM_HEAD.to_owned(), Parameter::Matrix(lm_head))));
        all
    }

    /// The same weights in another kind of memory. `factor` is for the factors of the start adapter.
    pub(crate) fn map<'a, N, W>(
        &'a self,
        mut matrix: impl FnMut(&'a M) -> N,
        factor: impl FnMut(&'a M) -> N,
        mut vector: impl FnMut(&'a V) -> W,
    ) -> ModelWeights<N, W> {
        ModelWeights {
            embed_tokens: matrix(&self.embed_tokens),
            layers: self.layers.iter().map(|layer| layer.map(&mut matrix, &mut vector)).collect(),
            norm: vector(&self.norm),
            lm_head: self.lm_head.as_ref().map(&mut matrix),
            start_adapter: self.start_adapter.as_ref().map(|adapter| adapter.map(factor)),
        }
    }

    /// The unembedding: [`ModelWeights::lm_head`], or the token embedding if they are tied.
    pub fn unembedding(&self) -> &M {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }
}

impl ModelWeights {
    /// The number format that most matrices have; of several, the first in the order of [`DType`].
    pub fn usual_dtype(&self) -> DType {
        const ALL: [DType; 6] = [DType::F32, DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1];
        let parameters = self.parameters();
        let of = |parameter: &Parameter<&Matrix, &Vec<f32>>| match parameter {
            Parameter::Matrix(matrix) => Some(matrix.dtype()),
            Parameter::Vector(_) => None,
        };
        let count = |dtype| parameters.iter().filter(|(_, parameter)| of(parameter) == Some(dtype)).count();
        ALL.into_iter().rev().max_by_key(|dtype| count(*dtype)).unwrap_or(DType::F32)
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, parameter)| parameter.shape().iter().product::<usize>()).sum()
    }
}

pub(crate) const EMBED_TOKENS: &str = "model.embed_tokens.weight";
pub(crate) const NORM: &str = "model.norm.weight";
pub(crate) const LM_HEAD: &str = "lm_head.weight";

// The gains of a block's norms.
pub(crate) const INPUT_NORM: &str = "input_layernorm.weight";
pub(crate) const QUERY_NORM: &str = "self_attn.q_norm.weight";
pub(crate) const KEY_NORM: &str = "self_attn.k_norm.weight";
pub(crate) const POST_ATTENTION_NORM: &str = "post_attention_layernorm.weight";

/// Full name of a block's parameter.
pub(crate) fn layer_name(block: usize, name: &str) -> String {
    format!("model.layers.{block}.{name}")
}
