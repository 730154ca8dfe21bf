//! What stage 2 learns: items of a data source, and a verifier for what is answered to them.

use crate::error::SessionError;
use std::collections::{BTreeMap, BTreeSet};

use aloud_model::checkpoint::lineage::{ItemKey, ItemSet};
use aloud_tasks::stories::{StoryScoring, story_reward};
use aloud_tasks::{
    Completion, DataSource, Item, ResponseStyle, RewardProgram, Scoring, Split, numeric_or_text_reward,
    suggests_flexible, verify_serial,
};
use aloud_text::text_codec::TextCodec;
use aloud_train::ancestry::StageItems;
use aloud_train::order::epoch_order;
use aloud_train::stage2::rollouts::Rollout;
use aloud_train::stage2::task::{RolloutTask, TaskPrompt};

use crate::prompts::{EncodedPrompt, Template, default_instruction};

/// Who says what a response is worth.
pub enum Verifier {
    /// The verifier of the serial tasks.
    Serial,
    /// The true answer of a question about a story.
    Story(StoryScoring),
    /// The gold answer of the item.
    GoldAnswer(Scoring),
    /// A program of the user's own.
    Program(Box<RewardProgram>),
}

/// Where items come from.
enum Items {
    /// A source without an end: every step takes the next ones.
    Endless(DataSource),
    /// All items of a source with an end, taken in a new order every epoch.
    All(Vec<Item>),
}

/// Items and their verifier.
pub struct DataTask<'a> {
    items: Items,
    verifier: Verifier,
    codec: &'a TextCodec,
    template: Template,
    instruction: Option<&'static str>,
    seed: u64,
    stop_tokens: Vec<u32>,
    /// The items of the prompts that were given last.
    current: Vec<EncodedPrompt>,
    source: DataSource,
    /// Keys of the items of a source without an end, the first `n_keyed`.
    keys: BTreeSet<ItemKey>,
    n_keyed: u64,
}

impl<'a> DataTask<'a> {
    /// Items of the training part of `source` (all of them, or `n`), to be answered by a model with this codec.
    ///
    /// # Errors
    /// If the source cannot be read, is empty, or has items without an answer that the verifier needs (a usage error).
    pub fn new(
        source: &DataSource,
        n: Option<usize>,
        verifier: Verifier,
        codec: &'a TextCodec,
        template: Template,
        seed: u64,
        stop_tokens: Vec<u32>,
    ) -> Result<Self, SessionError> {
        let items = match n {
            None if source.is_endless() => Items::Endless(source.clone()),
            n => Items::All(source.load(n, seed, Split::Train)?),
        };
        if let Items::All(items) = &items {
            if items.is_empty() {
                return Err(SessionError::usage(format!("{source}: no item to learn from")));
            }
            if matches!(verifier, Verifier::GoldAnswer(_))
                && let Some(item) = items.iter().find(|item| item.answer.is_none())
            {
                return Err(SessionError::usage(format!(
                    "{source}: item `{}` has no `answer`, so nothing can verify a response to it: give every item one, or \
                     score responses with --reward-command",
                    item.id
                )));
            }
        }
        let instruction = default_instruction(source);
        Ok(Self {
            items,
            verifier,
            codec,
            template,
            instruction,
            seed,
            stop_tokens,
            current: Vec::new(),
            source: source.clone(),
            keys: BTreeSet::new(),
            n_keyed: 0,
        })
    }

