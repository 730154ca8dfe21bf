//! Depth: A1 to A8.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    INTERVALS, Subject, against_savings_point, axis_of, n_items, n_of, n_rows, numbers, plane_point, with_interval,
};
use crate::page::measured::{
    WithInterval, depth_against_settling, depth_by, depth_quantile, depth_shares, depths, surprisal_deciles,
};
use crate::plot::{Axis, Content, Figure, Guide, HeatMap, Layout, Mark, NumberFormat, Panel, Point, Scale, Series};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::TokenRow;
use aloud_measure::token_class::TokenClass;

/// The figures of depth, by metric card.
pub(in crate::page) fn depth_figures(subject: &Subject<'_>) -> Vec<Figure> {
    [
        subject.bars("savings.average", "Average layer savings (A1)", "average layer savings"),
        quantile_fan(subject),
        subject.bars("exits.rate", "Exit rate (A2)", "share of tokens that stopped early"),
        exit_histograms(subject),
        reliability(subject),
        by_class(subject),
        by_surprisal(subject),
        settling(subject),
        speed(subject),
        exchange(subject),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs whose tokens choose their depth.
fn exiting<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (usize, &'a EvaluationRun)> {
    subject.runs().filter(|(_, run)| !run.is_at_full_depth())
}

fn counts<'a>(subject: &Subject<'a>) -> Vec<(&'a str, String)> {
    exiting(subject).map(|(_, run)| (run.name.as_str(), n_rows(run, subject.task))).collect()
}

fn quantile_fan(subject: &Subject<'_>) -> Option<Figure> {
    const SHARES: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 0.95];
    let series: Vec<Series> = exiting(subject)
        .filter_map(|(style, run)| {
            let points: Option<Vec<Point>> = SHARES
                .iter()
                .enumerate()
                .map(|(place, share)| {
                    let (depth, interval) = depth_quantile(run, subject.task, *share, subject.bootstrap)?;
                    Some(Point::new(place as f64, depth, interval.map(|interval| [interval.lo, interval.hi])))
                })
                .collect();
            Some(Series { name: run.name.clone(), style, mark: Mark::Points, points: points? })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::categories("quantile of token depths", ["25 %", "50 %", "75 %", "90 %", "95 %"]),
        Axis::new("depth in blocks", Scale::FromZero),
        series,
    );
    let caption =
        format!("Depths that 25 to 95 % of the tokens do not go beyond. {}. {INTERVALS}", n_of(&counts(subject)));
    Some(Figure::single(
        subject.name("depth.quantiles"),
        subject.title("How deep the deepest tokens go (A1)"),
        caption,
        panel,
    ))
}

fn exit_histograms(subject: &Subject<'_>) -> Option<Figure> {
    let panels: Vec<Panel> = exiting(subject)
        .filter_map(|(_, run)| {
            let shares = depth_shares(run, subject.task, subject.bootstrap)?;
            let points = (0..).zip(&shares).map(|(place, share)| Point::new(f64::from(place), share.0, share.1));
            let mut series =
                vec![Series { name: "drawn".to_owned(), style: 1, mark: Mark::Bars, points: points.collect() }];
            let record = run.record(subject.task, "exits.distance_to_target");
            for (key, name, style) in [("pi", "learned", 2), ("pi_star", "target", 3)] {
                if let Some(values) = record.and_then(|record| numbers(record, key))
                    && values.len() == shares.len()
                {
                    let points = (0..).zip(values).map(|(place, value)| Point::new(f64::from(place), value, None));
                    series.push(Series { name: name.to_owned(), style, mark: Mark::Bars, points: points.collect() });
                }
            }
            let names = depths(run).into_iter().map(|depth| depth.to_string());
            let x = Axis::categories("depth in blocks", names);
            let y = Axis::per_cent("share of tokens", Scale::FromZero);
            Some(Panel { title: run.name.clone(), ..Panel::of_series(x, y, series) })
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("exits.distance_to_target"),
        title: subject.title("Exits drawn, learned and aimed at (A3)"),
        caption: format!(
            "Share of eligible tokens at each depth; the last is full depth. Learned: mean exit distribution of the \
             hazards; target: that of the teacher. {}. {INTERVALS}",
            n_of(&counts(subject))
        ),
        layout: Layout::Grid { columns: columns(panels.len()) },
        panels,
    })
}

/// Columns of a grid of `n` panels.
fn columns(n: usize) -> usize {
    match n {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    }
}

/// `extra.reliability`: for each candidate its depth and bins with a mean hazard and a mean target hazard.
fn reliability(subject: &Subject<'_>) -> Option<Figure> {
    let mut by_depth: BTreeMap<u64, Vec<Series>> = BTreeMap::new();
    for (style, run) in exiting(subject) {
        let record = run.record(subject.task, "exits.distance_to_target");
        let candidates = record.and_then(|record| record.extra.get("reliability")?.as_array());
        for candidate in candidates.into_iter().flatten() {
            let bin = |bin: &Value| Some(Point::new(bin.get("hazard")?.as_f64()?, bin.get("target")?.as_f64()?, None));
            let bins = candidate.get("bins").and_then(Value::as_array).into_iter().flatten();
            let points: Vec<Point> = bins.filter_map(bin).collect();
            if let (Some(depth), false) = (candidate.get("depth").and_then(Value::as_u64), points.is_empty()) {
                let series = Series { name: run.name.clone(), style, mark: Mark::Line, points };
                by_depth.entry(depth).or_default().push(series);
            }
        }
    }
    let panels: Vec<Panel> = by_depth
        .into_iter()
        .map(|(depth, series)| {
            let axis = |label: &str| Axis::per_cent(label, Scale::Fixed(0.0, 1.0));
            Panel {
                title: format!("depth {depth}"),
                guides: vec![Guide { label: String::new(), points: vec![[0.0, 0.0], [1.0, 1.0]] }],
                ..Panel::of_series(axis("hazard"), axis("target hazard"), series)
            }
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("exits.reliability"),
        title: subject.title("Hazards against target hazards (A3)"),
        caption: format!(
            "Tokens in ten bins by hazard: the mean target hazard of a bin should be on the dashed diagonal. {}.",
            n_of(&counts(subject))
        ),
        layout: Layout::Grid { columns: columns(panels.len()) },
        panels,
    })
}

fn by_class(subject: &Subject<'_>) -> Option<Figure> {
    let class = |tokens: &TokenRow, index: usize| tokens.class.get(index).copied();
    let of_runs: Vec<_> = subject
        .runs()
        .filter(|(_, run)| !run.is_at_full_depth())
        .map(|(style, run)| (style, run, depth_by(run, subject.task, subject.bootstrap, class)))
        .filter(|(_, _, classes)| !classes.is_empty())
        .collect();
    // Deepest class of the first run first.
    let mut order: Vec<(TokenClass, f64)> =
        of_runs.first()?.2.iter().map(|(class, depth, _)| (*class, depth.0)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let series = of_runs.iter().map(|(style, run, classes)| {
        let points = order.iter().enumerate().filter_map(|(place, (class, _))| {
            let (_, (depth, interval), _) = classes.iter().find(|(known, _, _)| known == class)?;
            Some(Point { x: *depth, y: Some(place as f64), x_interval: *interval, ..Point::default() })
        });
        Series { name: run.name.clone(), style: *style, mark: Mark::Points, points: points.collect() }
    });
    let names = order.iter().map(|(class, _)| class_name(*class));
    let panel = Panel::of_series(
        Axis::new("mean depth in blocks", Scale::Linear),
        Axis::categories("", names),
        series.collect(),
    );
    let counts: Vec<(&str, String)> =
        of_runs.iter().map(|(_, run, _)| (run.name.as_str(), n_rows(run, subject.task))).collect();
    let caption = format!("Mean depth by kind of token, deepest first. {}. {INTERVALS}", n_of(&counts));
    Some(Figure::single(
        subject.name("depth.by_token_class"),
        subject.title("Depth by kind of token (A4)"),
        caption,
        panel,
    ))
}

fn class_name(class: TokenClass) -> String {
    let name = serde_json::to_value(class).ok().and_then(|name| name.as_str().map(str::to_owned));
    name.unwrap_or_default().replace('_', " ")
}

fn by_surprisal(subject: &Subject<'_>) -> Option<Figure> {
    let series: Vec<Series> = subject
        .runs()
        .filter(|(_, run)| !run.is_at_full_depth())
        .filter_map(|(style, run)| {
            let cuts = surprisal_deciles(run, subject.task)?;
            let tenth = |tokens: &TokenRow, index: usize| {
                let bits = tokens.surprisal_bits.get(index)?;
                Some(cuts.iter().filter(|cut| *bits > **cut).count())
            };
            let points: Vec<Point> = depth_by(run, subject.task, subject.bootstrap, tenth)
                .into_iter()
                .map(|(tenth, (depth, interval), _)| Point::new(tenth as f64 + 1.0, depth, interval))
                .collect();
            (!points.is_empty()).then(|| Series { name: run.name.clone(), style, mark: Mark::Line, points })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let panel = Panel::of_series(
        Axis::new("tenth of tokens by the base model's surprisal, least surprising first", Scale::Fixed(1.0, 10.0)),
        Axis::new("mean depth in blocks", Scale::Linear),
        series,
    );
    let caption = format!(
        "Surprisal in bits, of the base model at full depth. Equal surprisals stand in one tenth, so tenths may be missing. \
         {}. {INTERVALS}",
        n_of(&counts(subject))
    );
    Some(Figure::single(
        subject.name("depth.by_surprisal"),
        subject.title("Depth against surprisal (A5)"),
        caption,
        panel,
    ))
}

fn settling(subject: &Subject<'_>) -> Option<Figure> {
    let panels: Vec<Panel> = subject
        .runs()
        .filter(|(_, run)| !run.is_at_full_depth())
        .filter_map(|(_, run)| {
            let mut values = depth_against_settling(run, subject.task)?;
            let names: Vec<String> = depths(run).into_iter().map(|depth| depth.to_string()).collect();
            // Deep above.
            values.reverse();
            let heat = HeatMap {
                values: values.into_iter().map(|row| row.into_iter().map(Some).collect()).collect(),
                label: "share of tokens".to_owned(),
                format: NumberFormat::PerCent,
            };
            Some(Panel {
                title: run.name.clone(),
                x: Axis::categories("first settling depth in blocks", names.clone()),
                y: Axis::categories("depth in blocks", names.into_iter().rev()),
                content: Content::Heat(heat),
                guides: Vec::new(),
            })
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("depth.regret"),
        title: subject.title("Depth against settling depth (A6)"),
        caption: format!(
            "Tokens above the rising diagonal ran deeper than the base model's readout needed; below it they stopped before it \
             had settled. Settling depths are rounded up to the next candidate. {}.",
            n_of(&counts(subject))
        ),
        layout: Layout::Grid { columns: if panels.len() == 1 { 1 } else { 2 } },
        panels,
    })
}

fn speed(subject: &Subject<'_>) -> Option<Figure> {
    let series: Vec<Series> = subject
        .runs()
        .filter_map(|(style, run)| {
            let (flops, speed) =
                (run.record(subject.task, "savings.operations")?, run.record(subject.task, "savings.speed_batch_1")?);
            let mut point = plane_point(flops, speed)?;
            // The speed-up that the saving would give by itself.
            point.x = 1.0 / (1.0 - point.x);
            point.x_interval = point.x_interval.map(|ends| ends.map(|saved| 1.0 / (1.0 - saved)));
            Some(Series { name: run.name.clone(), style, mark: Mark::Points, points: vec![point] })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let mut panel = Panel::of_series(
        Axis::new("speed-up that the saved FLOPs would give", Scale::Linear),
        Axis::new("measured speed-up (tokens/s over tokens/s with exits off)", Scale::Linear),
        series,
    );
    panel.guides.push(Guide { label: "as computed".to_owned(), points: vec![[0.0, 0.0], [10.0, 10.0]] });
    let caption =
        format!("{}, batch size 1. On the dashed diagonal saved FLOPs are saved time. {INTERVALS}", n_items(subject));
    Some(Figure::single(
        subject.name("savings.speed"),
        subject.title("Computed and measured speed (A7)"),
        caption,
        panel,
    ))
}

/// Iso-exchange lines: response length that makes up for depth, for exchange rates 0, 0.5 and 1.
pub(super) fn exchange_guides() -> Vec<Guide> {
    [0.0, 0.5, 1.0]
        .into_iter()
        .map(|rate| {
            let points = (0..=60).map(|i| 1.0 - f64::from(i) / 100.0).map(|depth| [depth, depth.powf(-rate)]);
            Guide { label: format!("exchange {rate}"), points: points.collect() }
        })
        .collect()
}

fn exchange(subject: &Subject<'_>) -> Option<Figure> {
    let mut counts: Vec<(&str, String)> = Vec::new();
    let series: Vec<Series> = subject
        .runs()
        .filter_map(|(style, run)| {
            let record = run.record(subject.task, "depth.exchange_rate")?;
            let ((x, x_interval), (y, y_interval)) =
                (with_interval(record, "depth_ratio")?, with_interval(record, "t_ratio")?);
            let point = Point { x, x_interval: Some(x_interval), ..Point::new(0.0, y, y_interval) };
            counts.push((run.name.as_str(), format!("{} items", record.n)));
            Some(Series { name: run.name.clone(), style, mark: Mark::Points, points: vec![point] })
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let mut panel = Panel::of_series(
        Axis::per_cent("mean depth, share of full depth", Scale::Linear),
        Axis::new("response length over that of the base model", Scale::Linear),
        series,
    );
    panel.guides = exchange_guides();
    let caption = format!(
        "Dashed: responses that get longer by as much as depth got smaller (exchange 1), half as much, not at all. {}. {INTERVALS}",
        n_of(&counts)
    );
    Some(Figure::single(
        subject.name("depth.exchange_rate"),
        subject.title("Depth given up, text gained (A8)"),
        caption,
        panel,
    ))
}

/// Histograms of depth of several runs, one above the other.
pub(super) fn ridge(subject: &Subject<'_>, runs: &[(String, &EvaluationRun)]) -> Option<Vec<Panel>> {
    let of_runs: Vec<(&str, &EvaluationRun, Vec<WithInterval>)> = runs
        .iter()
        .filter_map(|(label, run)| Some((label.as_str(), *run, depth_shares(run, subject.task, subject.bootstrap)?)))
        .collect();
    // One scale for all rows.
    let largest = of_runs.iter().flat_map(|(_, _, shares)| shares).map(|share| share.0).fold(0.01, f64::max);
    let panels: Vec<Panel> = of_runs
        .iter()
        .map(|(label, run, shares)| {
            let points = (0..).zip(shares).map(|(place, share)| Point::new(f64::from(place), share.0, share.1));
            let series = Series { name: (*label).to_owned(), style: 1, mark: Mark::Bars, points: points.collect() };
            let x = Axis::categories("depth in blocks", depths(run).into_iter().map(|depth| depth.to_string()));
            let y = Axis::per_cent("share of tokens", Scale::Fixed(0.0, 1.1 * largest));
            Panel { title: (*label).to_owned(), ..Panel::of_series(x, y, vec![series]) }
        })
        .collect();
    (!panels.is_empty()).then_some(panels)
}

/// A metric against layer savings, as a panel of small multiples.
pub(super) fn against_savings(
    title: &str,
    runs: &[(usize, String, Vec<&EvaluationRun>)],
    task: &str,
    id: &str,
) -> Option<Panel> {
    let mut axis = None;
    let series: Vec<Series> = runs
        .iter()
        .filter_map(|(style, name, runs)| {
            let points: Vec<Point> = runs
                .iter()
                .filter_map(|run| {
                    let point = against_savings_point(run, task, id)?;
                    axis = axis.take().or_else(|| run.record(task, id).map(axis_of));
                    Some(point)
                })
                .collect();
            (!points.is_empty()).then(|| Series { name: name.clone(), style: *style, mark: Mark::Points, points })
        })
        .collect();
    let y = axis?;
    let x = Axis::per_cent("average layer savings", Scale::FromZero);
    Some(Panel { title: title.to_owned(), ..Panel::of_series(x, y, series) })
}
