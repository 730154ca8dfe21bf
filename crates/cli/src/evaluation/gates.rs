//! Conditions that metrics of re-read traces depend on.

use std::collections::BTreeMap;

use aloud_engine::{Engine, Exits, Forced, Limits, Prefix, Request, Sampling, Token};
use aloud_eval::{ElicitationKind, ElicitationRow, Gate, MetricRecord, ReplayMode, SampleRow};

use super::elicitation::{Suffix, Traced};
use super::family::TaskFamily;
use super::samples::run;
use super::subject::Subject;

/// Traces of which replay is checked.
const PARITY_TRACES: usize = 8;

/// Smallest share of positions at which replay has the same most likely token.
const MIN_SAME_TOKEN: f64 = 0.995;

/// Largest difference of log-probabilities (nats) between replay and decoding.
const MAX_DIFFERENCE: f32 = 1e-3;

/// Smallest share of elicited answers after the whole trace that are the model's own.
const MIN_ANCHORED: f64 = 0.9;

/// The gates of one model's replays.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates(Vec<Gate>);

impl Gates {
    /// Measures both gates.
    ///
    /// # Errors
    /// If a trace does not fit the model.
    pub(super) fn measure(
        subject: &Subject<'_>,
        family: &dyn TaskFamily,
        traces: &[Traced<'_>],
        elicitations: &[ElicitationRow],
    ) -> anyhow::Result<Self> {
        let parity = replay_parity(subject, family, &traces[..traces.len().min(PARITY_TRACES)])?;
        let anchor = anchor_stability(traces.iter().map(|traced| traced.sample), elicitations);
        Ok(Self([parity, anchor].into_iter().flatten().collect()))
    }

    /// The record with the gates; without a value if one is not passed.
    pub(super) fn apply(&self, record: MetricRecord) -> MetricRecord {
        self.0.iter().fold(record, |record, gate| record.with_gate(gate.clone()))
    }
}

/// Every beginning of these traces, replayed in one pass, against decoding them token by token: the most likely next token, and
/// the log-probability of the recorded one. `None` without a token to compare.
fn replay_parity(
    subject: &Subject<'_>,
    family: &dyn TaskFamily,
    traces: &[Traced<'_>],
) -> anyhow::Result<Option<Gate>> {
    let engine = Engine::new(subject.decoder, subject.policy, Limits { max_sequences: 64, max_prompt_rows: 2048 });
    let (mut n, mut n_same, mut is_close) = (0_usize, 0_usize, true);
    for Traced { asked, tokens, .. } in traces {
        let request = |length: usize, forced: Forced, max_new_tokens: usize| Request {
            prompt: family.items()[asked.item].prompt.token_ids.clone(),
            prefix: Prefix::of(&tokens.ids, &tokens.depth, length),
            max_new_tokens,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            exits: Exits::Recorded(tokens.depth.clone()),
            stop_tokens: Vec::new(),
            seed: 0,
            sequence: 0,
            forced,
        };
        let n_tokens = tokens.ids.len();
        let stepwise = run(&engine, &[request(0, Forced::Whole(tokens.ids.clone()), n_tokens)], &|| {})?;
        let bulk = |forced: &dyn Fn(usize) -> Forced| -> anyhow::Result<Vec<Option<Token>>> {
            let requests: Vec<Request> = (1..n_tokens).map(|length| request(length, forced(length), 1)).collect();
            let responses = run(&engine, &requests, &|| {})?;
            Ok(responses.into_iter().map(|(tokens, _)| tokens.into_iter().next()).collect())
        };
        let recorded = bulk(&|length| Forced::Start(vec![tokens.ids[length]]))?;
        let likely = bulk(&|_| Forced::None)?;
        for ((stepwise, recorded), likely) in stepwise[0].0.iter().skip(1).zip(recorded).zip(likely) {
            let (Some(recorded), Some(likely)) = (recorded, likely) else { continue };
            n += 1;
            n_same += usize::from(likely.id == stepwise.id);
            let difference = (recorded.log_probability - stepwise.log_probability).abs();
            is_close &= difference <= MAX_DIFFERENCE;
        }
    }
    Ok((n > 0).then(|| {
        let same = n_same as f64 / n as f64;
        Gate { name: "replay_parity".to_owned(), passed: is_close && same >= MIN_SAME_TOKEN, value: Some(same) }
    }))
}

/// How often the answer elicited after the whole trace is the one that the model gave by itself. `None` if no response had an
/// answer.
fn anchor_stability<'a>(samples: impl Iterator<Item = &'a SampleRow>, elicitations: &[ElicitationRow]) -> Option<Gate> {
    let natural: BTreeMap<&str, &str> =
        samples.filter_map(|sample| Some((sample.key.as_str(), sample.extracted.strict.as_deref()?))).collect();
    let is_reference = |row: &&ElicitationRow| {
        row.suffix == Suffix::Default.name()
            && row.mode == ReplayMode::Recorded
            && row.kind == ElicitationKind::Prefix
            && row.position == row.n_positions
    };
    let agreements: Vec<bool> = (elicitations.iter().filter(is_reference))
        .filter_map(|row| Some(row.answer.as_deref() == Some(*natural.get(row.sample.as_str())?)))
        .collect();
    (!agreements.is_empty()).then(|| {
        let share = agreements.iter().filter(|agrees| **agrees).count() as f64 / agreements.len() as f64;
        Gate { name: "anchor_stability".to_owned(), passed: share >= MIN_ANCHORED, value: Some(share) }
    })
}
