//! The student's loss and its gradients: teacher-forced at prescribed depths, only the work those depths need.
//!
//! `loss = mean_t KL(student_t || teacher_t) + exit_weight * mean_t (-log pi(depth_t))` (arXiv 2603.21376), means over all
//! response tokens of the optimiser step. Response token 0 is emitted by the step that consumes the last prompt token,
//! which runs at full depth: it has a token term and no exit term.

use aloud_base::random::KeyedRandom;
use aloud_kernels::backend::{Backend, KlDirection, Readout};
use aloud_kernels::rows::Rows;
use aloud_method::hazard::sigmoid;
use aloud_method::targets::Targets;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use crate::metrics::share;
use crate::stage1::traces::Trace;
use aloud_engine::read::reading::{PackedSteps, Reading, RecordedSequence, StepDecision, Trains};

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
    /// No tokens yet.
    pub fn new(n_candidates: usize) -> Self {
        let (exits, hazards, reached) = (vec![0; n_candidates], vec![0.0; n_candidates], vec![0; n_candidates]);
        Self { exits, hazards, reached, ..Self::default() }
    }

    /// Adds the token term of response token `t`.
    fn add_token(&mut self, t: usize, depth: usize, exited: bool, kl: f64) {
        let (sum, n) =
            if exited { (&mut self.exited_kl, &mut self.n_exited) } else { (&mut self.full_kl, &mut self.n_full) };
        *sum += kl;
        *n += 1;
        if t > 0 {
            self.depths += depth;
            self.n_counted += 1;
        }
    }

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

    /// Mean token KL of the tokens that exited early and of those at full depth, nats per token; `None` of none.
    pub fn token_kls(&self) -> (Option<f64>, Option<f64>) {
        (share(self.exited_kl, self.n_exited), share(self.full_kl, self.n_full))
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

/// A student with everything that its loss follows from.
pub struct Student<'a, B: Backend> {
    /// The model.
    pub decoder: &'a Decoder<B>,
    /// Its adapters and exit heads.
    pub policy: &'a Policy<B>,
    /// The teacher's own unembedding.
    pub teacher_unembedding: &'a B::Matrix,
    /// Where depths are drawn from.
    pub targets: &'a Targets,
    /// The loss.
    pub settings: LossSettings,
    /// Whether depths are drawn from the student's own hazards instead of the targets.
    pub draws_own: bool,
}

impl<B: Backend> Student<'_, B> {
    /// A pass over traces at depths drawn from their targets with these random numbers; otherwise as [`student_pass`].
    pub(crate) fn pass(
        &self,
        samples: Vec<(&Trace, KeyedRandom)>,
        n_step_tokens: usize,
        gradients: Option<&mut Gradients<B>>,
    ) -> Result<LossSums, BatchError> {
        let draw = |(trace, mut random): (&'_ Trace, KeyedRandom)| {
            self.targets.draw_depths(&trace.lens_kl, |t, c| random.uniform_at(t as u64, c as u64))
        };
        let traces: Vec<&Trace> = samples.iter().map(|(trace, _)| *trace).collect();
        let depths: Vec<Vec<usize>> =
            if self.draws_own { self.own_depths(samples)? } else { samples.into_iter().map(draw).collect() };
        let sequences: Vec<_> = traces.iter().zip(&depths).map(|(trace, depths)| trace.at_depths(depths)).collect();
        let teacher_hidden: Vec<&[f32]> = traces.iter().map(|trace| &trace.final_hidden[..]).collect();
        let Self { decoder, policy, teacher_unembedding, settings, .. } = self;
        let teacher = (*teacher_unembedding, &teacher_hidden[..]);
        student_pass(decoder, policy, teacher, &sequences, settings, n_step_tokens, gradients)
    }
}

