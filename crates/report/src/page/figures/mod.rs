//! The figures of the page: for each metric the plot that its card names, where its numbers are there.

mod depth;
mod dial;
mod externalisation;
mod quality;
mod quality_distribution;
mod task;

use serde_json::Value;

use crate::plot::{Axis, Figure, Mark, Panel, Point, Scale, Series};
use crate::text::grouped;
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::MetricRecord;
use aloud_measure::statistics::Bootstrap;

pub(super) use depth::depth_figures;
pub(super) use dial::dial_figures;
pub(super) use externalisation::externalisation_figures;
pub(super) use quality::quality_figures;
pub(super) use quality_distribution::quality_distributions;
/// The figures of a part of a family of tasks.
pub(super) fn part_figures(subject: &Subject<'_>) -> Vec<Figure> {
    [task::by_steps(subject), externalisation::horizon(subject)].into_iter().flatten().collect()
}

pub(super) use task::{FLEXIBLE, STRICT, funnel_figure, task_figures};

/// Intervals of all figures, as captions say it.
const INTERVALS: &str = "Bars and bands: 95 % intervals over items.";

/// What figures of one task are made from.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) set: &'a RunSet,
    /// Places of the runs that are shown, in `set.runs`.
    pub(super) runs: &'a [usize],
    pub(super) task: &'a str,
    pub(super) bootstrap: &'a Bootstrap,
}

impl<'a> Subject<'a> {
    /// The runs, with the style of their series: grey for the base model, then one after the other.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &'a EvaluationRun)> {
        let mut next = 0;
        let runs = self.runs.iter().filter_map(|place| self.set.runs.get(*place));
        runs.map(move |run| {
            if run.manifest.model == "base" {
                return (0, run);
            }
            next += 1;
            (next, run)
        })
    }

    /// Name of a figure's files.
    pub(super) fn name(&self, metric: &str) -> String {
        let task: String = self.task.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{task}-{metric}")
    }

    /// Title of a figure.
    pub(super) fn title(&self, what: &str) -> String {
        format!("{what}, {}", self.task)
    }

    /// One value a run, as bars with intervals. None if fewer than one run has it with an interval.
    pub(super) fn bars(&self, id: &str, what: &str, axis: &str) -> Option<Figure> {
        let found: Vec<(usize, &EvaluationRun, &MetricRecord)> = self
            .runs()
            .filter_map(|(style, run)| Some((style, run, run.record(self.task, id)?)))
            .filter(|(_, _, record)| record.value.is_some() && record.ci.is_some())
            .collect();
        let (_, _, first) = found.first()?;
        let names: Vec<&str> = found.iter().map(|(_, run, _)| run.name.as_str()).collect();
        let points = found.iter().enumerate().map(|(place, (_, _, record))| across(record, place as f64)).collect();
        let x = if first.unit == "fraction" {
            Axis::per_cent(axis, Scale::FromZero)
        } else {
            Axis::new(axis, Scale::FromZero)
        };
        let series = Series { name: id.to_owned(), style: 1, mark: Mark::Bars, points };
        let panel = Panel::of_series(x, Axis::categories("", names), vec![series]);
        let caption = format!("{}. {INTERVALS}", n_caption(found.iter().map(|(_, run, record)| (*run, *record))));
        Some(Figure::single(self.name(id), self.title(what), caption, panel))
    }

    /// A metric of each run against its layer savings, each run a series.
    pub(super) fn scatter(&self, id: &str) -> Vec<Series> {
        self.runs()
            .filter_map(|(style, run)| {
                let point = against_savings_point(run, self.task, id)?;
                Some(Series { name: run.name.clone(), style, mark: Mark::Points, points: vec![point] })
            })
            .collect()
    }
}

/// A record as a point of a horizontal bar.
fn across(record: &MetricRecord, place: f64) -> Point {
    Point {
        x: record.value.unwrap_or(f64::NAN),
        y: Some(place),
        x_interval: record.ci.as_ref().map(|ci| [ci.lo, ci.hi]),
        ..Point::default()
    }
}

