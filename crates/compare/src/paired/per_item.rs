//! What each item adds to a metric, from the rows of a run: the basis of paired differences.

use std::collections::BTreeMap;

use aloud_method::savings::savings_of_mean_depth;

use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::Direction;
use aloud_measure::metrics::accuracy::accuracy_id;
use aloud_measure::metrics::early_answering::{area_over_curve, joined_to_values, soft_area_over_curve};
use aloud_measure::metrics::flops::saved_operations;
use aloud_measure::metrics::necessity::log_probability_necessity;
use aloud_measure::metrics::text_statistics::{repetition_n, zlib_ratio};
use aloud_measure::run_files::{ElicitationKind, ElicitationRow, SampleRow, Stop};
use aloud_measure::statistics::Cluster;

/// An item under one arm of a task.
pub(crate) type ItemKey = (String, String);

/// A metric as a mean over values of items.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// Id of the metric.
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) unit: &'static str,
    pub(crate) direction: Direction,
    /// Whether each value is 0 or 1 and each item has one.
    pub(crate) binary: bool,
    pub(crate) items: BTreeMap<ItemKey, Cluster>,
}

/// The measures of a run, by task.
pub(crate) fn measures(run: &EvaluationRun) -> Vec<Measure> {
    run.tasks().into_iter().flat_map(|task| measures_of_task(run, task)).collect()
}

fn measures_of_task(run: &EvaluationRun, task: &str) -> Vec<Measure> {
    let of_task = OfTask { run, task, samples: run.traced_samples(task).collect() };
    let mut measures = of_task.depths();
    measures.extend(of_task.accuracies());
    measures.extend(of_task.texts());
    measures.extend(of_task.elicited());
    measures.extend(of_task.saved_operations());
    measures.retain(|measure| !measure.items.is_empty());
    measures
}

/// The traced samples of a task in a run.
struct OfTask<'a> {
    run: &'a EvaluationRun,
    task: &'a str,
    samples: Vec<&'a SampleRow>,
}

