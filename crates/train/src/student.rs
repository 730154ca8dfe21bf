//! The student's loss and its gradients: teacher-forced at prescribed depths, only the work those depths need.
//!
//! `loss = mean_t KL(student_t || teacher_t) + exit_weight * mean_t (-log pi(depth_t))` (arXiv 2603.21376), means over all
//! response tokens of the optimiser step. Response token 0 is emitted by the step that consumes the last prompt token,
//! which runs at full depth: it has a token term and no exit term.

use aloud_kernels::{Backend, KlDirection, Readout, Rows};
use aloud_method::hazard::{sigmoid, softplus};
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use crate::packed_steps::{PackedSteps, RecordedSequence};

/// One response with a prescribed depth a token, and what the teacher said there.
#[derive(Clone, Debug)]
pub struct StudentSequence<'a> {
    /// Prompt and response.
    pub token_ids: &'a [u32],
    /// Tokens of the prompt, at least 1.
    pub prompt_len: usize,
    /// Depth (blocks) of the step that emits each response token; that of token 0 is `L`.
    pub depths: &'a [usize],
    /// The teacher's hidden state after the final norm at those steps, `[response tokens, H]`.
    pub teacher_hidden: &'a [f32],
}

/// The parts of the loss that are choices.
#[derive(Clone, Copy, Debug)]
pub struct LossSettings {
    /// Weight of the exit term.
    pub exit_weight: f32,
    /// Direction of the token KL.
    pub direction: KlDirection,
    /// Whether exit heads read a detached residual, so that their loss does not train the trunk.
    pub detach_heads: bool,
    /// What gets gradients besides the heads.
    pub trained: Trained,
}

/// Sums over response tokens, in nats; a mean is a sum divided by its count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Token KL over tokens that exited early.
    pub exited_kl: f64,
    /// Number of tokens that exited early.
    pub n_exited: usize,
    /// Token KL over tokens at full depth.
    pub full_kl: f64,
    /// Number of tokens at full depth.
    pub n_full: usize,
    /// `-log pi(depth_t)`; token 0, whose depth is pinned, has none.
    pub exit_cross_entropy: f64,
    /// Per candidate: prescribed exits there.
    pub exits: Vec<usize>,
    /// Per candidate: sum of the student's hazards over tokens that reached it.
    pub hazards: Vec<f64>,
    /// Per candidate: tokens that reached it.
    pub reached: Vec<usize>,
    /// Depths (blocks) over tokens `t >= 1`.
    pub depths: usize,
    /// Number of tokens `t >= 1`.
    pub n_counted: usize,
}

impl LossSums {
    /// Adds another part of the same step.
    pub fn add(&mut self, other: &Self) {
        self.exited_kl += other.exited_kl;
        self.n_exited += other.n_exited;
        self.full_kl += other.full_kl;
        self.n_full += other.n_full;
        self.exit_cross_entropy += other.exit_cross_entropy;
        self.depths += other.depths;
        self.n_counted += other.n_counted;
        let n = self.exits.len().max(other.exits.len());
        self.exits.resize(n, 0);
        self.hazards.resize(n, 0.0);
        self.reached.resize(n, 0);
        for (c, exits) in other.exits.iter().enumerate() {
            self.exits[c] += exits;
            self.hazards[c] += other.hazards[c];
            self.reached[c] += other.reached[c];
        }
    }

    /// Response tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_exited + self.n_full
    }

    /// Mean token KL, nats per token.
    pub fn token_kl(&self) -> f64 {
        (self.exited_kl + self.full_kl) / self.n_tokens().max(1) as f64
    }

    /// Mean `-log pi(depth_t)` over all response tokens, token 0 with its term of 0 included, nats per token: the exit term of
    /// the loss.
    pub fn mean_exit_cross_entropy(&self) -> f64 {
        self.exit_cross_entropy / self.n_tokens().max(1) as f64
    }

    /// The loss.
    pub fn loss(&self, exit_weight: f32) -> f64 {
        self.token_kl() + f64::from(exit_weight) * self.mean_exit_cross_entropy()
    }
}