impl<B: Backend> Student<'_, B> {
    /// Depths of the steps of each trace, drawn from the student's own hazards on the teacher's tokens.
    fn own_depths(&self, samples: Vec<(&Trace, KeyedRandom)>) -> Result<Vec<Vec<usize>>, BatchError> {
        let n_blocks = self.decoder.n_blocks();
        let mut depths: Vec<Vec<usize>> =
            samples.iter().map(|(trace, _)| vec![n_blocks; trace.response_len()]).collect();
        let sequences: Vec<_> =
            samples.iter().zip(&depths).map(|((trace, _), depths)| trace.at_depths(depths)).collect();
        let steps = PackedSteps::new(self.decoder, &sequences)?;
        let mut randoms: Vec<KeyedRandom> = samples.into_iter().map(|(_, random)| random).collect();
        let forward = self.decoder.forward_free(self.policy, &steps.batch, &mut |c, row, logit| {
            steps.exiting_step[row]
                .is_some_and(|(s, t)| randoms[s].uniform_at(t as u64, c as u64) < f64::from(sigmoid(logit)))
        });
        for (row, (s, t)) in steps.exiting_rows() {
            depths[s][t] = forward.depths[row];
        }
        Ok(depths)
    }
}

/// Runs the student on `sequences` and returns the loss's parts. `teacher` is its unembedding, and of each sequence its hidden
/// states after the final norm at the steps that emit the response tokens, `[response tokens, H]`. With `gradients`, adds to them the gradient of the loss
/// whose means are over `n_step_tokens` response tokens (those of the whole optimiser step).
///
/// # Errors
/// If a token or a position does not exist in the model.
pub fn student_pass<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    teacher: (&B::Matrix, &[&[f32]]),
    sequences: &[RecordedSequence<'_>],
    settings: &LossSettings,
    n_step_tokens: usize,
    gradients: Option<&mut Gradients<B>>,
) -> Result<LossSums, BatchError> {
    let steps = PackedSteps::new(decoder, sequences)?;
    let candidates = &policy.heads.candidates[..];
    let reading = Reading::new(decoder, Some(policy), candidates, &steps, gradients.is_some());
    let per_token = 1.0 / n_step_tokens.max(1) as f32;
    let mut sums = LossSums::new(candidates.len());

    // Token term.
    let teacher_hidden = Rows::new(decoder.config().hidden_size, teacher.1.concat());
    let teacher = Readout { hidden: &decoder.backend().upload(teacher_hidden), weight: teacher.0 };
    let d_kl = vec![per_token; steps.tokens.len()];
    let mut gradients = gradients;
    let (kls, d_hidden) = decoder.backend().distill_kl(
        reading.readout(),
        teacher,
        settings.direction,
        gradients.is_some().then_some(&d_kl),
        gradients.as_deref_mut().and_then(|gradients| decoder.unembedding_gradient(settings.trained, gradients)),
    );
    for ((row, (_, t)), kl) in steps.response_rows.iter().zip(&steps.steps).zip(&kls) {
        let depth = steps.depths[*row as usize];
        sums.add_token(*t, depth, depth < decoder.n_blocks(), f64::from(*kl));
    }

    // Exit term, at the candidates that each token reached.
    let mut d_decisions = Vec::with_capacity(candidates.len());
    for c in 0..candidates.len() {
        let decisions = reading.exit_decisions(c, 0.0);
        for StepDecision { decision, .. } in &decisions {
            sums.exit_cross_entropy -= f64::from(decision.log_probability());
            sums.exits[c] += usize::from(decision.exited);
            sums.hazards[c] += f64::from(sigmoid(decision.logit));
            sums.reached[c] += 1;
        }
        let weight = -(settings.exit_weight * per_token);
        d_decisions.push(decisions.iter().map(|step| weight * step.decision.gradient()).collect());
    }
    if let (Some(gradients), Some(d_hidden)) = (gradients, d_hidden) {
        let trains = Trains { weights: settings.trained, detach_heads: settings.detach_heads };
        reading.backward(&d_hidden, &d_decisions, trains, gradients);
    }
    Ok(sums)
}