/// Two records as a point with both intervals. None unless both have a value and an interval.
fn plane_point(x: &MetricRecord, y: &MetricRecord) -> Option<Point> {
    let (x_interval, y_interval) = (x.ci.as_ref()?, y.ci.as_ref()?);
    Some(Point {
        x: x.value?,
        y: Some(y.value?),
        x_interval: Some([x_interval.lo, x_interval.hi]),
        y_interval: Some([y_interval.lo, y_interval.hi]),
        ..Point::default()
    })
}

/// An axis for the values of a record, called by its unit.
fn axis_of(record: &MetricRecord) -> Axis {
    match record.unit.as_str() {
        "fraction" => Axis::per_cent("share", Scale::Linear),
        unit => Axis::new(unit, Scale::Linear),
    }
}

/// `n = 200 items, 61 240 tokens`, or run by run where they differ.
fn n_caption<'a>(records: impl Iterator<Item = (&'a EvaluationRun, &'a MetricRecord)>) -> String {
    let counts: Vec<(&str, String)> = records
        .map(|(run, record)| {
            let tokens = record.n_tokens.map(|n| format!(", {} tokens", grouped(n))).unwrap_or_default();
            (run.name.as_str(), format!("{} items{tokens}", grouped(record.n)))
        })
        .collect();
    n_of(&counts)
}

fn n_of(counts: &[(&str, String)]) -> String {
    match counts.first() {
        None => "n = 0".to_owned(),
        Some((_, first)) if counts.iter().all(|(_, count)| count == first) => format!("n = {first} each"),
        Some(_) => {
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            format!("n = {}", counts.join("; "))
        }
    }
}

/// Number of items of the task in each run.
fn n_items(subject: &Subject<'_>) -> String {
    let count = |run: &EvaluationRun| run.items(subject.task).len();
    let counts: Vec<(&str, String)> =
        subject.runs().map(|(_, run)| (run.name.as_str(), format!("{} items", grouped(count(run))))).collect();
    n_of(&counts)
}

/// Number of eligible tokens and items of a run, for captions of what is computed from rows.
fn n_rows(run: &EvaluationRun, task: &str) -> String {
    let rows = run.traced_samples(task).filter_map(|sample| run.tokens.get(&sample.key));
    let tokens = rows.map(|row| row.eligible_depths().count()).sum();
    format!("{} responses, {} tokens", grouped(run.traced_samples(task).count()), grouped(tokens))
}

/// A list of numbers of `extra`; what is no number is none.
fn numbers(record: &MetricRecord, key: &str) -> Option<Vec<Option<f64>>> {
    let list = record.extra.get(key)?.as_array()?;
    Some(list.iter().map(Value::as_f64).collect())
}

/// A field of `extra` with its interval, `{"value", "lo", "hi"}`.
fn with_interval(record: &MetricRecord, key: &str) -> Option<(f64, [f64; 2])> {
    interval_of(record.extra.get(key)?)
}

/// A value with its interval, from `{"value", "lo", "hi"}`.
fn interval_of(field: &Value) -> Option<(f64, [f64; 2])> {
    let number = |key: &str| field.get(key)?.as_f64();
    Some((number("value")?, [number("lo")?, number("hi")?]))
}

/// Layer savings of a run with their interval. Where exits are off they are 0, and there is nothing to estimate.
fn savings(run: &EvaluationRun, task: &str) -> Option<(f64, Option<[f64; 2]>)> {
    if run.is_at_full_depth() {
        return Some((0.0, None));
    }
    let record = run.record(task, "savings.average")?;
    let interval = record.ci.as_ref()?;
    Some((record.value?, Some([interval.lo, interval.hi])))
}

/// A record against the layer savings of its run. None unless it has a value and an interval.
fn against_savings_point(run: &EvaluationRun, task: &str, id: &str) -> Option<Point> {
    let (x, x_interval) = savings(run, task)?;
    let record = run.record(task, id)?;
    let interval = record.ci.as_ref()?;
    Some(Point { x, x_interval, ..Point::new(0.0, Some(record.value?), [interval.lo, interval.hi]) })
}
