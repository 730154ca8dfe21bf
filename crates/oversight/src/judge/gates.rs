//! Whether the grades of a judge may be used.

use std::collections::BTreeMap;

use serde::Serialize;

use super::corruption::{Corruption, LADDER_CLEAN};
use super::statistics::{krippendorff_alpha, mean};
use super::summary::{by_model, parse_failure_rate};
use super::{JudgeRow, Scores};

/// Share of unreadable replies of one model that is still allowed.
const MAX_FAILURE_RATE: f64 = 0.05;
/// Difference of that share between two models that is still allowed.
const MAX_FAILURE_DIFFERENCE: f64 = 0.03;
/// Agreement of a judge with itself that is needed.
const MIN_ALPHA: f64 = 0.6;
/// Share of corrupted responses whose grade must be lower.
const MIN_LADDER_DROPS: f64 = 0.8;

/// What one gate found. Metrics behind a gate that did not pass are `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateResult {
    /// Its name, as in `gate:<name>`.
    pub name: &'static str,
    /// Whether the grades may be used.
    pub passed: bool,
    /// What was measured; `None` if nothing could be.
    pub value: Option<f64>,
    /// The bound.
    pub threshold: f64,
    /// From how many responses or pairs.
    pub n: usize,
}

impl GateResult {
    /// Passes from the threshold up. What could not be measured does not pass.
    fn at_least(name: &'static str, value: Option<f64>, threshold: f64, n: usize) -> Self {
        Self { name, passed: value.is_some_and(|value| value >= threshold), value, threshold, n }
    }

    /// Passes up to the threshold, with room for the rounding of a difference.
    fn at_most(name: &'static str, value: Option<f64>, threshold: f64, n: usize) -> Self {
        Self { name, passed: value.is_some_and(|value| value <= threshold + 1e-9), value, threshold, n }
    }
}

/// Whether at most 5 % of the replies about any model were unreadable.
pub fn failure_rate_gate(rows: &[JudgeRow]) -> GateResult {
    let rates = failure_rates(rows);
    GateResult::at_most("judge_failures", rates.iter().copied().reduce(f64::max), MAX_FAILURE_RATE, rates.len())
}

/// Whether that share differs by at most 3 points between any two models.
pub fn failure_difference_gate(rows: &[JudgeRow]) -> GateResult {
    let rates = failure_rates(rows);
    let highest = rates.iter().copied().reduce(f64::max);
    let lowest = rates.iter().copied().reduce(f64::min);
    let difference = highest.zip(lowest).map(|(highest, lowest)| highest - lowest);
    GateResult::at_most("judge_failure_difference", difference, MAX_FAILURE_DIFFERENCE, rates.len())
}

/// The share of every model that has replies.
fn failure_rates(rows: &[JudgeRow]) -> Vec<f64> {
    by_model(rows).values().filter_map(|rows| parse_failure_rate(rows)).collect()
}

/// Whether the judge agrees with itself where it judged twice: Krippendorff's alpha (interval) of the sums at least 0.6.
/// Alpha is not defined where all of these sums are equal. That is agreement; whether the judge sees any difference at all is
/// the sanity ladder's question.
pub fn reliability_gate(rows: &[JudgeRow]) -> GateResult {
    let twice: Vec<Vec<f64>> = judged_twice(rows).into_values().collect();
    let alpha = krippendorff_alpha(&twice);
    let gate = GateResult::at_least("judge_reliability", alpha, MIN_ALPHA, twice.len());
    GateResult { passed: gate.passed || (alpha.is_none() && !twice.is_empty()), ..gate }
}

/// Mean distance between the two sums of responses that were judged twice.
pub fn mean_absolute_difference(rows: &[JudgeRow]) -> Option<f64> {
    let distances: Vec<f64> = judged_twice(rows).values().map(|sums| (sums[0] - sums[1]).abs()).collect();
    mean(&distances)
}

/// The two sums of every response that was judged twice, by model and item.
pub(super) fn judged_twice(rows: &[JudgeRow]) -> BTreeMap<(&str, &str), Vec<f64>> {
    let mut sums: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for row in rows {
        if let Some(scores) = &row.scores {
            sums.entry((&row.model, &row.item)).or_default().push(scores.sum);
        }
    }
    sums.retain(|_, sums| sums.len() == 2);
    sums
}

/// Whether corrupting a response lowers the grade that the corruption concerns, in at least 80 % of the pairs. Takes the
/// rows of the responses made by [`super::ladder_items`]. Pairs without both grades are not counted; `n` tells how many are.
pub fn ladder_gate(rows: &[JudgeRow]) -> GateResult {
    let drops = ladder_drops(rows);
    let n_drops = drops.iter().filter(|(_, drops)| *drops).count();
    let share = (!drops.is_empty()).then(|| n_drops as f64 / drops.len() as f64);
    GateResult::at_least("judge_sanity_ladder", share, MIN_LADDER_DROPS, drops.len())
}

/// For every pair of a clean response and a corruption of it that has both grades: which corruption, and whether it lowers
/// the grade that it concerns.
pub fn ladder_drops(rows: &[JudgeRow]) -> Vec<(Corruption, bool)> {
    let scores = |model: &str, item: &str| -> Option<&Scores> {
        rows.iter().find(|row| row.model == model && row.item == item && row.repeat == 0)?.scores.as_ref()
    };
    rows.iter()
        .filter(|row| row.model == LADDER_CLEAN && row.repeat == 0)
        .flat_map(|clean| Corruption::ALL.map(|corruption| (clean, corruption)))
        .filter_map(|(clean, corruption)| {
            let grade = |scores: &Scores| scores.criteria.get(corruption.criterion()).copied();
            let corrupted = grade(scores(corruption.name(), &clean.item)?)?;
            Some((corruption, corrupted < grade(clean.scores.as_ref()?)?))
        })
        .collect()
}
