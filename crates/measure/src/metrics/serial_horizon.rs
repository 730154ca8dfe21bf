//! How many serial steps a model can take without writing them down.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::item_rows::MetricSetting;
use crate::metric_record::{ConfidenceInterval, Direction, IntervalMethod, MetricRecord};
use crate::statistics::{between, wilson_interval};
use aloud_base::random::{Domain, KeyedRandom};

/// Answers to items of one number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepAccuracy {
    /// Number of steps.
    pub n_steps: usize,
    /// Whether each answer without a trace is right.
    pub without_trace: Vec<bool>,
    /// Whether each answer with a trace is right; may be empty.
    pub with_trace: Vec<bool>,
}

/// The number of steps at which answers fall below half-way between chance and always right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "relation", content = "steps", rename_all = "lowercase")]
pub enum Horizon {
    /// Below this number of steps: already the items with fewest steps are beyond it.
    Below(usize),
    /// Here, linearly interpolated between two numbers of steps.
    At(f64),
    /// Above this number of steps: not even the items with most steps are beyond it.
    Above(usize),
}

impl Horizon {
    /// The number of steps; the bound where only a bound is known.
    pub fn steps(self) -> f64 {
        match self {
            Self::At(steps) => steps,
            Self::Below(steps) | Self::Above(steps) => steps as f64,
        }
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(steps) => write!(formatter, "< {steps}"),
            Self::At(steps) => write!(formatter, "{steps:.1}"),
            Self::Above(steps) => write!(formatter, "> {steps}"),
        }
    }
}

/// The serial horizon of a curve of (number of steps, accuracy), ascending: the largest number of steps up to which all
/// accuracies are at least `chance + 0.5 (1 - chance)`. `None` for no point.
pub fn serial_horizon(curve: &[(usize, f64)], chance: f64) -> Option<Horizon> {
    let half_way = f64::midpoint(chance, 1.0);
    let (first, last) = (curve.first()?, curve.last()?);
    if first.1 < half_way {
        return Some(Horizon::Below(first.0));
    }
    let crossing = curve.windows(2).find_map(|pair| {
        let [(k, accuracy), (next_k, next_accuracy)] = *pair else { return None };
        let is_crossed = next_accuracy < half_way;
        is_crossed.then(|| k as f64 + (next_k - k) as f64 * (accuracy - half_way) / (accuracy - next_accuracy))
    });
    Some(crossing.map_or(Horizon::Above(last.0), Horizon::At))
}

/// `horizon.without_trace` of one task, without a trace. The interval resamples items within each number of steps. In `extra`: both
/// accuracy curves with Wilson's intervals, whether the value is only a bound, and `retained`: the accuracy with a trace at
/// twice the horizon of the base (`base_horizon`, in steps), between two numbers of steps on the line between them.
pub fn serial_horizon_record(
    accuracies: &[StepAccuracy],
    chance: f64,
    base_horizon: Option<f64>,
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let mut by_steps: Vec<&StepAccuracy> = accuracies.iter().filter(|steps| !steps.without_trace.is_empty()).collect();
    by_steps.sort_by_key(|steps| steps.n_steps);
    let curve: Vec<(usize, f64)> = by_steps.iter().map(|steps| (steps.n_steps, share(&steps.without_trace))).collect();
    let n_items = by_steps.iter().map(|steps| steps.without_trace.len()).sum();
    let record = MetricRecord::new("horizon.without_trace", "steps", Direction::Descriptive, setting.context)
        .with_items(n_items)
        .with_extra("chance", chance)
        .with_extra("acc_nt", rows(accuracies, |steps| &steps.without_trace))
        .with_extra("acc_t", rows(accuracies, |steps| &steps.with_trace))
        .with_extra("retained", json!(base_horizon.and_then(|horizon| retained(accuracies, 2.0 * horizon))));
    let Some(horizon) = serial_horizon(&curve, chance) else {
        return record.with_null("no_items");
    };
    record
        .with_value(horizon.steps())
        .with_interval(interval(&by_steps, chance, setting))
        .with_extra("relation", json!(horizon)["relation"].clone())
}

fn share(right: &[bool]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len() as f64
}

