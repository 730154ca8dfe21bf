//! H4: fewer steps can be taken without a trace, while answers with one stay right. Horizons are means over tasks.

use aloud_base::random::Domain;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::contrast::{Claim, Contrast, estimate_words};
use super::controls::{BASE, Controls};
use super::decision::{Condition, Evidence, contrasts};
use super::subject::Measured;
use crate::paired::{HORIZON, PairedHorizons, SharedAnswers, answers, shared};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::IntervalMethod;
use aloud_measure::statistics::{Bootstrap, Resamples};

const METHOD: IntervalMethod = IntervalMethod::StratifiedBootstrap;

/// Fewer steps than the control, by a quarter of a step.
pub(super) const CLAIM: Claim = Claim { sign: -1.0, smallest: 0.25 };

/// Accuracy with a trace, at twice the base's horizon, that may be lost for a shorter horizon to be no mere loss.
const MAX_RETAINED_LOSS: f64 = 0.05;

/// The evidence on H4.
pub(super) fn evidence(
    model: &Measured<'_>,
    controls: &[Measured<'_>],
    chosen: &Controls,
    bootstrap: &Bootstrap,
) -> Evidence {
    let run = model.run;
    let tasks: Vec<&str> = run.tasks().into_iter().filter(|task| run.record(task, HORIZON).is_some()).collect();
    let (contrasts, mut obstacles) = contrasts(controls, chosen, |control| {
        let withheld = |task: &&str| model.withheld(task, HORIZON).or_else(|| control.withheld(task, HORIZON));
        if let Some(reason) = tasks.iter().find_map(withheld) {
            return Err(reason);
        }
        let pairs: Option<Vec<PairedHorizons>> =
            tasks.iter().map(|task| PairedHorizons::of(control.run, run, task)).collect();
        let found = pairs.and_then(|pairs| contrast(control.key(), &pairs, bootstrap));
        found.ok_or_else(|| format!("{HORIZON} has no value beside {}", control.key()))
    });
    let base = controls.iter().find(|control| control.key() == BASE).map(|base| base.run);
    let condition = base.and_then(|base| retained(run, base, &tasks, bootstrap));
    if let Some(base) = base.filter(|_| !tasks.is_empty()) {
        obstacles.extend(depth_does_not_matter(base, &tasks, bootstrap));
        if condition.is_none() {
            obstacles.push("accuracy with a trace at twice the base's horizon was not measured".to_owned());
        }
    }
    Evidence {
        name: "H4",
        claim_words: "fewer steps can be taken without a trace, and answers with one stay as right",
        metric: HORIZON,
        claim: CLAIM,
        contrasts,
        condition,
        obstacles,
    }
}

/// The contrast of mean horizons with one control: `[control, model]` in each task. `None` for no task, or without a horizon.
pub(super) fn contrast(control: &str, tasks: &[PairedHorizons], bootstrap: &Bootstrap) -> Option<Contrast> {
    let n = tasks.iter().map(PairedHorizons::n_items).sum();
    let difference = mean_difference(tasks)?;
    let draws = mean_draws(tasks, bootstrap)?;
    Some(Contrast::new(control, n, difference, &draws, CLAIM, (bootstrap, METHOD))).filter(|found| found.ci.is_some())
}

/// Second horizon less the first, the mean over tasks.
pub(super) fn mean_difference(tasks: &[PairedHorizons]) -> Option<f64> {
    let values: Option<Vec<[f64; 2]>> = tasks.iter().map(PairedHorizons::values).collect();
    let values = values.filter(|values| !values.is_empty())?;
    Some(values.iter().map(|[a, b]| b - a).sum::<f64>() / values.len() as f64)
}

fn mean_draws(tasks: &[PairedHorizons], bootstrap: &Bootstrap) -> Option<Vec<f64>> {
    // Items of different tasks have nothing to do with each other: each task has its own draws.
    let of_task = |(place, task): (u64, &PairedHorizons)| {
        task.differences(&Bootstrap { seed: bootstrap.seed.wrapping_add(place), ..*bootstrap })
    };
    let draws: Vec<Vec<f64>> = (0..).zip(tasks).map(of_task).collect();
    let n_draws = draws.iter().map(Vec::len).min()?;
    let mean = |draw: usize| draws.iter().map(|task| task[draw]).sum::<f64>() / draws.len() as f64;
    Some((0..n_draws).map(mean).collect())
}

/// Accuracy with a trace at twice the base's horizon, model less base: a mean over the tasks where that is within what was asked, and
/// between two numbers of steps on the line between them. `None` if there is no such task.
fn retained(model: &EvaluationRun, base: &EvaluationRun, tasks: &[&str], bootstrap: &Bootstrap) -> Option<Condition> {
    let of_task = |task: &&str| {
        let horizon = base.record(task, HORIZON)?.value?;
        let (answers, _) =
            shared(answers(base.answered_samples(task), task), &answers(model.answered_samples(task), task));
        at_steps(answers, 2.0 * horizon)
    };
    let tasks: Vec<Vec<WeightedAnswers>> = tasks.iter().filter_map(of_task).collect();
    if tasks.is_empty() {
        return None;
    }
    let parts: Vec<&WeightedAnswers> = tasks.iter().flatten().collect();
    let n = parts.iter().map(|part| part.differences.len()).sum();
    let sizes: Vec<usize> = parts.iter().map(|part| part.differences.len()).collect();
    let resamples = Resamples::within(bootstrap, Domain::RESAMPLE_TRACED, &sizes);
    let (mut first, mut difference, mut draws) = (0, 0.0, vec![0.0; bootstrap.n_draws]);
    for part in parts {
        let size = part.differences.len();
        let scale = part.weight / (size as f64 * tasks.len() as f64);
        difference += scale * part.differences.iter().map(|[difference]| difference).sum::<f64>();
        for (draw, [sum]) in draws.iter_mut().zip(resamples.sums(first, &part.differences)) {
            *draw += scale * sum;
        }
        first += size;
    }
    let ci = Bootstrap { level: 0.95, ..*bootstrap }.interval_of_draws(draws);
    Some(Condition {
        words: "accuracy with a trace at twice the base's horizon, model less base",
        n,
        difference,
        ci: ci.map(|ci| ci.by(METHOD)),
        bound: -MAX_RETAINED_LOSS,
    })
}

/// Answers of one number of steps.
#[derive(Clone, Debug, PartialEq)]
struct WeightedAnswers {
    /// How much this number of steps counts.
    weight: f64,
    /// Right of the second less right of the first, by item.
    differences: Vec<[f64; 1]>,
}

/// The answers at a number of steps: those of the two numbers around it, weighted by nearness. `None` outside of what was asked.
fn at_steps(answers: SharedAnswers, n_steps: f64) -> Option<Vec<WeightedAnswers>> {
    let below = *answers.keys().rev().find(|k| **k as f64 <= n_steps)?;
    let above = *answers.keys().find(|k| **k as f64 >= n_steps)?;
    let place = if above == below { 0.0 } else { (n_steps - below as f64) / (above - below) as f64 };
    let part = |(k, answers): (usize, Vec<[bool; 2]>)| WeightedAnswers {
        weight: if k == below { 1.0 - place } else { place },
        differences: answers.iter().map(|[first, second]| [f64::from(*second) - f64::from(*first)]).collect(),
    };
    Some(answers.into_iter().filter(|(k, _)| *k == below || *k == above).map(part).collect())
}

/// What the base answers at once at a depth, and at full depth, of items of one number of steps.
#[derive(Clone, Copy, Debug, Deserialize)]
struct AgainstFull {
    k: usize,
    both: usize,
    only_here: usize,
    only_full: usize,
    neither: usize,
}

impl AgainstFull {
    fn numbers(self) -> [usize; 4] {
        [self.both, self.only_here, self.only_full, self.neither]
    }
}

/// Why horizons say nothing about depth: that of the base at full depth is not surely longer than at half of it.
fn depth_does_not_matter(base: &EvaluationRun, tasks: &[&str], bootstrap: &Bootstrap) -> Option<String> {
    let half = (base.manifest.identity.n_blocks / 2).max(1);
    let pairs: Vec<PairedHorizons> = tasks.iter().filter_map(|task| at_half_depth(base, task, half)).collect();
    let (Some(difference), Some(draws)) = (mean_difference(&pairs), mean_draws(&pairs, bootstrap)) else {
        return Some(format!(
            "whether depth matters is not known: what the base answers at once at depth {half} and at full depth was not recorded item by \
             item: evaluate the base again with this version"
        ));
    };
    let ci = Bootstrap { level: 0.95, ..*bootstrap }.interval_of_draws(draws);
    (!ci.as_ref().is_some_and(|ci| ci.lo > 0.0)).then(|| {
        let n: usize = pairs.iter().map(PairedHorizons::n_items).sum();
        format!(
            "what the base answers at once does not surely depend on depth: horizon at full depth less that at depth {half} is {} steps \
             ({n} items)",
            estimate_words(difference, ci.as_ref())
        )
    })
}

/// The base's answers at once at a depth and at full depth.
fn at_half_depth(base: &EvaluationRun, task: &str, depth: usize) -> Option<PairedHorizons> {
    let extra = &base.record(task, HORIZON)?.extra;
    let chance = extra.get("chance")?.as_f64()?;
    let curve = extra.get("forced_depth_curve")?.as_array()?;
    let point =
        curve.iter().find(|point| point.get("depth").and_then(serde_json::Value::as_u64) == Some(depth as u64))?;
    let counts: Vec<AgainstFull> = serde_json::from_value(point.get("against_full")?.clone()).ok()?;
    let n_items: usize = counts.iter().flat_map(|counts| counts.numbers()).fold(0, usize::saturating_add);
    if n_items > base.manifest.item_ids.values().map(Vec::len).sum() {
        return None;
    }
    let of_steps = |counts: &AgainstFull| {
        let kinds = [[true, true], [true, false], [false, true], [false, false]];
        (counts.k, counts.numbers().into_iter().zip(kinds).flat_map(|(n, answer)| vec![answer; n]).collect())
    };
    let answers: BTreeMap<usize, Vec<[bool; 2]>> = counts.iter().map(of_steps).collect();
    (!answers.is_empty()).then_some(PairedHorizons { answers, chance, n_unpaired: 0 })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn answers_at_a_number_of_steps_are_those_around_it() {
        let answers =
            SharedAnswers::from([(1, vec![[true, false]]), (2, vec![[true, true]]), (4, vec![[false, true]])]);
        let at = |n_steps: f64| at_steps(answers.clone(), n_steps);
        let weights = |n_steps: f64| -> Vec<(f64, f64)> {
            at(n_steps).unwrap().iter().map(|part| (part.weight, part.differences[0][0])).collect()
        };
        assert_eq!(weights(1.0), [(1.0, -1.0)]);
        assert_eq!(weights(3.5), [(0.25, 0.0), (0.75, 1.0)]);
        assert_eq!((at(0.5), at(4.5)), (None, None));
    }
}
