//! Whether the trace is needed for the answer.

use serde_json::json;

use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::item_rows::MetricSetting;
use crate::statistics::Bootstrap;
use crate::statistics::wilson_confidence;

/// One item answered with its trace and with an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NecessityItem {
    /// Whether the answer with the trace is right.
    pub correct_with: bool,
    /// Whether the answer without a trace is right.
    pub correct_without: bool,
    /// Whether both answers are the same; none if there is none of them to compare.
    pub same_answer: Option<bool>,
    /// Log-probabilities (nats, sums) of the same answer's tokens after the whole trace and after the empty one, if known.
    pub log_probabilities: Option<[f64; 2]>,
}

/// `(s_full - s_empty) / -(s_full + s_empty)`, -1 to 1, of log-probabilities in nats after the whole and the empty trace. `None`
/// where both are almost 0: then the answer was certain either way.
pub fn log_probability_necessity(full: f64, empty: f64) -> Option<f64> {
    let sum = full + empty;
    (sum.abs() >= 1e-6).then(|| ((full - empty) / -sum).clamp(-1.0, 1.0))
}

/// `necessity.accuracy`: accuracy with the trace less accuracy without; `necessity.accuracy_relative`: the same as a share of what was left to win;
/// `necessity.log_probability`: mean of [`log_probability_necessity`]; `necessity.same_answer`: share of items with the same answer without a
/// trace. Both accuracies stand in `extra` of the first two, because a difference hides a fall of both.
///
/// `answer_of_log_probabilities` says whose log-probabilities were taken, for instance `reference`.
pub fn necessity_records(
    items: &[NecessityItem],
    answer_of_log_probabilities: &str,
    setting: &MetricSetting<'_>,
) -> Vec<MetricRecord> {
    let n_items = items.len();
    let accuracy = |weights: &[u32], of: fn(&NecessityItem) -> bool| {
        let total: u32 = weights.iter().sum();
        let right: u32 = items.iter().zip(weights).filter(|(item, _)| of(item)).map(|(_, weight)| weight).sum();
        (total > 0).then(|| f64::from(right) / f64::from(total))
    };
    let with = |weights: &[u32]| accuracy(weights, |item| item.correct_with);
    let without = |weights: &[u32]| accuracy(weights, |item| item.correct_without);
    let absolute = |weights: &[u32]| Some(with(weights)? - without(weights)?);
    let relative = |weights: &[u32]| {
        let left = 1.0 - without(weights)?;
        (left > 0.0).then_some(absolute(weights)? / left)
    };
    let external = Direction::HigherIsMoreExternalised;
    let both = |record: MetricRecord| {
        record
            .with_items(n_items)
            .with_extra("acc_with", setting.with_interval(n_items, with))
            .with_extra("acc_without", setting.with_interval(n_items, without))
    };
    let paired = |id: &str, statistic: &dyn Fn(&[u32]) -> Option<f64>, reason: &str| {
        let value = Bootstrap::value(n_items, statistic);
        let record = both(MetricRecord::new(id, "fraction", external, setting.context))
            .with_value(value)
            .with_interval(setting.bootstrap.paired_interval(n_items, statistic));
        match value {
            Some(_) => record,
            None if n_items == 0 => record.with_null("no_items"),
            None => record.with_null(reason),
        }
    };
    vec![
        paired("necessity.accuracy", &absolute, "no_items"),
        paired("necessity.accuracy_relative", &relative, "always_right_without_trace"),
        log_probability_record(items, answer_of_log_probabilities, setting),
        same_answer_record(items, setting),
    ]
}

