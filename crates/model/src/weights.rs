//! A model's parameters, by structure and by their Hugging Face names.

mod assemble;
mod save;
mod stored;

use aloud_kernels::matrix::Matrix;

pub use save::{SavedFormat, save_safetensors};
pub(crate) use stored::{RowOrder, StoredFormat, StoredTensor, StoredTensors, TensorReader};

use crate::lora::{Lora, Projection};

/// A linear layer `y = W x + b`.
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// `W`, `[out, in]`, in the number format of its file.
    pub weight: Matrix,
    /// `b`, `[out]`.
    pub bias: Option<Vec<f32>>,
}

/// The parameters of one block.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Gain of the norm before attention, `[hidden]`.
    pub input_layernorm: Vec<f32>,
    /// Queries, `[n_heads * head_dim, hidden]`; rows of a head are ordered for the rotate-half form of rope.
    pub q_proj: LinearWeights,
    /// Keys, `[n_kv_heads * head_dim, hidden]`, rows ordered as those of the queries.
    pub k_proj: LinearWeights,
    /// Values, `[n_kv_heads * head_dim, hidden]`.
    pub v_proj: LinearWeights,
    /// Output of attention, `[hidden, n_heads * head_dim]`.
    pub o_proj: LinearWeights,
    /// Gain of the per-head norm of queries, `[head_dim]` (Qwen3).
    pub q_norm: Option<Vec<f32>>,
    /// Gain of the per-head norm of keys, `[head_dim]` (Qwen3).
    pub k_norm: Option<Vec<f32>>,
    /// Gain of the norm before the MLP, `[hidden]`.
    pub post_attention_layernorm: Vec<f32>,
    /// `[intermediate, hidden]`.
    pub gate_proj: LinearWeights,
    /// `[intermediate, hidden]`.
    pub up_proj: LinearWeights,
    /// `[hidden, intermediate]`.
    pub down_proj: LinearWeights,
}

/// The parameters of a whole model.
#[derive(Clone, Debug)]
pub struct ModelWeights {
    /// Token embedding, `[vocab, hidden]`.
    pub embed_tokens: Matrix,
    /// The blocks in order.
    pub layers: Vec<LayerWeights>,
    /// Gain of the final norm, `[hidden]`.
    pub norm: Vec<f32>,
    /// Unembedding, `[vocab, hidden]`; `None` if it is the token embedding.
    pub lm_head: Option<Matrix>,
    /// The adapter that is part of the model, beside which stage 1 trains one of its own. Frozen, and none of the
    /// [`ModelWeights::parameters`].
    pub start_adapter: Option<Lora>,
}

