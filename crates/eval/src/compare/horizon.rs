//! D7 of two runs on the same items: a horizon is no mean over items, so items are drawn within each number of steps, each
//! with both runs.

use std::collections::BTreeMap;

use crate::statistics::Draws;
use crate::{Bootstrap, ConfidenceInterval, Direction, EvaluationRun, Horizon, IntervalMethod, serial_horizon};

use super::Difference;

/// Id of the records.
pub(crate) const HORIZON: &str = "D7.horizon";

/// Purpose of the draws.
const RESAMPLE_PAIRS_WITHIN_STEPS: u64 = 5;

/// Whether answers without a trace are right, by number of steps, of the items that both runs have: `[a, b]`.
type SharedAnswers = BTreeMap<usize, Vec<[bool; 2]>>;

/// The horizons of two runs in one task.
pub(crate) struct PairedHorizons {
    /// Of the items as they are: `[a, b]`.
    pub(crate) values: [f64; 2],
    /// `b - a` in draws of the items.
    pub(crate) differences: Vec<f64>,
    n_items: usize,
    n_unpaired: usize,
}

impl PairedHorizons {
    /// The horizons of a task; `None` if a run has no record of one, or there is no item that both have.
    pub(crate) fn of(a: &EvaluationRun, b: &EvaluationRun, task: &str, bootstrap: &Bootstrap) -> Option<Self> {
        let chance = [a, b].map(|run| run.record(task, HORIZON)?.extra.get("chance")?.as_f64());
        let [Some(chance), Some(_)] = chance else { return None };
        let [of_a, of_b] = [a, b].map(|run| answers(run, task));
        let mut shared = SharedAnswers::new();
        for (item, (n_steps, right)) in &of_a {
            if let Some((_, other)) = of_b.get(item) {
                shared.entry(*n_steps).or_default().push([*right, *other]);
            }
        }
        let n_items: usize = shared.values().map(Vec::len).sum();
        let horizons = |share: &mut dyn FnMut(&[[bool; 2]]) -> [f64; 2]| -> Option<[f64; 2]> {
            let curves: Vec<(usize, [f64; 2])> = shared.iter().map(|(k, answers)| (*k, share(answers))).collect();
            let horizon = |run: usize| {
                let curve: Vec<(usize, f64)> = curves.iter().map(|(k, shares)| (*k, shares[run])).collect();
                serial_horizon(&curve, chance).map(Horizon::steps)
            };
            Some([horizon(0)?, horizon(1)?])
        };
        let values = horizons(&mut |answers| shares(answers.iter()))?;
        let differences = (0..bootstrap.n_draws).filter_map(|draw| {
            let mut draws = Draws::new(bootstrap.seed, RESAMPLE_PAIRS_WITHIN_STEPS, draw as u64);
            let [a, b] = horizons(&mut |answers| {
                shares((0..answers.len()).filter_map(|_| answers.get(draws.below(answers.len()))))
            })?;
            Some(b - a)
        });
        Some(Self {
            values,
            differences: differences.collect(),
            n_items,
            n_unpaired: of_a.len() + of_b.len() - 2 * n_items,
        })
    }

    /// The difference as one of a comparison.
    pub(super) fn difference(&self, task: &str, bootstrap: &Bootstrap) -> Difference {
        let [a, b] = self.values;
        let ci = bootstrap.interval_of_draws(self.differences.iter().copied());
        Difference {
            id: HORIZON.to_owned(),
            task: task.to_owned(),
            unit: "steps".to_owned(),
            direction: Direction::Descriptive,
            a: Some(a),
            b: Some(b),
            difference: ci.is_some().then_some(b - a),
            null_reason: ci.is_none().then(|| "too_few_items".to_owned()),
            ci: ci.map(|ci| ConfidenceInterval { method: IntervalMethod::StratifiedBootstrap, ..ci }),
            n_items: self.n_items,
            n_unpaired: self.n_unpaired,
            mcnemar_p: None,
        }
    }
}

/// Whether the answers without a trace are right, with the number of steps, by item.
fn answers<'a>(run: &'a EvaluationRun, task: &str) -> BTreeMap<&'a str, (usize, bool)> {
    let direct = run.direct_samples().filter(|sample| sample.task == task);
    let answer = |sample: &'a crate::SampleRow| {
        let right = sample.correct.get("strict").copied().unwrap_or(false);
        Some((sample.item_id.as_str(), (sample.n_steps?, right)))
    };
    direct.filter_map(answer).collect()
}

fn shares<'a>(answers: impl Iterator<Item = &'a [bool; 2]>) -> [f64; 2] {
    let (mut right, mut n) = ([0_usize; 2], 0_usize);
    for answer in answers {
        n += 1;
        for (right, is_right) in right.iter_mut().zip(answer) {
            *right += usize::from(*is_right);
        }
    }
    right.map(|right| right as f64 / n.max(1) as f64)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::compare::compare;
    use crate::test_runs::{Fixture, write_run};
    use crate::{MetricRecord, SampleRow};

    /// A run whose items of `k` steps (1 to 3) are answered at once rightly where `right` says so.
    fn run(right: impl Fn(usize, usize) -> bool) -> EvaluationRun {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture::default());
        let mut run = EvaluationRun::open(folder.path()).unwrap();
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
        let horizons = PairedHorizons::of(&short, &long, "gsm8k", &bootstrap).unwrap();
        assert_eq!(horizons.values, [2.0, 2.5]);
        let comparison = compare(&short, &long, &bootstrap).unwrap();
        let difference = comparison.metrics.iter().find(|metric| metric.id == HORIZON).unwrap();
        assert_eq!((difference.difference, difference.n_items, difference.n_unpaired), (Some(0.5), 24, 0));
        let ci = difference.ci.as_ref().unwrap();
        assert!(ci.lo > 0.0 && ci.lo < 0.5 && ci.hi > 0.5 && ci.hi < 1.5, "{ci:?}");
        // Drawn together, a run never differs from itself.
        let same = PairedHorizons::of(&short, &short, "gsm8k", &bootstrap).unwrap();
        assert!(same.differences.iter().all(|difference| *difference == 0.0));
        let mut without = long;
        without.records.retain(|record| record.id != HORIZON);
        assert!(PairedHorizons::of(&short, &without, "gsm8k", &bootstrap).is_none());
    }
}
