//! Text quality: C1, C4, C5.

use super::depth::against_savings;
use super::{INTERVALS, Subject, n_caption, n_items};
use crate::plot::{Axis, Figure, Layout, Mark, Panel, Point, Scale, Series};

/// The figures of quality: those of the judge where there is one, and those of the stand-in.
pub(in crate::page) fn quality_figures(subject: &Subject<'_>) -> Vec<Figure> {
    let judged = ["quality.coherence", "quality.completeness", "quality.clarity", "quality.no_repetition"];
    let read = ["reading.legibility", "reading.coverage"];
    [
        slope(subject, &judged, "quality.criteria", "Judged quality (C1)", 10.0),
        slope(subject, &read, "reading.criteria", "Legibility and coverage (C5)", 4.0),
        stand_in(subject),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A line for each criterion, from run to run.
fn slope(subject: &Subject<'_>, ids: &[&str], name: &str, title: &str, most: f64) -> Option<Figure> {
    let runs: Vec<_> = subject
        .runs()
        .map(|(_, run)| run)
        .filter(|run| ids.iter().any(|id| run.record(subject.task, id).is_some_and(|record| record.ci.is_some())))
        .collect();
    let first = runs.first()?;
    let series = ids.iter().enumerate().map(|(style, id)| {
        let points = runs.iter().enumerate().filter_map(|(place, run)| {
            let record = run.record(subject.task, id)?;
            let interval = record.ci.as_ref()?;
            Some(Point::new(place as f64, record.value, [interval.lo, interval.hi]))
        });
        let words = id.split_once('.').map_or(*id, |(_, words)| words).replace('_', " ");
        Series { name: words, style: style + 1, mark: Mark::Line, points: points.collect() }
    });
    let series: Vec<Series> = series.collect();
    let records = runs.iter().filter_map(|run| Some((*run, run.record(subject.task, ids.first()?)?)));
    let judge = ids
        .iter()
        .find_map(|id| first.record(subject.task, id)?.extra.get("judge_model")?.as_str())
        .unwrap_or("not named");
    let caption = format!("Judge: {judge}. {}. {INTERVALS}", n_caption(records));
    let panel = Panel::of_series(
        Axis::categories("", runs.iter().map(|run| run.name.clone())),
        Axis::new(format!("mean score, out of {most}"), Scale::Fixed(0.0, most)),
        series,
    );
    Some(Figure::single(subject.name(name), subject.title(title), caption, panel))
}

fn stand_in(subject: &Subject<'_>) -> Option<Figure> {
    let mut ids: Vec<&str> = subject
        .runs()
        .flat_map(|(_, run)| &run.records)
        .filter(|record| record.context.task == subject.task && record.id.starts_with("text."))
        .map(|record| record.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let runs: Vec<_> = subject.runs().map(|(style, run)| (style, run.name.clone(), vec![run])).collect();
    let panels: Vec<Panel> = ids.iter().filter_map(|id| against_savings(id, &runs, subject.task, id)).collect();
    (!panels.is_empty()).then(|| Figure {
        name: subject.name("text.multiples"),
        title: subject.title("Surface statistics against layer savings (C4)"),
        caption: format!("A stand-in for quality, not a judgement of it. {}. {INTERVALS}", n_items(subject)),
        layout: Layout::Grid { columns: panels.len().min(3) },
        panels,
    })
}
