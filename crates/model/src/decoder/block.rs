//! One block, in the two halves around attention; training and stepwise decoding both run these.

use aloud_kernels::backend::{Backend, Rotation, Term};

use super::{Decoder, Policy};
use crate::lora::{Lora, Projection};

/// Queries of the active rows, keys and values of all rows of one block.
pub struct AttentionInputs<B: Backend> {
    /// `[A, n_heads * head_dim]`, rotated.
    pub queries: B::Rows,
    /// `[R, n_kv_heads * head_dim]`, rotated.
    pub keys: B::Rows,
    /// `[R, n_kv_heads * head_dim]`.
    pub values: B::Rows,
    /// Queries and keys before their per-head norms, if the model has them (for the backward pass).
    pub(crate) before_norm: Option<(B::Rows, B::Rows)>,
}

/// What the second half of a block makes of the active rows.
pub struct BlockOutput<B: Backend> {
    /// Residual after the block.
    pub residual: B::Rows,
    /// What the backward pass needs, if it was to be kept.
    pub(super) mlp: Option<MlpTape<B>>,
}

/// What the second half of a block leaves for its backward.
pub(super) struct MlpTape<B: Backend> {
    /// Residual between attention and MLP.
    pub(super) middle: B::Rows,
    pub(super) gate: B::Rows,
    pub(super) up: B::Rows,
}

impl<B: Backend> Decoder<B> {
    /// The start adapter, if the model has one, and that of `policy`.
    pub(super) fn adapters<'a>(
        &'a self,
        policy: Option<&'a Policy<B>>,
    ) -> impl Iterator<Item = &'a Lora<B::Matrix>> + Clone {
        self.weights.start_adapter.iter().chain(policy.and_then(|policy| policy.lora.as_ref()))
    }

    /// Linear layers of one input with their adapters.
    pub(super) fn project<'a>(
        &'a self,
        policy: Option<&'a Policy<B>>,
        block: usize,
        x: &B::Rows,
        projections: &[Projection],
    ) -> Vec<B::Rows> {
        let linear = |projection: &Projection| {
            let linear = self.weights.layers[block].projection(*projection);
            (&linear.weight, linear.bias.as_ref())
        };
        let mut layers: Vec<_> = projections.iter().map(linear).collect();
        // The first factors of all adapters go with the weights; where there are none, nothing is done for them.
        let pair = |lora: &'a Lora<B::Matrix>, projection: &Projection| lora.pairs.get(&(block, *projection));
        let pairs = |lora| projections.iter().map(|projection| pair(lora, projection)).collect::<Vec<_>>();
        let adapters: Vec<_> = self.adapters(policy).map(|lora| (lora.scale(), pairs(lora))).collect();
        layers.extend(adapters.iter().flat_map(|(_, pairs)| pairs.iter().flatten()).map(|pair| (&pair.a, None)));
        let mut outs = self.backend.linears_forward(x, &layers);
        let lows = outs.split_off(projections.len());
        let mut lows = lows.iter();
        for (scale, pairs) in adapters {
            let adapted = pairs.into_iter().zip(&mut outs).filter_map(|(pair, out)| Some((pair?, out)));
            let (terms, mut outs): (Vec<_>, Vec<_>) =
                adapted.zip(&mut lows).map(|((pair, out), rows)| (Term { rows, weight: &pair.b, scale }, out)).unzip();
            self.backend.linears_add_forward(&terms, &mut outs);
        }
        outs
    }

    /// First half of a block: input norm and projections. `x` `[R, H]` are the residuals of all rows that need keys and
    /// values here; `active` names those that also query (`None`: all).
    pub fn attention_inputs(
        &self,
        policy: Option<&Policy<B>>,
        block: usize,
        x: &B::Rows,
        positions: &[u32],
        active: Option<&[u32]>,
    ) -> AttentionInputs<B> {
        let layer = &self.weights.layers[block];
        let eps = self.config.rms_norm_eps;
        let normed = self.backend.rms_norm_forward(x, &layer.input_layernorm, eps);
        let (mut queries, mut keys, mut values);
        let query_positions;
        if let Some(active) = active {
            let active_normed = self.backend.gather_rows(&normed, active);
            [queries] = exactly(self.project(policy, block, &active_normed, &[Projection::QProj]));
            [keys, values] = exactly(self.project(policy, block, &normed, &[Projection::KProj, Projection::VProj]));
            self.propagate(policy, block, &normed, active, &mut keys, &mut values);
            query_positions = active.iter().map(|&row| positions[row as usize]).collect();
        } else {
            let all = [Projection::QProj, Projection::KProj, Projection::VProj];
            [queries, keys, values] = exactly(self.project(policy, block, &normed, &all));
            query_positions = positions.to_vec();
        }
        let before_norm = match (&layer.q_norm, &layer.k_norm) {
            (Some(q_norm), Some(k_norm)) => {
                let normed_queries = self.backend.rms_norm_forward(&queries, q_norm, eps);
                let normed_keys = self.backend.rms_norm_forward(&keys, k_norm, eps);
                Some((std::mem::replace(&mut queries, normed_queries), std::mem::replace(&mut keys, normed_keys)))
            }
            _ => None,
        };
        self.backend.rope(&mut queries, &self.rope, &query_positions, Rotation::Forward);
        self.backend.rope(&mut keys, &self.rope, positions, Rotation::Forward);
        AttentionInputs { queries, keys, values, before_norm }
    }

    /// Second half of a block on the active rows: output projection, residual, MLP, residual.
    pub fn finish_block(
        &self,
        policy: Option<&Policy<B>>,
        block: usize,
        x: B::Rows,
        attention: &B::Rows,
        keeps_tape: bool,
    ) -> BlockOutput<B> {
        let layer = &self.weights.layers[block];
        let mut residual = x;
        let [o] = exactly(self.project(policy, block, attention, &[Projection::OProj]));
        self.backend.scatter_add_rows(&mut residual, None, &o);
        let normed =
            self.backend.rms_norm_forward(&residual, &layer.post_attention_layernorm, self.config.rms_norm_eps);
        let [gate, up] = exactly(self.project(policy, block, &normed, &[Projection::GateProj, Projection::UpProj]));
        let hidden = self.backend.swiglu_forward(&gate, &up);
        let [down] = exactly(self.project(policy, block, &hidden, &[Projection::DownProj]));
        let mlp = keeps_tape.then(|| MlpTape { middle: residual.clone(), gate, up });
        self.backend.scatter_add_rows(&mut residual, None, &down);
        BlockOutput { residual, mlp }
    }
}

/// As many results as projections were asked for.
fn exactly<T, const N: usize>(results: Vec<T>) -> [T; N] {
    match results.try_into() {
        Ok(results) => results,
        Err(results) => panic!("{} results for {N} projections", Vec::len(&results)),
    }
}
