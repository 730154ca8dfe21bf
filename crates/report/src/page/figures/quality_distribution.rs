//! The distribution of every quality score over the points of a sweep: of judged grades, or, without a judge, of the stand-ins.

use super::dial::points;
use super::subject::{Subject, n_of};
use crate::plot::{Axis, Figure, Layout, Mark, Panel, Point, Scale, Series};
use crate::words::{grouped, reason};
use aloud_measure::evaluation_run::{EvaluationRun, Sweep};
use aloud_measure::metric_record::MetricRecord;
use aloud_measure::metrics::trace_statistics::trace_statistic;
use aloud_measure::statistics::wilson_interval;

/// Grades of the judge that are shown, with their words.
const JUDGED: [(&str, &str); 7] = [
    ("quality.coherence", "Coherence"),
    ("quality.completeness", "Completeness"),
    ("quality.clarity", "Clarity"),
    ("quality.no_repetition", "Absence of repetition"),
    ("quality.overall", "Sum of the four grades"),
    ("reading.legibility", "Legibility"),
    ("reading.coverage", "Coverage"),
];

/// Stand-ins that are shown, with their words, and whether they are ratios, whose logarithm is cut into equal parts.
const STAND_INS: [(&str, &str, bool); 5] = [
    ("text.repeated_4", "Repeated 4-grams", false),
    ("text.repeated_windows", "Windows of 64 tokens with a repetition", false),
    ("text.compression", "Compressed size over size", false),
    ("text.true_equations", "True equations", false),
    ("text.perplexity", "Perplexity under the base model", true),
];

/// Grades with more values than this are counted in steps.
const MAX_BINS: usize = 12;
const BINS: usize = 10;

/// How a score is distributed at the points of a sweep.
struct Distribution {
    /// Which score, in words.
    what: String,
    axis: &'static str,
    /// Names of the bins.
    bins: Vec<String>,
    /// The points by their values, with the number of responses by bin.
    rows: Vec<(String, Vec<usize>)>,
    caption: String,
}

type Points<'a> = [(String, &'a EvaluationRun)];

/// The figures of every sweep that has points with the task.
pub(in crate::page) fn quality_distributions(subject: &Subject<'_>) -> Vec<Figure> {
    subject.set.sweeps.iter().flat_map(|sweep| of_sweep(subject, sweep)).collect()
}

fn of_sweep(subject: &Subject<'_>, sweep: &Sweep) -> Vec<Figure> {
    let points = points(subject, sweep);
    let dial = sweep.index.dial.replace('_', " ");
    let judged = JUDGED.iter().map(|(id, words)| (*id, of_grades(subject, &points, id, words)));
    let judged: Vec<Figure> = judged.filter_map(|(id, found)| figure(subject, &dial, id, found)).collect();
    if !judged.is_empty() {
        return judged;
    }
    let of_id = |(id, words, is_ratio): &(&str, &str, bool)| {
        figure(subject, &dial, id, of_stand_in(subject, &points, id, words, *is_ratio)?)
    };
    STAND_INS.iter().filter_map(of_id).collect()
}

/// Judged grades. A point whose grades may not be used is left out and named.
fn of_grades(subject: &Subject<'_>, points: &Points<'_>, id: &str, words: &str) -> Distribution {
    let (mut rows, mut left_out, mut bins, mut judge) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (label, run) in points {
        let record = run.record(subject.task, id);
        let graded = record.filter(|record| record.value.is_some());
        let Some((record, (of_bins, counts))) = graded.and_then(|record| Some((record, histogram(record)?))) else {
            let why = record.and_then(|record| record.null_reason.as_deref()).unwrap_or("not judged");
            left_out.push(format!("{label} ({})", reason(why)));
            continue;
        };
        bins = of_bins;
        judge = judge.or_else(|| record.extra.get("judge_model")?.as_str());
        rows.push((label.clone(), counts));
    }
    let left_out = if left_out.is_empty() { String::new() } else { format!(" Left out: {}.", left_out.join("; ")) };
    let caption =
        format!("Share of the graded responses with each grade. Judge: {}.{left_out}", judge.unwrap_or("not named"));
    Distribution { what: format!("{words}, judged"), axis: "grade", bins, rows, caption }
}

