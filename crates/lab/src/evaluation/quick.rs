//! Accuracy and depth on a task in words, without an evaluation run: nothing is written.

use aloud_engine::decode::complete::Completion;
use aloud_engine::decode::request::{FinishReason, Request};
use aloud_measure::metrics::answer_kinds::{
    KindAccuracy, KindAnswer, accuracy_by_kind, balanced_accuracy, majority_baseline,
};
use aloud_measure::statistics::{Bootstrap, wilson_interval};
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::savings::{average_layer_savings, exit_rate, mean_depth};
use aloud_report::table::{Align, Table};
use aloud_session::error::SessionError;
use aloud_session::host::{Host, counting};
use aloud_tasks::item::Split;
use aloud_text::text_codec::TextCodec;
use serde::Serialize;

use super::examination::Examination;
use super::leave_out::TrainedOn;
use super::samples::{all_asked, ids};
use super::subject::{Matched, Models};
use super::task_choice::TaskChoice;
use crate::words::{blocks, interval, percent};

/// Number of questions where nothing else is asked for.
const DEFAULT_QUESTIONS: u32 = 400;

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

/// Asks everything once, with greedy tokens, but for what the model was trained on.
///
/// # Errors
/// If an item does not fit the model, or it was trained on most of the items.
pub fn evaluate_once(
    models: &Models,
    codec: &TextCodec,
    exits: &ExitPolicy,
    task: &TaskChoice,
    host: &dyn Host,
) -> Result<QuickReport, SessionError> {
    let n = task.n.or(task.tier.is_none().then_some(DEFAULT_QUESTIONS));
    let mut exam = TaskChoice { n, ..task.clone() }.exam(Split::Test, codec, &models.trained.decoder)?;
    TrainedOn::of(models, host).leave_out(&mut exam, host)?;
    let matched = Matched::default();
    let subject = models.subject(models.main_key(), exits, &matched)?;
    let asked = all_asked(&exam);
    let requests: Vec<Request> = asked.iter().map(|asked| asked.request(&exam, subject.exits(), task.seed)).collect();
    let responses = counting(host, "evaluating", "responses", requests.len(), |on_done| {
        subject.complete(task.batch.into(), &requests, on_done)
    })?;
    report(&exam, &responses, subject.decoder.n_blocks())
}

fn report(exam: &Examination<'_>, responses: &[Completion], n_blocks: usize) -> Result<QuickReport, SessionError> {
    let (mut strict, mut lenient) = (Vec::new(), Vec::new());
    let (mut n_unparsed, mut n_truncated, mut n_tokens) = (0, 0, 0);
    let mut depths: Vec<usize> = Vec::new();
    for (number, response) in responses.iter().enumerate() {
        let is_truncated = response.reason == FinishReason::Length;
        let read = exam.read(number, &ids(response), is_truncated)?;
        n_unparsed += usize::from(read.extracted.strict.is_none());
        n_truncated += usize::from(is_truncated);
        n_tokens += response.tokens.len();
        // The first token always has full depth.
        depths.extend(response.tokens.iter().skip(1).map(|token| token.depth));
        let Some(gold) = exam.items()[number].prompt.answer.as_deref() else { continue };
        let (kind, is_binary) = exam.question_kind(number).unwrap_or((ALL, false));
        for (answers, scorer) in [&mut strict, &mut lenient].into_iter().zip(exam.task().scorers()) {
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
        exit_rate: exit_rate(&depths, n_blocks),
        als: average_layer_savings(&depths, n_blocks),
        mean_depth: mean_depth(&depths),
        n_blocks,
    })
}

fn share(n_right: usize, n: usize) -> Share {
    Share { value: (n > 0).then(|| n_right as f64 / n as f64), interval: wilson_interval(n_right, n) }
}

impl QuickReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut table = Table::new([
            ("kind of question", Align::Left),
            ("n", Align::Right),
            ("strict", Align::Right),
            ("95 %", Align::Left),
            ("lenient", Align::Right),
            ("majority baseline", Align::Right),
        ]);
        let mut row = |kind: &str, n: usize, strict: Share, lenient: Share, majority: Option<f64>| {
            let cells = [kind.to_owned(), n.to_string(), percent(strict.value), interval(strict.interval)];
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
            interval(self.balanced.interval),
            percent(self.unparsed_rate),
            percent(self.truncated_rate),
            percent(self.als),
            percent(self.exit_rate),
            blocks(self.mean_depth),
            self.n_blocks,
            self.response_tokens,
        )
    }
}
