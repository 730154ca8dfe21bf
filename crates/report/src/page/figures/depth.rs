//! Depth: how much was saved, where tokens stop, and what that depends on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::subject::{Counts, Draw, INTERVALS, Subject, measured, n_items, n_of, n_rows, numbers, with_interval};
use crate::page::measured::{
    depth_against_settling, depth_by, depth_quantile, depth_shares, depths, surprisal_deciles,
};
use crate::plot::{Axis, Content, Figure, Guide, HeatMap, Mark, Panel, Point, Scale, Series};
use crate::words::word;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::TokenRow;
use aloud_measure::token_class::TokenClass;

pub(super) const DEPTH: &[Draw] = &[
    |subject| subject.bars("savings.average", "Average layer savings", "average layer savings"),
    quantile_fan,
    |subject| subject.bars("exits.rate", "Tokens that stop early", "share of tokens that stopped early"),
    exit_histograms,
    reliability,
    by_class,
    by_surprisal,
    settling,
    speed,
    exchange,
];

/// Runs whose tokens choose their depth.
fn exiting<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (usize, &'a EvaluationRun)> {
    subject.runs().filter(|(_, run)| !run.is_at_full_depth())
}

fn counts(subject: &Subject<'_>) -> String {
    subject.n_each(|run| (!run.is_at_full_depth()).then(|| n_rows(run, subject.task)))
}

/// A series for each run whose tokens choose their depth.
fn of_exiting<'a>(
    subject: &Subject<'a>,
    mark: Mark,
    points: impl Fn(&'a EvaluationRun) -> Option<Vec<Point>>,
) -> (Vec<Series>, Counts<'a>) {
    let of_run = |run: &'a EvaluationRun| {
        (!run.is_at_full_depth()).then(|| points(run)).flatten().map(|points| (points, n_rows(run, subject.task)))
    };
    subject.series(mark, of_run)
}

fn quantile_fan(subject: &Subject<'_>) -> Option<Figure> {
    const SHARES: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 0.95];
    let (series, counts) = of_exiting(subject, Mark::Points, |run| {
        let point = |(place, share): (usize, &f64)| {
            let (depth, interval) = depth_quantile(run, subject.task, *share, subject.bootstrap)?;
            Some(Point::new(place as f64, depth, interval.map(|interval| [interval.lo, interval.hi])))
        };
        SHARES.iter().enumerate().map(point).collect()
    });
    let panel = Panel::of_series(
        Axis::categories("quantile of token depths", ["25 %", "50 %", "75 %", "90 %", "95 %"]),
        Axis::new("depth in blocks", Scale::FromZero),
        series,
    );
    let caption = format!("Depths that 25 to 95 % of the tokens do not go beyond. {}. {INTERVALS}", n_of(counts));
    subject.figure("depth.quantiles", "How deep the deepest tokens go", caption, vec![panel])
}

pub(super) fn depth_axis(run: &EvaluationRun) -> Axis {
    Axis::categories("depth in blocks", depths(run).into_iter().map(|depth| depth.to_string()))
}

pub(super) fn share_bars(
    name: &str,
    style: usize,
    shares: impl Iterator<Item = (Option<f64>, Option<[f64; 2]>)>,
) -> Series {
    let points = (0..).zip(shares).map(|(place, (share, interval))| Point::new(f64::from(place), share, interval));
    Series { name: name.to_owned(), style, mark: Mark::Bars, points: points.collect() }
}

pub(super) fn exit_histograms(subject: &Subject<'_>) -> Option<Figure> {
    let panel = |(_, run): (usize, &EvaluationRun)| {
        let shares = depth_shares(run, subject.task, subject.bootstrap)?;
        let mut series = vec![share_bars("drawn", 1, shares.iter().map(|(share, interval)| (Some(*share), *interval)))];
        let record = run.record(subject.task, "exits.distance_to_target");
        for (key, name, style) in [("pi", "learned", 2), ("pi_star", "target", 3)] {
            if let Some(values) = record.and_then(|record| numbers(record, key))
                && values.len() == shares.len()
            {
                series.push(share_bars(name, style, values.into_iter().map(|value| (value, None))));
            }
        }
        let y = Axis::per_cent("share of tokens", Scale::FromZero);
        Some(Panel { title: run.name.clone(), ..Panel::of_series(depth_axis(run), y, series) })
    };
    let panels: Vec<Panel> = exiting(subject).filter_map(panel).collect();
    let caption = format!(
        "Share of eligible tokens at each depth; the last is full depth. Learned: mean exit distribution of the hazards; target: \
         that of the teacher. {}. {INTERVALS}",
        counts(subject)
    );
    subject.figure("exits.distance_to_target", "Exits drawn, learned and aimed at", caption, panels)
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
    let caption = format!(
        "Tokens in ten bins by hazard: the mean target hazard of a bin should be on the dashed diagonal. {}.",
        counts(subject)
    );
    subject.figure("exits.reliability", "Hazards against target hazards", caption, panels)
}