/// Runs the student on `sequences` and returns the loss's parts. With `gradients`, adds to them the gradient of the loss
/// whose means are over `n_step_tokens` response tokens (those of the whole optimiser step).
///
/// # Errors
/// If a token or a position does not exist in the model.
pub fn student_pass<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    teacher_unembedding: &B::Matrix,
    sequences: &[StudentSequence<'_>],
    settings: &LossSettings,
    n_step_tokens: usize,
    gradients: Option<&mut Gradients<B>>,
) -> Result<LossSums, BatchError> {
    let backend = decoder.backend();
    let (n_blocks, hidden_size) = (decoder.n_blocks(), decoder.config().hidden_size);
    let eps = decoder.config().rms_norm_eps;
    let candidates = policy.heads.candidates.clone();

    let recorded: Vec<RecordedSequence<'_>> = sequences
        .iter()
        .map(|sequence| RecordedSequence {
            token_ids: sequence.token_ids,
            prompt_len: sequence.prompt_len,
            depths: sequence.depths,
        })
        .collect();
    let packed = PackedSteps::new(decoder, &recorded)?;
    let PackedSteps { batch, depths, response_rows, .. } = &packed;
    let teacher_hidden = sequences.iter().flat_map(|sequence| sequence.teacher_hidden).copied().collect();

    let forward = decoder.forward(Some(policy), batch, depths, &candidates, gradients.is_some());
    let mut sums = LossSums {
        exits: vec![0; candidates.len()],
        hazards: vec![0.0; candidates.len()],
        reached: vec![0; candidates.len()],
        ..LossSums::default()
    };
    let per_token = 1.0 / n_step_tokens.max(1) as f32;

    // Token term.
    let residual = backend.gather_rows(&forward.residual, response_rows);
    let hidden = decoder.final_norm(&residual);
    let teacher_hidden = backend.upload(Rows::new(hidden_size, teacher_hidden));
    let student = Readout { hidden: &hidden, weight: decoder.unembedding() };
    let teacher = Readout { hidden: &teacher_hidden, weight: teacher_unembedding };
    let d_kl = vec![per_token; response_rows.len()];
    let mut gradients = gradients;
    let (kls, d_hidden) = backend.distill_kl(
        student,
        teacher,
        settings.direction,
        gradients.is_some().then_some(&d_kl),
        gradients.as_deref_mut().and_then(|gradients| decoder.unembedding_gradient(settings.trained, gradients)),
    );
    for ((row, (_, t)), kl) in response_rows.iter().zip(&packed.steps).zip(&kls) {
        let depth = depths[*row as usize];
        if depth < n_blocks {
            sums.exited_kl += f64::from(*kl);
            sums.n_exited += 1;
        } else {
            sums.full_kl += f64::from(*kl);
            sums.n_full += 1;
        }
        if *t > 0 {
            sums.depths += depth;
            sums.n_counted += 1;
        }
    }

    // Exit term, at the candidates that each token reached.
    let mut d_at_candidates = Vec::with_capacity(candidates.len());
    for (c, candidate) in candidates.iter().enumerate() {
        let logits = policy.exit_logits(c, &forward.at_candidates[c], eps);
        let mut d_logits = vec![0.0; logits.len()];
        for ((row, z), d) in forward.reached[c].iter().zip(&logits).zip(&mut d_logits) {
            if packed.exiting_step[*row as usize].is_none() {
                continue;
            }
            let exits = depths[*row as usize] == *candidate;
            sums.exit_cross_entropy += f64::from(if exits { softplus(-z) } else { softplus(*z) });
            sums.exits[c] += usize::from(exits);
            sums.hazards[c] += f64::from(sigmoid(*z));
            sums.reached[c] += 1;
            *d = settings.exit_weight * per_token * (sigmoid(*z) - if exits { 1.0 } else { 0.0 });
        }
        let Some(gradients) = gradients.as_deref_mut() else { continue };
        let mut d_weight = vec![0.0; hidden_size];
        let mut d_bias = 0.0;
        let mut d_x = (!settings.detach_heads).then(|| backend.zeros(logits.len(), hidden_size));
        backend.exit_head_backward(
            &forward.at_candidates[c],
            &policy.heads.weights[c],
            policy.head_eps(eps),
            &d_logits,
            d_x.as_mut(),
            &mut d_weight,
            &mut d_bias,
        );
        gradients.add_head(*candidate, &d_weight, d_bias);
        d_at_candidates.push(d_x);
    }

    if let (Some(gradients), Some(d_hidden)) = (gradients, d_hidden) {
        let d_response = decoder.final_norm_backward(&residual, &d_hidden, settings.trained, gradients);
        let mut d_residual = backend.zeros(batch.n_rows(), hidden_size);
        backend.scatter_add_rows(&mut d_residual, Some(response_rows), &d_response);
        decoder.backward(Some(policy), forward, &candidates, d_residual, &d_at_candidates, settings.trained, gradients);
    }
    Ok(sums)
}