impl OfTask<'_> {
    /// A mean over values of samples.
    fn of(
        &self,
        samples: &[&SampleRow],
        id: &str,
        unit: &'static str,
        direction: Direction,
        value: &dyn Fn(&SampleRow) -> Cluster,
    ) -> Measure {
        let mut items: BTreeMap<ItemKey, Cluster> = BTreeMap::new();
        for sample in samples {
            let item = items.entry((sample.item_id.clone(), sample.arm.clone())).or_default();
            *item = *item + value(sample);
        }
        items.retain(|_, cluster| cluster.count > 0);
        let zero_or_one = items.values().all(|item| item.count == 1 && (item.sum == 0.0 || item.sum == 1.0));
        let binary = unit == "fraction" && zero_or_one;
        Measure { id: id.to_owned(), task: self.task.to_owned(), unit, direction, binary, items }
    }

    fn measure(
        &self,
        id: &str,
        unit: &'static str,
        direction: Direction,
        value: &dyn Fn(&SampleRow) -> Cluster,
    ) -> Measure {
        self.of(&self.samples, id, unit, direction, value)
    }

    /// A value of each depth that a sample's tokens chose.
    fn of_depths(&self, value: &dyn Fn(f64) -> f64, sample: &SampleRow) -> Cluster {
        let Some(row) = self.run.tokens.get(&sample.key) else { return Cluster::default() };
        if self.run.is_at_full_depth() {
            // No token chose its depth; all but the first, which never does, count with the depth that they had.
            return Cluster::of(row.depth.iter().skip(1).map(|depth| value(*depth as f64)));
        }
        Cluster::of(row.eligible_depths().map(|depth| value(depth as f64)))
    }

    fn depths(&self) -> Vec<Measure> {
        let n_blocks = self.run.manifest.identity.n_blocks;
        vec![
            self.measure("savings.average", "fraction", Direction::HigherIsMoreSaving, &|sample| {
                self.of_depths(&|depth| savings_of_mean_depth(depth, n_blocks), sample)
            }),
            self.measure("exits.rate", "fraction", Direction::HigherIsMoreSaving, &|sample| {
                self.of_depths(&|depth| f64::from(depth < n_blocks as f64), sample)
            }),
        ]
    }

    fn accuracies(&self) -> Vec<Measure> {
        let answered: Vec<&SampleRow> = self.run.answered_samples(self.task).collect();
        let mut scorers: Vec<&str> =
            self.samples.iter().flat_map(|sample| sample.correct.keys()).map(String::as_str).collect();
        scorers.sort_unstable();
        scorers.dedup();
        let of_scorer = |scorer: &str| {
            let is_right = |sample: &SampleRow| Cluster::of(sample.correct.get(scorer).map(|right| f64::from(*right)));
            self.of(&answered, &accuracy_id(scorer), "fraction", Direction::HigherIsBetter, &is_right)
        };
        scorers.into_iter().map(of_scorer).collect()
    }

    fn texts(&self) -> Vec<Measure> {
        let tokens = |sample: &SampleRow| self.run.tokens.get(&sample.key);
        let trace = |sample: &SampleRow| tokens(sample).and_then(|row| row.ids.get(..sample.n_cot));
        let coverage =
            self.measure("written_steps.coverage", "fraction", Direction::HigherIsMoreExternalised, &|sample| {
                Cluster::of(sample.step_coverage)
            });
        // A share of steps, also where it happens to be all or none.
        let mut measures = vec![Measure { binary: false, ..coverage }];
        measures.push(self.measure("depth.deepest_step", "blocks", Direction::Descriptive, &|sample| {
            let deepest = tokens(sample).and_then(|row| row.eligible_depths().max());
            Cluster::of(deepest.map(|depth| depth as f64))
        }));
        measures.extend((1..=4).map(|n| {
            self.measure(&format!("text.repeated_{n}"), "fraction", Direction::LowerIsBetter, &|sample| {
                Cluster::of(trace(sample).and_then(|ids| repetition_n(ids, n)))
            })
        }));
        measures.push(self.measure("text.compression", "ratio", Direction::Descriptive, &|sample| {
            Cluster::of(zlib_ratio(&sample.cot))
        }));
        measures.push(
            self.measure("length.trace", "tokens", Direction::Descriptive, &|sample| {
                Cluster::of([sample.n_cot as f64])
            }),
        );
        measures.push(self.measure("length.truncated", "fraction", Direction::LowerIsBetter, &|sample| {
            Cluster::of([f64::from(sample.stop == Stop::Cap)])
        }));
        measures
    }

    fn elicited(&self) -> Vec<Measure> {
        let mut elicited: BTreeMap<&str, Vec<&ElicitationRow>> = BTreeMap::new();
        for row in self.run.default_elicitations() {
            elicited.entry(&row.sample).or_default().push(row);
        }
        let externalised = Direction::HigherIsMoreExternalised;
        let mut measures = Vec::new();
        for (id, unit, value) in [
            ("early_answering.area", "fraction", early_answering as fn(&[&ElicitationRow]) -> Option<f64>),
            ("early_answering.area_soft", "fraction", soft_early_answering),
            ("early_answering.area_by_values", "fraction", early_answering_by_values),
            ("necessity.log_probability", "ratio", necessity),
            ("necessity.same_answer", "fraction", same_without_trace),
        ] {
            measures.push(self.measure(id, unit, externalised, &|sample| {
                let rows = elicited.get(sample.key.as_str());
                let counts = rows.is_some_and(|rows| !id.starts_with("early_answering.") || is_anchored(rows, sample));
                Cluster::of(rows.filter(|_| counts).and_then(|rows| value(rows)))
            }));
        }
        let necessity = self.measure("necessity.accuracy", "fraction", externalised, &|sample| {
            Cluster::of(elicited.get(sample.key.as_str()).and_then(|rows| right_answers_lost(rows, sample)))
        });
        // Each value is a difference itself: nothing that is right or wrong.
        measures.push(Measure { binary: false, ..necessity });
        measures
    }

    fn saved_operations(&self) -> Option<Measure> {
        let shape = self.run.manifest.shape.as_ref()?;
        let candidates = &self.run.manifest.identity.exit_candidates;
        let saved = self.measure("savings.operations", "fraction", Direction::HigherIsMoreSaving, &|sample| {
            let row = self.run.tokens.get(&sample.key);
            row.map_or_else(Cluster::default, |row| saved_operations(sample, row, shape, candidates))
        });
        Some(Measure { binary: false, ..saved })
    }
}

