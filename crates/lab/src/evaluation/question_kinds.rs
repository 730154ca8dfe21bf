//! Tasks that ask different kinds of questions: accuracy by kind beside what guessing is worth, and balanced accuracy.

use aloud_measure::metric_record::MetricRecord;
use aloud_measure::metrics::answer_kinds::{KindAnswer, balanced_accuracy_record, with_kinds};
use aloud_measure::metrics::item_rows::{ItemRows, MetricSetting};
use aloud_report::table::{Align, Table};

use super::examination::Examination;
use crate::words::percent;

/// Where the true answers come from.
const LABEL_SOURCE: &str = "belief tracking";

/// The scorer whose answers are balanced.
const BALANCED_SCORER: &str = "strict";

/// The record of a scorer with the accuracy of every kind of question, if the examination has kinds.
pub(crate) fn of_kinds(
    record: MetricRecord,
    scorer: &str,
    items: &[ItemRows<'_>],
    exam: &Examination<'_>,
) -> MetricRecord {
    match answers(items, scorer, exam) {
        Some(answers) => with_kinds(record, &answers, LABEL_SOURCE),
        None => record,
    }
}

/// Balanced accuracy, if the examination has kinds.
pub(crate) fn balanced_record(
    items: &[ItemRows<'_>],
    exam: &Examination<'_>,
    setting: &MetricSetting<'_>,
) -> Option<MetricRecord> {
    let answers = answers(items, BALANCED_SCORER, exam)?;
    let record = balanced_accuracy_record("accuracy.balanced", &answers, LABEL_SOURCE, setting);
    Some(record.with_extra("scorer", BALANCED_SCORER))
}

fn answers<'a>(items: &[ItemRows<'a>], scorer: &str, exam: &Examination<'_>) -> Option<Vec<KindAnswer<'a>>> {
    let places = exam.places();
    if places.values().all(|place| exam.question_kind(*place).is_none()) {
        return None;
    }
    let mut answers = Vec::new();
    for item in items {
        let kind = places.get(item.item_id).and_then(|place| exam.question_kind(*place));
        let Some((kind, is_binary)) = kind else { continue };
        for (sample, _) in &item.samples {
            let (Some(gold), Some(is_right)) = (sample.gold.as_deref(), sample.correct.get(scorer)) else { continue };
            answers.push(KindAnswer { kind, is_binary, gold, is_right: *is_right });
        }
    }
    Some(answers)
}

/// Accuracy and majority baseline of every kind and model, for people; empty where no record has kinds.
pub fn kinds_text(records: &[MetricRecord]) -> String {
    let mut table = Table::new([
        ("kind of question", Align::Left),
        ("metric", Align::Left),
        ("model", Align::Left),
        ("n", Align::Right),
        ("accuracy", Align::Right),
        ("95 %", Align::Left),
        ("majority baseline", Align::Right),
    ]);
    let mut has_kinds = false;
    for record in records {
        let Some(kinds) = record.extra.get("per_type").and_then(|kinds| kinds.as_object()) else { continue };
        has_kinds = true;
        let mut row = |kind: &str, n: usize, accuracy: Option<f64>, bounds: [Option<f64>; 2], majority: Option<f64>| {
            let [low, high] = bounds.map(percent);
            let model = record.context.model.clone();
            let cells = [kind.to_owned(), record.id.clone(), model, n.to_string(), percent(accuracy)];
            table.row(cells.into_iter().chain([format!("{low} to {high}"), percent(majority)]));
        };
        for (name, kind) in kinds {
            let number = |key: &str| kind.get(key).and_then(serde_json::Value::as_f64);
            let n = number("n").unwrap_or_default() as usize;
            row(name, n, number("value"), [number("lo"), number("hi")], number("majority"));
        }
        let bounds = record.ci.as_ref().map_or([None; 2], |ci| [Some(ci.lo), Some(ci.hi)]);
        let majority = record.extra.get("majority").and_then(serde_json::Value::as_f64);
        row("all", record.n, record.value, bounds, majority);
    }
    if has_kinds { format!("\n{table}") } else { String::new() }
}
