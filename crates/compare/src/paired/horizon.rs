//! The serial horizon of two runs on the same items.
//!
//! A horizon is no mean over items, so items are drawn within each number of steps, each with both runs.

use aloud_base::random::Domain;
use std::collections::BTreeMap;

use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::{Direction, IntervalMethod};
use aloud_measure::metrics::serial_horizon::{Horizon, serial_horizon};
use aloud_measure::run_files::SampleRow;
use aloud_measure::statistics::{Bootstrap, Resamples};

use super::Difference;

/// Id of the records.
pub(crate) const HORIZON: &str = "horizon.without_trace";

/// Whether two answers to the same item are right, by number of steps: `[a, b]`.
pub(crate) type SharedAnswers = BTreeMap<usize, Vec<[bool; 2]>>;

/// Answers to the same items, of which a horizon each follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PairedHorizons {
    pub(crate) answers: SharedAnswers,
    /// Accuracy of a blind guess.
    pub(crate) chance: f64,
    pub(crate) n_unpaired: usize,
}

impl PairedHorizons {
    /// The answers of two runs in a task; `None` if a run has no record of a horizon, or there is no item that both have.
    pub(crate) fn of(a: &EvaluationRun, b: &EvaluationRun, task: &str) -> Option<Self> {
        let chance = [a, b].map(|run| run.record(task, HORIZON)?.extra.get("chance")?.as_f64());
        let [Some(chance), Some(_)] = chance else { return None };
        let (answers, n_unpaired) = shared(answers(a.direct_samples(), task), &answers(b.direct_samples(), task));
        (!answers.is_empty()).then_some(Self { answers, chance, n_unpaired })
    }

    /// Number of items.
    pub(crate) fn n_items(&self) -> usize {
        self.answers.values().map(Vec::len).sum()
    }

    /// The horizons of the items as they are: `[a, b]`.
    pub(crate) fn values(&self) -> Option<[f64; 2]> {
        let right = self.answers.values().map(|answers| {
            answers.iter().fold([0.0; 2], |sum, right| [0, 1].map(|run| sum[run] + f64::from(right[run])))
        });
        self.horizons(right)
    }

    /// `b - a` in draws of the items within each number of steps.
    pub(crate) fn differences(&self, bootstrap: &Bootstrap) -> Vec<f64> {
        let sizes: Vec<usize> = self.answers.values().map(Vec::len).collect();
        let resamples = Resamples::within(bootstrap, Domain::RESAMPLE_PAIRS_WITHIN_STEPS, &sizes);
        let mut first = 0;
        let by_steps: Vec<Vec<[f64; 2]>> = (self.answers.values())
            .map(|answers| {
                let numbers: Vec<[f64; 2]> = answers.iter().map(|right| right.map(f64::from)).collect();
                let sums = resamples.sums(first, &numbers);
                first += answers.len();
                sums
            })
            .collect();
        let difference = |draw: usize| {
            let [a, b] = self.horizons(by_steps.iter().map(|sums| sums[draw]))?;
            Some(b - a)
        };
        (0..bootstrap.n_draws).filter_map(difference).collect()
    }

    /// The horizons, given the numbers of right answers by number of steps.
    fn horizons(&self, right: impl Iterator<Item = [f64; 2]>) -> Option<[f64; 2]> {
        let right: Vec<[f64; 2]> = right.collect();
        let horizon = |run: usize| {
            let share =
                |((k, answers), right): ((&usize, &Vec<_>), &[f64; 2])| (*k, right[run] / answers.len().max(1) as f64);
            let curve: Vec<(usize, f64)> = self.answers.iter().zip(&right).map(share).collect();
            serial_horizon(&curve, self.chance).map(Horizon::steps)
        };
        Some([horizon(0)?, horizon(1)?])
    }

