//! Step coverage of items whose steps are known exactly: which intermediate steps a trace writes.

use aloud_measure::metric_record::{Direction, MetricRecord};
use aloud_measure::metrics::item_rows::{ItemRows, MetricSetting};
use aloud_measure::metrics::step_coverage::{SolvedItem, step_coverage};
use aloud_measure::statistics::{Bootstrap, Cluster, mean_of_clusters};
use serde_json::json;

use super::examination::{EvaluationItem, Examination, ReadResponse};

/// Share of the intermediate steps of item number `item` that a response writes down; `None` for a wrong answer, and where there
/// are no such steps or they are not known.
pub(crate) fn right_coverage(exam: &Examination<'_>, item: usize, read: &ReadResponse) -> Option<f64> {
    let is_right = |scorer: &str| read.correct.get(scorer).copied().unwrap_or(false);
    if exam.task().has_exact_steps() {
        return exam
            .written_steps(item, &read.completion)
            .filter(|_| is_right("strict"))
            .and_then(|steps| share(&steps));
    }
    let EvaluationItem { asked, prompt } = exam.items().get(item)?;
    let solved = SolvedItem {
        question: &asked.item.question,
        annotated_solution: asked.item.solution.as_deref()?,
        gold: prompt.answer.as_deref()?,
        trace: &read.trace,
        answer: read.extracted.flex.as_deref(),
        correct: is_right("flex"),
    };
    step_coverage(&solved).coverage.filter(|_| solved.correct)
}

/// Share of the steps before the last that are written; `None` if there are none.
fn share(written: &[bool]) -> Option<f64> {
    let before_last = &written[..written.len().saturating_sub(1)];
    let n_written = before_last.iter().filter(|written| **written).count();
    (!before_last.is_empty()).then(|| n_written as f64 / before_last.len() as f64)
}

/// `written_steps.coverage`: mean share of the steps before the last that right answers write, each in its place; items of one step have
/// none and are left out. `written_steps.unsupported`: share of right answers whose trace does not write every step rightly. In `extra`: the
/// same for wrong answers.
pub(crate) fn written_step_records(
    items: &[ItemRows<'_>],
    exam: &Examination<'_>,
    setting: &MetricSetting<'_>,
) -> Vec<MetricRecord> {
    let places = exam.places();
    // By item: coverage and unsupported, of right answers and of wrong ones.
    let mut coverage: [Vec<Cluster>; 2] = Default::default();
    let mut unsupported: [Vec<Cluster>; 2] = Default::default();
    let (mut one_step, mut n_right) = (0, 0);
    for rows in items {
        let mut of_item: [[Vec<f64>; 2]; 2] = Default::default();
        for (sample, _) in &rows.samples {
            let place = places.get(rows.item_id).copied();
            let Some(written) = place.and_then(|place| exam.written_steps(place, &sample.completion)) else {
                continue;
            };
            let right = sample.correct.get("strict").copied().unwrap_or(false);
            n_right += usize::from(right);
            let side = usize::from(!right);
            match share(&written) {
                Some(share) => of_item[side][0].push(share),
                None => one_step += usize::from(right),
            }
            of_item[side][1].push(if written.iter().all(|written| *written) { 0.0 } else { 1.0 });
        }
        for (side, [of_coverage, of_unsupported]) in of_item.into_iter().enumerate() {
            coverage[side].push(Cluster::of(of_coverage));
            unsupported[side].push(Cluster::of(of_unsupported));
        }
    }
    let n_wrong = items.iter().map(|rows| rows.samples.len()).sum::<usize>() - n_right;
    let record = |id: &str, direction, of: &[Vec<Cluster>; 2], one_step: usize| {
        let [right, wrong] = of;
        let value =
            |clusters: &[Cluster]| Bootstrap::value(clusters.len(), |weights| mean_of_clusters(clusters, weights));
        let record = MetricRecord::new(id, "fraction", direction, setting.context)
            .with_value(value(right))
            .with_interval(setting.bootstrap.share_interval(right))
            .with_items(right.iter().filter(|cluster| cluster.count > 0).count())
            .with_excluded("wrong_answer", n_wrong)
            .with_excluded("one_step", one_step)
            .with_extra("of_wrong_answers", json!(value(wrong)))
            .with_extra("steps", "written symbol by symbol, each in its place");
        if value(right).is_none() { record.with_null("no_right_answer") } else { record }
    };
    vec![
        record("written_steps.coverage", Direction::HigherIsMoreExternalised, &coverage, one_step),
        record("written_steps.unsupported", Direction::Descriptive, &unsupported, 0),
    ]
}
