//! What figures of one task are made from: its runs, and the words and numbers that captions and points share.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::Value;

use crate::plot::{Axis, Content, Figure, Layout, Mark, N_STYLES, Panel, Point, Scale, Series};
use crate::summary::{BASE, TRAINED};
use crate::words::grouped;
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::MetricRecord;
use aloud_measure::statistics::Bootstrap;

/// Id of the accuracy that figures show.
pub(in crate::page) const ACCURACY: &str = "accuracy.strict";

/// Intervals of all figures, as captions say it.
pub(super) const INTERVALS: &str = "Bars and bands: 95 % intervals over items.";

/// Draws one figure of the runs of a subject. None if there is nothing to draw.
pub(in crate::page) type Draw = fn(&Subject<'_>) -> Option<Figure>;

/// What figures of one task are made from.
#[derive(Clone, Copy)]
pub(in crate::page) struct Subject<'a> {
    pub(in crate::page) set: &'a RunSet,
    /// Places of the runs that are shown, in `set.runs`.
    pub(in crate::page) runs: &'a [usize],
    pub(in crate::page) task: &'a str,
    pub(in crate::page) bootstrap: &'a Bootstrap,
}

impl<'a> Subject<'a> {
    /// The runs, with the style of their series: grey for the base model, then one after the other.
    pub(in crate::page) fn runs(&self) -> impl Iterator<Item = (usize, &'a EvaluationRun)> {
        let mut next = 0;
        let runs = self.runs.iter().filter_map(|place| self.set.runs.get(*place));
        runs.map(move |run| {
            if run.manifest.model == BASE {
                return (0, run);
            }
            next += 1;
            // Grey is the base's alone.
            (1 + (next - 1) % (N_STYLES - 1), run)
        })
    }

    /// A figure, with its panels in rows. None without anything between its axes.
    pub(super) fn figure(&self, name: &str, title: &str, caption: String, panels: Vec<Panel>) -> Option<Figure> {
        let is_empty = |panel: &Panel| match &panel.content {
            Content::Series(series) => series.iter().all(|series| series.points.is_empty()),
            Content::Heat(_) => false,
        };
        let columns = match panels.len() {
            0 | 1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        let task: String = self.task.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        (!panels.iter().all(is_empty)).then(|| Figure {
            name: format!("{task}-{name}"),
            title: format!("{title}, {}", self.task),
            caption,
            panels,
            layout: Layout::Grid { columns },
        })
    }

    /// A series for each run that has points, and of how many each is, in words.
    pub(super) fn series(
        &self,
        mark: Mark,
        of_run: impl Fn(&'a EvaluationRun) -> Option<(Vec<Point>, String)>,
    ) -> (Vec<Series>, Counts<'a>) {
        let of_run = |(style, run): (usize, &'a EvaluationRun)| {
            let (points, count) = of_run(run).filter(|(points, _)| !points.is_empty())?;
            Some((Series { name: run.name.clone(), style, mark, points }, (run.name.as_str(), count)))
        };
        self.runs().filter_map(of_run).unzip()
    }

    /// Of how many what is shown of each run is.
    pub(super) fn n_each(&self, count: impl Fn(&EvaluationRun) -> Option<String>) -> String {
        n_of(self.runs().filter_map(|(_, run)| Some((&run.name, count(run)?))))
    }

    /// Number of items of a record of each run.
    pub(super) fn n_of_records(&self, id: &str) -> String {
        self.n_each(|run| Some(items(run.record(self.task, id)?.n)))
    }

    /// Ids of the records of the task that some run has and that begin in one of these ways.
    pub(in crate::page) fn ids(&self, beginnings: &[&str]) -> BTreeSet<&'a str> {
        let records = self.runs().flat_map(|(_, run)| &run.records).filter(|record| record.context.task == self.task);
        records
            .map(|record| record.id.as_str())
            .filter(|id| beginnings.iter().any(|start| id.starts_with(start)))
            .collect()
    }

    /// One share a run, as bars with intervals. None if no run has it with an interval.
    pub(super) fn bars(&self, id: &str, what: &str, axis: &str) -> Option<Figure> {
        let of_run = |(_, run): (usize, &'a EvaluationRun)| {
            let record = run.record(self.task, id)?;
            Some((run, record, measured(record)?))
        };
        let found: Vec<_> = self.runs().filter_map(of_run).collect();
        let point = |(place, (_, _, (value, interval))): (usize, &(_, _, (f64, [f64; 2])))| {
            Point::across(*value, place as f64, Some(*interval))
        };
        let points = found.iter().enumerate().map(point).collect();
        let series = Series { name: id.to_owned(), style: 1, mark: Mark::Bars, points };
        let names = found.iter().map(|(run, _, _)| run.name.as_str());
        let panel = Panel::of_series(Axis::per_cent(axis, Scale::FromZero), Axis::categories("", names), vec![series]);
        let caption = format!("{}. {INTERVALS}", n_caption(found.iter().map(|(run, record, _)| (*run, *record))));
        self.figure(id, what, caption, vec![panel])
    }

    /// A share of each run against its layer savings.
    pub(super) fn plane(&self, id: &str, what: &str, axis: &str, remark: &str) -> Option<Figure> {
        let series = self.scatter(|run| against_savings_point(run, self.task, id));
        let panel = Panel::of_series(savings_axis(), Axis::per_cent(axis, Scale::Linear), series);
        self.figure(id, what, format!("{remark}{}. {INTERVALS}", self.n_of_records(id)), vec![panel])
    }

    /// A point a run, as at most three series: the base, the trained models, the controls. Where a series has several
    /// points they are labelled.
    pub(super) fn scatter(&self, point: impl Fn(&EvaluationRun) -> Option<Point>) -> Vec<Series> {
        let runs: Vec<(&EvaluationRun, Point)> = self.runs().filter_map(|(_, run)| Some((run, point(run)?))).collect();
        (0..3)
            .filter_map(|style| {
                let of_role: Vec<_> = runs.iter().filter(|(run, _)| role(run) == style).collect();
                let name = match of_role[..] {
                    [] => return None,
                    [(run, _)] => run.name.clone(),
                    _ => ["base models", "models", "controls"][style].to_owned(),
                };
                let label = |run: &EvaluationRun| if of_role.len() > 1 { run.name.clone() } else { String::new() };
                let points = of_role.iter().map(|(run, point)| point.clone().labelled(label(run))).collect();
                Some(Series { name, style, mark: Mark::Points, points })
            })
            .collect()
    }
}

/// 0 for the base model, 1 for a trained one, 2 for a control.
pub(super) fn role(run: &EvaluationRun) -> usize {
    match run.manifest.model.as_str() {
        BASE => 0,
        TRAINED => 1,
        _ => 2,
    }
}

/// Runs by name, and of how many what is shown of each is.
pub(super) type Counts<'a> = Vec<(&'a str, String)>;

