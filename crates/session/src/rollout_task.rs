//! What stage 2 learns: items of a task, and what responses to them are worth.

use crate::error::SessionError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aloud_model::checkpoint::lineage::{ItemKey, ItemSet};
use aloud_tasks::error::RewardError;
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::{Item, Split};
use aloud_tasks::reward::Completion;
use aloud_tasks::reward_program::RewardProgram;
use aloud_tasks::task::Task;
use aloud_text::text_codec::TextCodec;
use aloud_train::ancestry::StageItems;
use aloud_train::order::epoch_order;
use aloud_train::stage2::rollouts::Rollout;
use aloud_train::stage2::task::{RolloutTask, TaskPrompt};

use crate::prompts::{EncodedPrompt, Template, stop_tokens};

/// Who says what a response is worth.
pub enum Rewards {
    /// The task.
    OfTask(Scoring),
    /// A program of the user's own.
    OfProgram(Box<RewardProgram>),
}

/// Items of a task, to be answered and rewarded.
pub struct DataTask<'a> {
    task: Arc<dyn Task>,
    /// The items, taken in a new order every epoch; `None` of a task without an end, of which every step takes the next ones.
    items: Option<Vec<Item>>,
    rewards: Rewards,
    codec: &'a TextCodec,
    template: Template,
    seed: u64,
    stop_tokens: Vec<u32>,
    /// The items of the prompts that were given last.
    current: Vec<EncodedPrompt>,
    /// Keys of the items of a task without an end, the first `n_keyed`.
    keys: BTreeSet<ItemKey>,
    n_keyed: u64,
}

impl<'a> DataTask<'a> {
    /// Items of the training part of `task` (all of them, or `n`), to be answered by a model with this codec, whose
    /// configuration has these tokens that end a response.
    ///
    /// # Errors
    /// If the items cannot be read, there are none, or one has no answer to compare with (a usage error).
    pub fn new(
        task: Arc<dyn Task>,
        n: Option<usize>,
        rewards: Rewards,
        codec: &'a TextCodec,
        template: Template,
        seed: u64,
        eos_token_ids: &[u32],
    ) -> Result<Self, SessionError> {
        let is_endless = n.is_none() && task.is_endless();
        let items = if is_endless { None } else { Some(task.load(n, seed, Split::Train)?) };
        if let Some(items) = &items {
            check_items(task.as_ref(), items, &rewards)?;
        }
        let stop_tokens = stop_tokens(codec, eos_token_ids);
        let (current, keys) = (Vec::new(), BTreeSet::new());
        Ok(Self { task, items, rewards, codec, template, seed, stop_tokens, current, keys, n_keyed: 0 })
    }

    /// The items of a step.
    fn items(&self, step: u64, n: usize) -> Result<Vec<Item>, String> {
        let numbers = step * n as u64..(step + 1) * n as u64;
        match &self.items {
            None => self.task.range(numbers, self.seed, Split::Train).map_err(|error| error.to_string()),
            Some(items) => {
                let per_epoch = items.len() as u64;
                let mut order = (u64::MAX, Vec::new());
                let item = |number: u64| {
                    let epoch = number / per_epoch;
                    if order.0 != epoch {
                        order = (epoch, epoch_order(self.seed, epoch as u32, (0..items.len()).collect()));
                    }
                    items[order.1[(number % per_epoch) as usize]].clone()
                };
                Ok(numbers.map(item).collect())
            }
        }
    }

    fn response(&self, rollout: &Rollout) -> String {
        self.codec.tokenizer.decode(&rollout.token_ids, true).unwrap_or_default()
    }
}

/// Rollouts with their responses as texts, to be rewarded.
fn completions<'a>(
    prompts: &'a [EncodedPrompt],
    rollouts: impl IntoIterator<Item = &'a Rollout>,
    responses: &'a [String],
) -> Vec<Completion<'a>> {
    let completion = |(rollout, response): (&Rollout, &'a String)| {
        let EncodedPrompt { id, text, answer, .. } = &prompts[rollout.prompt];
        Completion { id, prompt: text, response, answer: answer.as_deref(), truncated: rollout.is_truncated }
    };
    rollouts.into_iter().zip(responses).map(completion).collect()
}

