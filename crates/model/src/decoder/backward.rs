//! The backward of the teacher-forced pass: only active rows carry the cost of queries, output projections and MLPs, and
//! only trained parameters get gradients.

use std::collections::BTreeMap;

use aloud_kernels::backend::{Backend, Rotation, Term};
use serde::{Deserialize, Serialize};

use super::forward::{BlockTape, Tape};
use super::policy::{factor_names, head_names};
use super::{Decoder, Forward, PackedBatch, Policy};
use crate::lora::{Lora, LoraPair, Projection};
use crate::weights::{EMBED_TOKENS, INPUT_NORM, KEY_NORM, LM_HEAD, POST_ATTENTION_NORM, QUERY_NORM, layer_name};

/// Which parameters get gradients besides the exit heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trained {
    /// The low-rank adapters: `lora`.
    #[default]
    #[serde(rename = "lora")]
    Adapters,
    /// Every parameter of the model, and adapters if there are any.
    Full,
    /// Nothing of the model, and no adapters: `exits`.
    Exits,
}

/// Gradients by parameter name.
pub struct Gradients<B: Backend> {
    backend: B,
    by_name: BTreeMap<String, B::Rows>,
}

impl<B: Backend> std::fmt::Debug for Gradients<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl<B: Backend> Gradients<B> {
    /// No gradients yet.
    pub fn new(backend: &B) -> Self {
        Self { backend: backend.clone(), by_name: BTreeMap::new() }
    }

    /// The gradient of a parameter, zero at first.
    pub fn entry(&mut self, name: String, n_rows: usize, width: usize) -> &mut B::Rows {
        self.by_name.entry(name).or_insert_with(|| self.backend.zeros(n_rows, width))
    }

    /// Names and values, on the host, in the order of names.
    pub fn into_host(self) -> BTreeMap<String, Vec<f32>> {
        let Self { backend, by_name } = self;
        by_name.into_iter().map(|(name, rows)| (name, backend.download(&rows).into_values())).collect()
    }

    /// Adds the gradients of an exit head.
    pub fn add_head(&mut self, depth: usize, d_weight: &[f32], d_bias: f32) {
        let (weight, bias) = head_names(depth);
        for (name, values) in [(weight, d_weight), (bias, &[d_bias][..])] {
            let part = self.backend.upload(aloud_kernels::rows::Rows::new(values.len(), values.to_vec()));
            let backend = self.backend.clone();
            backend.scatter_add_rows(self.entry(name, 1, values.len()), None, &part);
        }
    }
}

/// The fixed surroundings of one backward pass.
struct Pass<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    policy: Option<&'a Policy<B>>,
    trained: Trained,
}

impl<B: Backend> Decoder<B> {
    /// Where the gradient of the unembedding is collected, if it is trained.
    pub fn unembedding_gradient<'g>(
        &self,
        trained: Trained,
        gradients: &'g mut Gradients<B>,
    ) -> Option<&'g mut B::Rows> {
        let name = if self.weights.lm_head.is_some() { LM_HEAD } else { EMBED_TOKENS };
        (trained == Trained::Full)
            .then(|| gradients.entry(name.into(), self.config.vocab_size, self.config.hidden_size))
    }

    /// Adds the gradients of all trained parameters of the blocks and the embedding.
    ///
    /// `d_residual` `[R, H]` is the loss's gradient with respect to `forward.residual`; `d_at_candidates[c]`, if given, that
    /// with respect to `forward.at_candidates[c]`. The tape is used up.
    ///
    /// # Panics
    /// If the pass was run without keeping its tape.
    pub fn backward(
        &self,
        policy: Option<&Policy<B>>,
        forward: Forward<B>,
        candidates: &[usize],
        d_residual: B::Rows,
        d_at_candidates: &[Option<B::Rows>],
        trained: Trained,
        gradients: &mut Gradients<B>,
    ) {
        let Some(tape) = forward.tape else { panic!("backward of a pass that kept no tape") };
        let pass = Pass { decoder: self, policy, trained };
        let mut d_x = d_residual;
        let add_candidates = |depth: usize, d_x: &mut B::Rows| {
            if let Some(c) = candidates.iter().position(|candidate| *candidate == depth)
                && let Some(d) = d_at_candidates.get(c).and_then(Option::as_ref)
            {
                self.backend.scatter_add_rows(d_x, Some(&forward.reached[c]), d);
            }
        };
        // A candidate at which every row stopped has no block of its own on the tape.
        for depth in (tape.blocks.len() + 1..=self.n_blocks()).rev() {
            add_candidates(depth, &mut d_x);
        }
        let Tape { batch, mut blocks } = tape;
        while let Some(block_tape) = blocks.pop() {
            let block = blocks.len();
            add_candidates(block + 1, &mut d_x);
            d_x = pass.block_backward(block, &block_tape, &batch, d_x, gradients);
        }
        if trained == Trained::Full {
            let d_table = gradients.entry(EMBED_TOKENS.into(), self.config.vocab_size, self.config.hidden_size);
            self.backend.embedding_backward(batch.token_ids(), &d_x, d_table);
        }
    }
}