/// `200 items`.
pub(super) fn items(n: usize) -> String {
    format!("{} items", grouped(n))
}

pub(super) fn savings_axis() -> Axis {
    Axis::per_cent("average layer savings", Scale::FromZero)
}

/// The value of a record with its interval. None unless it has both.
pub(super) fn measured(record: &MetricRecord) -> Option<(f64, [f64; 2])> {
    let interval = record.ci.as_ref()?;
    Some((record.value?, [interval.lo, interval.hi]))
}

/// An axis for the values of a record, called by its unit.
pub(super) fn axis_of(record: &MetricRecord) -> Axis {
    match record.unit.as_str() {
        "fraction" => Axis::per_cent("share", Scale::Linear),
        unit => Axis::new(unit, Scale::Linear),
    }
}

/// `n = 200 items, 61 240 tokens`, or run by run where they differ.
pub(super) fn n_caption<'a>(records: impl Iterator<Item = (&'a EvaluationRun, &'a MetricRecord)>) -> String {
    n_of(records.map(|(run, record)| {
        let tokens = record.n_tokens.map(|n| format!(", {} tokens", grouped(n))).unwrap_or_default();
        (&run.name, items(record.n) + &tokens)
    }))
}

pub(super) fn n_of<Name: Display>(counts: impl IntoIterator<Item = (Name, String)>) -> String {
    let counts: Vec<(Name, String)> = counts.into_iter().collect();
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
pub(super) fn n_items(subject: &Subject<'_>) -> String {
    subject.n_each(|run| Some(items(run.items(subject.task).len())))
}

/// Number of eligible tokens and items of a run, for captions of what is computed from rows.
pub(super) fn n_rows(run: &EvaluationRun, task: &str) -> String {
    let rows = run.traced_samples(task).filter_map(|sample| run.tokens.get(&sample.key));
    let tokens = rows.map(|row| row.eligible_depths().count()).sum();
    format!("{} responses, {} tokens", grouped(run.traced_samples(task).count()), grouped(tokens))
}

/// A list of numbers of `extra`; what is no number is none.
pub(super) fn numbers(record: &MetricRecord, key: &str) -> Option<Vec<Option<f64>>> {
    Some(record.extra.get(key)?.as_array()?.iter().map(Value::as_f64).collect())
}

/// A field of `extra` with its interval, `{"value", "lo", "hi"}`.
pub(super) fn with_interval(record: &MetricRecord, key: &str) -> Option<(f64, [f64; 2])> {
    interval_of(record.extra.get(key)?)
}

/// A value with its interval, from `{"value", "lo", "hi"}`.
pub(super) fn interval_of(field: &Value) -> Option<(f64, [f64; 2])> {
    let number = |key: &str| field.get(key)?.as_f64();
    Some((number("value")?, [number("lo")?, number("hi")?]))
}

/// Layer savings of a run with their interval. Where exits are off they are 0, and there is nothing to estimate.
fn savings(run: &EvaluationRun, task: &str) -> Option<(f64, Option<[f64; 2]>)> {
    if run.is_at_full_depth() {
        return Some((0.0, None));
    }
    measured(run.record(task, "savings.average")?).map(|(value, interval)| (value, Some(interval)))
}

/// A record against the layer savings of its run. None unless it has a value and an interval.
pub(super) fn against_savings_point(run: &EvaluationRun, task: &str, id: &str) -> Option<Point> {
    let (x, x_interval) = savings(run, task)?;
    let (value, interval) = measured(run.record(task, id)?)?;
    Some(Point { x, x_interval, ..Point::new(0.0, value, interval) })
}

/// A metric against layer savings, as a panel of small multiples. None if no run has it.
pub(super) fn against_savings(subject: &Subject<'_>, title: &str, id: &str) -> Option<Panel> {
    let y = subject.runs().find_map(|(_, run)| run.record(subject.task, id)).map(axis_of)?;
    let series = subject.scatter(|run| against_savings_point(run, subject.task, id));
    let x = savings_axis();
    (!series.is_empty()).then(|| Panel { title: title.to_owned(), ..Panel::of_series(x, y, series) })
}
