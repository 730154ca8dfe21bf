//! Conditions that metrics of re-read traces depend on.

use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{Forced, Prefix, Request, Token};
use aloud_measure::metric_record::{Gate, MetricRecord, ReplayMode};
use aloud_measure::run_files::{ElicitationKind, ElicitationRow, SampleRow};

use super::elicitation::{Suffix, Traced};
use super::examination::Examination;
use super::parts::part;
use super::subject::Subject;

/// Traces of which replay is checked.
const PARITY_TRACES: usize = 8;

/// Beginnings of each that are replayed, at equal distances.
const PARITY_PLACES: usize = 16;

/// Replays decoded together.
const PARITY_SEQUENCES: usize = 64;

/// Smallest share of positions at which replay has the same most likely token.
const MIN_SAME_TOKEN: f64 = 0.995;

/// Largest difference of log-probabilities (nats) between replay and decoding.
const MAX_DIFFERENCE: f32 = 1e-3;

/// Smallest share of elicited answers after the whole trace that are the model's own.
const MIN_ANCHORED: f64 = 0.9;

/// The gates of one model's replays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Vec<Gate>);

impl Gates {
    /// Measures both gates.
    pub(crate) fn measure(
        subject: &Subject<'_>,
        exam: &Examination<'_>,
        traces: &[Traced<'_>],
        elicitations: &[ElicitationRow],
    ) -> Result<Self, SessionError> {
        let items: Vec<usize> = traces.iter().map(|traced| traced.asked.item).collect();
        let some: Vec<Traced<'_>> = part(exam, &items, PARITY_TRACES).into_iter().map(|place| traces[place]).collect();
        let parity = replay_parity(subject, exam, &some)?;
        let anchor = anchor_stability(exam, traces.iter().map(|traced| traced.sample), elicitations);
        Ok(Self([parity, anchor].into_iter().flatten().collect()))
    }

    /// The record with the gates; without a value if one is not passed.
    pub(crate) fn apply(&self, record: MetricRecord) -> MetricRecord {
        self.0.iter().fold(record, |record, gate| record.with_gate(gate.clone()))
    }
}

/// Beginnings of these traces, replayed in one pass, against decoding them token by token: the most likely next token, and
/// the log-probability of the recorded one. `None` without a token to compare.
fn replay_parity(
    subject: &Subject<'_>,
    exam: &Examination<'_>,
    traces: &[Traced<'_>],
) -> Result<Option<Gate>, SessionError> {
    let complete = |requests: Vec<Request>| subject.complete(PARITY_SEQUENCES, &requests, &|| {});
    let request = |traced: &Traced<'_>, length: usize, forced: Forced| Request {
        prefix: Prefix::of(&traced.tokens.ids, &traced.tokens.depth, length),
        max_new_tokens: 1,
        stop_tokens: Vec::new(),
        forced,
        ..traced.asked.request(exam, Exits::recorded(traced.tokens.depth.clone()), 0)
    };
    let whole = |traced: &Traced<'_>| request(traced, 0, Forced::Whole(traced.tokens.ids.clone()));
    let stepwise = complete(traces.iter().map(whole).collect())?;
    // The longest first: what is shorter begins as it does, and is not run again. A beginning that fills the context has no next token.
    let context = subject.decoder.config().max_position_embeddings;
    let has_room = |(trace, length): &(usize, usize)| {
        exam.items()[traces[*trace].asked.item].prompt.token_ids.len() + length < context
    };
    let places: Vec<(usize, usize)> = (traces.iter().enumerate())
        .flat_map(|(trace, traced)| replayed_lengths(traced.tokens.ids.len()).rev().map(move |length| (trace, length)))
        .filter(has_room)
        .collect();
    let next = |forced: &dyn Fn(usize, usize) -> Forced| -> Result<Vec<Option<Token>>, SessionError> {
        let request = |&(trace, length): &(usize, usize)| request(&traces[trace], length, forced(trace, length));
        let responses = complete(places.iter().map(request).collect())?;
        Ok(responses.into_iter().map(|response| response.tokens.into_iter().next()).collect())
    };
    let recorded = next(&|trace, length| Forced::Start(vec![traces[trace].tokens.ids[length]]))?;
    let likely = next(&|_, _| Forced::None)?;
    let (mut n, mut n_same, mut is_close) = (0_usize, 0_usize, true);
    for (&(trace, length), (recorded, likely)) in places.iter().zip(recorded.iter().zip(&likely)) {
        let (Some(stepwise), Some(recorded), Some(likely)) = (stepwise[trace].tokens.get(length), recorded, likely)
        else {
            continue;
        };
        n += 1;
        n_same += usize::from(likely.id == stepwise.id);
        is_close &= (recorded.log_probability - stepwise.log_probability).abs() <= MAX_DIFFERENCE;
    }
    Ok((n > 0).then(|| {
        let same = n_same as f64 / n as f64;
        Gate { name: "replay_parity".to_owned(), passed: is_close && same >= MIN_SAME_TOKEN, value: Some(same) }
    }))
}

/// Numbers of tokens, below `n_tokens`, after which a trace is replayed.
fn replayed_lengths(n_tokens: usize) -> impl DoubleEndedIterator<Item = usize> {
    let n_places = n_tokens.saturating_sub(1).min(PARITY_PLACES);
    (1..=n_places).map(move |place| place * (n_tokens - 1) / n_places)
}

/// How often the answer elicited after the whole trace is the one that the model gave by itself. `None` if no response had an
/// answer.
fn anchor_stability<'a>(
    exam: &Examination<'_>,
    samples: impl Iterator<Item = &'a SampleRow>,
    elicitations: &[ElicitationRow],
) -> Option<Gate> {
    let natural: BTreeMap<&str, &str> =
        samples.filter_map(|sample| Some((sample.key.as_str(), exam.own_answer(&sample.extracted)?))).collect();
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