impl<'a, B: Backend> Pass<'a, B> {
    /// Backward of [`Decoder::project`]: adds to the gradients of the parameters, and returns that of the input.
    fn project_backward(
        &self,
        block: usize,
        x: &B::Rows,
        parts: &[(Projection, &B::Rows)],
        gradients: &mut Gradients<B>,
    ) -> B::Rows {
        let (backend, weights) = (&self.decoder.backend, &self.decoder.weights);
        let linear = |projection: Projection| weights.layers[block].projection(projection);
        if self.trained == Trained::Full {
            for (projection, d_out) in parts {
                let linear = linear(*projection);
                let (out, input) = backend.matrix_shape(&linear.weight);
                let d_weight = gradients.entry(projection.weight_name(block), out, input);
                backend.linear_backward_weight(d_out, x, 1.0, d_weight);
                if linear.bias.is_some() {
                    backend.bias_backward(d_out, gradients.entry(projection.bias_name(block), 1, out));
                }
            }
        }
        // Between the two factors of each adapter.
        let mut d_lows: Vec<Vec<(B::Rows, &B::Matrix)>> = Vec::with_capacity(parts.len());
        for (projection, d_out) in parts {
            let pairs = self
                .decoder
                .adapters(self.policy)
                .filter_map(|lora| Some((lora, lora.pairs.get(&(block, *projection))?)));
            let d_low = |(lora, pair): (&Lora<_>, &'a LoraPair<_>)| {
                let term = Term { rows: *d_out, weight: &pair.b, scale: lora.scale() };
                (backend.linears_backward_input(&[term]), &pair.a)
            };
            d_lows.push(pairs.map(d_low).collect());
        }
        if let Some(lora) = self.policy.and_then(|policy| policy.lora.as_ref()) {
            let trained = parts.iter().zip(&d_lows).filter_map(|((projection, d_out), d_lows)| {
                Some((*projection, *d_out, &d_lows.last()?.0, lora.pairs.get(&(block, *projection))?))
            });
            let first_factors: Vec<_> = trained.clone().map(|(.., pair)| (&pair.a, None)).collect();
            let lows = backend.linears_forward(x, &first_factors);
            for ((projection, d_out, d_low, pair), low) in trained.zip(&lows) {
                let (a_name, b_name) = factor_names(block, projection);
                let ((out, _), (rank, input)) = (backend.matrix_shape(&pair.b), backend.matrix_shape(&pair.a));
                backend.linear_backward_weight(d_out, low, lora.scale(), gradients.entry(b_name, out, rank));
                backend.linear_backward_weight(d_low, x, 1.0, gradients.entry(a_name, rank, input));
            }
        }
        let mut terms = Vec::with_capacity(2 * parts.len());
        for ((projection, d_out), d_lows) in parts.iter().zip(&d_lows) {
            terms.push(Term { rows: *d_out, weight: &linear(*projection).weight, scale: 1.0 });
            terms.extend(d_lows.iter().map(|(rows, weight)| Term { rows, weight: *weight, scale: 1.0 }));
        }
        backend.linears_backward_input(&terms)
    }

    fn norm_backward(
        &self,
        x: &B::Rows,
        gain: &B::Rows,
        width: usize,
        (block, name): (usize, &str),
        d_out: &B::Rows,
        d_x: &mut B::Rows,
        gradients: &mut Gradients<B>,
    ) {
        let d_gain = (self.trained == Trained::Full).then(|| gradients.entry(layer_name(block, name), 1, width));
        let eps = self.decoder.config.rms_norm_eps;
        self.decoder.backend.rms_norm_backward(x, gain, eps, d_out, d_x, d_gain);
    }

    /// Gradient through the MLP: `d_middle`, of the block's output, becomes that of the residual between attention and MLP.
    ///
    /// # Shapes
    /// `d_middle`: the active rows.
    fn mlp_backward(&self, block: usize, tape: &BlockTape<B>, d_middle: &mut B::Rows, gradients: &mut Gradients<B>) {
        let decoder = self.decoder;
        let (backend, layer) = (&decoder.backend, &decoder.weights.layers[block]);
        let (hidden_size, eps) = (decoder.config.hidden_size, decoder.config.rms_norm_eps);
        let hidden = backend.swiglu_forward(&tape.mlp.gate, &tape.mlp.up);
        let d_hidden = self.project_backward(block, &hidden, &[(Projection::DownProj, &*d_middle)], gradients);
        let (d_gate, d_up) = backend.swiglu_backward(&tape.mlp.gate, &tape.mlp.up, &d_hidden);
        let normed = backend.rms_norm_forward(&tape.mlp.middle, &layer.post_attention_layernorm, eps);
        let parts = [(Projection::GateProj, &d_gate), (Projection::UpProj, &d_up)];
        let d_normed = self.project_backward(block, &normed, &parts, gradients);
        let name = (block, POST_ATTENTION_NORM);
        let gain = &layer.post_attention_layernorm;
        self.norm_backward(&tape.mlp.middle, gain, hidden_size, name, &d_normed, d_middle, gradients);
    }

