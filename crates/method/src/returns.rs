//! Returns and advantages of stage 2: leave-one-out baselines over groups of rollouts of the same prompt (RLOO, arXiv
//! 2402.14740), with depth as part of the return (arXiv 2603.21376, stage 2). Everything here is f64.
//!
//! An action is (exit depth, token), and the loss is `-(1/N) sum_i sum_t A_{i,t} log P_{i,t}` over `N` rollouts: a sum
//! over steps, a mean over rollouts. No division by the standard deviation and no clipping: with rollouts of the policy
//! that is trained, the expected gradient is that of the mean return.
//!
//! The step that emits response token 0 consumes the last prompt token and always runs at full depth. It is not a
//! *counted* step: no depth term here looks at it.

use serde::{Deserialize, Serialize};

/// Which steps' depth is penalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthPenalty {
    /// The mean over counted steps: `D = mean_{t >= 1} d_t / L`.
    #[default]
    Mean,
    /// The deepest counted step: `D = max_{t >= 1} d_t / L`.
    Max,
}

/// How a rollout's return follows from its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReturnSettings {
    /// Number of blocks `L`.
    pub n_blocks: usize,
    /// What a response whose steps all run at full depth loses, in units of the task reward.
    pub depth_penalty: f64,
    /// Which steps' depth is penalised.
    pub depth_penalty_form: DepthPenalty,
    /// What each response token costs, in units of the task reward.
    pub token_cost: f64,
    /// What a nat of KL costs, in units of the task reward.
    pub kl_coefficient: f64,
    /// Whether [`step_advantages`] takes the depths of earlier steps out of a step's advantage. With
    /// [`DepthPenalty::Max`] it changes nothing: a maximum is no sum over steps.
    pub variance_reduction: bool,
}

/// One rollout, as its return needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutOutcome<'a> {
    /// Reward of the response; 0 if it was truncated.
    pub task_reward: f64,
    /// Depth (blocks) of the step that emitted each response token, `[response tokens]`; that of token 0 is `L`.
    pub depths: &'a [usize],
    /// `sum_t k1_t` over the response in nats, a number without gradient: the sum, because a mean over a random length
    /// would need a gradient term of its own.
    pub kl: f64,
}

/// Why a group has no advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RlooError {
    /// A rollout has no others to be compared with.
    #[error("a group needs at least 2 rollouts of the same prompt, this one has {0}")]
    GroupTooSmall(usize),
    /// A number that would spoil the whole group.
    #[error("the {quantity} of rollout {rollout} of the group is not a finite number")]
    NotFinite {
        /// Position in the group, from 0.
        rollout: usize,
        /// `task reward`, `KL` or `return`.
        quantity: &'static str,
    },
}

/// `k1_t = log P_t - log P_ref,t` of a step, nats: an estimate of the KL without gradient, whose mean over draws is exact.
pub fn k1(log_probability: f32, reference: f32) -> f64 {
    f64::from(log_probability) - f64::from(reference)
}

/// Penalised depth `D` of a response, a share of full depth. A response of a single token has no counted step; it ran at
/// full depth, so its depth is 1: otherwise ending at once would be a way around the penalty.
pub fn penalised_depth(depths: &[usize], settings: &ReturnSettings) -> f64 {
    let n_blocks = settings.n_blocks.max(1) as f64;
    let counted = depths.get(1..).unwrap_or_default();
    match (counted.iter().max(), settings.depth_penalty_form) {
        (None, _) => 1.0,
        (Some(_), DepthPenalty::Mean) => {
            counted.iter().map(|&depth| depth as f64).sum::<f64>() / (counted.len() as f64 * n_blocks)
        }
        (Some(&deepest), DepthPenalty::Max) => deepest as f64 / n_blocks,
    }
}

/// Return of a rollout: `R = task - depth_penalty D - token_cost T - kl_coefficient sum_t k1_t`, `T` response tokens.
///
/// `D` is the mean or the maximum of `d_t / L` over counted steps, see [`DepthPenalty`]; 1 if there is none.
pub fn rollout_return(outcome: &RolloutOutcome<'_>, settings: &ReturnSettings) -> f64 {
    outcome.task_reward
        - settings.depth_penalty * penalised_depth(outcome.depths, settings)
        - settings.token_cost * outcome.depths.len() as f64
        - settings.kl_coefficient * outcome.kl
}

