//! Answers elicited from the beginnings of a trace: the trace is replayed up to the end of a step, a suffix asks for the
//! answer, and the model goes on under its own exits.

use aloud_session::error::SessionError;
use std::collections::{BTreeMap, BTreeSet};

use aloud_engine::decode::complete::Completion;
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_measure::metric_record::ReplayMode;
use aloud_measure::run_files::{ElicitationKind, ElicitationRow, LogRow as _, LogWriter, SampleRow, TokenRow};

use super::examination::Examination;
use super::samples::Asked;
use super::subject::Subject;

/// Samples whose answers are elicited between two times of writing.
const CHUNK: usize = 64;

/// Traces of more steps have their answers elicited at this many places, at equal shares of their tokens, and at both ends.
const MAX_STEPS: usize = 20;
const PLACES: usize = 10;

/// By which of an examination's suffixes an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suffix {
    /// The one that metrics are of.
    Default,
    /// Other words.
    Second,
}

impl Suffix {
    /// Its name in rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Second => "second",
        }
    }

    /// Its tokens after the first `length` tokens of a response; none if the examination has no such suffix.
    fn tokens(self, exam: &Examination<'_>, response: &[u32], length: usize) -> Vec<u32> {
        match self {
            Self::Default => exam.suffix(response, length),
            Self::Second => exam.second_suffix().unwrap_or_default(),
        }
    }
}

/// A trace with its sample.
#[derive(Clone, Copy)]
pub(crate) struct Traced<'a> {
    pub(crate) asked: Asked<'a>,
    pub(crate) sample: &'a SampleRow,
    pub(crate) tokens: &'a TokenRow,
}

/// A beginning of a trace from which an answer is elicited.
struct Place {
    /// Of the traces of a chunk.
    trace: usize,
    /// Number of steps kept.
    position: usize,
    n_positions: usize,
    /// Number of response tokens kept.
    length: usize,
    fraction: f64,
    mode: ReplayMode,
    suffix: Suffix,
    /// Whether the last part brings a value of the gold solution that no part before it brought.
    new_value: Option<bool>,
}

