//! What stage 2 learns: prompts, and what responses to them are worth.

use std::collections::BTreeMap;

use crate::ancestry::StageItems;
use crate::stage2::rollouts::Rollout;

/// A prompt to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPrompt {
    /// Name of the item, for messages.
    pub id: String,
    /// The prompt's tokens, at least one.
    pub token_ids: Vec<u32>,
}

/// What is learned: prompts, and what responses to them are worth.
pub trait RolloutTask {
    /// The prompts of optimiser step `step` (from 0), `n` of them: always the same ones.
    ///
    /// # Errors
    /// If there are none; the text says why.
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String>;

    /// The items of the first `steps` steps of `n` prompts each, with their keys.
    ///
    /// # Errors
    /// If they are not known; the text says why.
    fn trained_on(&mut self, _steps: u64, _n: usize) -> StageItems {
        Err("the task does not say what its items are".to_owned())
    }

    /// Task rewards of rollouts of the prompts that were given last; those that were cut are not asked for.
    ///
    /// # Errors
    /// If they cannot be had; the text says why.
    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String>;

    /// Further means over rollouts, by name, for the metrics.
    fn measures(&self, rollouts: &[Rollout], rewards: &[f64]) -> BTreeMap<String, f64>;

    /// What may keep these rollouts from a reward, in words for people; asked where no prompt's rewards differ.
    fn reward_hint(&self, _rollouts: &[Rollout]) -> Option<String> {
        None
    }

    /// Tokens that end a response.
    fn stop_tokens(&self) -> &[u32];

    /// Tokens as text, for people.
    fn text(&self, token_ids: &[u32]) -> String;
}