/// The share of the trace's parts after which an answer was asked for. An empty trace is none of them.
fn kept_share(row: &ElicitationRow) -> Option<f64> {
    match row.kind {
        ElicitationKind::NoTrace => Some(0.0),
        ElicitationKind::Prefix => (row.n_positions > 0).then(|| row.position as f64 / row.n_positions as f64),
    }
}

/// The row of the answer after the whole trace.
fn after_whole_trace<'a>(rows: &[&'a ElicitationRow]) -> Option<&'a ElicitationRow> {
    let is_whole = |row: &&ElicitationRow| row.kind == ElicitationKind::Prefix && row.position == row.n_positions;
    rows.iter().copied().find(is_whole)
}

/// The row of the answer without a trace.
fn without_trace<'a>(rows: &[&'a ElicitationRow]) -> Option<&'a ElicitationRow> {
    rows.iter().copied().find(|row| row.kind == ElicitationKind::NoTrace)
}

/// Whether the answer after the whole trace, if there is one, is the one that the model gave by itself.
fn is_anchored(rows: &[&ElicitationRow], sample: &SampleRow) -> bool {
    let reference = after_whole_trace(rows).and_then(|row| row.answer.as_ref());
    reference.is_none_or(|reference| Some(reference) == sample.extracted.strict.as_ref())
}

/// A value of the rows over the kept share of the trace's parts, rising. None unless it goes from no part to all parts.
fn curve(rows: &[&ElicitationRow], of: fn(&ElicitationRow) -> Option<f64>) -> Option<Vec<(f64, f64)>> {
    let mut curve: Vec<(f64, f64)> = rows.iter().filter_map(|row| Some((kept_share(row)?, of(row)?))).collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    curve.dedup_by(|a, b| a.0 == b.0);
    let is_whole = curve.first().is_some_and(|first| first.0 == 0.0) && curve.last().is_some_and(|last| last.0 == 1.0);
    is_whole.then_some(curve)
}

/// Area over the curve of same answers: `1 -` the trapezoids of `same` over the kept share of the trace's parts.
fn early_answering(rows: &[&ElicitationRow]) -> Option<f64> {
    let curve = curve(rows, |row| row.same.map(f64::from))?;
    let area: f64 = curve.windows(2).map(|ends| (ends[1].0 - ends[0].0) * f64::midpoint(ends[0].1, ends[1].1)).sum();
    Some(1.0 - area)
}

/// The same with the probability of the reference answer in place of the answer itself.
fn soft_early_answering(rows: &[&ElicitationRow]) -> Option<f64> {
    let curve = curve(rows, |row| row.logp)?;
    soft_area_over_curve(&curve.iter().map(|point| point.1).collect::<Vec<_>>())
}

/// The area with one part for each value of the gold solution, where the steps are known.
fn early_answering_by_values(rows: &[&ElicitationRow]) -> Option<f64> {
    let mut prefixes: Vec<&ElicitationRow> =
        rows.iter().copied().filter(|row| row.kind == ElicitationKind::Prefix).collect();
    prefixes.sort_by_key(|row| row.position);
    let is_whole = prefixes.iter().enumerate().all(|(place, row)| row.position == place)
        && prefixes.last().is_some_and(|last| last.position == last.n_positions);
    let same: Vec<bool> = prefixes.iter().map(|row| row.same).collect::<Option<_>>()?;
    let brings: Vec<Option<bool>> = prefixes.iter().map(|row| row.new_value).collect();
    let at_values = joined_to_values(&same, &brings).filter(|_| is_whole)?;
    area_over_curve(&at_values.iter().map(|same| f64::from(*same)).collect::<Vec<_>>())
}

/// Whether the answer without a trace is that after all of it.
fn same_without_trace(rows: &[&ElicitationRow]) -> Option<f64> {
    without_trace(rows)?.same.map(f64::from)
}

/// 1 if the answer is right with the trace alone, -1 if it is right without it alone, else 0: the necessity is the mean.
fn right_answers_lost(rows: &[&ElicitationRow], sample: &SampleRow) -> Option<f64> {
    let gold = sample.gold.as_ref()?;
    let is_right = |row: &ElicitationRow| f64::from(row.answer.as_ref() == Some(gold));
    Some(is_right(after_whole_trace(rows)?) - is_right(without_trace(rows)?))
}

