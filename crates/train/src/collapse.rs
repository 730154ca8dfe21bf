//! When a reinforcement run has gone wrong: the policy has become deterministic, has left its reference, or has lost the
//! reward it had.

use serde::{Deserialize, Serialize};

/// Limits on means over the last `patience` steps; 0 turns a limit off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollapseRule {
    /// Steps that a mean is taken over.
    pub patience: usize,
    /// Smallest entropy of tokens, nats per token.
    pub min_token_entropy: f64,
    /// Largest KL against the reference, nats per response.
    pub max_kl: f64,
    /// Smallest share of the best mean task reward so far.
    pub min_reward_share: f64,
}

impl Default for CollapseRule {
    fn default() -> Self {
        Self { patience: 20, min_token_entropy: 1e-4, max_kl: 200.0, min_reward_share: 0.5 }
    }
}

/// What the rule looks at in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepVitals {
    /// Mean task reward.
    pub task_reward: f64,
    /// Mean entropy of tokens, nats per token.
    pub token_entropy: f64,
    /// Mean KL, nats per response, if it was measured.
    pub kl: Option<f64>,
}

impl CollapseRule {
    /// Says what has collapsed after the steps of `history`, or nothing.
    pub fn verdict(&self, history: &[StepVitals]) -> Option<String> {
        let last = history.len().checked_sub(self.patience).map(|first| &history[first..])?;
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
            (n > 0).then(|| sum / f64::from(n))
        };
        let steps = self.patience;
        let entropy = mean(&mut last.iter().map(|step| step.token_entropy))?;
        if entropy < self.min_token_entropy {
            let limit = self.min_token_entropy;
            return Some(format!(
                "the entropy of tokens fell to {entropy:.1e} nats over the last {steps} steps (`stop.min_token_entropy` is \
                 {limit:.1e}): nothing is explored any more; lower the learning rates or raise the temperature"
            ));
        }
        if let Some(kl) = mean(&mut last.iter().filter_map(|step| step.kl))
            && self.max_kl > 0.0
            && kl > self.max_kl
        {
            return Some(format!(
                "the KL against the reference rose to {kl:.1} nats a response over the last {steps} steps (`stop.max_kl` is \
                 {}): lower the learning rates or raise `reward.kl_coefficient`",
                self.max_kl
            ));
        }
        let windows = history.windows(self.patience);
        let rewards = windows.filter_map(|window| mean(&mut window.iter().map(|step| step.task_reward)));
        let best = rewards.fold(f64::NEG_INFINITY, f64::max);
        let reward = mean(&mut last.iter().map(|step| step.task_reward))?;
        // A share of a reward that is not positive means nothing.
        (best > 0.0 && reward < self.min_reward_share * best).then(|| {
            format!(
                "the task reward fell to {reward:.3} over the last {steps} steps, from {best:.3} at best \
                 (`stop.min_reward_share` is {}): lower `reward.depth_penalty` or the learning rates",
                self.min_reward_share
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const RULE: CollapseRule =
        CollapseRule { patience: 3, min_token_entropy: 0.01, max_kl: 10.0, min_reward_share: 0.5 };

    fn steps(task_reward: f64, token_entropy: f64, kl: Option<f64>, n: usize) -> Vec<StepVitals> {
        vec![StepVitals { task_reward, token_entropy, kl }; n]
    }

    #[test]
    fn nothing_is_said_of_a_healthy_or_short_run() {
        assert_eq!(RULE.verdict(&steps(0.0, 0.0, Some(99.0), 2)), None);
        assert_eq!(RULE.verdict(&steps(0.7, 0.2, None, 9)), None);
        // A reward that was never there cannot collapse.
        assert_eq!(RULE.verdict(&steps(0.0, 0.2, Some(1.0), 9)), None);
        assert_eq!(RULE.verdict(&[steps(-0.1, 0.2, None, 5), steps(-0.9, 0.2, None, 5)].concat()), None);
    }

    #[test]
    fn each_collapse_is_named() {
        assert!(RULE.verdict(&steps(0.7, 0.001, None, 3)).unwrap().contains("entropy"));
        assert!(RULE.verdict(&steps(0.7, 0.1, Some(11.0), 3)).unwrap().contains("KL"));
        let fallen = [steps(0.8, 0.1, None, 5), steps(0.3, 0.1, None, 3)].concat();
        assert!(RULE.verdict(&fallen).unwrap().contains("from 0.800 at best"));
        let dip = [steps(0.8, 0.1, None, 5), steps(0.0, 0.1, None, 1)].concat();
        assert_eq!(RULE.verdict(&dip), None);
    }

    #[test]
    fn zero_turns_a_limit_off() {
        let off = CollapseRule { patience: 2, min_token_entropy: 0.0, max_kl: 0.0, min_reward_share: 0.0 };
        assert_eq!(off.verdict(&[steps(1.0, 0.0, Some(1e9), 4), steps(0.0, 0.0, Some(1e9), 4)].concat()), None);
    }
}
