//! What the student has learned, on traces it was never trained on.

use aloud_kernels::Backend;
use aloud_model::decoder::{BatchError, Decoder, PackedBatch, Policy};
use serde::{Deserialize, Serialize};

use crate::plan::pack;
use crate::random::{Purpose, SampleRandom};
use crate::student::{LossSettings, LossSums, StudentSequence, student_pass};
use crate::targets::{Targets, exit_distribution};
use crate::traces::Trace;

/// Free draws per token behind the learned exit distribution.
pub const DRAWS: u32 = 8;

/// Quality of exits and of tokens on held-out teacher traces. Token 0 of a response never counts in depth figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Traces.
    pub n_traces: usize,
    /// Response tokens.
    pub n_tokens: usize,
    /// Token KL (nats per token) where the prescribed target depth is a candidate.
    pub token_kl_exited: Option<f64>,
    /// Token KL (nats per token) where it is full depth.
    pub token_kl_full_depth: Option<f64>,
    /// Mean of `-log pi(prescribed depth)` over all response tokens, token 0 with its term of 0 included, nats per token.
    pub exit_cross_entropy: f64,
    /// Mean target exit distribution: candidates, then full depth.
    pub target_exits: Vec<f64>,
    /// Histogram of depths drawn freely from the student's hazards on the teacher's tokens, 8 draws a token.
    pub learned_exits: Vec<f64>,
    /// Total variation between the two.
    pub total_variation: f64,
    /// Mean over tokens of the total variation between target and learned `pi`; the learned one is read in a pass with
    /// exits off, since hazards beyond an exit do not exist.
    pub per_token_total_variation: f64,
    /// The same for heads that ignore their input: constant hazards that give `target_exits` exactly.
    pub per_token_total_variation_constant: f64,
    /// `mean_t (1 - d_t / L)` of the target distribution.
    pub target_layer_savings: f64,
    /// The same of the learned one.
    pub learned_layer_savings: f64,
    /// Share of tokens that stop before full depth, target.
    pub target_exit_rate: f64,
    /// The same, learned.
    pub learned_exit_rate: f64,
}

/// Constant hazards whose stick-breaking gives `distribution` (candidates, then full depth).
pub fn constant_hazards(distribution: &[f64]) -> Vec<f64> {
    let mut left = 1.0;
    let candidates = distribution.len().saturating_sub(1);
    distribution[..candidates]
        .iter()
        .map(|share| {
            let hazard = if left > 0.0 { (share / left).clamp(0.0, 1.0) } else { 0.0 };
            left -= share;
            hazard
        })
        .collect()
}

fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

/// Target and learned exit distribution of every token.
#[derive(Default)]
struct Distances {
    pairs: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Distances {
    /// Mean total variation between target and learned distribution, or between target and `other`.
    fn mean(&self, other: Option<&[f64]>) -> f64 {
        let distance = |(target, learned): &(Vec<f64>, Vec<f64>)| total_variation(target, other.unwrap_or(learned));
        self.pairs.iter().map(distance).sum::<f64>() / self.pairs.len().max(1) as f64
    }
}

fn layer_savings(exits: &[f64], candidates: &[usize], n_blocks: usize) -> f64 {
    exits.iter().zip(candidates).map(|(share, depth)| share * (1.0 - *depth as f64 / n_blocks as f64)).sum()
}

/// Runs the student on held-out traces: at depths drawn from the targets, at depths of its own, and with exits off.
///
/// # Errors
/// If a trace does not fit the model.
pub fn evaluate<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    teacher_unembedding: &B::Matrix,
    traces: &[Trace],
    targets: &Targets,
    settings: LossSettings,
    rows_per_pack: usize,
    seed: u64,
) -> Result<HeldOutReport, BatchError> {
    let candidates = &targets.candidates;
    let n_outcomes = candidates.len() + 1;
    let mut sums = LossSums::default();
    let mut target_exits = vec![0.0; n_outcomes];
    let mut drawn = vec![0u64; n_outcomes];
    let mut distances = Distances::default();
    for members in pack(0..traces.len(), |i| traces[i].token_ids.len(), rows_per_pack) {
        let group: Vec<&Trace> = members.iter().map(|&i| &traces[i]).collect();
        sums.add(&prescribed(decoder, policy, teacher_unembedding, &group, targets, settings, seed)?);
        let packed = Packed::new(decoder, &group)?;
        let config = decoder.config();

        let mut learned: Vec<Vec<f64>> = vec![Vec::new(); packed.counted.len()];
        let full = vec![decoder.n_blocks(); packed.batch.n_rows()];
        let forward = decoder.forward(Some(policy), &packed.batch, &full, candidates, false);
        for (c, residual) in forward.at_candidates.iter().enumerate() {
            let logits = policy.exit_logits(c, residual, config.rms_norm_eps);
            for ((_, _, row), hazards) in packed.counted.iter().zip(&mut learned) {
                hazards.push(1.0 / (1.0 + f64::from(-logits[*row]).exp()));
            }
        }
        for ((trace, t, _), hazards) in packed.counted.iter().zip(&learned) {
            let kl = &group[*trace].lens_kl[t * candidates.len()..][..candidates.len()];
            let target = exit_distribution(&targets.hazards(kl));
            target_exits.iter_mut().zip(&target).for_each(|(sum, share)| *sum += share);
            distances.pairs.push((target, exit_distribution(hazards)));
        }

        for draw in 0..DRAWS {
            let mut randoms: Vec<SampleRandom> = group
                .iter()
                .map(|trace| SampleRandom::new(seed, Purpose::StudentReport, trace.index as u64, 0, draw))
                .collect();
            let forward = decoder.forward_free(policy, &packed.batch, &mut |c, row, logit| match packed.emits[row] {
                Some((trace, t)) if t > 0 => {
                    randoms[trace].uniform(t as u64, c as u64) < 1.0 / (1.0 + f64::from(-logit).exp())
                }
                _ => false,
            });
            for (_, _, row) in &packed.counted {
                let outcome = candidates.iter().position(|depth| *depth == forward.depths[*row]);
                drawn[outcome.unwrap_or(candidates.len())] += 1;
            }
        }
    }
    let n = distances.pairs.len().max(1) as f64;
    for share in &mut target_exits {
        *share /= n;
    }
    let n_drawn = drawn.iter().sum::<u64>().max(1) as f64;
    let learned_exits: Vec<f64> = drawn.iter().map(|count| *count as f64 / n_drawn).collect();
    let constant = exit_distribution(&constant_hazards(&target_exits));
    let share = |sum: f64, n: usize| (n > 0).then(|| sum / n as f64);
    Ok(HeldOutReport {
        n_traces: traces.len(),
        n_tokens: sums.n_tokens(),
        token_kl_exited: share(sums.exited_kl, sums.n_exited),
        token_kl_full_depth: share(sums.full_kl, sums.n_full),
        exit_cross_entropy: sums.mean_exit_cross_entropy(),
        total_variation: total_variation(&target_exits, &learned_exits),
        per_token_total_variation: distances.mean(None),
        per_token_total_variation_constant: distances.mean(Some(&constant)),
        target_layer_savings: layer_savings(&target_exits, candidates, targets.n_blocks),
        learned_layer_savings: layer_savings(&learned_exits, candidates, targets.n_blocks),
        target_exit_rate: target_exits[..candidates.len()].iter().sum(),
        learned_exit_rate: learned_exits[..candidates.len()].iter().sum(),
        target_exits,
        learned_exits,
    })
}