fn rows(accuracies: &[StepAccuracy], of: fn(&StepAccuracy) -> &[bool]) -> Value {
    let row = |steps: &StepAccuracy| {
        let answers = of(steps);
        let right = answers.iter().filter(|right| **right).count();
        let [lo, hi] = wilson_interval(right, answers.len())?;
        Some(json!({"k": steps.n_steps, "n": answers.len(), "accuracy": share(answers), "lo": lo, "hi": hi}))
    };
    accuracies.iter().filter_map(row).collect()
}

fn interval(by_steps: &[&StepAccuracy], chance: f64, setting: &MetricSetting<'_>) -> Option<ConfidenceInterval> {
    let bootstrap = setting.bootstrap;
    let horizons = (0..bootstrap.n_draws).filter_map(|draw| {
        let mut draws = KeyedRandom::new(bootstrap.seed, Domain::RESAMPLE_WITHIN_STEPS, [0, 0]).in_stream(draw as u64);
        let mut resampled = |right: &[bool]| {
            let drawn = (0..right.len()).filter(|_| right[draws.below(right.len())]).count();
            drawn as f64 / right.len() as f64
        };
        let curve: Vec<(usize, f64)> =
            by_steps.iter().map(|steps| (steps.n_steps, resampled(&steps.without_trace))).collect();
        serial_horizon(&curve, chance).map(Horizon::steps)
    });
    Some(bootstrap.interval_of_draws(horizons)?.by(IntervalMethod::StratifiedBootstrap))
}

/// Accuracy with a trace at a number of steps, between two of them on the line. `None` outside of what was measured.
fn retained(accuracies: &[StepAccuracy], n_steps: f64) -> Option<f64> {
    let measured = accuracies.iter().filter(|steps| !steps.with_trace.is_empty());
    let mut curve: Vec<[f64; 2]> = measured.map(|steps| [steps.n_steps as f64, share(&steps.with_trace)]).collect();
    curve.sort_by(|a, b| a[0].total_cmp(&b[0]));
    between(&curve, n_steps)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::setting;

    #[test]
    fn by_hand() {
        // Half-way between 0.2 and 1 is 0.6.
        let horizon = |curve: &[(usize, f64)]| serial_horizon(curve, 0.2);
        assert_eq!(horizon(&[]), None);
        assert_eq!(horizon(&[(1, 0.59), (2, 1.0)]), Some(Horizon::Below(1)));
        assert_eq!(horizon(&[(1, 1.0), (2, 0.9), (8, 0.6)]), Some(Horizon::Above(8)));
        // Later numbers of steps that are good again do not count.
        let found = horizon(&[(1, 1.0), (2, 0.9), (3, 0.5), (4, 0.9)]).unwrap();
        assert!((found.steps() - 2.75).abs() < 1e-12);
        assert!((horizon(&[(2, 1.0), (6, 0.2)]).unwrap().steps() - 4.0).abs() < 1e-12);
        let written = [Horizon::Below(1), Horizon::At(3.44), Horizon::Above(8)].map(|horizon| horizon.to_string());
        assert_eq!(written, ["< 1", "3.4", "> 8"]);
    }

    #[test]
    fn a_record_of_a_task() {
        let steps = |n_steps: usize, right: usize| StepAccuracy {
            n_steps,
            without_trace: (0..10).map(|item| item < right).collect(),
            with_trace: (0..10).map(|item| item < 10 - n_steps).collect(),
        };
        let accuracies = [steps(3, 2), steps(1, 10), steps(2, 8), steps(4, 1)];
        let setting = setting();
        let record = serial_horizon_record(&accuracies, 0.0, Some(1.25), &setting);
        // From 0.8 to 0.2 the half is passed at 2.5.
        assert!((record.value.unwrap() - 2.5).abs() < 1e-12);
        let interval = record.ci.clone().unwrap();
        assert!(interval.lo < 2.5 && interval.hi > 2.5 && interval.lo >= 1.0 && interval.hi <= 4.0, "{interval:?}");
        assert!((record.extra["retained"].as_f64().unwrap() - 0.75).abs() < 1e-12);
        assert_eq!((&record.extra["relation"], record.n), (&"at".into(), 40));
        record.check().unwrap();
        let record = serial_horizon_record(&accuracies, 0.0, Some(3.0), &setting);
        assert_eq!(record.extra["retained"], Value::Null);
        assert_eq!(serial_horizon_record(&[], 0.0, None, &setting).null_reason.as_deref(), Some("no_items"));
    }
}
