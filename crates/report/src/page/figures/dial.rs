//! Dials: F1 to F7, except F5, which needs a monitor.

use super::depth::{against_savings, exchange_guides, ridge};
use super::task::{FLEXIBLE, STRICT};
use super::{INTERVALS, Subject, against_savings_point, n_of, n_rows, numbers};
use crate::page::measured::{depth_shares, depths};
use crate::plot::{Axis, Figure, Layout, Mark, Panel, Point, Scale, Series, Spread};
use aloud_compare::paired::{Joint, joint_draws, shared_clusters};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::statistics::{bootstrap_front, covariance};

/// A point of a sweep: what it is called, and its run.
type PointRun<'a> = (String, &'a EvaluationRun);

/// The figures of the dials.
pub(in crate::page) fn dial_figures(subject: &Subject<'_>) -> Vec<Figure> {
    let sweeps: Vec<(String, Vec<PointRun<'_>>)> = subject
        .set
        .sweeps
        .iter()
        .map(|sweep| {
            let points = sweep.index.points.iter().zip(&sweep.runs).filter_map(|(point, place)| {
                let run = subject.set.runs.get((*place)?)?;
                // The base model is no point of the dial; it stands among the controls.
                let counts = run.manifest.model != "base" && run.tasks().contains(&subject.task);
                let label = point.label.strip_prefix(sweep.index.dial.as_str()).unwrap_or(&point.label);
                counts.then(|| (label.trim().replace('-', "−"), run))
            });
            (sweep.index.dial.replace('_', " "), points.collect())
        })
        .filter(|(_, points): &(String, Vec<PointRun<'_>>)| !points.is_empty())
        .collect();
    if sweeps.is_empty() {
        return Vec::new();
    }
    let mut figures: Vec<Figure> = accuracy(subject, &sweeps).into_iter().collect();
    figures.extend(multiples(subject, &sweeps));
    for (dial, points) in &sweeps {
        figures.extend(depth_ridge(subject, dial, points));
        figures.extend(targets(subject, dial, points));
    }
    figures.extend(length(subject, &sweeps));
    figures.extend(horizon(subject, &sweeps));
    figures
}

/// All points of the sweeps, then the other runs of the task by their names: controls.
fn series_of<'a>(
    subject: &Subject<'a>,
    sweeps: &[(String, Vec<PointRun<'a>>)],
) -> Vec<(usize, String, Vec<PointRun<'a>>)> {
    let mut series: Vec<_> =
        sweeps.iter().enumerate().map(|(index, (dial, points))| (index + 1, dial.clone(), points.clone())).collect();
    let in_sweep =
        |run: &EvaluationRun| sweeps.iter().flat_map(|(_, points)| points).any(|(_, other)| std::ptr::eq(*other, run));
    let others = subject.set.runs.iter().filter(|run| run.tasks().contains(&subject.task) && !in_sweep(run));
    let mut style = sweeps.len() + 1;
    for run in others {
        let base = run.manifest.model == "base";
        series.push((if base { 0 } else { style }, run.name.clone(), vec![(String::new(), run)]));
        style += usize::from(!base);
    }
    series
}

/// Number of items of each point.
fn n_points(subject: &Subject<'_>, sweeps: &[(String, Vec<PointRun<'_>>)]) -> String {
    let points = sweeps.iter().flat_map(|(_, points)| points);
    let count = |run: &EvaluationRun| run.items(subject.task).len();
    n_of(&points.map(|(label, run)| (label.as_str(), format!("{} items", count(run)))).collect::<Vec<_>>())
}

/// Number of responses and tokens of each point.
fn n_rows_of(subject: &Subject<'_>, points: &[PointRun<'_>]) -> String {
    n_of(&points.iter().map(|(label, run)| (label.as_str(), n_rows(run, subject.task))).collect::<Vec<_>>())
}

fn accuracy(subject: &Subject<'_>, sweeps: &[(String, Vec<PointRun<'_>>)]) -> Option<Figure> {
    let series_runs = series_of(subject, sweeps);
    let all = || series_runs.iter().flat_map(|(_, _, points)| points);
    let id = STRICT.iter().find(|id| all().any(|(_, run)| run.record(subject.task, id).is_some()))?;
    let runs: Vec<&EvaluationRun> = all().map(|(_, run)| *run).collect();
    // Without items that all runs have there are no joint draws, and so no ellipses and no front.
    let joint = shared_clusters(&runs, subject.task, ["savings.average", id])
        .and_then(|clusters| joint_draws(&clusters, subject.bootstrap))
        .unwrap_or_default();
    let front = front(&runs, &joint);
    let mut place = 0;
    let mut series: Vec<Series> = Vec::new();
    let mut on_front: Vec<Point> = Vec::new();
    for (style, name, points) in &series_runs {
        let mut drawn = Vec::new();
        for (label, run) in points {
            let spread = joint.get(place).and_then(|draws| covariance(draws)).map(|of| Spread {
                x: of[0][0],
                y: of[1][1],
                covariance: of[0][1],
            });
            let is_front = front.get(place).copied().unwrap_or(false);
            place += 1;
            if let Some(mut point) = against_savings_point(run, subject.task, id) {
                point.spread = spread;
                point.label.clone_from(label);
                if is_front {
                    on_front.push(Point {
                        spread: None,
                        x_interval: None,
                        y_interval: None,
                        label: String::new(),
                        ..point.clone()
                    });
                }
                drawn.push(point);
            }
        }
        if !drawn.is_empty() {
            series.push(Series { name: name.clone(), style: *style, mark: Mark::Points, points: drawn });
        }
    }
    if series.is_empty() {
        return None;
    }
    if on_front.len() > 1 {
        on_front.sort_by(|a, b| a.x.total_cmp(&b.x));
        series.insert(0, Series { name: "front".to_owned(), style: 0, mark: Mark::Line, points: on_front });
    }
    let panel = Panel::of_series(
        Axis::per_cent("average layer savings", Scale::FromZero),
        Axis::per_cent("accuracy", Scale::Linear),
        series,
    );
    let caption = format!(
        "Front: points that no other beats on both axes in 95 % of the joint draws. \
         Ellipses: 95 % regions. {}. {INTERVALS}",
        n_points(subject, sweeps)
    );
    Some(Figure::single(
        subject.name("dial.accuracy"),
        subject.title("Accuracy against layer savings over the dials (F1)"),
        caption,
        panel,
    ))
}

