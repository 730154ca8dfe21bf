//! What the student has learned, on traces it was never trained on.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::backend::Backend;
use aloud_method::candidates::outcome;
use aloud_method::exit_distribution::{exit_distribution, hazards_of_distribution, total_variation};
use aloud_method::hazard::sigmoid_f64;
use aloud_method::savings::savings_of_distribution;
use aloud_model::decoder::BatchError;
use serde::{Deserialize, Serialize};

use crate::order::pattern;
use crate::stage1::fitting::at_full_depth;
use crate::stage1::student::{LossSums, Student};
use crate::stage1::traces::Trace;
use aloud_engine::read::reading::{PackedSteps, Reading, StepDecision, group_by_rows};

/// Free draws per token behind the learned exit distribution.
const DRAWS: u32 = 8;

/// Quality of exits and of tokens on held-out teacher traces. Token 0 of a response never counts in depth figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Traces.
    pub n_traces: usize,
    /// Response tokens.
    pub n_tokens: usize,
    /// Token KL (nats per token) where the prescribed depth is a candidate: drawn from the target, or, where there is none, from the
    /// student's own hazards.
    pub token_kl_exited: Option<f64>,
    /// Token KL (nats per token) where it is full depth.
    pub token_kl_full_depth: Option<f64>,
    /// Mean of `-log pi(prescribed depth)` over all response tokens, token 0 with its term of 0 included, nats per token.
    pub exit_cross_entropy: f64,
    /// Mean target exit distribution: candidates, then full depth. `None` of heads trained on the expected cost, as all that
    /// compares with a target.
    pub target_exits: Option<Vec<f64>>,
    /// Histogram of depths drawn freely from the student's hazards on the teacher's tokens, 8 draws a token.
    pub learned_exits: Vec<f64>,
    /// Total variation between the two.
    pub total_variation: Option<f64>,
    /// Mean over tokens of the total variation between target and learned `pi`; the learned one is read in a pass with
    /// exits off, since hazards beyond an exit do not exist.
    pub per_token_total_variation: Option<f64>,
    /// The same for heads that ignore their input: constant hazards that give `target_exits` exactly.
    pub per_token_total_variation_constant: Option<f64>,
    /// `mean_t (1 - d_t / L)` of the target distribution.
    pub target_layer_savings: Option<f64>,
    /// The same of the learned one.
    pub learned_layer_savings: f64,
    /// Share of tokens that stop before full depth, target.
    pub target_exit_rate: Option<f64>,
    /// The same, learned.
    pub learned_exit_rate: f64,
    /// Why there is no target: `no_target`, if the heads were trained on the expected cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_absent: Option<String>,
}

