//! Text quality: grades of a judge where there is one, and surface statistics.

use super::subject::{Draw, INTERVALS, Subject, against_savings, n_caption, n_items};
use crate::plot::{Axis, Figure, Mark, Panel, Point, Scale, Series};

pub(super) const QUALITY: &[Draw] = &[
    |subject| {
        let ids = ["quality.coherence", "quality.completeness", "quality.clarity", "quality.no_repetition"];
        grades(subject, &ids, "quality.criteria", "Judged quality", 10.0)
    },
    |subject| {
        let ids = ["reading.legibility", "reading.coverage"];
        grades(subject, &ids, "reading.criteria", "Legibility and coverage", 4.0)
    },
    stand_in,
];

/// A panel for each criterion, with a point for each run.
fn grades(subject: &Subject<'_>, ids: &[&str], name: &str, title: &str, most: f64) -> Option<Figure> {
    let runs: Vec<_> = subject
        .runs()
        .map(|(_, run)| run)
        .filter(|run| ids.iter().any(|id| run.record(subject.task, id).is_some_and(|record| record.ci.is_some())))
        .collect();
    let first = runs.first()?;
    let panel = |id: &&str| {
        let points = runs.iter().enumerate().filter_map(|(place, run)| {
            let record = run.record(subject.task, id)?;
            let interval = record.ci.as_ref()?;
            Some(Point::new(place as f64, record.value, [interval.lo, interval.hi]))
        });
        let words = id.split_once('.').map_or(*id, |(_, words)| words).replace('_', " ");
        let series = Series { name: words.clone(), style: 1, mark: Mark::Points, points: points.collect() };
        let x = Axis::categories("", runs.iter().map(|run| run.name.clone()));
        let y = Axis::new(format!("mean score, out of {most}"), Scale::Fixed(0.0, most));
        Panel { title: words, ..Panel::of_series(x, y, vec![series]) }
    };
    let records = runs.iter().filter_map(|run| Some((*run, run.record(subject.task, ids.first()?)?)));
    let judge = ids
        .iter()
        .find_map(|id| first.record(subject.task, id)?.extra.get("judge_model")?.as_str())
        .unwrap_or("not named");
    let caption = format!("Judge: {judge}. {}. {INTERVALS}", n_caption(records));
    subject.figure(name, title, caption, ids.iter().map(panel).collect())
}

fn stand_in(subject: &Subject<'_>) -> Option<Figure> {
    let ids = subject.ids(&["text."]);
    let caption = format!("A stand-in for quality, not a judgement of it. {}. {INTERVALS}", n_items(subject));
    let panels = ids
        .iter()
        .filter_map(|id| against_savings(subject, &id.trim_start_matches("text.").replace('_', " "), id))
        .collect();
    subject.figure("text.multiples", "Surface statistics against layer savings", caption, panels)
}