    /// The items of a step.
    fn items(&self, step: u64, n: usize) -> Result<Vec<Item>, String> {
        let numbers = step * n as u64..(step + 1) * n as u64;
        match &self.items {
            Items::Endless(source) => source.range(numbers, self.seed, Split::Train).map_err(|error| error.to_string()),
            Items::All(items) => {
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

impl RolloutTask for DataTask<'_> {
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String> {
        let items = self.items(step, n)?;
        self.current = items
            .iter()
            .map(|item| self.template.encode(item, self.instruction, self.codec))
            .collect::<Result<_, SessionError>>()
            .map_err(|error| format!("{error:#}"))?;
        let prompt = |prompt: &EncodedPrompt| TaskPrompt { id: prompt.id.clone(), token_ids: prompt.token_ids.clone() };
        Ok(self.current.iter().map(prompt).collect())
    }

    fn trained_on(&mut self, steps: u64, n: usize) -> StageItems {
        let key = |item: &Item| ItemKey::of_question(&item.question);
        match &self.items {
            Items::All(items) => self.keys = items.iter().map(key).collect(),
            Items::Endless(source) => {
                let end = self.n_keyed.max(steps * n as u64);
                let items = source.range(self.n_keyed..end, self.seed, Split::Train);
                self.keys.extend(items.map_err(|error| error.to_string())?.iter().map(key));
                self.n_keyed = end;
            }
        }
        let (source, part) = (self.source.to_string(), self.source.part(Split::Train).to_owned());
        Ok((ItemSet::new(source, part, self.seed, &self.keys, 0), self.keys.clone()))
    }

    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String> {
        let responses: Vec<String> = rollouts.iter().map(|rollout| self.response(rollout)).collect();
        let completions: Vec<Completion<'_>> = rollouts
            .iter()
            .zip(&responses)
            .map(|(rollout, response)| {
                let prompt = &self.current[rollout.prompt];
                Completion {
                    id: &prompt.id,
                    prompt: &prompt.text,
                    response,
                    answer: prompt.answer.as_deref(),
                    truncated: rollout.is_truncated,
                }
            })
            .collect();
        match &mut self.verifier {
            Verifier::Serial => completions
                .iter()
                .map(|completion| {
                    verify_serial(completion.prompt, completion.response, completion.truncated)
                        .map(|verdict| verdict.reward())
                        .ok_or_else(|| format!("`{}` is no item of the serial tasks", completion.prompt))
                })
                .collect(),
            Verifier::Story(scoring) => completions
                .iter()
                .map(|completion| story_reward(completion, *scoring).map_err(|error| error.to_string()))
                .collect(),
            Verifier::GoldAnswer(scoring) => completions
                .iter()
                .map(|completion| numeric_or_text_reward(completion, *scoring).map_err(|error| error.to_string()))
                .collect(),
            Verifier::Program(program) => program.score(&completions).map_err(|error| error.to_string()),
        }
    }

    fn measures(&self, rollouts: &[Rollout], _rewards: &[f64]) -> BTreeMap<String, f64> {
        if !matches!(self.verifier, Verifier::Serial) {
            return BTreeMap::new();
        }
        let verdicts = rollouts.iter().filter_map(|rollout| {
            verify_serial(&self.current[rollout.prompt].text, &self.response(rollout), rollout.is_truncated)
        });
        let (mut thinks, mut malformed) = (0, 0);
        for verdict in verdicts {
            thinks += usize::from(verdict.style == Some(ResponseStyle::Think));
            malformed += usize::from(!verdict.is_well_formed);
        }
        let share = |count: usize| count as f64 / rollouts.len().max(1) as f64;
        BTreeMap::from([("think_share".to_owned(), share(thinks)), ("malformed_share".to_owned(), share(malformed))])
    }

    fn reward_hint(&self, rollouts: &[Rollout]) -> Option<String> {
        let Verifier::GoldAnswer(Scoring::Strict) = self.verifier else { return None };
        boxed_hint(rollouts.iter().map(|rollout| self.response(rollout)))
    }

    fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    fn text(&self, token_ids: &[u32]) -> String {
        self.codec.tokenizer.decode(token_ids, false).unwrap_or_default()
    }
}

/// What to do if responses hold answers in a form that strict scoring does not look for.
fn boxed_hint(responses: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let n = responses.len();
    let n_boxed = responses.filter(|response| suggests_flexible(response)).count();
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
    use super::*;

    #[test]
    fn boxed_answers_suggest_flexible_scoring() {
        let hint = |responses: &[&str]| boxed_hint(responses.iter().map(|text| (*text).to_owned()));
        assert_eq!(hint(&["#### 4", "4"]), None);
        let said = hint(&["so \\boxed{4}", "4", "\\boxed{5}"]).unwrap();
        assert!(said.starts_with("2 of 3 responses") && said.ends_with("`--scoring flexible`"), "{said}");
    }
}
