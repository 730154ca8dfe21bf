//! When a reinforcement run has gone wrong: the policy has become deterministic, has left its reference, has lost the reward
//! it had, or has rewards that teach it nothing.

use serde::{Deserialize, Serialize};

use crate::metrics::mean;
use crate::stage2::metrics::ReinforceMetrics;

/// Limits on means over the last `patience` steps; 0 (or `false`) turns a limit off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollapseRule {
    /// Steps that a mean is taken over.
    pub patience: usize,
    /// Smallest entropy of tokens, nats per token.
    pub min_token_entropy: f64,
    /// Largest KL against the reference, nats per response token, so that it means the same at every length.
    ///
    /// The default is above what healthy runs have: 0.4 after stage 1 at `kl_factor` 1 on SmolLM2 (README: 0.67 nats at the
    /// 39 % of tokens that exit, 0.18 at the others), about 2.4 at `kl_factor` 0.25, whose exits are the earliest there, and
    /// 1.8 in the first steps of a stage 2 that got better from there on.
    pub max_kl_per_token: f64,
    /// Smallest share of the best mean task reward so far.
    pub min_reward_share: f64,
    /// Whether the run also ends if no group's rewards differ: after `patience` such steps there is a warning, after twice
    /// as many the end. A run that had such groups before and still has a reward goes on: its task is solved.
    pub reward_spread: bool,
}

impl Default for CollapseRule {
    fn default() -> Self {
        Self {
            patience: 20,
            min_token_entropy: 1e-4,
            max_kl_per_token: 4.0,
            min_reward_share: 0.5,
            reward_spread: true,
        }
    }
}

impl CollapseRule {
    /// Says what has collapsed after the steps of `history`, or nothing.
    pub fn verdict(&self, history: &[ReinforceMetrics]) -> Option<String> {
        let last = history.len().checked_sub(self.patience).map(|first| &history[first..])?;
        let steps = self.patience;
        let entropy = mean(last.iter().map(|step| step.token_entropy))?;
        if entropy < self.min_token_entropy {
            let limit = self.min_token_entropy;
            return Some(format!(
                "the entropy of tokens fell to {entropy:.1e} nats over the last {steps} steps (`stop.min_token_entropy` is \
                 {limit:.1e}): nothing is explored any more; lower the learning rates or raise the temperature"
            ));
        }
        if let Some(kl) = mean(last.iter().filter_map(|step| step.kl_per_token))
            && self.max_kl_per_token > 0.0
            && kl > self.max_kl_per_token
        {
            return Some(format!(
                "the KL against the reference rose to {kl:.2} nats a token over the last {steps} steps \
                 (`stop.max_kl_per_token` is {}): lower the learning rates or raise `reward.kl_coefficient`",
                self.max_kl_per_token
            ));
        }
        let windows = history.windows(self.patience);
        let rewards = windows.filter_map(|window| mean(window.iter().map(|step| step.task_reward)));
        let best = rewards.fold(f64::NEG_INFINITY, f64::max);
        let reward = mean(last.iter().map(|step| step.task_reward))?;
        // A share of a reward that is not positive means nothing.
        if best > 0.0 && reward < self.min_reward_share * best {
            return Some(format!(
                "the task reward fell to {reward:.3} over the last {steps} steps, from {best:.3} at best \
                 (`stop.min_reward_share` is {}): lower `reward.depth_penalty` or the learning rates",
                self.min_reward_share
            ));
        }
        let without = steps_without_spread(history);
        let is_solved = without < history.len() && reward > 0.0;
        (self.reward_spread && without >= 2 * steps && !is_solved)
            .then(|| without_spread(&history[history.len() - without..]))
    }

    /// Says, once, that rewards have taught nothing for `patience` steps.
    pub fn warning(&self, history: &[ReinforceMetrics]) -> Option<String> {
        let without = steps_without_spread(history);
        (self.reward_spread && without == self.patience).then(|| without_spread(&history[history.len() - without..]))
    }
}

/// Steps at the end of `history` in which no group's rewards differed.
fn steps_without_spread(history: &[ReinforceMetrics]) -> usize {
    history.iter().rev().take_while(|step| step.groups_with_spread == 0.0).count()
}

