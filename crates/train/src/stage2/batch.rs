//! The rollouts of one optimiser step, and what became of them.

use std::time::Instant;

use crate::metrics::mean;
use crate::stage2::joint_likelihood::StepLikelihood;
use crate::stage2::rollouts::Rollout;
use crate::stage2::task::TaskPrompt;

/// The rollouts of a step, those of a prompt one after the other.
#[derive(Debug)]
pub struct RolloutBatch {
    pub(crate) prompts: Vec<TaskPrompt>,
    pub(crate) group_size: usize,
    pub(crate) rollouts: Vec<Rollout>,
    /// Task reward of each rollout.
    pub(crate) rewards: Vec<f64>,
    /// `sum_t k1_t` of each rollout, nats, if it was measured.
    pub(crate) kl: Option<Vec<f64>>,
    pub(crate) mean_return: f64,
    /// Advantage of each step of each rollout.
    pub(crate) advantages: Vec<Vec<f64>>,
    /// What the update read of each step of each rollout.
    pub(crate) likelihoods: Vec<Vec<StepLikelihood>>,
    /// Largest difference of `log P` of a step between rollout and update, nats.
    pub(crate) ratio_difference: f64,
    pub(crate) seconds: Seconds,
    /// When the update began.
    pub(crate) update_start: Instant,
}

impl RolloutBatch {
    /// Mean entropy of the exit decision at each candidate, nats, over the steps that reached it; 0 if none did.
    pub(crate) fn exit_entropies(&self, n_candidates: usize) -> Vec<f64> {
        let reached = |c: usize| self.likelihoods.iter().flatten().filter_map(move |step| step.exit_entropies.get(c));
        let entropy = |c| mean(reached(c).map(|entropy| f64::from(*entropy))).unwrap_or_default();
        (0..n_candidates).map(entropy).collect()
    }
}

/// Seconds of the parts of a step before its update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds {
    pub(crate) rollouts: f64,
    pub(crate) rewards: f64,
    pub(crate) reference: f64,
}
