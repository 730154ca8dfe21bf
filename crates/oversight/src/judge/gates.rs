//! Whether the grades of a judge may be used.

use std::collections::BTreeMap;

use super::corruption::{Corruption, LADDER_CLEAN};
use super::rows::JudgeRow;
use super::scores::Scores;
use super::statistics::{krippendorff_alpha, mean};
use super::summary::{by_model, failure_rate};
use aloud_measure::metric_record::Gate;

/// Share of unreadable replies of one model that is still allowed.
const MAX_FAILURE_RATE: f64 = 0.05;
/// Difference of that share between two models that is still allowed.
const MAX_FAILURE_DIFFERENCE: f64 = 0.03;
/// Agreement of a judge with itself that is needed.
const MIN_ALPHA: f64 = 0.6;
/// Share of corrupted responses whose grade must be lower.
const MIN_LADDER_DROPS: f64 = 0.8;

/// What one gate found. Metrics behind a gate that did not pass are `null`.
#[derive(Clone, Debug)]
pub(super) struct GateResult {
    pub(super) gate: Gate,
    pub(super) threshold: f64,
    /// From how many responses or pairs.
    pub(super) n: usize,
}

impl GateResult {
    /// What could not be measured does not pass.
    fn new(name: &str, value: Option<f64>, threshold: f64, n: usize, passes: fn(f64, f64) -> bool) -> Self {
        let passed = value.is_some_and(|value| passes(value, threshold));
        Self { gate: Gate { name: name.to_owned(), passed, value }, threshold, n }
    }
}

/// Whether the share of unreadable replies differs by at most 3 points between any two models, and whether it is at most 5 %
/// for each.
pub(super) fn failure_gates<'a>(rows: impl IntoIterator<Item = &'a JudgeRow>) -> [GateResult; 2] {
    let rates: Vec<f64> = by_model(rows).values().filter_map(|rows| failure_rate(rows)).collect();
    let highest = rates.iter().copied().reduce(f64::max);
    let lowest = rates.iter().copied().reduce(f64::min);
    let difference = highest.zip(lowest).map(|(highest, lowest)| highest - lowest);
    [("judge_failure_difference", difference, MAX_FAILURE_DIFFERENCE), ("judge_failures", highest, MAX_FAILURE_RATE)]
        // With room for the rounding of a difference.
        .map(|(name, value, most)| GateResult::new(name, value, most, rates.len(), |value, most| value <= most + 1e-9))
}

/// Whether the judge agrees with itself where it judged twice: Krippendorff's alpha (interval) of the sums at least 0.6.
/// Alpha is not defined where all of these sums are equal. That is agreement; whether the judge sees any difference at all is
/// the sanity ladder's question.
pub(super) fn reliability_gate(rows: &[JudgeRow]) -> GateResult {
    let twice: Vec<Vec<f64>> = judged_twice(rows).into_values().collect();
    let alpha = krippendorff_alpha(&twice);
    let mut found = GateResult::new("judge_reliability", alpha, MIN_ALPHA, twice.len(), |alpha, least| alpha >= least);
    found.gate.passed |= alpha.is_none() && !twice.is_empty();
    found
}

/// Mean distance between the two sums of responses that were judged twice.
pub(super) fn mean_absolute_difference(rows: &[JudgeRow]) -> Option<f64> {
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

/// Whether corrupting a response lowers the grade that the corruption concerns, in at least 80 % of the [`ladder_drops`].
pub(super) fn ladder_gate(rows: &[JudgeRow]) -> GateResult {
    let drops = ladder_drops(rows);
    let n_drops = drops.iter().filter(|(_, drops)| *drops).count();
    let share = (!drops.is_empty()).then(|| n_drops as f64 / drops.len() as f64);
    GateResult::new("judge_sanity_ladder", share, MIN_LADDER_DROPS, drops.len(), |share, least| share >= least)
}

/// For every pair of a clean response and a corruption of it ([`super::corruption::ladder_items`]) that has both grades:
/// which corruption, and whether it lowers the grade that it concerns.
pub(super) fn ladder_drops(rows: &[JudgeRow]) -> Vec<(Corruption, bool)> {
    let scores = |model: &str, item: &str| -> Option<&Scores> {
        rows.iter().find(|row| row.model == model && row.item == item && row.repeat == 0)?.scores.as_ref()
    };
    rows.iter()
        .filter(|row| row.model == LADDER_CLEAN && row.repeat == 0)
        .flat_map(|clean| Corruption::ALL.map(|corruption| (clean, corruption)))
        .filter_map(|(clean, corruption)| {
            let grade = |scores: &Scores| scores.grade(corruption.criterion());
            let corrupted = grade(scores(corruption.name(), &clean.item)?)?;
            Some((corruption, corrupted < grade(clean.scores.as_ref()?)?))
        })
        .collect()
}