/// Refuses a task without items, and items without an answer where the task has to compare with it.
fn check_items(task: &dyn Task, items: &[Item], rewards: &Rewards) -> Result<(), SessionError> {
    if items.is_empty() {
        return Err(SessionError::usage(format!("{task}: no item to learn from")));
    }
    if matches!(rewards, Rewards::OfTask(_))
        && let Some(item) = items.iter().find(|item| item.answer.is_none())
    {
        return Err(SessionError::usage(format!(
            "{task}: item `{}` has no `answer`, so nothing can verify a response to it: give every item one, or score \
             responses with --reward-command",
            item.id
        )));
    }
    Ok(())
}

impl RolloutTask for DataTask<'_> {
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String> {
        let items = self.items(step, n)?;
        self.current = items
            .iter()
            .map(|item| self.template.encode(item, self.task.instruction(), self.codec))
            .collect::<Result<_, SessionError>>()
            .map_err(|error| format!("{error:#}"))?;
        let prompt = |prompt: &EncodedPrompt| TaskPrompt { id: prompt.id.clone(), token_ids: prompt.token_ids.clone() };
        Ok(self.current.iter().map(prompt).collect())
    }

    fn trained_on(&mut self, steps: u64, n: usize) -> StageItems {
        let key = |item: &Item| ItemKey::of_question(&item.question);
        if let Some(items) = &self.items {
            self.keys = items.iter().map(key).collect();
        } else {
            let end = self.n_keyed.max(steps * n as u64);
            let items = self.task.range(self.n_keyed..end, self.seed, Split::Train);
            self.keys.extend(items.map_err(|error| error.to_string())?.iter().map(key));
            self.n_keyed = end;
        }
        let (source, part) = (self.task.name(), self.task.part(Split::Train).to_owned());
        Ok((ItemSet::new(source, part, self.seed, &self.keys, 0), self.keys.clone()))
    }

    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String> {
        let responses: Vec<String> = rollouts.iter().map(|rollout| self.response(rollout)).collect();
        let completions = completions(&self.current, rollouts.iter().copied(), &responses);
        let rewards: Result<Vec<f64>, RewardError> = match &mut self.rewards {
            Rewards::OfTask(scoring) => {
                completions.iter().map(|completion| self.task.reward(completion, *scoring)).collect()
            }
            Rewards::OfProgram(program) => program.score(&completions),
        };
        rewards.map_err(|error| error.to_string())
    }

    fn measures(&self, rollouts: &[Rollout], _rewards: &[f64]) -> BTreeMap<String, f64> {
        let Rewards::OfTask(_) = self.rewards else { return BTreeMap::new() };
        let responses: Vec<String> = rollouts.iter().map(|rollout| self.response(rollout)).collect();
        self.task.measures(&completions(&self.current, rollouts, &responses))
    }

    fn reward_hint(&self, rollouts: &[Rollout]) -> Option<String> {
        let Rewards::OfTask(Scoring::Strict) = self.rewards else { return None };
        boxed_hint(self.task.as_ref(), rollouts.iter().map(|rollout| self.response(rollout)))
    }

    fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    fn text(&self, token_ids: &[u32]) -> String {
        self.codec.tokenizer.decode(token_ids, false).unwrap_or_default()
    }
}

/// What to do if responses hold answers in a form that strict scoring does not look for.
fn boxed_hint(task: &dyn Task, responses: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let n = responses.len();
    let n_boxed = responses.filter(|response| task.suggests_flexible(response)).count();
    (n_boxed > 0).then(|| {
        format!(
            "{n_boxed} of {n} responses of the last step hold `\\boxed`, which strict scoring does not read: score them with \
             `--scoring flexible`"
        )
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use aloud_tasks::word_problems::task::WordProblems;

    use super::*;

    #[test]
    fn boxed_answers_suggest_flexible_scoring() {
        let hint =
            |responses: &[&str]| boxed_hint(&WordProblems::default(), responses.iter().map(|text| (*text).to_owned()));
        assert_eq!(hint(&["#### 4", "4"]), None);
        let said = hint(&["so \\boxed{4}", "4", "\\boxed{5}"]).unwrap();
        assert!(said.starts_with("2 of 3 responses") && said.ends_with("`--scoring flexible`"), "{said}");
    }
}
