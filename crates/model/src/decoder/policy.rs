//! What training adds to the frozen model, on a device: low-rank adapters and exit heads.

use aloud_kernels::backend::Backend;

use crate::exit_heads::{ExitHeads, HeadInput};
use crate::exit_propagation::{ExitPropagation, propagation_name};
use crate::exit_translators::{ExitTranslators, translator_name};
use crate::lora::{Lora, Projection};

/// Parameters that share a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterGroup {
    /// Adapters, or the model's own weights in full-parameter training.
    Trunk,
    /// Maps of exits: translators and propagation maps.
    Maps,
    /// Exit heads.
    Heads,
}

/// Adapters and exit heads, ready to run.
pub struct Policy<B: Backend> {
    backend: B,
    pub(super) lora: Option<Lora<B::Matrix>>,
    /// The exit heads.
    pub heads: ExitHeads,
    /// The translators of their candidates, if residuals are read out through any.
    pub translators: Option<ExitTranslators<B::Matrix>>,
    /// What is added to keys and values of frozen residuals, if anything is.
    pub propagation: Option<ExitPropagation<B::Matrix>>,
    /// Whether the translators get gradients and are changed.
    pub trains_translators: bool,
}

impl<B: Backend> std::fmt::Debug for Policy<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("rank", &self.lora.as_ref().map(|lora| lora.rank))
            .field("candidates", &self.heads.candidates)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Policy<B> {
    /// Puts adapters (if any) and heads on a device.
    pub fn new(backend: &B, lora: Option<&Lora>, heads: ExitHeads) -> Self {
        let lora = lora.map(|lora| lora.map(|factor| backend.factor(factor)));
        Self { backend: backend.clone(), lora, heads, translators: None, propagation: None, trains_translators: false }
    }

    /// The same with translators, of the candidates of the heads.
    #[must_use]
    pub fn with_translators(mut self, translators: Option<&ExitTranslators>) -> Self {
        debug_assert!(translators.is_none_or(|translators| translators.candidates == self.heads.candidates));
        self.translators = translators.map(|translators| translators.map(|matrix| self.backend.factor(matrix)));
        self
    }

    /// The same with propagation maps.
    #[must_use]
    pub fn with_propagation(mut self, propagation: Option<&ExitPropagation>) -> Self {
        self.propagation = propagation.map(|maps| maps.map(|factor| self.backend.factor(factor)));
        self
    }

    /// The propagation maps as they are on the device; `None` if there are none.
    pub fn propagation(&self) -> Option<ExitPropagation> {
        self.propagation.as_ref().map(|maps| maps.map(|factor| self.backend.download_matrix(factor)))
    }

    /// The translators as they are on the device; `None` if there are none.
    pub fn translators(&self) -> Option<ExitTranslators> {
        self.translators.as_ref().map(|all| all.map(|matrix| self.backend.download_matrix(matrix)))
    }

    /// The adapters as they are on the device; `None` if there are none.
    pub fn lora(&self) -> Option<Lora> {
        self.lora.as_ref().map(|lora| lora.map(|matrix| self.backend.download_matrix(matrix)))
    }

    /// Whether it has factors beside the model's weights: adapters or maps of exits.
    pub fn has_factors(&self) -> bool {
        self.lora.is_some() || self.translators.is_some() || self.propagation.is_some()
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
        for ((block, projection), pair) in self.lora.iter_mut().flat_map(|lora| &mut lora.pairs) {
            let (a, b) = factor_names(*block, *projection);
            self.backend.update_matrix(&mut pair.a, &mut |values| f(&a, ParameterGroup::Trunk, values));
            self.backend.update_matrix(&mut pair.b, &mut |values| f(&b, ParameterGroup::Trunk, values));
        }
        let trained = self.translators.as_mut().filter(|_| self.trains_translators).into_iter();
        for (depth, map) in trained.flat_map(|all| all.candidates.iter().zip(&mut all.maps)) {
            for (name, matrix) in map.matrices_mut() {
                let name = translator_name(*depth, name);
                self.backend.update_matrix(matrix, &mut |values| f(&name, ParameterGroup::Maps, values));
            }
        }
        for (block, maps) in self.propagation.iter_mut().flat_map(|all| &mut all.maps) {
            for (name, factor) in maps.factors_mut() {
                let name = propagation_name(*block, name);
                self.backend.update_matrix(factor, &mut |values| f(&name, ParameterGroup::Maps, values));
            }
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