/// One named parameter.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    /// A weight matrix.
    Matrix(&'a Matrix),
    /// A bias or the gain of a norm.
    Vector(&'a [f32]),
}

/// One named parameter, for changing.
#[derive(Debug)]
pub enum ParameterMut<'a> {
    /// A weight matrix.
    Matrix(&'a mut Matrix),
    /// A bias or the gain of a norm.
    Vector(&'a mut [f32]),
}

impl LayerWeights {
    /// The linear layer of this name.
    pub fn projection(&self, projection: Projection) -> &LinearWeights {
        match projection {
            Projection::QProj => &self.q_proj,
            Projection::KProj => &self.k_proj,
            Projection::VProj => &self.v_proj,
            Projection::OProj => &self.o_proj,
            Projection::GateProj => &self.gate_proj,
            Projection::UpProj => &self.up_proj,
            Projection::DownProj => &self.down_proj,
        }
    }

    /// The linear layer of this name, for changing.
    pub fn projection_mut(&mut self, projection: Projection) -> &mut LinearWeights {
        match projection {
            Projection::QProj => &mut self.q_proj,
            Projection::KProj => &mut self.k_proj,
            Projection::VProj => &mut self.v_proj,
            Projection::OProj => &mut self.o_proj,
            Projection::GateProj => &mut self.gate_proj,
            Projection::UpProj => &mut self.up_proj,
            Projection::DownProj => &mut self.down_proj,
        }
    }

    fn parameters(&self) -> impl Iterator<Item = (String, Parameter<'_>)> {
        let vectors = [
            ("input_layernorm.weight", Some(&self.input_layernorm)),
            ("self_attn.q_norm.weight", self.q_norm.as_ref()),
            ("self_attn.k_norm.weight", self.k_norm.as_ref()),
            ("post_attention_layernorm.weight", Some(&self.post_attention_layernorm)),
        ];
        let linears = Projection::ALL.into_iter().flat_map(|projection| {
            let linear = self.projection(projection);
            let bias =
                linear.bias.as_deref().map(|bias| (format!("{}.bias", projection.path()), Parameter::Vector(bias)));
            std::iter::once((format!("{}.weight", projection.path()), Parameter::Matrix(&linear.weight))).chain(bias)
        });
        let vectors =
            vectors.into_iter().filter_map(|(name, vector)| Some((name.to_owned(), Parameter::Vector(vector?))));
        vectors.chain(linears)
    }

    fn parameters_mut(&mut self) -> impl Iterator<Item = (String, ParameterMut<'_>)> {
        let vectors = [
            ("input_layernorm.weight", Some(&mut self.input_layernorm)),
            ("self_attn.q_norm.weight", self.q_norm.as_mut()),
            ("self_attn.k_norm.weight", self.k_norm.as_mut()),
            ("post_attention_layernorm.weight", Some(&mut self.post_attention_layernorm)),
        ];
        let linears = [
            (Projection::QProj, &mut self.q_proj),
            (Projection::KProj, &mut self.k_proj),
            (Projection::VProj, &mut self.v_proj),
            (Projection::OProj, &mut self.o_proj),
            (Projection::GateProj, &mut self.gate_proj),
            (Projection::UpProj, &mut self.up_proj),
            (Projection::DownProj, &mut self.down_proj),
        ];
        let vectors =
            vectors.into_iter().filter_map(|(name, vector)| Some((name.to_owned(), ParameterMut::Vector(vector?))));
        let linears = linears.into_iter().flat_map(|(projection, linear)| {
            let bias = linear.bias.as_mut();
            let bias = bias.map(|bias| (format!("{}.bias", projection.path()), ParameterMut::Vector(bias)));
            let weight = ParameterMut::Matrix(&mut linear.weight);
            std::iter::once((format!("{}.weight", projection.path()), weight)).chain(bias)
        });
        vectors.chain(linears)
    }
}

impl ModelWeights {
    /// All parameters with their Hugging Face names, such as `model.layers.3.self_attn.q_proj.weight`.
    pub fn parameters(&self) -> Vec<(String, Parameter<'_>)> {
        let mut all = vec![
            (EMBED_TOKENS.to_owned(), Parameter::Matrix(&self.embed_tokens)),
            (NORM.to_owned(), Parameter::Vector(&self.norm)),
        ];
        for (index, layer) in self.layers.iter().enumerate() {
            all.extend(layer.parameters().map(|(name, parameter)| (layer_name(index, &name), parameter)));
        }
        all.extend(self.lm_head.as_ref().map(|lm_head| (LM_HEAD.to_owned(), Parameter::Matrix(lm_head))));
        all
    }

    /// All parameters for changing, in the order of [`ModelWeights::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<(String, ParameterMut<'_>)> {
        let mut all = vec![
            (EMBED_TOKENS.to_owned(), ParameterMut::Matrix(&mut self.embed_tokens)),
            (NORM.to_owned(), ParameterMut::Vector(&mut self.norm)),
        ];
        for (index, layer) in self.layers.iter_mut().enumerate() {
            all.extend(layer.parameters_mut().map(|(name, parameter)| (layer_name(index, &name), parameter)));
        }
        all.extend(self.lm_head.as_mut().map(|lm_head| (LM_HEAD.to_owned(), ParameterMut::Matrix(lm_head))));
        all
    }

    /// The parameter of this Hugging Face name.
    pub fn parameter(&self, name: &str) -> Option<Parameter<'_>> {
        self.parameters().into_iter().find(|(found, _)| found == name).map(|(_, parameter)| parameter)
    }

    /// The unembedding: [`ModelWeights::lm_head`], or the token embedding if they are tied.
    pub fn unembedding(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn parameter_count(&self) -> usize {
        let count = |parameter: &Parameter<'_>| match parameter {
            Parameter::Matrix(matrix) => matrix.rows() * matrix.columns(),
            Parameter::Vector(vector) => vector.len(),
        };
        self.parameters().iter().map(|(_, parameter)| count(parameter)).sum()
    }

    /// Bytes that the parameters take in memory.
    pub fn size_bytes(&self) -> usize {
        let bytes = |parameter: &Parameter<'_>| match parameter {
            Parameter::Matrix(matrix) => matrix.size_bytes(),
            Parameter::Vector(vector) => size_of_val(*vector),
        };
        self.parameters().iter().map(|(_, parameter)| bytes(parameter)).sum()
    }
}

const EMBED_TOKENS: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
const LM_HEAD: &str = "lm_head.weight";

/// Full name of a block's parameter.
fn layer_name(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}
