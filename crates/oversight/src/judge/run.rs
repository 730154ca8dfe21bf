//! Judges a set of responses.

use std::collections::BTreeSet;

use super::ask::{AskOutcome, JudgeSettings, Question, ask, ask_all};
use super::prompt::grading_prompt;
use super::rows::{JudgeRow, JudgeStatus, SCHEMA};
use super::rubric::Rubric;
use super::scores::parse_scores;
use aloud_base::random::KeyedRandom;
use aloud_openai::client::ChatClient;
use aloud_openai::error::ChatError;

/// A response to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgeItem {
    /// Who wrote it; not told to the judge.
    pub model: String,
    /// The item: responses of several models to one item belong together.
    pub item: String,
    /// The task as text.
    pub task: String,
    /// The response as text: trace and answer.
    pub response: String,
    /// Length of the response in tokens, if known.
    pub n_tokens: Option<usize>,
}

/// What is judged, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judging<'a> {
    /// A word for the rows, for instance `quality`.
    pub(super) purpose: &'a str,
    pub(super) rubric: &'a Rubric,
    /// Share of the items, 0 to 1, whose responses are all judged twice; rounded up to whole items.
    pub(super) repeat_share: f64,
}

/// Judges responses, several at a time. The rows are in the order of the responses, the second judging of one behind its
/// first. `progress` is told how many of how many judgings are done.
///
/// The order in which the judge is asked is random by the seed: items in random order, and the models of one item in random
/// order too. So no model comes first, and if a budget ends the run, what was judged is still paired.
///
/// # Errors
/// If two responses have the same model and item, the share is no share, or the client fails in a way that concerns
/// everything. A judge that fails is no error: the rows say so.
pub(super) fn judge(
    client: &ChatClient,
    settings: &JudgeSettings,
    judging: &Judging,
    items: &[JudgeItem],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<JudgeRow>, ChatError> {
    check(judging, items)?;
    let jobs = jobs_in_order(judging, settings.seed, items);
    let mut rows = ask_all(client, &jobs, progress, |(index, repeat)| {
        Ok((*index, judge_one(client, settings, judging, &items[*index], *repeat)?))
    })?;
    rows.sort_by_key(|(index, row)| (*index, row.repeat));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn check(judging: &Judging, items: &[JudgeItem]) -> Result<(), ChatError> {
    if !(0.0..=1.0).contains(&judging.repeat_share) {
        let reason = format!("{} is not between 0 and 1", judging.repeat_share);
        return Err(ChatError::setting("share of items that are judged twice", reason));
    }
    let mut seen = BTreeSet::new();
    match items.iter().find(|item| !seen.insert((&item.model, &item.item))) {
        None => Ok(()),
        Some(JudgeItem { model, item, .. }) => {
            let reason = format!("`{model}` has two responses to item `{item}`: give every response a name of its own");
            Err(ChatError::setting("responses to be judged", reason))
        }
    }
}

/// All judgings, in the order in which the judge is asked: the place of the response, and which judging of it.
fn jobs_in_order(judging: &Judging, seed: u64, items: &[JudgeItem]) -> Vec<(usize, u32)> {
    let mut names: Vec<&str> = items.iter().map(|item| item.item.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    KeyedRandom::named(seed, "judge items").shuffle(&mut names);
    // The order is random, so its first items are a random choice.
    let n_twice = (judging.repeat_share * names.len() as f64).ceil() as usize;
    let mut jobs = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let mut of_item: Vec<usize> = (0..items.len()).filter(|index| items[*index].item == *name).collect();
        of_item.sort_unstable_by_key(|index| &items[*index].model);
        for repeat in 0..if place < n_twice { 2 } else { 1 } {
            KeyedRandom::named(seed, &format!("judge models {repeat} {name}")).shuffle(&mut of_item);
            jobs.extend(of_item.iter().map(|index| (*index, repeat)));
        }
    }
    jobs
}

fn judge_one(
    client: &ChatClient,
    settings: &JudgeSettings,
    judging: &Judging,
    item: &JudgeItem,
    repeat: u32,
) -> Result<JudgeRow, ChatError> {
    let rubric = judging.rubric;
    let mut row = JudgeRow {
        schema: SCHEMA,
        purpose: judging.purpose.to_owned(),
        model: item.model.clone(),
        item: item.item.clone(),
        repeat,
        rubric: rubric.version.to_owned(),
        rubric_hash: rubric.hash(),
        judge_model: settings.judge_model.clone(),
        n_tokens: item.n_tokens,
        ..JudgeRow::default()
    };
    if item.response.trim().is_empty() {
        return Ok(row);
    }
    let question = Question {
        prompt: grading_prompt(rubric, &item.task, &item.response),
        prompt_version: rubric.prompt_version(),
        ask_again: rubric.ask_again,
        repeat,
    };
    let answered = ask(client, settings, &question, |reply| parse_scores(rubric, reply))?;
    row.n_replies = answered.n_replies;
    row.usage = answered.usage;
    row.returned_model = answered.returned_model;
    (row.status, row.reason, row.scores) = match answered.outcome {
        AskOutcome::Read(scores) => (JudgeStatus::Scored, None, Some(scores)),
        AskOutcome::Unreadable => (JudgeStatus::Unreadable, None, None),
        AskOutcome::NoReply(reason) => (JudgeStatus::NoReply, Some(reason), None),
    };
    Ok(row)
}
