//! Responses to items, as rows.

use std::time::Instant;

use aloud_engine::{Engine, Event, FinishReason, Flow, Forced, Limits, Prefix, Request, Sampling, Token};
use aloud_eval::{LogWriter, Region, SampleRow, Stop, TokenRow, sample_key};

use super::digest;
use super::family::{Arm, TaskFamily};
use super::subject::Subject;

/// Responses that are generated between two times of writing.
const CHUNK: usize = 256;

/// Sequences of one item: one an arm, at most this many.
const ARMS_AN_ITEM: u64 = 16;

/// One response that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Index of the item.
    pub(super) item: usize,
    pub(super) arm: &'a Arm,
    /// Number of the sequence: its random numbers depend on it and the seed, and not on the model. So models differ by what
    /// they are and not by luck.
    pub(super) sequence: u64,
}

impl Asked<'_> {
    /// Key of the sample.
    pub(super) fn key(&self, family: &dyn TaskFamily) -> String {
        let item = &family.items()[self.item];
        sample_key(&item.task, &item.prompt.id, self.arm.name, 0)
    }
}

/// Everything that a family asks: every item in every arm.
pub(super) fn all_asked(family: &dyn TaskFamily) -> Vec<Asked<'_>> {
    let of_item = |(index, item): (usize, &super::family::EvaluationItem)| {
        let number = item.number;
        let asked = move |(place, arm)| Asked { item: index, arm, sequence: number * ARMS_AN_ITEM + place };
        (0..).zip(family.arms()).map(asked).collect::<Vec<_>>()
    };
    family.items().iter().enumerate().flat_map(of_item).collect()
}

/// Generates the responses that are missing in the logs, and appends them. `on_done` hears of every one.
///
/// # Errors
/// If an item does not fit the model, or a log cannot be written.
pub(super) fn generate(
    subject: &Subject<'_>,
    family: &dyn TaskFamily,
    asked: &[Asked<'_>],
    seed: u64,
    max_sequences: usize,
    samples: &mut LogWriter<SampleRow>,
    tokens: &mut LogWriter<TokenRow>,
    on_done: &(dyn Fn() + Sync),
) -> anyhow::Result<()> {
    let missing: Vec<Asked<'_>> = asked.iter().copied().filter(|asked| !samples.has(&asked.key(family))).collect();
    let limits = Limits { max_sequences, max_prompt_rows: 2048 };
    let engine = Engine::new(subject.decoder, subject.policy, limits);
    for chunk in missing.chunks(CHUNK) {
        let request = |asked: &Asked<'_>| Request {
            prompt: family.items()[asked.item].prompt.token_ids.clone(),
            prefix: Prefix::default(),
            max_new_tokens: family.max_new_tokens(),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            exits: subject.exits(seed, asked.sequence, family.max_new_tokens()),
            stop_tokens: family.stop_tokens().to_vec(),
            seed,
            sequence: asked.sequence,
            forced: if asked.arm.start.is_empty() { Forced::None } else { Forced::Start(asked.arm.start.clone()) },
        };
        let requests: Vec<Request> = chunk.iter().map(request).collect();
        let start = Instant::now();
        let responses = run(&engine, &requests, on_done)?;
        let milliseconds = 1e3 * start.elapsed().as_secs_f64() / chunk.len() as f64;
        for (asked, (response, reason)) in chunk.iter().zip(&responses) {
            let (sample, row) = rows(subject, family, asked, seed, response, *reason, milliseconds)?;
            // The sample is written last: where it is, its tokens are.
            tokens.append(&row)?;
            samples.append(&sample)?;
        }
    }
    Ok(())
}

/// Runs requests and collects their tokens.
pub(super) fn run(
    engine: &Engine<'_, aloud_kernels::Cpu>,
    requests: &[Request],
    on_done: &(dyn Fn() + Sync),
) -> anyhow::Result<Vec<(Vec<Token>, FinishReason)>> {
    let mut responses: Vec<(Vec<Token>, FinishReason)> = vec![(Vec::new(), FinishReason::Length); requests.len()];
    engine.run(requests, &mut |event| {
        match event {
            Event::Token { request, token } => responses[request].0.push(token),
            Event::Finished { request, reason } => {
                responses[request].1 = reason;
                on_done();
            }
        }
        Flow::Continue
    })?;
    Ok(responses)
}

fn rows(
    subject: &Subject<'_>,
    family: &dyn TaskFamily,
    asked: &Asked<'_>,
    seed: u64,
    response: &[Token],
    reason: FinishReason,
    milliseconds: f64,
) -> anyhow::Result<(SampleRow, TokenRow)> {
    let item = &family.items()[asked.item];
    let key = asked.key(family);
    let ids: Vec<u32> = response.iter().map(|token| token.id).collect();
    let read = family.read(asked.item, &ids, reason == FinishReason::Length)?;
    let row = TokenRow {
        key: key.clone(),
        depth: response.iter().map(|token| token.depth).collect(),
        forced_full: response.iter().map(|token| token.index == 0).collect(),
        forced_token: response.iter().map(|token| token.index < asked.arm.start.len()).collect(),
        exit_hazard: response
            .iter()
            .map(|token| token.exits.iter().map(|exit| f64::from(exit.hazard)).collect())
            .collect(),
        region: (0..ids.len()).map(|place| if place < read.n_trace { Region::Think } else { Region::Answer }).collect(),
        ids,
        ..TokenRow::default()
    };
    let (mut n_eligible, mut sum) = (0, 0);
    for depth in row.eligible_depths() {
        n_eligible += 1;
        sum += depth;
    }
    let sample = SampleRow {
        key,
        task: item.task.clone(),
        item_id: item.prompt.id.clone(),
        arm: asked.arm.name.to_owned(),
        sample_idx: 0,
        seed,
        prompt_hash: digest::of_text(&item.prompt.text),
        completion: read.completion,
        cot: read.trace,
        answer_text: read.answer_text,
        stop: match reason {
            FinishReason::Stop => Stop::Eos,
            FinishReason::Length => Stop::Cap,
        },
        closed: read.closed,
        extracted: read.extracted,
        gold: item.prompt.answer.clone(),
        correct: read.correct,
        n_prompt: item.prompt.token_ids.len(),
        n_cot: read.n_trace,
        n_answer: row.ids.len() - read.n_trace,
        mean_depth: (n_eligible > 0).then(|| sum as f64 / n_eligible as f64),
        hint: None,
        y: None,
        ms: milliseconds,
    };
    Ok((sample, row))
}