/// Leave-one-out advantages (arXiv 2402.14740): `A_i = R_i - mean_{j != i} R_j`. A sample is never part of its own
/// baseline. Equal returns give exactly 0.
///
/// # Shapes
/// `returns`, result: `[G]`.
///
/// # Errors
/// If there are fewer than 2 returns, or one is not finite.
pub fn leave_one_out_advantages(returns: &[f64]) -> Result<Vec<f64>, RlooError> {
    let n_others = match returns.len() {
        n @ ..2 => return Err(RlooError::GroupTooSmall(n)),
        n => (n - 1) as f64,
    };
    if let Some(rollout) = returns.iter().position(|value| !value.is_finite()) {
        return Err(RlooError::NotFinite { rollout, quantity: "return" });
    }
    // The mean of differences, its own being 0: a difference of means would leave rounding where all are equal.
    let advantage = |own: &f64| returns.iter().map(|other| own - other).sum::<f64>() / n_others;
    Ok(returns.iter().map(advantage).collect())
}

/// Advantage `A_{i,t}` of every step of a group of rollouts of the same prompt: what multiplies `log P_{i,t}`.
///
/// `A_{i,t} = A_i`, the leave-one-out advantage of the rollout's return, plus [`depth_corrections`] with variance reduction and
/// [`DepthPenalty::Mean`].
///
/// # Shapes
/// `group`: `[G]`; result: `[G][response tokens]`.
///
/// # Errors
/// If there are fewer than 2 rollouts, or a task reward, a KL or a return is not finite.
pub fn step_advantages(group: &[RolloutOutcome<'_>], settings: &ReturnSettings) -> Result<Vec<Vec<f64>>, RlooError> {
    for (rollout, outcome) in group.iter().enumerate() {
        for (value, quantity) in [(outcome.task_reward, "task reward"), (outcome.kl, "KL")] {
            if !value.is_finite() {
                return Err(RlooError::NotFinite { rollout, quantity });
            }
        }
    }
    let returns: Vec<f64> = group.iter().map(|outcome| rollout_return(outcome, settings)).collect();
    let reduces = settings.variance_reduction && settings.depth_penalty_form == DepthPenalty::Mean;
    let depth_penalty = if reduces { settings.depth_penalty } else { 0.0 };
    let depths: Vec<&[usize]> = group.iter().map(|outcome| outcome.depths).collect();
    let steps_of = |(rollout, advantage): (usize, f64)| {
        let corrections = depth_corrections(&depths, rollout, settings.n_blocks, depth_penalty);
        corrections.into_iter().map(|correction| advantage + correction).collect()
    };
    Ok(leave_one_out_advantages(&returns)?.into_iter().enumerate().map(steps_of).collect())
}

/// Variance reduction (arXiv 2603.21376, stage 2): the penalty for depths that were already run is taken out of later steps,
/// `depth_penalty / (L Tbar_{-i}) (sum_{s<t} d_{i,s} - mean_{j != i} sum_{s<t} d_{j,s})`, over counted steps `s >= 1`.
///
/// `Tbar_{-i}` is the mean number of counted steps of the *other* rollouts; if they have none, nothing is taken out. Steps that
/// a shorter rollout does not have add nothing. The expected gradient stays the same, because what is added at step `t` depends
/// on nothing but the rollout's actions before `t` and on other rollouts. Its own number of steps, which depends on later
/// actions, must not appear, although its return divides by it. Less variance is the hope, not a promise: that depends on
/// lengths and rewards.
///
/// # Shapes
/// `depths`: `[G][response tokens]`, blocks; result: what is added to the advantage of each step of rollout `own`.
pub fn depth_corrections(depths: &[&[usize]], own: usize, n_blocks: usize, depth_penalty: f64) -> Vec<f64> {
    let others = || depths.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, depths)| depths);
    let n_others = others().count() as f64;
    let others_counted = others().map(|depths| depths.len().saturating_sub(1)).sum::<usize>() as f64;
    let per_block =
        if others_counted > 0.0 { depth_penalty * n_others / (n_blocks.max(1) as f64 * others_counted) } else { 0.0 };
    // Blocks of the counted steps before t, 1..t.
    let (mut own_blocks, mut others_blocks) = (0.0, 0.0);
    (0..depths[own].len())
        .map(|t| {
            if t >= 2 {
                own_blocks += depths[own][t - 1] as f64;
                others_blocks +=
                    others().filter_map(|depths| depths.get(t - 1)).map(|depth| *depth as f64).sum::<f64>();
            }
            per_block * (own_blocks - others_blocks / n_others)
        })
        .collect()
}
