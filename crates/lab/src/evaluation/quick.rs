//! Accuracy and depth on a task in words, without an evaluation run: nothing is written.

use aloud_engine::decode::batching::{Engine, Limits};
use aloud_engine::decode::request::{FinishReason, Request, Token};
use aloud_measure::metrics::answer_kinds::{
    KindAccuracy, KindAnswer, accuracy_by_kind, balanced_accuracy, majority_baseline,
};
use aloud_measure::statistics::{Bootstrap, wilson_interval};
use aloud_report::table::{Align, Table};
use aloud_session::error::SessionError;
use serde::Serialize;

use super::examination::Examination;
use super::samples::{all_asked, run};
use super::subject::Subject;

/// The kind of questions that are all alike, and the row of all questions.
const ALL: &str = "all";

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Share {
    value: Option<f64>,
    interval: Option<[f64; 2]>,
}

/// Accuracy of one kind of question.
#[derive(Clone, Debug, Serialize)]
struct KindReport {
    kind: String,
    n: usize,
    strict: Share,
    lenient: Share,
    /// Share of the most frequent true answer.
    majority: f64,
}

/// What a model did.
#[derive(Clone, Debug, Serialize)]
pub struct QuickReport {
    n: usize,
    strict: Share,
    lenient: Share,
    /// Of the questions with two answers, by the strict scorer.
    balanced: Share,
    /// Accuracy of the most frequent answer of every kind.
    majority: Option<f64>,
    kinds: Vec<KindReport>,
    /// Share of responses without an answer in the form that was asked for.
    unparsed_rate: f64,
    /// Share of responses that the limit on tokens ended.
    truncated_rate: f64,
    response_tokens: f64,
    exit_rate: Option<f64>,
    als: Option<f64>,
    mean_depth: Option<f64>,
    n_blocks: usize,
}

/// Asks everything once, with greedy tokens.
///
/// # Errors
/// If an item does not fit the model.
pub fn evaluate_once(
    family: &Examination<'_>,
    subject: &Subject<'_>,
    seed: u64,
    max_sequences: usize,
    on_done: &(dyn Fn() + Sync),
) -> Result<QuickReport, SessionError> {
    let asked = all_asked(family);
    let requests: Vec<Request> = asked.iter().map(|asked| asked.request(family, subject, seed)).collect();
    let engine = Engine::new(subject.decoder, subject.policy, Limits { max_sequences, max_prompt_rows: 2048 });
    let responses = run(&engine, &requests, on_done)?;
    report(family, &responses, subject.decoder.n_blocks())
}

fn report(
    family: &Examination<'_>,
    responses: &[(Vec<Token>, FinishReason)],
    n_blocks: usize,
) -> Result<QuickReport, SessionError> {
    let (mut strict, mut lenient) = (Vec::new(), Vec::new());
    let (mut n_unparsed, mut n_truncated, mut n_tokens) = (0, 0, 0);
    let mut depths: Vec<usize> = Vec::new();
    for (number, (tokens, reason)) in responses.iter().enumerate() {
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let read = family.read(number, &ids, *reason == FinishReason::Length)?;
        n_unparsed += usize::from(read.extracted.strict.is_none());
        n_truncated += usize::from(*reason == FinishReason::Length);
        n_tokens += tokens.len();
        // The first token always has full depth.
        depths.extend(tokens.iter().skip(1).map(|token| token.depth));
        let Some(gold) = family.items()[number].prompt.answer.as_deref() else { continue };
        let (kind, is_binary) = family.question_kind(number).unwrap_or((ALL, false));
        for (answers, scorer) in [&mut strict, &mut lenient].into_iter().zip(family.scorers()) {
            let is_right = read.correct.get(scorer).copied().unwrap_or(false);
            answers.push(KindAnswer { kind, is_binary, gold, is_right });
        }
    }
    let (by_kind, lenient_by_kind) = (accuracy_by_kind(&strict), accuracy_by_kind(&lenient));
    let kinds = by_kind.iter().zip(&lenient_by_kind).map(|(strict, lenient)| KindReport {
        kind: strict.kind.clone(),
        n: strict.n,
        strict: share(strict.n_right, strict.n),
        lenient: share(lenient.n_right, lenient.n),
        majority: strict.majority,
    });
    let all = |kinds: &[KindAccuracy]| {
        share(kinds.iter().map(|kind| kind.n_right).sum(), kinds.iter().map(|kind| kind.n).sum())
    };
    let balanced = balanced_accuracy(&strict, &Bootstrap::default());
    let of_responses = |count: usize| count as f64 / responses.len().max(1) as f64;
    let of_depths = |count: f64| (!depths.is_empty()).then(|| count / depths.len() as f64);
    let sum: usize = depths.iter().sum();
    let mean_depth = of_depths(sum as f64);
    Ok(QuickReport {
        n: responses.len(),
        strict: all(&by_kind),
        lenient: all(&lenient_by_kind),
        balanced: Share {
            value: balanced.as_ref().map(|(value, _)| *value),
            interval: balanced.and_then(|(_, interval)| Some([interval.as_ref()?.lo, interval?.hi])),
        },
        majority: majority_baseline(&by_kind),
        kinds: kinds.collect(),
        unparsed_rate: of_responses(n_unparsed),
        truncated_rate: of_responses(n_truncated),
        response_tokens: of_responses(n_tokens),
        exit_rate: of_depths(depths.iter().filter(|depth| **depth < n_blocks).count() as f64),
        als: mean_depth.map(|depth| 1.0 - depth / n_blocks as f64),
        mean_depth,
        n_blocks,
    })
}

fn share(n_right: usize, n: usize) -> Share {
    Share { value: (n > 0).then(|| n_right as f64 / n as f64), interval: wilson_interval(n_right, n) }
}

impl QuickReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let bounds = |share: Share| {
            let bound =
                |at: usize| share.interval.map_or_else(|| "-".to_owned(), |it| format!("{:.1}", 100.0 * it[at]));
            format!("{} to {}", bound(0), bound(1))
        };
        let mut table = Table::new([
            ("kind of question", Align::Left),
            ("n", Align::Right),
            ("strict", Align::Right),
            ("95 %", Align::Left),
            ("lenient", Align::Right),
            ("majority baseline", Align::Right),
        ]);
        let mut row = |kind: &str, n: usize, strict: Share, lenient: Share, majority: Option<f64>| {
            let cells = [kind.to_owned(), n.to_string(), percent(strict.value), bounds(strict)];
            table.row(cells.into_iter().chain([percent(lenient.value), percent(majority)]));
        };
        for kind in self.kinds.iter().filter(|kind| kind.kind != ALL) {
            row(&kind.kind, kind.n, kind.strict, kind.lenient, Some(kind.majority));
        }
        row(ALL, self.n, self.strict, self.lenient, self.majority);
        format!(
            "{} questions: balanced accuracy of those with two answers {} ({}); {} without an answer, {} cut off\n\
             average layer savings {}, exit rate {}, mean depth {} of {} blocks, {:.1} tokens a response\n\n{table}\n",
            self.n,
            percent(self.balanced.value),
            bounds(self.balanced),
            percent(Some(self.unparsed_rate)),
            percent(Some(self.truncated_rate)),
            percent(self.als),
            percent(self.exit_rate),
            self.mean_depth.map_or_else(|| "-".to_owned(), |depth| format!("{depth:.1}")),
            self.n_blocks,
            self.response_tokens,
        )
    }
}