/// Token KL of a student at depths drawn from the targets: nats per token where the depth is a candidate, and at full depth.
///
/// # Errors
/// If a trace does not fit the model.
pub fn prescribed_token_kl<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    teacher_unembedding: &B::Matrix,
    traces: &[Trace],
    targets: &Targets,
    settings: LossSettings,
    rows_per_pack: usize,
    seed: u64,
) -> Result<(Option<f64>, Option<f64>), BatchError> {
    let mut sums = LossSums::default();
    for members in pack(0..traces.len(), |i| traces[i].token_ids.len(), rows_per_pack) {
        let group: Vec<&Trace> = members.iter().map(|&i| &traces[i]).collect();
        sums.add(&prescribed(decoder, policy, teacher_unembedding, &group, targets, settings, seed)?);
    }
    let share = |sum: f64, n: usize| (n > 0).then(|| sum / n as f64);
    Ok((share(sums.exited_kl, sums.n_exited), share(sums.full_kl, sums.n_full)))
}

/// One teacher-forced pass at depths drawn from the targets: the same draws for every student.
fn prescribed<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    teacher_unembedding: &B::Matrix,
    group: &[&Trace],
    targets: &Targets,
    settings: LossSettings,
    seed: u64,
) -> Result<LossSums, BatchError> {
    let depths: Vec<Vec<usize>> = group
        .iter()
        .map(|trace| {
            let mut random = SampleRandom::new(seed, Purpose::TargetReport, trace.index as u64, 0, 0);
            targets.draw_depths(&trace.lens_kl, |t, c| random.uniform(t as u64, c as u64))
        })
        .collect();
    let sequences: Vec<StudentSequence<'_>> = group
        .iter()
        .zip(&depths)
        .map(|(trace, depths)| StudentSequence {
            token_ids: &trace.token_ids,
            prompt_len: trace.prompt_len,
            depths,
            teacher_hidden: &trace.final_hidden,
        })
        .collect();
    student_pass(decoder, policy, teacher_unembedding, &sequences, &settings, 1, None)
}

/// Traces as one batch, and which response token each row emits.
struct Packed {
    batch: PackedBatch,
    /// Per row: trace and response token.
    emits: Vec<Option<(usize, usize)>>,
    /// Trace, response token and row of every token `t >= 1`.
    counted: Vec<(usize, usize, usize)>,
}

impl Packed {
    fn new<B: Backend>(decoder: &Decoder<B>, group: &[&Trace]) -> Result<Self, BatchError> {
        let config = decoder.config();
        let mut packed = Self { batch: PackedBatch::new(), emits: Vec::new(), counted: Vec::new() };
        for (index, trace) in group.iter().enumerate() {
            let consumed = &trace.token_ids[..trace.token_ids.len() - 1];
            packed.batch.push(consumed, config.vocab_size, config.max_position_embeddings)?;
            packed.emits.extend(std::iter::repeat_n(None, trace.prompt_len - 1));
            for t in 0..trace.response_len() {
                if t > 0 {
                    packed.counted.push((index, t, packed.emits.len()));
                }
                packed.emits.push(Some((index, t)));
            }
        }
        Ok(packed)
    }
}
