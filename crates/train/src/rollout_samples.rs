//! Rollouts of a step as a file for people to read: of a few prompts the best and the worst.

use std::fmt::Write as _;

use crate::reinforce::TaskPrompt;
use crate::rollouts::Rollout;

/// The rollouts of a step, those of a prompt one after the other.
pub(crate) struct SampleGroups<'a> {
    pub(crate) prompts: &'a [TaskPrompt],
    pub(crate) rollouts: &'a [Rollout],
    /// Task reward of each rollout.
    pub(crate) rewards: &'a [f64],
    /// Advantage of each step of each rollout.
    pub(crate) advantages: &'a [Vec<f64>],
    pub(crate) group_size: usize,
}

impl SampleGroups<'_> {
    /// About `n_samples` of them, two a prompt, as Markdown; `decode` turns tokens into text.
    pub(crate) fn text(&self, step: u64, n_samples: usize, decode: &dyn Fn(&[u32]) -> String) -> String {
        let mut text = format!("# Rollouts of step {step}\n");
        let advantage = |i: &usize| self.advantages[*i].first().copied().unwrap_or_default();
        for (number, prompt) in self.prompts.iter().enumerate().take(n_samples.div_ceil(2)) {
            let group = number * self.group_size..(number + 1) * self.group_size;
            let best = group.clone().max_by(|a, b| advantage(a).total_cmp(&advantage(b)));
            let worst = group.min_by(|a, b| advantage(a).total_cmp(&advantage(b)));
            // Writing to a string cannot fail.
            let _ = write!(text, "\n## {}\n\n{}\n", prompt.id, decode(&prompt.token_ids));
            for (which, i) in [("best", best), ("worst", worst)] {
                let Some(i) = i else { continue };
                let rollout = &self.rollouts[i];
                let cut = if rollout.is_truncated { ", cut" } else { "" };
                let _ = write!(
                    text,
                    "\n{which}: reward {}, advantage {:+.3}, {} tokens{cut}\n\n{}\n\ndepths: {:?}\n",
                    self.rewards[i],
                    advantage(&i),
                    rollout.token_ids.len(),
                    decode(&rollout.token_ids),
                    rollout.depths
                );
            }
        }
        text
    }
}