fn front(runs: &[&EvaluationRun], joint: &Joint) -> Vec<bool> {
    if joint.len() == runs.len() { bootstrap_front(joint) } else { Vec::new() }
}

fn multiples(subject: &Subject<'_>, sweeps: &[(String, Vec<PointRun<'_>>)]) -> Option<Figure> {
    const HEADLINE: [(&str, &str); 9] = [
        ("exits.rate", "exit rate (A2)"),
        ("savings.operations", "FLOPs saved (A7)"),
        ("length.trace", "response length (B4)"),
        ("length.truncated", "truncated (B5)"),
        ("text.perplexity", "perplexity under the base (C4)"),
        ("early_answering.area", "early answering (D1)"),
        ("necessity.accuracy", "necessity, accuracy (D4)"),
        ("necessity.log_probability", "necessity, log-probability (D4)"),
        ("written_steps.coverage", "step coverage (D8)"),
    ];
    let series: Vec<(usize, String, Vec<&EvaluationRun>)> = series_of(subject, sweeps)
        .into_iter()
        .map(|(style, name, points)| (style, name, points.into_iter().map(|(_, run)| run).collect()))
        .collect();
    let accuracies = STRICT
        .iter()
        .map(|id| (*id, "accuracy, strict (B)"))
        .chain(FLEXIBLE.iter().map(|id| (*id, "accuracy, lenient (B)")));
    let panels: Vec<Panel> = accuracies
        .chain(HEADLINE)
        .filter_map(|(id, title)| against_savings(title, &series, subject.task, id))
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("dial.multiples"),
        title: subject.title("Headline metrics against layer savings (F2)"),
        caption: format!("Every point is one run. {}. {INTERVALS}", n_points(subject, sweeps)),
        layout: Layout::Grid { columns: panels.len().min(3) },
        panels,
    })
}

fn depth_ridge(subject: &Subject<'_>, dial: &str, points: &[PointRun<'_>]) -> Option<Figure> {
    let panels = ridge(subject, points)?;
    Some(Figure {
        name: subject.name(&format!("dial.depths.{}", dial.replace(' ', "-"))),
        title: subject.title(&format!("Where tokens stop, over {dial} (F3)")),
        caption: format!(
            "Share of eligible tokens at each depth; all rows have the same scale. {}. {INTERVALS}",
            n_rows_of(subject, points)
        ),
        panels,
        layout: Layout::Ridge,
    })
}

