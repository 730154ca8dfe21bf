//! The task: accuracy, the length of responses, and what is left of them.

use super::subject::{ACCURACY, Draw, INTERVALS, Subject, items, n_of};
use crate::page::measured::funnel;
use crate::plot::{Axis, Figure, Mark, Panel, Point, Scale, Series};
use crate::words::grouped;
use aloud_measure::run_files::SampleRow;
use aloud_measure::statistics::wilson_interval;

/// Most columns of a length histogram.
const LENGTH_BINS: usize = 16;

pub(super) const TASK: &[Draw] =
    &[|subject| subject.plane(ACCURACY, "Accuracy against layer savings", "accuracy", ""), by_steps, lengths, stages];

/// Records `accuracy.at_steps.K`, one for each number of steps.
pub(super) fn by_steps(subject: &Subject<'_>) -> Option<Figure> {
    let (series, counts) = subject.series(Mark::Line, |run| {
        let (mut points, mut n) = (Vec::new(), 0);
        let of_task = run.records.iter().filter(|record| record.context.task == subject.task);
        for record in of_task.filter(|record| record.id.starts_with("accuracy.at_steps.")) {
            if let (Some(interval), Some(k)) = (&record.ci, record.extra.get("k").and_then(serde_json::Value::as_f64)) {
                points.push(Point::new(k, record.value, [interval.lo, interval.hi]));
                n += record.n;
            }
        }
        Some((points, items(n)))
    });
    let panel = Panel::of_series(
        Axis::new("steps of the item (k)", Scale::Linear),
        Axis::per_cent("accuracy", Scale::Fixed(0.0, 1.0)),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_of(counts));
    subject.figure("accuracy.at_steps", "Accuracy by number of steps", caption, vec![panel])
}

fn lengths(subject: &Subject<'_>) -> Option<Figure> {
    let samples = subject.runs().flat_map(|(_, run)| run.traced_samples(subject.task));
    let longest = samples.map(SampleRow::n_tokens).max().filter(|longest| *longest > 0)?;
    let bin = longest.div_ceil(LENGTH_BINS).max(1);
    let (series, counts) = subject.series(Mark::Bars, |run| {
        let mut bins = vec![0_usize; longest / bin + 1];
        run.traced_samples(subject.task).for_each(|sample| bins[sample.n_tokens() / bin] += 1);
        let n = run.traced_samples(subject.task).count();
        let point = |(index, count): (usize, &usize)| {
            Point::new((index as f64 + 0.5) * bin as f64, *count as f64 / n.max(1) as f64, None)
        };
        (n > 0).then(|| (bins.iter().enumerate().map(point).collect(), format!("{} responses", grouped(n))))
    });
    let panel = |one: Series| Panel {
        title: one.name.clone(),
        ..Panel::of_series(
            Axis::new("response tokens", Scale::Fixed(0.0, ((longest / bin + 1) * bin) as f64)),
            Axis::per_cent("share of responses", Scale::FromZero),
            vec![one],
        )
    };
    let caption = format!("{}. Responses that hit the limit stand in the last column.", n_of(counts));
    subject.figure("length.trace", "Response length", caption, series.into_iter().map(panel).collect())
}

/// How many responses reach each stage of being counted.
fn stages(subject: &Subject<'_>) -> Option<Figure> {
    let (series, counts) = subject.series(Mark::Bars, |run| {
        let stages = funnel(run, subject.task);
        let n = stages[0];
        let point = |(place, count): (usize, &usize)| {
            Point::across(*count as f64 / n as f64, place as f64, wilson_interval(*count, n))
        };
        (n > 0).then(|| (stages.iter().enumerate().map(point).collect(), format!("{} responses", grouped(n))))
    });
    let panel = Panel::of_series(
        Axis::per_cent("share of responses", Scale::Fixed(0.0, 1.0)),
        Axis::categories("", ["generated", "trace closed", "answer found", "ended by itself"]),
        series,
    );
    let caption = format!("{}. {INTERVALS}", n_of(counts));
    subject.figure("length.funnel", "What is left of the responses", caption, vec![panel])
}
