//! What a reinforcement run measures at every optimiser step.

use std::collections::BTreeMap;
use std::time::Instant;

use aloud_method::savings::layer_savings;
use serde::{Deserialize, Serialize};

use crate::metrics::{mean, peak_memory_bytes};
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
    /// Advantage of each step of each rollout.
    pub(crate) advantages: Vec<Vec<f64>>,
    /// What the update read of each step of each rollout.
    pub(crate) likelihoods: Vec<Vec<StepLikelihood>>,
    /// What does not follow from the above.
    pub(crate) measured: ReinforceMetrics,
    /// When the update began.
    pub(crate) update_start: Instant,
}

/// Metrics of one optimiser step. Depth figures are over response tokens after each response's first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReinforceMetrics {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Rollouts.
    pub rollouts: u64,
    /// Response tokens.
    pub tokens: u64,
    /// Mean task reward.
    pub task_reward: f64,
    /// Mean return: task reward less penalties.
    pub mean_return: f64,
    /// Average layer savings, `mean_t (1 - d_t / L)` over all tokens of the step.
    pub average_layer_savings: f64,
    /// Share of tokens that stopped before full depth.
    pub exit_rate: f64,
    /// Mean over responses of the deepest step, blocks.
    pub deepest_step: f64,
    /// Mean response length, tokens.
    pub response_tokens: f64,
    /// Share of responses that were cut.
    pub truncated: f64,
    /// Share of prompts whose rollouts differ in task reward: only these teach tokens anything by it.
    pub groups_with_spread: f64,
    /// Without any such prompt: what may keep responses from a reward, as the task says.
    pub reward_hint: Option<String>,
    /// Mean `sum_t k1_t`, nats per response; `None` if it was not measured.
    pub kl_per_response: Option<f64>,
    /// The same sums over all response tokens, nats per token.
    pub kl_per_token: Option<f64>,
    /// What the KL costs a token, in units of the task reward: `kl_coefficient * kl_per_token`.
    pub kl_cost_per_token: Option<f64>,
    /// Mean entropy of the tokens' distributions, nats per token.
    pub token_entropy: f64,
    /// Mean entropy of the exit decision at each candidate, nats, over the steps that reached it; 0 if none did.
    pub exit_entropies: Vec<f64>,
    /// Largest difference of `log P` of a step between rollout and update, nats.
    pub ratio_difference: f64,
    /// Root mean square of advantages over rollouts.
    pub advantage_rms: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of adapters or weights.
    pub learning_rate: f64,
    /// Learning rate of the exit heads.
    pub learning_rate_heads: f64,
    /// Further means that the task gives.
    pub measures: BTreeMap<String, f64>,
    /// Seconds of drawing rollouts.
    pub rollout_seconds: f64,
    /// Seconds of rewarding them.
    pub reward_seconds: f64,
    /// Seconds of measuring the KL.
    pub reference_seconds: f64,
    /// Seconds of forward, backward and optimiser.
    pub update_seconds: f64,
    /// Response tokens per second of drawing rollouts.
    pub rollout_tokens_per_second: f64,
    /// Largest memory of the process so far, in bytes, where the operating system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What looks wrong but does not end the run yet.
    pub warning: Option<String>,
}

impl ReinforceMetrics {
    /// What was measured of a batch, and what follows from it.
    pub(crate) fn new(batch: &RolloutBatch, n_blocks: usize, n_candidates: usize, kl_coefficient: f64) -> Self {
        let RolloutBatch { rollouts, rewards, measured, .. } = batch;
        let n_rollouts = rollouts.len().max(1) as f64;
        let n_tokens: usize = rollouts.iter().map(|rollout| rollout.token_ids.len()).sum();
        let counted = || rollouts.iter().flat_map(|rollout| rollout.depths.iter().skip(1));
        let deepest = rollouts.iter().filter_map(|rollout| rollout.depths.iter().skip(1).max());
        let differ = |group: &[f64]| share_of(group.iter().any(|reward| *reward != group[0]));
        let kl: Option<f64> = batch.kl.as_ref().map(|kl| kl.iter().sum());
        let kl_per_token = kl.map(|kl| kl / n_tokens.max(1) as f64);
        let entropies = batch.likelihoods.iter().flatten().map(|step| f64::from(step.token_entropy));
        let exit_entropies = |c: usize| {
            let reached = batch.likelihoods.iter().flatten().filter_map(move |step| step.exit_entropies.get(c));
            reached.map(|entropy| f64::from(*entropy))
        };
        let advantages = batch.advantages.iter().filter_map(|steps| steps.first()).map(|a| a * a);
        Self {
            rollouts: rollouts.len() as u64,
            tokens: n_tokens as u64,
            task_reward: mean_or_0(rewards.iter().copied()),
            average_layer_savings: mean_or_0(counted().map(|depth| layer_savings(*depth, n_blocks))),
            exit_rate: mean_or_0(counted().map(|depth| share_of(*depth < n_blocks))),
            deepest_step: mean_or_0(deepest.map(|depth| *depth as f64)),
            response_tokens: n_tokens as f64 / n_rollouts,
            truncated: mean_or_0(rollouts.iter().map(|rollout| share_of(rollout.is_truncated))),
            groups_with_spread: mean_or_0(rewards.chunks(batch.group_size).map(differ)),
            kl_per_response: kl.map(|kl| kl / n_rollouts),
            kl_per_token,
            kl_cost_per_token: kl_per_token.map(|kl| kl_coefficient * kl),
            token_entropy: mean_or_0(entropies),
            exit_entropies: (0..n_candidates).map(|c| mean_or_0(exit_entropies(c))).collect(),
            advantage_rms: mean_or_0(advantages).sqrt(),
            rollout_tokens_per_second: n_tokens as f64 / measured.rollout_seconds.max(1e-9),
            peak_memory_bytes: peak_memory_bytes(),
            ..measured.clone()
        }
    }

    /// Seconds of the whole step.
    pub fn seconds(&self) -> f64 {
        self.rollout_seconds + self.reward_seconds + self.reference_seconds + self.update_seconds
    }
}

fn mean_or_0(values: impl IntoIterator<Item = f64>) -> f64 {
    mean(values).unwrap_or_default()
}

fn share_of(is_counted: bool) -> f64 {
    f64::from(u8::from(is_counted))
}