fn targets(subject: &Subject<'_>, dial: &str, points: &[PointRun<'_>]) -> Option<Figure> {
    if dial != "kl factor" {
        return None;
    }
    let panels: Vec<Panel> = points
        .iter()
        .filter_map(|(label, run)| {
            let record = run.records.iter().find(|r| {
                r.id == "exits.distance_to_target" && r.context.task == subject.task && r.extra.contains_key("pi_star")
            })?;
            let shares = depth_shares(run, subject.task, subject.bootstrap)?;
            let drawn =
                (0..).zip(&shares).map(|(place, share)| Point::new(f64::from(place), share.0, share.1)).collect();
            let target = (0..)
                .zip(numbers(record, "pi_star")?)
                .map(|(place, value)| Point::new(f64::from(place), value, None))
                .collect();
            let x = Axis::categories("depth in blocks", depths(run).into_iter().map(|depth| depth.to_string()));
            let y = Axis::per_cent("share of tokens", Scale::Fixed(0.0, 1.0));
            let bars = |name: &str, style, points| Series { name: name.to_owned(), style, mark: Mark::Bars, points };
            let series = vec![bars("drawn", 1, drawn), bars("target", 3, target)];
            Some(Panel { title: format!("KL factor {label}"), ..Panel::of_series(x, y, series) })
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("dial.targets"),
        title: subject.title("Exits aimed at and drawn, over the KL factor (F4)"),
        caption: format!("Share of eligible tokens at each depth. {}. {INTERVALS}", n_rows_of(subject, points)),
        layout: Layout::Grid { columns: panels.len().min(3) },
        panels,
    })
}

/// A metric against mean depth as a share of full depth, for each series.
fn against_depth(
    subject: &Subject<'_>,
    sweeps: &[(String, Vec<PointRun<'_>>)],
    id: &str,
    scale: impl Fn(Point) -> Point,
) -> Vec<Series> {
    series_of(subject, sweeps)
        .into_iter()
        .filter_map(|(style, name, points)| {
            let points: Vec<Point> = points
                .iter()
                .filter_map(|(label, run)| {
                    let mut point = against_savings_point(run, subject.task, id)?;
                    point.x = 1.0 - point.x;
                    point.x_interval = point.x_interval.map(|[low, high]| [1.0 - high, 1.0 - low]);
                    point.label.clone_from(label);
                    Some(scale(point))
                })
                .collect();
            (!points.is_empty()).then_some(Series { name, style, mark: Mark::Points, points })
        })
        .collect()
}

fn length(subject: &Subject<'_>, sweeps: &[(String, Vec<PointRun<'_>>)]) -> Option<Figure> {
    // Over the length at rest: the base model's if it is there, else that of the point that saves least.
    let record = |run: &EvaluationRun, id| run.record(subject.task, id).and_then(|record| record.value);
    let base =
        subject.set.runs.iter().find(|run| run.manifest.model == "base" && record(run, "length.trace").is_some());
    let least = || {
        let points =
            sweeps.iter().flat_map(|(_, points)| points).filter(|(_, run)| record(run, "length.trace").is_some());
        points
            .filter_map(|(_, run)| Some((record(run, "savings.average")?, *run)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, run)| run)
    };
    let reference = base.or_else(least)?;
    let rest = record(reference, "length.trace").filter(|rest| *rest > 0.0)?;
    let series = against_depth(subject, sweeps, "length.trace", |mut point| {
        point.y = point.y.map(|y| y / rest);
        point.y_interval = point.y_interval.map(|ends| ends.map(|end| end / rest));
        point
    });
    if series.is_empty() {
        return None;
    }
    let mut panel = Panel::of_series(
        Axis::per_cent("mean depth, share of full depth", Scale::Linear),
        Axis::new(format!("response length over that of {}", reference.name), Scale::Linear),
        series,
    );
    panel.guides = exchange_guides();
    let caption = format!(
        "Dashed: responses that get longer by as much as depth got smaller (exchange 1), half as much, not at all. {}. {INTERVALS}",
        n_points(subject, sweeps)
    );
    Some(Figure::single(
        subject.name("dial.length"),
        subject.title("Response length against depth (F6)"),
        caption,
        panel,
    ))
}

fn horizon(subject: &Subject<'_>, sweeps: &[(String, Vec<PointRun<'_>>)]) -> Option<Figure> {
    let series = against_depth(subject, sweeps, "horizon.without_trace", |point| point);
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::per_cent("mean depth, share of full depth", Scale::Linear),
        Axis::new("steps that go without writing", Scale::FromZero),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_points(subject, sweeps));
    Some(Figure::single(
        subject.name("dial.horizon"),
        subject.title("Horizon without a trace against depth (F7)"),
        caption,
        panel,
    ))
}
