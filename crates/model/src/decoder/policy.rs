//! What training adds to the frozen model, on a device: low-rank adapters and exit heads.

use std::collections::BTreeMap;

use aloud_kernels::backend::Backend;
use aloud_kernels::matrix::Matrix;

use crate::exit_heads::{ExitHeads, HeadInput};
use crate::lora::{Lora, LoraPair, Projection};

/// Parameters that share a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterGroup {
    /// Adapters, or the model's own weights in full-parameter training.
    Trunk,
    /// Exit heads.
    Heads,
}

/// Low-rank factors on the device.
pub(crate) struct DevicePair<B: Backend> {
    pub(crate) a: B::Matrix,
    pub(crate) b: B::Matrix,
}

/// Adapters and exit heads, ready to run.
pub struct Policy<B: Backend> {
    backend: B,
    pub(crate) rank: usize,
    alpha: f32,
    pairs: BTreeMap<(usize, Projection), DevicePair<B>>,
    /// The exit heads.
    pub heads: ExitHeads,
}

impl<B: Backend> std::fmt::Debug for Policy<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("rank", &self.rank)
            .field("candidates", &self.heads.candidates)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Policy<B> {
    /// Puts adapters (if any) and heads on a device.
    pub fn new(backend: &B, lora: Option<&Lora>, heads: ExitHeads) -> Self {
        let pairs = lora.map_or_else(BTreeMap::new, |lora| {
            let pair = |pair: &LoraPair| DevicePair { a: backend.matrix(&pair.a), b: backend.matrix(&pair.b) };
            lora.pairs.iter().map(|(at, factors)| (*at, pair(factors))).collect()
        });
        let (rank, alpha) = lora.map_or((1, 1.0), |lora| (lora.rank, lora.alpha));
        Self { backend: backend.clone(), rank, alpha, pairs, heads }
    }

    /// The adapters as they are on the device; `None` if there are none.
    pub fn lora(&self) -> Option<Lora> {
        let host = |matrix: &B::Matrix| -> Matrix { self.backend.download_matrix(matrix) };
        let pairs: BTreeMap<_, _> =
            self.pairs.iter().map(|(at, pair)| (*at, LoraPair { a: host(&pair.a), b: host(&pair.b) })).collect();
        (!pairs.is_empty()).then_some(Lora { rank: self.rank, alpha: self.alpha, pairs })
    }

    /// `alpha / r`.
    pub(crate) fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    pub(crate) fn pair(&self, block: usize, projection: Projection) -> Option<&DevicePair<B>> {
        self.pairs.get(&(block, projection))
    }

    /// The epsilon of the heads' own norm: that of the model's norms, or none for raw residuals.
    pub fn head_eps(&self, rms_norm_eps: f32) -> Option<f32> {
        (self.heads.input == HeadInput::Rms).then_some(rms_norm_eps)
    }

    /// Exit logits of candidate number `candidate` for all rows of `residual` (the residual at that depth).
    pub fn exit_logits(&self, candidate: usize, residual: &B::Rows, rms_norm_eps: f32) -> Vec<f32> {
        let (weight, bias) = (&self.heads.weights[candidate], self.heads.biases[candidate]);
        self.backend.exit_head_forward(residual, weight, bias, self.head_eps(rms_norm_eps))
    }

    /// Every trainable parameter with its name and group, in a fixed order, to be changed in place.
    pub fn update_parameters(&mut self, f: &mut dyn FnMut(&str, ParameterGroup, &mut [f32])) {
        for ((block, projection), pair) in &mut self.pairs {
            let (a, b) = factor_names(*block, *projection);
            self.backend.update_matrix(&mut pair.a, &mut |values| f(&a, ParameterGroup::Trunk, values));
            self.backend.update_matrix(&mut pair.b, &mut |values| f(&b, ParameterGroup::Trunk, values));
        }
        for (i, depth) in self.heads.candidates.iter().enumerate() {
            let (weight, bias) = head_names(*depth);
            f(&weight, ParameterGroup::Heads, &mut self.heads.weights[i]);
            f(&bias, ParameterGroup::Heads, std::slice::from_mut(&mut self.heads.biases[i]));
        }
    }
}

/// Names of the two factors of an adapted projection: `layers.3.self_attn.q_proj.lora_a`, `.lora_b`.
pub(crate) fn factor_names(block: usize, projection: Projection) -> (String, String) {
    let path = projection.path();
    (format!("layers.{block}.{path}.lora_a"), format!("layers.{block}.{path}.lora_b"))
}

/// Names of the parameters of the head at a candidate depth: `head.5.weight`, `head.5.bias`.
pub(crate) fn head_names(depth: usize) -> (String, String) {
    (format!("head.{depth}.weight"), format!("head.{depth}.bias"))
}