    /// Gradient with respect to a block's input residual, given that of its output.
    fn block_backward(
        &self,
        block: usize,
        tape: &BlockTape<B>,
        batch: &PackedBatch,
        mut d_x: B::Rows,
        gradients: &mut Gradients<B>,
    ) -> B::Rows {
        let decoder = self.decoder;
        let backend = &decoder.backend;
        let layer = &decoder.weights.layers[block];
        let hidden_size = decoder.config.hidden_size;
        let eps = decoder.config.rms_norm_eps;
        let n_active = tape.queries.len();
        let active = tape.active.as_deref();

        // MLP, on active rows. `d_middle` starts as the gradient of the block's output and becomes that of the residual
        // between attention and MLP.
        let mut d_middle = match active {
            Some(rows) => backend.gather_rows(&d_x, rows),
            None => d_x.clone(),
        };
        self.mlp_backward(block, tape, &mut d_middle, gradients);

        // Attention: output projection and queries on active rows, keys and values on all.
        let d_attention = self.project_backward(block, &tape.attention, &[(Projection::OProj, &d_middle)], gradients);
        let width = decoder.config.key_value_size();
        let mut d_keys = backend.zeros(batch.n_key_rows(), width);
        let mut d_values = backend.zeros(batch.n_key_rows(), width);
        let keys = batch.key_layout(backend, &tape.inputs.keys);
        let values = batch.key_layout(backend, &tape.inputs.values);
        let mut d_queries = backend.attention_backward(
            decoder.heads(),
            &tape.inputs.queries,
            &tape.queries,
            &batch
                .key_values(keys.as_ref().unwrap_or(&tape.inputs.keys), values.as_ref().unwrap_or(&tape.inputs.values)),
            &tape.attention,
            &tape.log_sum_exp,
            &d_attention,
            &mut d_keys,
            &mut d_values,
        );
        let mut d_keys = batch.key_layout_backward(backend, d_keys, width);
        let d_values = batch.key_layout_backward(backend, d_values, width);
        let query_positions: Vec<u32> = match active {
            Some(rows) => rows.iter().map(|row| batch.positions()[*row as usize]).collect(),
            None => batch.positions().to_vec(),
        };
        backend.rope(&mut d_queries, &decoder.rope, &query_positions, Rotation::Backward);
        backend.rope(&mut d_keys, &decoder.rope, batch.positions(), Rotation::Backward);
        if let (Some((queries, keys)), Some(q_norm), Some(k_norm)) =
            (&tape.inputs.before_norm, &layer.q_norm, &layer.k_norm)
        {
            let head_dim = decoder.config.head_dim;
            let mut d = backend.zeros(n_active, decoder.config.query_size());
            self.norm_backward(queries, q_norm, head_dim, (block, QUERY_NORM), &d_queries, &mut d, gradients);
            d_queries = d;
            let mut d = backend.zeros(batch.n_rows(), decoder.config.key_value_size());
            self.norm_backward(keys, k_norm, head_dim, (block, KEY_NORM), &d_keys, &mut d, gradients);
            d_keys = d;
        }

        // Input norm: of all rows, through keys and values; of active rows, through queries too.
        let normed = backend.rms_norm_forward(&tape.x, &layer.input_layernorm, eps);
        let (keys, values) = ((Projection::KProj, &d_keys), (Projection::VProj, &d_values));
        let queries = (Projection::QProj, &d_queries);
        let d_normed = match active {
            None => {
                d_x = d_middle;
                self.project_backward(block, &normed, &[keys, values, queries], gradients)
            }
            Some(rows) => {
                let mut d_normed = self.project_backward(block, &normed, &[keys, values], gradients);
                let active_normed = backend.gather_rows(&normed, rows);
                let d_active = self.project_backward(block, &active_normed, &[queries], gradients);
                backend.scatter_add_rows(&mut d_normed, Some(rows), &d_active);
                let d_keys_values = (&d_keys, &d_values);
                decoder.propagate_backward(self.policy, block, &normed, rows, d_keys_values, &mut d_normed, gradients);
                backend.scatter_rows(&mut d_x, rows, &d_middle);
                d_normed
            }
        };
        let name = (block, INPUT_NORM);
        self.norm_backward(&tape.x, &layer.input_layernorm, hidden_size, name, &d_normed, &mut d_x, gradients);
        d_x
    }
}