/// What to look at after such steps.
fn without_spread(steps: &[ReinforceMetrics]) -> String {
    let reward = mean(steps.iter().map(|step| step.task_reward)).unwrap_or_default();
    let cut = 100.0 * mean(steps.iter().map(|step| step.truncated)).unwrap_or_default();
    let hint = steps.iter().rev().find_map(|step| step.reward_hint.as_ref()).map(|hint| format!("; {hint}"));
    format!(
        "in none of the last {} steps did the responses to any prompt differ in reward (mean {reward:.3}), so that tokens \
         learn nothing from it{}. Look at responses in `samples`: is the answer found (scoring, form of the answer), do they \
         end before `rollouts.max_new_tokens` ({cut:.0} % were cut), is the task too hard or too easy? \
         `stop.reward_spread=false` trains on all the same",
        steps.len(),
        hint.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const RULE: CollapseRule = CollapseRule {
        patience: 3,
        min_token_entropy: 0.01,
        max_kl_per_token: 4.0,
        min_reward_share: 0.5,
        reward_spread: true,
    };

    fn steps(task_reward: f64, token_entropy: f64, kl_per_token: Option<f64>, n: usize) -> Vec<ReinforceMetrics> {
        let (truncated, groups_with_spread) = (0.25, 0.5);
        let step = ReinforceMetrics {
            task_reward,
            truncated,
            groups_with_spread,
            kl_per_token,
            token_entropy,
            ..Default::default()
        };
        vec![step; n]
    }

    /// Steps in which every response to a prompt has the same reward.
    fn equal(task_reward: f64, n: usize) -> Vec<ReinforceMetrics> {
        let mut steps = steps(task_reward, 0.2, None, n);
        for step in &mut steps {
            step.groups_with_spread = 0.0;
        }
        steps
    }

    #[test]
    fn nothing_is_said_of_a_healthy_or_short_run() {
        assert_eq!(RULE.verdict(&steps(0.0, 0.0, Some(99.0), 2)), None);
        assert_eq!(RULE.verdict(&steps(0.7, 0.2, None, 9)), None);
        // A reward that was never there cannot collapse.
        assert_eq!(RULE.verdict(&steps(0.0, 0.2, Some(1.0), 9)), None);
        assert_eq!(RULE.verdict(&[steps(-0.1, 0.2, None, 5), steps(-0.9, 0.2, None, 5)].concat()), None);
        assert_eq!(RULE.warning(&steps(0.7, 0.2, None, 3)), None);
    }

    #[test]
    fn each_collapse_is_named() {
        assert!(RULE.verdict(&steps(0.7, 0.001, None, 3)).unwrap().contains("entropy"));
        let kl = RULE.verdict(&steps(0.7, 0.1, Some(4.5), 3)).unwrap();
        assert!(kl.contains("rose to 4.50 nats a token") && kl.contains("`stop.max_kl_per_token` is 4"), "{kl}");
        let fallen = [steps(0.8, 0.1, None, 5), steps(0.3, 0.1, None, 3)].concat();
        assert!(RULE.verdict(&fallen).unwrap().contains("from 0.800 at best"));
        let dip = [steps(0.8, 0.1, None, 5), steps(0.0, 0.1, None, 1)].concat();
        assert_eq!(RULE.verdict(&dip), None);
    }

    /// What the README measured is healthy at any length: the default says nothing, whatever the response's sum is.
    #[test]
    fn healthy_divergence_is_no_collapse() {
        let rule = CollapseRule::default();
        for healthy in [0.37, 1.8, 2.4] {
            assert_eq!(rule.verdict(&steps(0.7, 0.2, Some(healthy), 40)), None, "{healthy}");
        }
        assert!(rule.verdict(&steps(0.7, 0.2, Some(6.0), 40)).is_some());
    }

    #[test]
    fn rewards_that_never_differ_warn_and_then_stop() {
        let said = |steps: &[ReinforceMetrics]| (RULE.warning(steps).is_some(), RULE.verdict(steps).is_some());
        let courses =
            [(2, (false, false)), (3, (true, false)), (4, (false, false)), (5, (false, false)), (6, (false, true))];
        for (n, expected) in courses {
            assert_eq!(said(&equal(0.0, n)), expected, "{n} steps without a reward");
            assert_eq!(said(&equal(1.0, n)), expected, "{n} steps in which everything is right from the start");
        }
        let mut hinted = equal(0.0, 6);
        hinted[5].reward_hint = Some("5 of 8 responses hold `\\boxed`".to_owned());
        let message = RULE.verdict(&hinted).unwrap();
        for part in [
            "none of the last 6 steps",
            "mean 0.000",
            "25 % were cut",
            "scoring",
            "from it; 5 of 8 responses hold `\\boxed`. Look",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }

        // One group in which rewards differ is enough to go on, and the count begins again.
        assert_eq!(said(&[equal(0.0, 5), steps(0.0, 0.2, None, 1), equal(0.0, 5)].concat()), (false, false));
        // A task that was learned: a warning, and no end while the reward is there.
        assert_eq!(said(&[steps(0.9, 0.2, None, 4), equal(1.0, 3)].concat()), (true, false));
        assert_eq!(said(&[steps(0.9, 0.2, None, 4), equal(1.0, 30)].concat()), (false, false));
        let off = CollapseRule { reward_spread: false, ..RULE };
        assert_eq!((off.warning(&equal(0.0, 3)), off.verdict(&equal(0.0, 9))), (None, None));
    }

    #[test]
    fn zero_turns_a_limit_off() {
        let off = CollapseRule {
            patience: 2,
            min_token_entropy: 0.0,
            max_kl_per_token: 0.0,
            min_reward_share: 0.0,
            reward_spread: false,
        };
        assert_eq!(off.verdict(&[steps(1.0, 0.0, Some(1e9), 4), steps(0.0, 0.0, Some(1e9), 4)].concat()), None);
    }
}
