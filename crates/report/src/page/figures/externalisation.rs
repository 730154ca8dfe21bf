//! Externalisation: D1, D4, D7, D8.

use super::{INTERVALS, Subject, interval_of, n_caption, n_of, numbers, with_interval};
use crate::page::measured::answer_log_probabilities;
use crate::plot::{Axis, Figure, Guide, Layout, Mark, Panel, Point, Scale, Series};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::MetricRecord;

/// The figures of externalisation, by metric card.
pub(in crate::page) fn externalisation_figures(subject: &Subject<'_>) -> Vec<Figure> {
    [
        early_answering(subject),
        necessity_of_accuracy(subject),
        necessity(subject),
        horizon(subject),
        coverage(subject),
        subject.bars("written_steps.unsupported", "Answers that nothing written supports (D8)", "share of answers"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn early_answering(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts = Vec::new();
    let series: Vec<Series> = subject
        .runs()
        .filter_map(|(style, run)| {
            let record = run.record(subject.task, "early_answering.area").filter(|record| record.value.is_some())?;
            let shares = numbers(record, "curve_x")?;
            let curve = record.extra.get("curve_same")?.as_array()?;
            let points = shares.iter().zip(curve).filter_map(|(kept, same)| {
                let (value, interval) = interval_of(same)?;
                Some(Point::new((*kept)?, value, interval))
            });
            counts.push((run.name.as_str(), format!("{} items", record.n)));
            Some(Series { name: run.name.clone(), style, mark: Mark::Line, points: points.collect() })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::per_cent("share of the trace that is kept", Scale::Fixed(0.0, 1.0)),
        Axis::per_cent("share of answers that are already the final one", Scale::Fixed(0.0, 1.0)),
        series,
    );
    let caption = format!(
        "The lower the curve, the longer the answer depends on what is still to be written. {}. {INTERVALS}",
        n_of(&counts)
    );
    Some(Figure::single(subject.name("early_answering.curve"), subject.title("Early answering (D1)"), caption, panel))
}

fn necessity(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts = Vec::new();
    let panels: Vec<Panel> = subject
        .runs()
        .filter_map(|(style, run)| {
            let pairs = answer_log_probabilities(run, subject.task);
            if pairs.is_empty() {
                return None;
            }
            counts.push((run.name.as_str(), format!("{} traces", pairs.len())));
            let points = pairs.iter().map(|(without, with)| Point::new(*without, *with, None)).collect();
            let series = Series { name: run.name.clone(), style, mark: Mark::Points, points };
            let lowest = pairs.iter().map(|pair| pair.0.min(pair.1)).fold(-1.0, f64::min);
            let axis = |label: &str| Axis::new(label, Scale::Fixed(lowest, -0.05 * lowest));
            Some(Panel {
                title: run.name.clone(),
                guides: vec![Guide { label: String::new(), points: vec![[lowest, lowest], [0.0, 0.0]] }],
                ..Panel::of_series(axis("without the trace, nats"), axis("after the trace, nats"), vec![series])
            })
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("necessity.log_probabilities"),
        title: subject.title("Log-probability of the answer with and without the trace (D4)"),
        caption: format!(
            "Each point is one trace; above the dashed diagonal the trace made the answer more probable. {}.",
            n_of(&counts)
        ),
        layout: Layout::Grid { columns: panels.len().min(3) },
        panels,
    })
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
    let series = vec![bars("acc_with", "with the trace", 1), bars("acc_without", "without", 2)];
    if series.iter().all(|series| series.points.is_empty()) {
        return None;
    }
    let panel = Panel::of_series(
        Axis::categories("", found.iter().map(|(run, _)| run.name.clone())),
        Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0)),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_caption(found.into_iter()));
    Some(Figure::single(
        subject.name("necessity.with_and_without"),
        subject.title("Accuracy with and without the trace (D4)"),
        caption,
        panel,
    ))
}

/// `extra.acc_nt` and `extra.acc_t`: accuracy by number of steps, without and with a trace.
pub(super) fn horizon(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts = Vec::new();
    let mut panels = Vec::new();
    for (key, title) in [("acc_nt", "answering at once"), ("acc_t", "thinking aloud")] {
        let series: Vec<Series> = subject
            .runs()
            .filter_map(|(style, run)| {
                let record = run.record(subject.task, "horizon.without_trace")?;
                let points = record.extra.get(key)?.as_array()?.iter().filter_map(|row| {
                    let number = |key: &str| row.get(key)?.as_f64();
                    Some(Point::new(number("k")?, number("accuracy"), [number("lo")?, number("hi")?]))
                });
                if key == "acc_nt" {
                    counts.push((run.name.as_str(), format!("{} items", record.n)));
                }
                Some(Series { name: run.name.clone(), style, mark: Mark::Line, points: points.collect() })
            })
            .collect();
        if series.iter().any(|series| !series.points.is_empty()) {
            let x = Axis::new("steps of the item (k)", Scale::Linear);
            let y = Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0));
            panels.push(Panel { title: title.to_owned(), ..Panel::of_series(x, y, series) });
        }
    }
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("horizon.without_trace"),
        title: subject.title("How many steps go without writing (D7)"),
        caption: format!("{}. {INTERVALS}", n_of(&counts)),
        layout: Layout::Grid { columns: panels.len() },
        panels,
    })
}

fn coverage(subject: &Subject<'_>) -> Option<Figure> {
    let series = subject.scatter("written_steps.coverage");
    if series.is_empty() {
        return None;
    }
    let counts: Vec<(&str, String)> = subject
        .runs()
        .filter_map(|(_, run)| {
            Some((run.name.as_str(), format!("{} items", run.record(subject.task, "written_steps.coverage")?.n)))
        })
        .collect();
    let panel = Panel::of_series(
        Axis::per_cent("average layer savings", Scale::FromZero),
        Axis::per_cent("share of intermediate values that are written down", Scale::Linear),
        series,
    );
    let caption = format!("Of right answers. {}. {INTERVALS}", n_of(&counts));
    Some(Figure::single(
        subject.name("written_steps.coverage"),
        subject.title("Step values in the trace (D8)"),
        caption,
        panel,
    ))
}