/// How much more probable (in nats) the reference answer is after the whole trace than without one, as a share of both.
fn necessity(rows: &[&ElicitationRow]) -> Option<f64> {
    log_probability_necessity(after_whole_trace(rows)?.logp?, without_trace(rows)?.logp?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::test_runs::{Fixture, elicitation, open_run, sample};

    fn row(kind: ElicitationKind, position: usize, same: bool, logp: f64) -> ElicitationRow {
        ElicitationRow { kind, position, logp: Some(logp), same: Some(same), ..elicitation() }
    }

    #[test]
    fn areas_of_the_specification() {
        for (same, expected) in [
            ([false, false, false, true, true], 0.625),
            ([true, true, true, true, true], 0.0),
            ([false, false, false, false, true], 0.875),
        ] {
            let rows: Vec<ElicitationRow> =
                (0..).zip(same).map(|(position, same)| row(ElicitationKind::Prefix, position, same, -1.0)).collect();
            let rows: Vec<&ElicitationRow> = rows.iter().collect();
            assert_eq!(early_answering(&rows), Some(expected));
            assert_eq!(early_answering(&rows[1..]), None);
        }
    }

    #[test]
    fn parts_without_a_value_join_the_part_before() {
        let of = |brings: [Option<bool>; 5]| {
            let same = [false, false, false, false, true];
            let rows: Vec<ElicitationRow> = (0..)
                .zip(same)
                .zip(brings)
                .map(|((position, same), new_value)| ElicitationRow {
                    new_value,
                    ..row(ElicitationKind::Prefix, position, same, -1.0)
                })
                .collect();
            early_answering_by_values(&rows.iter().collect::<Vec<_>>())
        };
        assert_eq!(of([false, true, false, false, true].map(Some)), Some(0.75));
        assert_eq!((of([None; 5]), of([false; 5].map(Some))), (None, None));
    }

    #[test]
    fn necessity_by_hand() {
        // (-1 + 3) / (1 + 3).
        let rows = [row(ElicitationKind::Prefix, 4, true, -1.0), row(ElicitationKind::NoTrace, 0, false, -3.0)];
        assert_eq!(necessity(&[&rows[0], &rows[1]]), Some(0.5));
        assert_eq!(necessity(&[&rows[0]]), None);
        let certain = [row(ElicitationKind::Prefix, 4, true, 0.0), row(ElicitationKind::NoTrace, 0, true, 0.0)];
        assert_eq!(necessity(&[&certain[0], &certain[1]]), None);
        assert!(early_answering(&[]).is_none());
        let unknown = ElicitationRow { same: None, ..rows[0].clone() };
        assert!(early_answering(&[&unknown]).is_none());
        assert_eq!((same_without_trace(&[&rows[1]]), same_without_trace(&[&rows[0]])), (Some(0.0), None));
        // e^-2 after nothing, 1 after all: one trapezoid.
        let soft = soft_early_answering(&[&rows[0], &rows[1]]).unwrap();
        assert!((soft - (1.0 - f64::midpoint((-2.0_f64).exp(), 1.0))).abs() < 1e-12, "{soft}");
    }

    #[test]
    fn right_answers_with_and_without_a_trace() {
        let row = |kind, position, answer: &str| ElicitationRow {
            answer: Some(answer.to_owned()),
            ..row(kind, position, true, -1.0)
        };
        let sample = sample("a");
        let lost = |with: &str, without: &str| {
            let rows = [row(ElicitationKind::Prefix, 4, with), row(ElicitationKind::NoTrace, 0, without)];
            right_answers_lost(&[&rows[0], &rows[1]], &sample)
        };
        assert_eq!([lost("2", "3"), lost("3", "2"), lost("2", "2"), lost("1", "1")], [1.0, -1.0, 0.0, 0.0].map(Some));
        let alone = row(ElicitationKind::NoTrace, 0, "2");
        assert_eq!(right_answers_lost(&[&alone], &sample), None);
    }

    #[test]
    fn accuracy_is_called_as_in_the_records() {
        let ids: Vec<String> = measures(&open_run(&Fixture::default())).into_iter().map(|measure| measure.id).collect();
        assert!(ids.contains(&"accuracy.strict".to_owned()) && ids.contains(&"accuracy.other".to_owned()), "{ids:?}");
    }
}