fn log_probability_record(items: &[NecessityItem], answer: &str, setting: &MetricSetting<'_>) -> MetricRecord {
    let known: Vec<[f64; 2]> = items.iter().filter_map(|item| item.log_probabilities).collect();
    let values: Vec<f64> = known.iter().filter_map(|[full, empty]| log_probability_necessity(*full, *empty)).collect();
    let mean = |weights: &[u32]| {
        let total: u32 = weights.iter().sum();
        let sum: f64 = values.iter().zip(weights).map(|(value, weight)| value * f64::from(*weight)).sum();
        (total > 0).then(|| sum / f64::from(total))
    };
    let value = Bootstrap::value(values.len(), mean);
    let record =
        MetricRecord::new("necessity.log_probability", "ratio", Direction::HigherIsMoreExternalised, setting.context)
            .with_value(value)
            .with_interval(setting.bootstrap.paired_interval(values.len(), mean))
            .with_items(values.len())
            .with_excluded("no_log_probabilities", items.len() - known.len())
            .with_excluded("certain_either_way", known.len() - values.len())
            .with_extra("answer", answer)
            .with_extra("s_full", json!(known.iter().map(|pair| pair[0]).collect::<Vec<_>>()))
            .with_extra("s_empty", json!(known.iter().map(|pair| pair[1]).collect::<Vec<_>>()));
    if value.is_none() { record.with_null("no_item_with_log_probabilities") } else { record }
}

fn same_answer_record(items: &[NecessityItem], setting: &MetricSetting<'_>) -> MetricRecord {
    let known: Vec<bool> = items.iter().filter_map(|item| item.same_answer).collect();
    let same = known.iter().filter(|same| **same).count();
    let record = MetricRecord::new("necessity.same_answer", "fraction", Direction::Descriptive, setting.context)
        .with_value((!known.is_empty()).then(|| same as f64 / known.len() as f64))
        .with_interval(wilson_confidence(same, known.len()))
        .with_items(known.len())
        .with_excluded("no_answer", items.len() - known.len());
    if known.is_empty() { record.with_null("no_item_with_both_answers") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::item_rows::tests::with_items;

    #[test]
    fn four_figures() {
        let item = |with, without, same, log_probabilities| NecessityItem {
            correct_with: with,
            correct_without: without,
            same_answer: same,
            log_probabilities,
        };
        let items = [
            item(true, false, Some(false), Some([-1.0, -3.0])),
            item(true, true, Some(true), Some([-0.0, -0.0])),
            item(true, false, Some(false), Some([-0.0, -4.0])),
            item(false, false, None, None),
        ];
        with_items(&[], |_, setting| {
            let records = necessity_records(&items, "reference", setting);
            let values: Vec<f64> = records.iter().map(|record| record.value.unwrap()).collect();
            for (found, expected) in values.iter().zip([0.5, 0.5 / 0.75, 0.75, 1.0 / 3.0]) {
                assert!((found - expected).abs() < 1e-12, "{values:?}");
            }
            assert_eq!(records[0].extra["acc_with"]["value"], 0.75);
            assert_eq!((records[2].n, &records[2].exclusions["certain_either_way"]), (2, &1));
            for record in &records {
                record.check().unwrap();
            }
            let sure = [item(true, true, None, None)];
            let records = necessity_records(&sure, "reference", setting);
            let reasons: Vec<_> = records.iter().map(|record| record.null_reason.as_deref()).collect();
            assert_eq!(
                reasons,
                [
                    None,
                    Some("always_right_without_trace"),
                    Some("no_item_with_log_probabilities"),
                    Some("no_item_with_both_answers"),
                ]
            );
            assert!(necessity_records(&[], "reference", setting).iter().all(|record| record.value.is_none()));
        });
    }

    proptest! {
        #[test]
        fn bounded_and_odd(full in -50.0_f64..0.0, empty in -50.0_f64..0.0) {
            if let Some(value) = log_probability_necessity(full, empty) {
                prop_assert!((-1.0..=1.0).contains(&value));
                prop_assert!((value + log_probability_necessity(empty, full).unwrap()).abs() < 1e-12);
                prop_assert!((value > 0.0) == (full > empty));
            }
        }
    }
}
