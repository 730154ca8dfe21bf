//! One teacher-forced pass over recorded responses: packed rows, the hidden states and exit logits of the steps that emitted
//! their tokens, and the backward of both.
//!
//! A step that consumes a position emits the next one's token. So response token 0 is emitted by the last prompt row, which
//! runs at full depth and has no exit; the last token of a response is read, and consumed by nobody.

use aloud_kernels::backend::{Backend, LensRow, Readout};
use aloud_method::joint_action::Decision;
use aloud_model::decoder::{BatchError, Decoder, Forward, Gradients, PackedBatch, Policy, Trained};

/// A prompt and a recorded response.
#[derive(Clone, Copy, Debug)]
pub struct RecordedSequence<'a> {
    /// The prompt's tokens, at least 1.
    pub prompt: &'a [u32],
    /// The response's tokens.
    pub response: &'a [u32],
    /// Depth (blocks) of the step that emitted each response token; that of token 0 is `L`.
    pub depths: &'a [usize],
}

impl<'a> RecordedSequence<'a> {
    /// A sequence whose first `prompt_len` tokens are the prompt.
    pub fn new(token_ids: &'a [u32], prompt_len: usize, depths: &'a [usize]) -> Self {
        let (prompt, response) = token_ids.split_at(prompt_len);
        Self { prompt, response, depths }
    }
}

/// The rows of a pass: the depth of each, and which step of which sequence it is.
#[derive(Debug, Default)]
pub struct PackedSteps {
    /// The rows, without padding.
    pub batch: PackedBatch,
    /// Depth (blocks) of every row; prompts run at full depth.
    pub depths: Vec<usize>,
    /// Sequence and response token of every row that may exit; `None` for prompts, whose last row emits token 0.
    pub exiting_step: Vec<Option<(usize, usize)>>,
    /// Every response token: sequence and number in the response, ...
    pub steps: Vec<(usize, usize)>,
    /// ... the row that emits it (several first tokens may come from one row), ...
    pub response_rows: Vec<u32>,
    /// ... and its id.
    pub tokens: Vec<u32>,
}