/// Elicits the answers that are missing in the log, by one suffix and in every mode of `modes`, and appends them. `on_done` hears of every
/// sample.
pub(crate) fn elicit(
    subject: &Subject<'_>,
    exam: &Examination<'_>,
    traces: &[Traced<'_>],
    modes: &[ReplayMode],
    suffix: Suffix,
    max_sequences: usize,
    log: &mut LogWriter<ElicitationRow>,
    on_done: &(dyn Fn() + Sync),
) -> Result<(), SessionError> {
    for chunk in traces.chunks(CHUNK) {
        // A trace that lacks one is done again as a whole: its answers are compared with that after the whole trace.
        let places: Vec<Place> = (chunk.iter().enumerate())
            .filter(|(_, traced)| has_room(subject, exam, traced, suffix))
            .map(|(trace, traced)| places(exam, trace, traced, modes, suffix))
            .filter(|places| places.iter().any(|place| !log.has(&row(&chunk[place.trace], place).key())))
            .flatten()
            .collect();
        if !places.is_empty() {
            // A trace of which nothing is kept is the beginning of the curve, and the arm without a trace. The arm's row stands
            // first: a log that was cut between the two lacks the other one, by which the trace is known to be unfinished.
            let with_arm = |row: ElicitationRow| {
                let is_without = row.position == 0 && suffix == Suffix::Default;
                let arm = is_without.then(|| ElicitationRow { kind: ElicitationKind::NoTrace, ..row.clone() });
                arm.into_iter().chain([row])
            };
            let rows = answers(subject, exam, chunk, &places, max_sequences)?;
            let rows: Vec<ElicitationRow> = rows.into_iter().flat_map(with_arm).collect();
            log.append_all(&rows)?;
        }
        for _ in chunk {
            on_done();
        }
    }
    Ok(())
}

/// Whether the model's context has room for an answer after the whole of a trace.
fn has_room(subject: &Subject<'_>, exam: &Examination<'_>, traced: &Traced<'_>, suffix: Suffix) -> bool {
    let ids = &traced.tokens.ids;
    exam.steps(ids).and_then(|ends| ends.last().copied()).is_none_or(|whole| {
        let n_asked = suffix.tokens(exam, ids, whole).len() + exam.task().max_answer_tokens();
        let prompt = &exam.items()[traced.asked.item].prompt.token_ids;
        prompt.len() + whole + n_asked <= subject.decoder.config().max_position_embeddings
    })
}

/// Where answers are elicited from a trace: without any of it, after steps of it, and after all of it.
fn places(
    exam: &Examination<'_>,
    trace: usize,
    traced: &Traced<'_>,
    modes: &[ReplayMode],
    suffix: Suffix,
) -> Vec<Place> {
    let Some(ends) = exam.steps(&traced.tokens.ids).map(|ends| thinned(&ends)) else { return Vec::new() };
    let n_positions = ends.len() - 1;
    let whole = ends.last().copied().unwrap_or(0).max(1) as f64;
    let n_values: Vec<Option<usize>> =
        ends.iter().map(|end| exam.n_written_values(traced.asked.item, &traced.tokens.ids[..*end])).collect();
    let new_value = |position: usize| {
        let before = n_values[position.saturating_sub(1)]?;
        Some(n_values[position]? > before)
    };
    let in_mode = |mode: ReplayMode| {
        // The longest first: what is shorter begins as it does, and is not run again.
        (ends.iter().enumerate().rev()).map(move |(position, &length)| Place {
            trace,
            position,
            n_positions,
            length,
            fraction: length as f64 / whole,
            mode,
            suffix,
            new_value: new_value(position),
        })
    };
    modes.iter().flat_map(|mode| in_mode(*mode)).collect()
}

/// The ends of at most [`MAX_STEPS`] steps: of more, those nearest to equal shares of the tokens.
fn thinned(ends: &[usize]) -> Vec<usize> {
    let (n_steps, whole) = (ends.len().saturating_sub(1), ends.last().copied().unwrap_or(0));
    if n_steps <= MAX_STEPS {
        return ends.to_vec();
    }
    let nearest = |share: usize| {
        let wanted = whole * share / PLACES;
        ends.iter().copied().min_by_key(|end| end.abs_diff(wanted))
    };
    (0..=PLACES).filter_map(nearest).collect::<BTreeSet<usize>>().into_iter().collect()
}

/// The row of a place, without what is elicited.
fn row(traced: &Traced<'_>, place: &Place) -> ElicitationRow {
    ElicitationRow {
        sample: traced.sample.key.clone(),
        item: traced.sample.item_id.clone(),
        kind: ElicitationKind::Prefix,
        suffix: place.suffix.name().to_owned(),
        position: place.position,
        n_positions: place.n_positions,
        fraction: place.fraction,
        mode: place.mode,
        answer: None,
        logp: None,
        logp_gold: None,
        same: None,
        new_value: place.new_value,
    }
}

/// The beginning of a trace in its mode.
fn prefix(subject: &Subject<'_>, tokens: &TokenRow, length: usize, mode: ReplayMode) -> Prefix {
    match mode {
        ReplayMode::Full => Prefix::at_full_depth(&tokens.ids, length, subject.decoder.n_blocks()),
        ReplayMode::Recorded | ReplayMode::Free => Prefix::of(&tokens.ids, &tokens.depth, length),
    }
}

/// The rows of places: first the answers, then, with these known, what the reference and the gold answer were worth.
fn answers(
    subject: &Subject<'_>,
    exam: &Examination<'_>,
    chunk: &[Traced<'_>],
    places: &[Place],
    max_sequences: usize,
) -> Result<Vec<ElicitationRow>, SessionError> {
    let request = |place: &Place, answer: Option<&[u32]>| {
        let Traced { asked, sample, tokens } = chunk[place.trace];
        let suffix = place.suffix.tokens(exam, &tokens.ids, place.length);
        let n_asked = answer.map_or(exam.task().max_answer_tokens(), <[u32]>::len);
        Request {
            prefix: prefix(subject, tokens, place.length, place.mode),
            max_new_tokens: suffix.len() + n_asked,
            stop_tokens: if answer.is_some() { Vec::new() } else { exam.stop_tokens().to_vec() },
            forced: match answer {
                None => Forced::Start(suffix),
                Some(answer) => Forced::Whole([suffix.as_slice(), answer].concat()),
            },
            ..asked.request(exam, subject.exits(), sample.seed)
        }
    };
    let complete = |requests: &[Request]| subject.complete(max_sequences, requests, &|| {});
    let asked: Vec<Request> = places.iter().map(|place| request(place, None)).collect();
    let mut rows = Vec::with_capacity(places.len());
    for ((place, asked), response) in places.iter().zip(&asked).zip(complete(&asked)?) {
        let n_suffix = asked.forced.tokens().len();
        let ids: Vec<u32> = response.tokens.iter().skip(n_suffix).map(|token| token.id).collect();
        rows.push(ElicitationRow { answer: exam.read_answer(&ids), ..row(&chunk[place.trace], place) });
    }
    // The reference answer is the one after the whole trace in the same mode.
    let references: BTreeMap<(usize, ReplayMode), Option<String>> = (places.iter().zip(&rows))
        .filter(|(place, _)| place.position == place.n_positions)
        .map(|(place, row)| ((place.trace, place.mode), row.answer.clone()))
        .collect();
    let reference = |place: &Place| references.get(&(place.trace, place.mode)).and_then(Option::as_deref);
    let mut requests = Vec::new();
    let mut worths: Vec<(usize, bool, usize)> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let gold = chunk[place.trace].sample.gold.as_deref();
        for (is_gold, answer) in [(false, reference(place)), (true, gold)] {
            if let Some(ids) = answer.and_then(|answer| exam.answer_tokens(answer)) {
                worths.push((index, is_gold, ids.len()));
                requests.push(request(place, Some(&ids)));
            }
        }
    }
    for ((index, is_gold, n), Completion { tokens, .. }) in worths.into_iter().zip(complete(&requests)?) {
        let of_answer = &tokens[tokens.len().saturating_sub(n)..];
        let worth = Some(of_answer.iter().map(|token| f64::from(token.log_probability)).sum());
        if is_gold { rows[index].logp_gold = worth } else { rows[index].logp = worth }
    }
    for (place, row) in places.iter().zip(&mut rows) {
        row.same = reference(place).map(|reference| row.answer.as_deref() == Some(reference));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_traces_are_cut_at_equal_shares() {
        let short: Vec<usize> = (0..=20).map(|step| 3 * step).collect();
        assert_eq!(thinned(&short), short);
        let long: Vec<usize> = (0..=40).map(|step| 5 * step).collect();
        assert_eq!(thinned(&long), (0..=10).map(|share| 20 * share).collect::<Vec<_>>());
        // One step that holds almost everything: places that fall together count once.
        let mut uneven: Vec<usize> = (0..=30).collect();
        uneven.push(1000);
        assert_eq!(thinned(&uneven), [0, 30, 1000]);
    }
}