    /// The difference as one of a comparison; `None` if there is no horizon.
    pub(super) fn difference(&self, task: &str, bootstrap: &Bootstrap) -> Option<Difference> {
        let [a, b] = self.values()?;
        let ci = bootstrap.interval_of_draws(self.differences(bootstrap));
        Some(Difference {
            id: HORIZON.to_owned(),
            task: task.to_owned(),
            unit: "steps".to_owned(),
            direction: Direction::Descriptive,
            a: Some(a),
            b: Some(b),
            difference: ci.is_some().then_some(b - a),
            null_reason: ci.is_none().then(|| "too_few_items".to_owned()),
            ci: ci.map(|ci| ci.by(IntervalMethod::StratifiedBootstrap)),
            n_items: self.n_items(),
            n_unpaired: self.n_unpaired,
            mcnemar_p: None,
        })
    }
}

/// Whether answers are right, with the number of steps, by item; items of an unknown number of steps are left out.
pub(crate) fn answers<'a>(
    samples: impl Iterator<Item = &'a SampleRow>,
    task: &str,
) -> BTreeMap<&'a str, (usize, bool)> {
    let answer = |sample: &'a SampleRow| {
        let right = sample.correct.get("strict").copied().unwrap_or(false);
        Some((sample.item_id.as_str(), (sample.n_steps?, right)))
    };
    samples.filter(|sample| sample.task == task).filter_map(answer).collect()
}

/// The answers to the items that both have, and the number of items that only one has.
pub(crate) fn shared(a: BTreeMap<&str, (usize, bool)>, b: &BTreeMap<&str, (usize, bool)>) -> (SharedAnswers, usize) {
    let n_all = a.len() + b.len();
    let mut shared = SharedAnswers::new();
    for (item, (n_steps, right)) in a {
        if let Some((_, other)) = b.get(item) {
            shared.entry(n_steps).or_default().push([right, *other]);
        }
    }
    let n_shared: usize = shared.values().map(Vec::len).sum();
    (shared, n_all - 2 * n_shared)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::paired::compare;
    use aloud_measure::metric_record::MetricRecord;
    use aloud_measure::test_runs::{Fixture, open_run};

    /// A run whose items of `k` steps (1 to 3) are answered at once rightly where `right` says so.
    fn run(right: impl Fn(usize, usize) -> bool) -> EvaluationRun {
        let mut run = open_run(&Fixture::default());
        let direct = run.samples.iter().enumerate().map(|(index, sample)| {
            let k = 1 + index % 3;
            let correct = [("strict".to_owned(), right(k, index / 3))].into();
            SampleRow { arm: "direct".to_owned(), n_steps: Some(k), correct, ..sample.clone() }
        });
        let direct: Vec<SampleRow> = direct.collect();
        run.samples.extend(direct);
        run.records.retain(|record| record.id != HORIZON);
        let record = MetricRecord::new(HORIZON, "steps", Direction::Descriptive, &run.records[0].context.clone());
        run.records.push(record.with_value(1.0).with_extra("chance", 0.0));
        run
    }

    #[test]
    fn horizons_differ_on_the_same_items() {
        // One step always; of two, half of the items or all; of three, none.
        let (short, long) = (run(|k, item| k == 1 || (k == 2 && item % 2 == 0)), run(|k, _| k < 3));
        let bootstrap = Bootstrap { n_draws: 500, ..Bootstrap::default() };
        let horizons = PairedHorizons::of(&short, &long, "gsm8k").unwrap();
        assert_eq!(horizons.values(), Some([2.0, 2.5]));
        let comparison = compare(&short, &long, &bootstrap).unwrap();
        let difference = comparison.metrics.iter().find(|metric| metric.id == HORIZON).unwrap();
        assert_eq!((difference.difference, difference.n_items, difference.n_unpaired), (Some(0.5), 24, 0));
        let ci = difference.ci.as_ref().unwrap();
        assert!(ci.lo > 0.0 && ci.lo < 0.5 && ci.hi > 0.5 && ci.hi < 1.5, "{ci:?}");
        // Drawn together, a run never differs from itself.
        let same = PairedHorizons::of(&short, &short, "gsm8k").unwrap();
        assert!(same.differences(&bootstrap).iter().all(|difference| *difference == 0.0));
        let mut without = long;
        without.records.retain(|record| record.id != HORIZON);
        assert!(PairedHorizons::of(&short, &without, "gsm8k").is_none());
    }
}
