//! Rollouts of a step as a file for people to read: of a few prompts the best and the worst.

use std::fmt::Write as _;

use crate::stage2::metrics::RolloutBatch;

/// About `n_samples` rollouts, two a prompt, as Markdown; `decode` turns tokens into text.
pub(crate) fn sample_text(
    batch: &RolloutBatch,
    step: u64,
    n_samples: usize,
    decode: &dyn Fn(&[u32]) -> String,
) -> String {
    let mut text = format!("# Rollouts of step {step}\n");
    let advantage = |i: &usize| batch.advantages[*i].first().copied().unwrap_or_default();
    for (number, prompt) in batch.prompts.iter().enumerate().take(n_samples.div_ceil(2)) {
        let group = number * batch.group_size..(number + 1) * batch.group_size;
        let best = group.clone().max_by(|a, b| advantage(a).total_cmp(&advantage(b)));
        let worst = group.min_by(|a, b| advantage(a).total_cmp(&advantage(b)));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {}\n\n{}\n", prompt.id, decode(&prompt.token_ids));
        for (which, i) in [("best", best), ("worst", worst)] {
            let Some(i) = i else { continue };
            let rollout = &batch.rollouts[i];
            let cut = if rollout.is_truncated { ", cut" } else { "" };
            let _ = write!(
                text,
                "\n{which}: reward {}, advantage {:+.3}, {} tokens{cut}\n\n{}\n\ndepths: {:?}\n",
                batch.rewards[i],
                advantage(&i),
                rollout.token_ids.len(),
                decode(&rollout.token_ids),
                rollout.depths
            );
        }
    }
    text
}