/// The bins of a record's histogram by name, and the number of responses in each; long scales in steps.
fn histogram(record: &MetricRecord) -> Option<(Vec<String>, Vec<usize>)> {
    let list = record.extra.get("histogram")?.as_array()?;
    let counts: Vec<usize> = list.iter().map(|count| Some(count.as_u64()? as usize)).collect::<Option<_>>()?;
    let lowest = record.extra.get("lowest")?.as_u64()? as usize;
    let step = counts.len().div_ceil(MAX_BINS);
    // What is left over at the end belongs to the last step.
    let n_bins = (counts.len() / step).max(1);
    let mut bins = vec![0; n_bins];
    for (place, count) in counts.iter().enumerate() {
        bins[(place / step).min(n_bins - 1)] += count;
    }
    let name = |bin: usize| {
        let first = lowest + bin * step;
        let last = if bin + 1 == n_bins { lowest + counts.len() - 1 } else { first + step - 1 };
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    };
    Some(((0..n_bins).map(name).collect(), bins))
}

fn of_stand_in(
    subject: &Subject<'_>,
    points: &Points<'_>,
    id: &str,
    words: &str,
    is_ratio: bool,
) -> Option<Distribution> {
    let scale = |value: f64| if is_ratio { value.ln() } else { value };
    let values: Vec<(&str, Vec<f64>)> = points
        .iter()
        .map(|(label, run)| {
            let of_sample = |sample| trace_statistic(id, sample, run.tokens.get(&sample.key)?);
            let values = run.traced_samples(subject.task).filter_map(of_sample).map(scale);
            (label.as_str(), values.filter(|value| value.is_finite()).collect())
        })
        .collect();
    let all = || values.iter().flat_map(|(_, values)| values).copied();
    let (low, high) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    if high <= low {
        return None;
    }
    let edge = |bin: usize| {
        let edge = low + (high - low) * bin as f64 / BINS as f64;
        if is_ratio { edge.exp() } else { edge }
    };
    let counts = |values: &[f64]| {
        let mut counts = vec![0; BINS];
        for value in values {
            let bin = ((value - low) / (high - low) * BINS as f64) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
        counts
    };
    Some(Distribution {
        what: format!("{words}, stand-in"),
        axis: "lower end of the range",
        bins: (0..BINS).map(|bin| short(edge(bin))).collect(),
        rows: values.iter().map(|(label, values)| ((*label).to_owned(), counts(values))).collect(),
        caption: "A stand-in for quality, not a judgement of it: share of the responses in each range.".to_owned(),
    })
}

/// Two or three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A row of bars for each point, one above the other. None if no point has a response.
fn figure(subject: &Subject<'_>, dial: &str, id: &str, found: Distribution) -> Option<Figure> {
    let Distribution { what, axis, bins, rows, caption } = found;
    let shares = |counts: &[usize]| -> Vec<Point> {
        let n = counts.iter().sum();
        let share = |count: usize| (n > 0).then(|| count as f64 / n as f64);
        let point =
            |(place, count): (u32, &usize)| Point::new(f64::from(place), share(*count), wilson_interval(*count, n));
        (0..).zip(counts).map(point).collect()
    };
    let shares: Vec<Vec<Point>> = rows.iter().map(|(_, counts)| shares(counts)).collect();
    // One scale for all rows.
    let largest = shares.iter().flatten().filter_map(|point| point.y).fold(0.01, f64::max);
    let panel = |((label, _), points): (&(String, _), Vec<Point>)| {
        let series = Series { name: label.clone(), style: 1, mark: Mark::Bars, points };
        let x = Axis::categories(axis, bins.iter().cloned());
        let y = Axis::per_cent("share of responses", Scale::Fixed(0.0, (1.1 * largest).min(1.0)));
        Panel { title: label.clone(), ..Panel::of_series(x, y, vec![series]) }
    };
    let panels: Vec<Panel> = rows.iter().zip(shares).map(panel).collect();
    if rows.iter().all(|(_, counts)| counts.iter().all(|count| *count == 0)) {
        return None;
    }
    let of_row = |(label, counts): &(String, Vec<usize>)| {
        (format!("{label}:"), format!("{} responses", grouped(counts.iter().sum())))
    };
    let counts = rows.iter().map(of_row);
    let caption = format!("{caption} All rows have the same scale. {}. Bars: Wilson's 95 % intervals.", n_of(counts));
    let name = format!("{id}.by-{}", dial.replace(' ', "-"));
    let figure = subject.figure(&name, &format!("{what}, over {dial}"), caption, panels)?;
    Some(Figure { layout: Layout::Ridge, ..figure })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::page::quality_distribution_figures;
    use crate::plot::Content;
    use aloud_measure::evaluation_run::{RunSet, open_runs};
    use aloud_measure::metric_record::{Direction, RecordContext};
    use aloud_measure::test_runs::{context, write_sweep};

    /// A sweep of two points, 24 items each.
    fn sweep() -> (tempfile::TempDir, RunSet) {
        let folder = tempfile::tempdir().unwrap();
        write_sweep(folder.path(), &[-2.0, 1.0]);
        let set = open_runs(&[folder.path().to_path_buf()]).unwrap();
        (folder, set)
    }

    fn graded(id: &str, lowest: u32, counts: &[usize]) -> MetricRecord {
        let context = RecordContext { task: "gsm8k".to_owned(), ..context() };
        MetricRecord::new(id, "points", Direction::HigherIsBetter, &context)
            .with_value(7.0)
            .with_extra("judge_model", "a judge")
            .with_extra("lowest", lowest)
            .with_extra("histogram", counts)
    }

    fn shares(panel: &Panel) -> Vec<f64> {
        let Content::Series(series) = &panel.content else { panic!("bars") };
        series[0].points.iter().filter_map(|point| point.y).collect()
    }

    #[test]
    fn stand_ins_are_shown_without_a_judge() {
        let (_folder, set) = sweep();
        let figures = quality_distribution_figures(&set);
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert!(names.contains(&"gsm8k-text.perplexity.by-offset"), "{names:?}");
        for figure in &figures {
            assert_eq!(figure.panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>(), ["−2", "1"]);
            assert!(figure.caption.starts_with("A stand-in for quality, not a judgement"), "{}", figure.caption);
            assert!(figure.panels.iter().all(|panel| (shares(panel).iter().sum::<f64>() - 1.0).abs() < 1e-9));
        }
    }

    #[test]
    fn judged_grades_take_their_place_and_what_may_not_be_used_is_named() {
        let (_folder, mut set) = sweep();
        set.runs[0].records.push(graded("quality.coherence", 1, &[0, 0, 0, 0, 0, 0, 3, 1, 0, 0]));
        set.runs[1].records.push(graded("quality.coherence", 1, &[0; 10]).with_null("gate:judge_failures"));
        let figures = quality_distribution_figures(&set);
        let [figure] = &figures[..] else { panic!("{figures:?}") };
        assert_eq!(figure.name, "gsm8k-quality.coherence.by-offset");
        assert_eq!((figure.panels.len(), shares(&figure.panels[0])[6]), (1, 0.75));
        assert!(
            figure.caption.contains("Judge: a judge. Left out: 1 (gate not met: judge failures)."),
            "{}",
            figure.caption
        );
    }

    #[test]
    fn long_scales_are_counted_in_steps() {
        let mut counts = vec![1; 37];
        counts[36] = 5;
        let (names, bins) = histogram(&graded("quality.overall", 4, &counts)).unwrap();
        assert_eq!((names.len(), names[0].as_str(), names[8].as_str()), (9, "4–7", "36–40"));
        assert_eq!((bins[0], bins[8], bins.iter().sum::<usize>()), (4, 9, 41));
        let (names, bins) = histogram(&graded("reading.coverage", 0, &[1, 2, 3, 4, 5])).unwrap();
        assert_eq!((names.join(" "), bins), ("0 1 2 3 4".to_owned(), vec![1, 2, 3, 4, 5]));
    }
}