fn by_class(subject: &Subject<'_>) -> Option<Figure> {
    let class = |tokens: &TokenRow, index: usize| tokens.class.get(index).copied();
    let of_runs: Vec<_> = exiting(subject)
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
            Some(Point::across(*depth, place as f64, *interval))
        });
        Series { name: run.name.clone(), style: *style, mark: Mark::Points, points: points.collect() }
    });
    let names = order.iter().map(|(class, _)| word(*class).replace('_', " "));
    let panel = Panel::of_series(
        Axis::new("mean depth in blocks", Scale::Linear),
        Axis::categories("", names),
        series.collect(),
    );
    let caption = format!("Mean depth by kind of token, deepest first. {}. {INTERVALS}", counts(subject));
    subject.figure("depth.by_token_class", "Depth by kind of token", caption, vec![panel])
}

fn by_surprisal(subject: &Subject<'_>) -> Option<Figure> {
    let (series, counts) = of_exiting(subject, Mark::Line, |run| {
        let cuts = surprisal_deciles(run, subject.task)?;
        let tenth = |tokens: &TokenRow, index: usize| {
            let bits = tokens.surprisal_bits.get(index)?;
            Some(cuts.iter().filter(|cut| *bits > **cut).count())
        };
        let depths = depth_by(run, subject.task, subject.bootstrap, tenth).into_iter();
        Some(depths.map(|(tenth, (depth, interval), _)| Point::new(tenth as f64 + 1.0, depth, interval)).collect())
    });
    let panel = Panel::of_series(
        Axis::new("tenth of tokens by the base model's surprisal, least surprising first", Scale::Fixed(1.0, 10.0)),
        Axis::new("mean depth in blocks", Scale::Linear),
        series,
    );
    let caption = format!(
        "Surprisal in bits, of the base model at full depth. Equal surprisals stand in one tenth, so tenths may be missing. \
         {}. {INTERVALS}",
        n_of(counts)
    );
    subject.figure("depth.by_surprisal", "Depth against surprisal", caption, vec![panel])
}

fn settling(subject: &Subject<'_>) -> Option<Figure> {
    let panels: Vec<Panel> = exiting(subject)
        .filter_map(|(_, run)| {
            let mut values = depth_against_settling(run, subject.task)?;
            // Deep above.
            values.reverse();
            let deep_first = depths(run).into_iter().rev().map(|depth| depth.to_string());
            let heat = HeatMap {
                values: values.into_iter().map(|row| row.into_iter().map(Some).collect()).collect(),
                label: "share of tokens".to_owned(),
            };
            Some(Panel {
                title: run.name.clone(),
                x: Axis { label: "first settling depth in blocks".to_owned(), ..depth_axis(run) },
                y: Axis::categories("depth in blocks", deep_first),
                content: Content::Heat(heat),
                guides: Vec::new(),
            })
        })
        .collect();
    let caption = format!(
        "Tokens above the rising diagonal ran deeper than the base model's readout needed; below it they stopped before it had \
         settled. Settling depths are rounded up to the next candidate. {}.",
        counts(subject)
    );
    subject.figure("depth.regret", "Depth against settling depth", caption, panels)
}

fn speed(subject: &Subject<'_>) -> Option<Figure> {
    let series = subject.scatter(|run| {
        let of_id = |id| measured(run.record(subject.task, id)?);
        let ((saved, saved_interval), (speed, interval)) =
            (of_id("savings.operations")?, of_id("savings.speed_batch_1")?);
        // The speed-up that the saving would give by itself.
        let computed = |saved: f64| 1.0 / (1.0 - saved);
        Some(Point { x_interval: Some(saved_interval.map(computed)), ..Point::new(computed(saved), speed, interval) })
    });
    let mut panel = Panel::of_series(
        Axis::new("speed-up that the saved operations would give", Scale::Linear),
        Axis::new("measured speed-up (tokens/s over tokens/s with exits off)", Scale::Linear),
        series,
    );
    panel.guides.push(Guide { label: "as computed".to_owned(), points: vec![[0.0, 0.0], [10.0, 10.0]] });
    let caption = format!(
        "{}, batch size 1. On the dashed diagonal saved operations are saved time. {INTERVALS}",
        n_items(subject)
    );
    subject.figure("savings.speed", "Computed and measured speed", caption, vec![panel])
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
    let series = subject.scatter(|run| {
        let record = run.record(subject.task, "depth.exchange_rate")?;
        let ((x, x_interval), (y, y_interval)) =
            (with_interval(record, "depth_ratio")?, with_interval(record, "t_ratio")?);
        Some(Point { x, x_interval: Some(x_interval), ..Point::new(0.0, y, y_interval) })
    });
    let mut panel = Panel::of_series(
        Axis::per_cent("mean depth, share of full depth", Scale::Linear),
        Axis::new("response length over that of the base model", Scale::Linear),
        series,
    );
    panel.guides = exchange_guides();
    let caption = format!(
        "Dashed: responses that get longer by as much as depth got smaller (exchange 1), half as much, not at all. {}. {INTERVALS}",
        subject.n_of_records("depth.exchange_rate")
    );
    subject.figure("depth.exchange_rate", "Depth given up, text gained", caption, vec![panel])
}
