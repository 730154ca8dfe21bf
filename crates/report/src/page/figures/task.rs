//! The task: B1 to B5.

use super::{INTERVALS, Subject, n_of};
use crate::page::measured::funnel;
use crate::plot::{Axis, Figure, Layout, Mark, Panel, Point, Scale, Series};

/// Most columns of a length histogram.
const LENGTH_BINS: usize = 16;

/// Ids of accuracies, the strict ones before the lenient ones.
pub(in crate::page) const STRICT: [&str; 3] = ["accuracy.strict", "accuracy.strict", "accuracy.strict"];
/// As [`STRICT`], for answers in any form.
pub(in crate::page) const FLEXIBLE: [&str; 3] = ["accuracy.flexible", "accuracy.lenient", "accuracy.flexible"];

/// The figures of the task, by metric card.
pub(in crate::page) fn task_figures(subject: &Subject<'_>) -> Vec<Figure> {
    [accuracy(subject), by_steps(subject), lengths(subject)].into_iter().flatten().collect()
}

fn accuracy(subject: &Subject<'_>) -> Option<Figure> {
    let (id, series) = STRICT.iter().map(|id| (*id, subject.scatter(id))).find(|(_, series)| !series.is_empty())?;
    let panel = Panel::of_series(
        Axis::per_cent("average layer savings", Scale::FromZero),
        Axis::per_cent("accuracy", Scale::Linear),
        series,
    );
    let counts: Vec<(&str, String)> = subject
        .runs()
        .filter_map(|(_, run)| Some((run.name.as_str(), format!("{} items", run.record(subject.task, id)?.n))))
        .collect();
    let caption = format!("{}. {INTERVALS}", n_of(&counts));
    Some(Figure::single(subject.name(id), subject.title("Accuracy against layer savings (B)"), caption, panel))
}

/// Records `accuracy.at_steps.K`, one for each number of steps.
pub(super) fn by_steps(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts = Vec::new();
    let series: Vec<Series> = subject
        .runs()
        .filter_map(|(style, run)| {
            let of_steps = run.records.iter().filter(|record| {
                record.context.task == subject.task
                    && record.id.starts_with("accuracy.at_steps.")
                    && record.ci.is_some()
            });
            let points: Vec<Point> = of_steps
                .clone()
                .filter_map(|record| {
                    let interval = record.ci.as_ref()?;
                    Some(Point::new(record.extra.get("k")?.as_f64()?, record.value, [interval.lo, interval.hi]))
                })
                .collect();
            if points.is_empty() {
                return None;
            }
            counts.push((run.name.as_str(), format!("{} items", of_steps.map(|record| record.n).sum::<usize>())));
            Some(Series { name: run.name.clone(), style, mark: Mark::Line, points })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::new("steps of the item (k)", Scale::Linear),
        Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0)),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_of(&counts));
    Some(Figure::single(
        subject.name("accuracy.at_steps"),
        subject.title("Accuracy by number of steps (B3)"),
        caption,
        panel,
    ))
}

fn lengths(subject: &Subject<'_>) -> Option<Figure> {
    let longest = subject
        .runs()
        .flat_map(|(_, run)| run.traced_samples(subject.task))
        .map(aloud_measure::run_files::SampleRow::n_tokens)
        .max()
        .filter(|longest| *longest > 0)?;
    let bin = longest.div_ceil(LENGTH_BINS).max(1);
    let mut counts = Vec::new();
    let panels: Vec<Panel> = subject
        .runs()
        .filter_map(|(style, run)| {
            let mut bins = vec![0_usize; longest / bin + 1];
            let samples: Vec<_> = run.traced_samples(subject.task).collect();
            for sample in &samples {
                bins[sample.n_tokens() / bin] += 1;
            }
            counts.push((run.name.as_str(), format!("{} responses", samples.len())));
            let share = |count: &usize| *count as f64 / samples.len().max(1) as f64;
            let points = bins
                .iter()
                .enumerate()
                .map(|(index, count)| Point::new((index as f64 + 0.5) * bin as f64, share(count), None));
            let series = Series { name: run.name.clone(), style, mark: Mark::Bars, points: points.collect() };
            let panel = Panel::of_series(
                Axis::new("response tokens", Scale::Fixed(0.0, ((longest / bin + 1) * bin) as f64)),
                Axis::per_cent("share of responses", Scale::FromZero),
                vec![series],
            );
            (!samples.is_empty()).then(|| Panel { title: run.name.clone(), ..panel })
        })
        .collect();
    Some(Figure {
        name: subject.name("length.trace"),
        title: subject.title("Response length (B4)"),
        caption: format!("{}. Responses that hit the limit stand in the last column.", n_of(&counts)),
        layout: Layout::Grid { columns: panels.len().min(3) },
        panels,
    })
}

/// How many responses reach each stage of being counted.
pub(in crate::page) fn funnel_figure(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts = Vec::new();
    let series: Vec<Series> = subject
        .runs()
        .filter_map(|(style, run)| {
            let stages = funnel(run, subject.task);
            if stages[0] == 0 {
                return None;
            }
            counts.push((run.name.as_str(), format!("{} responses", stages[0])));
            let points = stages.iter().enumerate().map(|(place, count)| {
                let ends = aloud_measure::statistics::wilson_interval(*count, stages[0]);
                Point {
                    x: *count as f64 / stages[0] as f64,
                    y: Some(place as f64),
                    x_interval: ends,
                    ..Point::default()
                }
            });
            Some(Series { name: run.name.clone(), style, mark: Mark::Bars, points: points.collect() })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::per_cent("share of responses", Scale::Fixed(0.0, 1.0)),
        Axis::categories("", ["generated", "trace closed", "answer found", "ended by itself"]),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_of(&counts));
    Some(Figure::single(
        subject.name("length.funnel"),
        subject.title("What is left of the responses (B5)"),
        caption,
        panel,
    ))
}
