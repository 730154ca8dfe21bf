//! How often a verdict supports a hypothesis that is not true: by simulation from recorded items, under the null that is hardest to
//! hold. Two controls are far from the model in the direction of the claim, and the third is equal to it in distribution.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contrast::{Claim, Contrast, Standing};
use super::decision::{Evidence, Verdict, decide};
use super::subject::Measured;
use super::{early_answering, horizon};
use crate::paired::{AREA, HORIZON, PairedArea, PairedAreas, PairedHorizons};
use aloud_base::random::KeyedRandom;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::statistics::Bootstrap;

/// The three controls that a verdict rests on.
const CONTROLS: [&str; 3] = ["base", "base_noise", "exits_off"];

/// What two models did on one item: `[model, control]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedItem {
    /// Name of the task.
    pub task: String,
    /// Number of steps, where it is known.
    pub n_steps: Option<usize>,
    /// Areas over the curve of early answers, where both have one, and the lengths of their traces.
    pub areas: Option<[[f64; 2]; 2]>,
    /// Whether their answers without a trace are right, where there are some.
    pub at_once: Option<[bool; 2]>,
}

/// Recorded items of two models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedItems {
    /// Accuracy of a blind guess, by task.
    pub chances: BTreeMap<String, f64>,
    /// The items.
    pub items: Vec<RecordedItem>,
}

/// The hypotheses that are calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibratedHypothesis {
    /// H1; the number of items is of all tasks together.
    EarlyAnswering,
    /// H4; the number of items is of every task and number of steps.
    Horizon,
}

/// A null: what is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NullSimulation {
    /// The hypothesis that is not true.
    pub hypothesis: CalibratedHypothesis,
    /// Which of the three controls is equal to the model, 0 to 2.
    pub equal_control: usize,
    /// Number of items.
    pub n_items: usize,
    /// Draws of the verdict.
    pub bootstrap: Bootstrap,
}

impl RecordedItems {
    /// What a run and one of its controls recorded.
    pub fn of_runs(model: &EvaluationRun, control: &EvaluationRun) -> Self {
        let (model, control) = (Measured::new(model), Measured::new(control));
        let mut found = Self::default();
        let tasks = model.run.manifest.item_ids.keys();
        for task in tasks {
            let chance = model.run.record(task, HORIZON).and_then(|record| record.extra.get("chance")?.as_f64());
            found.chances.extend(chance.map(|chance| (task.clone(), chance)));
            let mut items: BTreeMap<&str, RecordedItem> = BTreeMap::new();
            for sample in model.run.samples.iter().filter(|sample| sample.task == *task) {
                let empty = RecordedItem { task: task.clone(), n_steps: sample.n_steps, areas: None, at_once: None };
                items.entry(&sample.item_id).or_insert(empty);
            }
            let value = |of: &Measured<'_>, id: &str, item: &str| {
                let measure = of.measures.iter().find(|measure| measure.task == *task && measure.id == id)?;
                measure.items.iter().find(|((name, _), _)| name == item)?.1.mean()
            };
            let right = |run: &EvaluationRun, item: &str| {
                run.direct_samples().find(|sample| sample.item_id == item)?.correct.get("strict").copied()
            };
            for (item, recorded) in &mut items {
                let pair = |id: &str| Some([value(&model, id, item)?, value(&control, id, item)?]);
                let lengths = pair("length.trace").filter(|lengths| lengths.iter().all(|length| *length > 0.0));
                recorded.areas = pair(AREA).zip(lengths).map(|(areas, lengths)| [areas, lengths]);
                recorded.at_once = right(model.run, item).zip(right(control.run, item)).map(<[bool; 2]>::from);
            }
            found.items.extend(items.into_values());
        }
        found
    }
}

impl NullSimulation {
    /// Whether the simulated evaluation number `run` ends in a false "supported".
    pub fn is_supported(&self, recorded: &RecordedItems, run: u64) -> bool {
        let name = format!("calibration/{:?}/{}/{}", self.hypothesis, self.equal_control, self.n_items);
        let mut random = KeyedRandom::named(run, &name);
        match self.hypothesis {
            CalibratedHypothesis::EarlyAnswering => self.early_answering(recorded, &mut random),
            CalibratedHypothesis::Horizon => self.horizon(recorded, &mut random),
        }
        .unwrap_or(false)
    }

    fn early_answering(&self, recorded: &RecordedItems, random: &mut KeyedRandom) -> Option<bool> {
        let pool: Vec<[[f64; 2]; 2]> = recorded.items.iter().filter_map(|item| item.areas).collect();
        let drawn: Vec<[[f64; 2]; 2]> = (0..self.n_items)
            .filter_map(|_| {
                // Which of the two is the model is drawn: then both are the same in distribution.
                let (numbers, swap) = (*pool.get(random.below(pool.len()))?, random.below(2) == 1);
                Some(numbers.map(|pair| swapped(pair, swap)))
            })
            .collect();
        let pair = |difference, log_length_ratio| PairedArea { difference, log_length_ratio };
        let of = |items: Vec<PairedArea>| PairedAreas { items, n_unpaired: 0 };
        let equal = of(drawn.iter().map(|[[a, b], [m, n]]| pair(a - b, (m / n).ln())).collect());
        // What is too small, or does not hold by itself, is not supported whatever the others say.
        let [_, difference] = equal.values();
        if difference? < early_answering::CLAIM.smallest {
            return Some(false);
        }
        let contrast = |areas: &PairedAreas| early_answering::contrast("", areas, &self.bootstrap);
        let equal = contrast(&equal).filter(|found| found.standing(early_answering::CLAIM) == Standing::Holds)?;
        // Answers of the far controls never change.
        let far = contrast(&of(drawn.iter().map(|[[a, _], _]| pair(*a, 0.0)).collect()))?;
        Some(self.decide(early_answering::CLAIM, &equal, &far))
    }