/// Target and learned exit distribution of every token.
#[derive(Default)]
struct Distances {
    pairs: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Distances {
    /// Adds the tokens of some traces, `steps` at full depth: what is learned is read with exits off, since hazards beyond an
    /// exit do not exist.
    fn read<B: Backend>(&mut self, student: &Student<'_, B>, group: &[&Trace], steps: &PackedSteps) {
        let candidates = &student.targets.candidates[..];
        let reading = Reading::new(student.decoder, Some(student.policy), candidates, steps, false);
        let mut learned: Vec<Vec<f64>> = vec![Vec::new(); steps.exiting_rows().count()];
        for c in 0..candidates.len() {
            for (StepDecision { decision, .. }, hazards) in reading.exit_decisions(c, 0.0).iter().zip(&mut learned) {
                hazards.push(sigmoid_f64(f64::from(decision.logit)));
            }
        }
        for ((_, (trace, t)), hazards) in steps.exiting_rows().zip(&learned) {
            let kl = &group[trace].lens_kl[t * candidates.len()..][..candidates.len()];
            self.pairs.push((exit_distribution(&student.targets.hazards(kl)), exit_distribution(hazards)));
        }
    }

    /// Mean target distribution.
    fn mean_target(&self, n_outcomes: usize) -> Vec<f64> {
        let n = self.pairs.len().max(1) as f64;
        (0..n_outcomes).map(|i| self.pairs.iter().fold(0.0, |sum, (target, _)| sum + target[i]) / n).collect()
    }

    /// Mean total variation between target and learned distribution, or between target and `other`.
    fn mean(&self, other: Option<&[f64]>) -> f64 {
        let distance = |(target, learned): &(Vec<f64>, Vec<f64>)| total_variation(target, other.unwrap_or(learned));
        self.pairs.iter().map(distance).sum::<f64>() / self.pairs.len().max(1) as f64
    }
}

/// Traces in groups of at most `rows_per_pass` rows.
fn groups(traces: &[Trace], rows_per_pass: usize) -> impl Iterator<Item = Vec<&Trace>> {
    let members = group_by_rows(0..traces.len(), |i| traces[i].token_ids.len(), rows_per_pass);
    members.into_iter().map(|members| members.into_iter().map(|i| &traces[i]).collect())
}

/// The student at depths drawn from the targets: the same draws for every student.
fn prescribed<B: Backend>(student: &Student<'_, B>, group: &[&Trace], seed: u64) -> Result<LossSums, BatchError> {
    let random = |trace: &Trace| KeyedRandom::new(seed, Domain::TARGET_REPORT, [trace.index as u64, 0]);
    let samples: Vec<_> = group.iter().map(|trace| (*trace, random(trace))).collect();
    student.pass(samples, 1, None)
}

/// Token KL of a student at depths drawn from the targets: nats per token where the depth is a candidate, and at full depth.
pub(crate) fn prescribed_token_kl<B: Backend>(
    student: &Student<'_, B>,
    traces: &[Trace],
    rows_per_pass: usize,
    seed: u64,
) -> Result<(Option<f64>, Option<f64>), BatchError> {
    let mut sums = LossSums::default();
    for group in groups(traces, rows_per_pass) {
        sums.add(&prescribed(student, &group, seed)?);
    }
    Ok(sums.token_kls())
}

/// Runs the student on held-out traces: at depths drawn from the targets, at depths of its own, and with exits off.
pub(crate) fn evaluate<B: Backend>(
    student: &Student<'_, B>,
    traces: &[Trace],
    rows_per_pass: usize,
    seed: u64,
) -> Result<HeldOutReport, BatchError> {
    let (candidates, n_blocks) = (&student.targets.candidates, student.targets.n_blocks);
    let mut sums = LossSums::default();
    let mut distances = Distances::default();
    let mut drawn = vec![0; candidates.len() + 1];
    for group in groups(traces, rows_per_pass) {
        sums.add(&prescribed(student, &group, seed)?);
        let steps = at_full_depth(student.decoder, &group)?;
        distances.read(student, &group, &steps);
        count_draws(student, &group, &steps, seed, &mut drawn);
    }
    let target_exits = distances.mean_target(candidates.len() + 1);
    let n_drawn = drawn.iter().sum::<u64>().max(1) as f64;
    let learned_exits: Vec<f64> = drawn.iter().map(|count| *count as f64 / n_drawn).collect();
    let constant = exit_distribution(&hazards_of_distribution(&target_exits));
    let target = |value: f64| (!student.draws_own).then_some(value);
    let (token_kl_exited, token_kl_full_depth) = sums.token_kls();
    Ok(HeldOutReport {
        n_traces: traces.len(),
        n_tokens: sums.n_tokens(),
        token_kl_exited,
        token_kl_full_depth,
        exit_cross_entropy: sums.mean_exit_cross_entropy(),
        total_variation: target(total_variation(&target_exits, &learned_exits)),
        per_token_total_variation: target(distances.mean(None)),
        per_token_total_variation_constant: target(distances.mean(Some(&constant))),
        target_layer_savings: target(savings_of_distribution(&target_exits, candidates, n_blocks)),
        learned_layer_savings: savings_of_distribution(&learned_exits, candidates, n_blocks),
        target_exit_rate: target(target_exits[..candidates.len()].iter().sum()),
        learned_exit_rate: learned_exits[..candidates.len()].iter().sum(),
        target_absent: student.draws_own.then(|| "no_target".to_owned()),
        target_exits: (!student.draws_own).then_some(target_exits),
        learned_exits,
    })
}

/// Lets every token stop by the student's own hazards, [`DRAWS`] times, and counts where: candidates, then full depth.
fn count_draws<B: Backend>(
    student: &Student<'_, B>,
    group: &[&Trace],
    steps: &PackedSteps,
    seed: u64,
    counts: &mut [u64],
) {
    for draw in 0..DRAWS {
        let random =
            |trace: &&Trace| KeyedRandom::new(seed, Domain::STUDENT_REPORT, [trace.index as u64, pattern(0, draw)]);
        let mut randoms: Vec<KeyedRandom> = group.iter().map(random).collect();
        let mut stops = |c: usize, row: usize, logit: f32| {
            let Some((trace, t)) = steps.exiting_step[row] else { return false };
            randoms[trace].uniform_at(t as u64, c as u64) < sigmoid_f64(f64::from(logit))
        };
        let forward = student.decoder.forward_free(student.policy, &steps.batch, &mut stops);
        for (row, _) in steps.exiting_rows() {
            counts[outcome(forward.depths[row], &student.targets.candidates)] += 1;
        }
    }
}