impl PackedSteps {
    /// Packs sequences; those without a response have no rows. Neighbours with the same prompt share its rows.
    ///
    /// # Errors
    /// If a token or a position does not exist in the model.
    pub fn new<B: Backend>(decoder: &Decoder<B>, sequences: &[RecordedSequence<'_>]) -> Result<Self, BatchError> {
        Self::pack(decoder, sequences, |before, prompt| before == prompt)
    }

    /// Packs sequences with rows of their own for every prompt.
    ///
    /// # Errors
    /// If a token or a position does not exist in the model.
    pub fn separate<B: Backend>(decoder: &Decoder<B>, sequences: &[RecordedSequence<'_>]) -> Result<Self, BatchError> {
        Self::pack(decoder, sequences, |_, _| false)
    }

    fn pack<B: Backend>(
        decoder: &Decoder<B>,
        sequences: &[RecordedSequence<'_>],
        shares: impl Fn(&[u32], &[u32]) -> bool,
    ) -> Result<Self, BatchError> {
        let (vocab_size, context) = (decoder.config().vocab_size, decoder.config().max_position_embeddings);
        let mut packed = Self::default();
        let mut last_prompt: Option<(&[u32], u32)> = None;
        for (s, RecordedSequence { prompt, response, depths }) in sequences.iter().enumerate() {
            let Some(n_later) = depths.len().checked_sub(1) else { continue };
            if let Some(&id) = response.get(n_later).filter(|id| **id as usize >= vocab_size) {
                return Err(BatchError::UnknownToken { id, vocab_size });
            }
            let consumed = &response[..n_later];
            let prompt_row = match last_prompt {
                Some((before, row)) if shares(before, prompt) => {
                    packed.batch.push_branch(prompt.len(), consumed, vocab_size, context)?;
                    row
                }
                _ => {
                    packed.batch.push(&[*prompt, consumed].concat(), vocab_size, context)?;
                    packed.depths.extend(std::iter::repeat_n(decoder.n_blocks(), prompt.len()));
                    packed.exiting_step.extend(std::iter::repeat_n(None, prompt.len()));
                    packed.depths.len() as u32 - 1
                }
            };
            last_prompt = Some((prompt, prompt_row));
            for (t, (depth, token)) in depths.iter().zip(*response).enumerate() {
                if t > 0 {
                    packed.depths.push(*depth);
                    packed.exiting_step.push(Some((s, t)));
                }
                packed.steps.push((s, t));
                packed.response_rows.push(if t == 0 { prompt_row } else { packed.depths.len() as u32 - 1 });
                packed.tokens.push(*token);
            }
        }
        Ok(packed)
    }

    /// Depth (blocks) of the step that emitted each response token.
    pub fn response_depths(&self) -> Vec<usize> {
        self.response_rows.iter().map(|row| self.depths[*row as usize]).collect()
    }

    /// Every row that may exit, ascending, with its sequence and response token.
    pub fn exiting_rows(&self) -> impl Iterator<Item = (usize, (usize, usize))> {
        self.exiting_step.iter().enumerate().filter_map(|(row, step)| Some((row, (*step)?)))
    }
}

/// What a step decided at a candidate that it reached.
#[derive(Clone, Copy, Debug)]
pub struct StepDecision {
    /// The sequence, ...
    pub sequence: usize,
    /// ... and the response token that the step emitted, from 1.
    pub token: usize,
    /// The decision.
    pub decision: Decision,
}

/// What gets gradients besides the weights of exit heads.
#[derive(Clone, Copy, Debug)]
pub struct Trains {
    /// Adapters, or everything.
    pub weights: Trained,
    /// Whether exit heads read a detached residual, so that their loss does not train the trunk.
    pub detach_heads: bool,
}

/// A pass that was made.
pub struct Reading<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    policy: Option<&'a Policy<B>>,
    candidates: &'a [usize],
    steps: &'a PackedSteps,
    forward: Forward<B>,
    /// Residuals of the steps that emitted the response tokens, in their order.
    residual: B::Rows,
    /// The same after the final norm, `[response tokens, H]`.
    pub hidden: B::Rows,
}

impl<'a, B: Backend> Reading<'a, B> {
    /// Runs every row to its depth, and keeps the residuals at `candidates` (depths, ascending; the policy's own, where exit
    /// logits are wanted). With `keeps_tape`, a backward can follow.
    pub fn new(
        decoder: &'a Decoder<B>,
        policy: Option<&'a Policy<B>>,
        candidates: &'a [usize],
        steps: &'a PackedSteps,
        keeps_tape: bool,
    ) -> Self {
        let forward = decoder.forward(policy, &steps.batch, &steps.depths, candidates, keeps_tape);
        let residual = decoder.backend().gather_rows(&forward.residual, &steps.response_rows);
        let hidden = decoder.read_out(policy, &residual, &steps.response_depths());
        Self { decoder, policy, candidates, steps, forward, residual, hidden }
    }

    /// What gives the logits of the response tokens.
    pub fn readout(&self) -> Readout<'_, B::Rows, B::Matrix> {
        Readout { hidden: &self.hidden, weight: self.decoder.unembedding() }
    }

    /// What the final distributions say of the response tokens, and how far the lens at each candidate is from them. All steps
    /// must have reached every candidate. The divergence of Jensen and Shannon is among it only where `with_js`.
    pub fn lens_kl(&self, with_js: bool) -> Vec<LensRow> {
        let backend = self.decoder.backend();
        let lens = |(residual, depth): (&B::Rows, &usize)| {
            self.decoder.lens(self.policy, *depth, &backend.gather_rows(residual, &self.steps.response_rows))
        };
        let lenses: Vec<B::Rows> = self.forward.at_candidates.iter().zip(self.candidates).map(lens).collect();
        backend.lens_kl(self.readout(), &lenses.iter().collect::<Vec<_>>(), &self.steps.tokens, with_js)
    }

    /// What the steps that reached candidate number `candidate` of the policy decided there, in the order of their rows;
    /// `offset` is added to their exit logits.
    pub fn exit_decisions(&self, candidate: usize, offset: f32) -> Vec<StepDecision> {
        let Some(policy) = self.policy else { return Vec::new() };
        let at_candidate = &self.forward.at_candidates[candidate];
        let logits = policy.exit_logits(candidate, at_candidate, self.decoder.config().rms_norm_eps);
        let decision = |(row, logit): (&u32, f32)| {
            let (sequence, token) = self.steps.exiting_step[*row as usize]?;
            let exited = self.steps.depths[*row as usize] == self.candidates[candidate];
            Some(StepDecision { sequence, token, decision: Decision { logit: logit + offset, exited } })
        };
        self.forward.reached[candidate].iter().zip(logits).filter_map(decision).collect()
    }

    /// The backward: adds the gradients of a loss with the derivative `d_hidden` by [`Self::hidden`] and `d_decisions[c]` by
    /// the logits of [`Self::exit_decisions`] of candidate number `c`.
    pub fn backward(self, d_hidden: &B::Rows, d_decisions: &[Vec<f32>], trains: Trains, gradients: &mut Gradients<B>) {
        let Self { decoder, policy, candidates, steps, forward, residual, .. } = self;
        let (backend, config) = (decoder.backend(), decoder.config());
        let depths = steps.response_depths();
        let d_response = decoder.read_out_backward(policy, &residual, &depths, d_hidden, trains.weights, gradients);
        let mut d_residual = backend.zeros(steps.batch.n_rows(), config.hidden_size);
        backend.scatter_add_rows(&mut d_residual, Some(&steps.response_rows), &d_response);
        let mut d_at_candidates = Vec::with_capacity(candidates.len());
        for (c, d_decisions) in d_decisions.iter().enumerate() {
            let Some(policy) = policy else { continue };
            let mut d_decisions = d_decisions.iter();
            let mut d_logit = |row: &u32| steps.exiting_step[*row as usize].and_then(|_| d_decisions.next().copied());
            let d_logits: Vec<f32> = forward.reached[c].iter().map(|row| d_logit(row).unwrap_or(0.0)).collect();
            let mut d_weight = vec![0.0; config.hidden_size];
            let mut d_bias = 0.0;
            let mut d_x = (!trains.detach_heads).then(|| backend.zeros(d_logits.len(), config.hidden_size));
            backend.exit_head_backward(
                &forward.at_candidates[c],
                &policy.heads.weights[c],
                policy.head_eps(config.rms_norm_eps),
                &d_logits,
                d_x.as_mut(),
                &mut d_weight,
                &mut d_bias,
            );
            gradients.add_head(candidates[c], &d_weight, d_bias);
            d_at_candidates.push(d_x);
        }
        decoder.backward(policy, forward, candidates, d_residual, &d_at_candidates, trains.weights, gradients);
    }
}

/// Groups `items`, in order, so that the lengths of a group sum to at most `most`; a longer item stands alone.
pub fn group_by_rows<T: Copy>(
    items: impl IntoIterator<Item = T>,
    length: impl Fn(T) -> usize,
    most: usize,
) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let length = length(item);
        match groups.last_mut() {
            Some(group) if length <= room => {
                group.push(item);
                room -= length;
            }
            _ => {
                groups.push(vec![item]);
                room = most.saturating_sub(length);
            }
        }
    }
    groups
}