    fn horizon(&self, recorded: &RecordedItems, random: &mut KeyedRandom) -> Option<bool> {
        let mut pools: BTreeMap<(&str, usize), Vec<[bool; 2]>> = BTreeMap::new();
        for item in &recorded.items {
            if let (Some(n_steps), Some(right)) = (item.n_steps, item.at_once) {
                pools.entry((&item.task, n_steps)).or_default().push(right);
            }
        }
        let mut equal: BTreeMap<&str, PairedHorizons> = BTreeMap::new();
        for ((task, n_steps), pool) in pools {
            let chance = *recorded.chances.get(task)?;
            let of_task = equal.entry(task).or_insert_with(|| PairedHorizons { chance, ..PairedHorizons::default() });
            let drawn = (0..self.n_items).filter_map(|_| {
                let pair = *pool.get(random.below(pool.len()))?;
                Some(swapped(pair, random.below(2) == 1))
            });
            of_task.answers.insert(n_steps, drawn.collect());
        }
        let equal: Vec<PairedHorizons> = equal.into_values().collect();
        if horizon::CLAIM.sign * horizon::mean_difference(&equal)? < horizon::CLAIM.smallest {
            return Some(false);
        }
        let contrast = |tasks: &[PairedHorizons]| horizon::contrast("", tasks, &self.bootstrap);
        let mut far = equal.clone();
        let found = contrast(&equal).filter(|found| found.standing(horizon::CLAIM) == Standing::Holds)?;
        // The far controls answer everything at once.
        far.iter_mut().flat_map(|task| task.answers.values_mut()).flatten().for_each(|[control, _]| *control = true);
        Some(self.decide(horizon::CLAIM, &found, &contrast(&far)?))
    }

    /// The verdict on three contrasts, beside another hypothesis that is beyond doubt: then the correction is smallest.
    fn decide(&self, claim: Claim, equal: &Contrast, far: &Contrast) -> bool {
        let contrasts: Vec<Contrast> = (CONTROLS.iter().enumerate())
            .map(|(place, control)| {
                let found = if place == self.equal_control { equal } else { far };
                Contrast { control: (*control).to_owned(), ..found.clone() }
            })
            .collect();
        let evidence = Evidence {
            name: "",
            claim_words: "",
            metric: "",
            claim,
            contrasts,
            condition: None,
            obstacles: Vec::new(),
        };
        let certain = Evidence { contrasts: vec![Contrast { p: 0.0, ..far.clone() }], ..evidence.clone() };
        decide(vec![evidence, certain]).first().is_some_and(|found| found.verdict == Verdict::Supported)
    }
}

fn swapped<T: Copy>(pair: [T; 2], swap: bool) -> [T; 2] {
    if swap { [pair[1], pair[0]] } else { pair }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::statistics::wilson_interval;
    use aloud_measure::test_runs::{Fixture, open_run};

    fn recorded() -> RecordedItems {
        serde_json::from_str(include_str!("../../tests/data/recorded_items.json")).unwrap()
    }

    /// Runs of the test; the example runs more, at the size of every tier.
    const RUNS: u64 = 400;

    fn null(hypothesis: CalibratedHypothesis, equal_control: usize, n_items: usize) -> NullSimulation {
        NullSimulation { hypothesis, equal_control, n_items, bootstrap: Bootstrap::headline() }
    }

    #[test]
    fn a_control_that_equals_the_model_is_rarely_overlooked() {
        let recorded = recorded();
        for (hypothesis, n_items) in [(CalibratedHypothesis::EarlyAnswering, 100), (CalibratedHypothesis::Horizon, 25)]
        {
            for equal_control in 0..3 {
                let null = null(hypothesis, equal_control, n_items);
                let n = (0..RUNS).filter(|run| null.is_supported(&recorded, *run)).count();
                let [_, most] = wilson_interval(n, RUNS as usize).unwrap();
                assert!(most <= 0.05, "{hypothesis:?}, control {equal_control}: {n} of {RUNS}");
            }
        }
    }

    #[test]
    fn a_control_that_differs_lets_the_claim_through() {
        // Or the test above could not fail: the same arithmetic, without the null.
        let items = vec![PairedArea { difference: 0.5, log_length_ratio: 0.0 }; 100];
        let null = null(CalibratedHypothesis::EarlyAnswering, 0, 100);
        let far = early_answering::contrast("", &PairedAreas { items, n_unpaired: 0 }, &null.bootstrap).unwrap();
        assert!(null.decide(early_answering::CLAIM, &far, &far));
    }

    #[test]
    fn recorded_items_are_those_of_the_runs() {
        let open = |model, commitment| open_run(&Fixture { model, commitment, ..Fixture::default() });
        let found = RecordedItems::of_runs(&open("exits", 0.8), &open("base", 0.2));
        assert_eq!(found.items.len(), 24);
        let [areas, lengths] = found.items.iter().find_map(|item| item.areas).unwrap();
        assert!(areas[0] > areas[1] && lengths[0] == lengths[1]);
        assert!(found.items.iter().all(|item| item.at_once.is_none()));
    }
}
