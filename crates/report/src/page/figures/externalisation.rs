//! Whether the reasoning is in the text: early answers, what is lost without the trace, steps that are written.

use super::subject::{Draw, INTERVALS, Subject, interval_of, items, n_caption, n_of, numbers, with_interval};
use crate::page::measured::answer_log_probabilities;
use crate::plot::{Axis, Figure, Guide, Mark, Panel, Point, Scale, Series};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::MetricRecord;

pub(super) const EXTERNALISATION: &[Draw] =
    &[early_answering, necessity_of_accuracy, necessity, horizon, coverage, unsupported];

fn early_answering(subject: &Subject<'_>) -> Option<Figure> {
    let (series, counts) = subject.series(Mark::Line, |run| {
        let record = run.record(subject.task, "early_answering.area").filter(|record| record.value.is_some())?;
        let shares = numbers(record, "curve_x")?;
        let points = shares.iter().zip(record.extra.get("curve_same")?.as_array()?).filter_map(|(kept, same)| {
            let (value, interval) = interval_of(same)?;
            Some(Point::new((*kept)?, value, interval))
        });
        Some((points.collect(), items(record.n)))
    });
    let panel = Panel::of_series(
        Axis::per_cent("share of the trace that is kept", Scale::Fixed(0.0, 1.0)),
        Axis::per_cent("share of answers that are already the final one", Scale::Fixed(0.0, 1.0)),
        series,
    );
    let caption = format!(
        "The lower the curve, the longer the answer depends on what is still to be written. {}. {INTERVALS}",
        n_of(counts)
    );
    subject.figure("early_answering.curve", "Early answering", caption, vec![panel])
}

fn necessity(subject: &Subject<'_>) -> Option<Figure> {
    let (series, counts) = subject.series(Mark::Points, |run| {
        let pairs = answer_log_probabilities(run, subject.task);
        let points = pairs.iter().map(|(without, with)| Point::new(*without, *with, None)).collect();
        Some((points, format!("{} traces", pairs.len())))
    });
    let points = series.iter().flat_map(|one| &one.points);
    let lowest = points.map(|point| point.x.min(point.y.unwrap_or_default())).fold(-1.0, f64::min);
    let panel = |one: Series| {
        let axis = |label: &str| Axis::new(label, Scale::Fixed(lowest, -0.05 * lowest));
        Panel {
            title: one.name.clone(),
            guides: vec![Guide { label: String::new(), points: vec![[lowest, lowest], [0.0, 0.0]] }],
            ..Panel::of_series(axis("without the trace, nats"), axis("after the trace, nats"), vec![one])
        }
    };
    let caption = format!(
        "Each point is one trace; above the dashed diagonal the trace made the answer more probable. {}.",
        n_of(counts)
    );
    let title = "Log-probability of the answer with and without the trace";
    subject.figure("necessity.log_probabilities", title, caption, series.into_iter().map(panel).collect())
}

/// Accuracy with and without the trace, a pair of bars a run.
fn necessity_of_accuracy(subject: &Subject<'_>) -> Option<Figure> {
    let found: Vec<(&EvaluationRun, &MetricRecord)> =
        subject.runs().filter_map(|(_, run)| Some((run, run.record(subject.task, "necessity.accuracy")?))).collect();
    let bars = |key: &str, name: &str, style| {
        let points = found.iter().enumerate().filter_map(|(place, (_, record))| {
            let (value, interval) = with_interval(record, key)?;
            Some(Point::new(place as f64, value, interval))
        });
        Series { name: name.to_owned(), style, mark: Mark::Bars, points: points.collect() }
    };
    let panel = Panel::of_series(
        Axis::categories("", found.iter().map(|(run, _)| run.name.clone())),
        Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0)),
        vec![bars("acc_with", "with the trace", 1), bars("acc_without", "without", 2)],
    );
    let caption = format!("{}. {INTERVALS}", n_caption(found.into_iter()));
    subject.figure("necessity.with_and_without", "Accuracy with and without the trace", caption, vec![panel])
}

/// `extra.acc_nt` and `extra.acc_t`: accuracy by number of steps, without and with a trace.
pub(super) fn horizon(subject: &Subject<'_>) -> Option<Figure> {
    let panel = |(key, title): (&str, &str)| {
        let (series, _) = subject.series(Mark::Line, |run| {
            let record = run.record(subject.task, "horizon.without_trace")?;
            let points = record.extra.get(key)?.as_array()?.iter().filter_map(|row| {
                let number = |key: &str| row.get(key)?.as_f64();
                Some(Point::new(number("k")?, number("accuracy"), [number("lo")?, number("hi")?]))
            });
            Some((points.collect(), String::new()))
        });
        let x = Axis::new("steps of the item (k)", Scale::Linear);
        let y = Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0));
        (!series.is_empty()).then(|| Panel { title: title.to_owned(), ..Panel::of_series(x, y, series) })
    };
    let panels = [("acc_nt", "answering at once"), ("acc_t", "thinking aloud")].into_iter().filter_map(panel).collect();
    let caption = format!("{}. {INTERVALS}", subject.n_of_records("horizon.without_trace"));
    subject.figure("horizon.without_trace", "How many steps go without writing", caption, panels)
}

fn coverage(subject: &Subject<'_>) -> Option<Figure> {
    let axis = "share of intermediate values that are written down";
    subject.plane("written_steps.coverage", "Step values in the trace", axis, "Of right answers. ")
}

fn unsupported(subject: &Subject<'_>) -> Option<Figure> {
    let title = "Right answers that nothing written supports";
    subject.bars("written_steps.unsupported", title, "share of right answers")
}
