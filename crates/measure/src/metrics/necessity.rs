//! Whether the trace is needed for the answer.

use serde_json::json;

use super::item_rows::MetricSetting;
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::{Cluster, mean_of_clusters, wilson_confidence};

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
    let accuracy = |is_right: fn(&NecessityItem) -> bool| -> Vec<Cluster> {
        items.iter().map(|item| Cluster::of([f64::from(is_right(item))])).collect()
    };
    let (right_with, right_without) = (accuracy(|item| item.correct_with), accuracy(|item| item.correct_without));
    let without = |weights: &[u32]| mean_of_clusters(&right_without, weights);
    let absolute = |weights: &[u32]| Some(mean_of_clusters(&right_with, weights)? - without(weights)?);
    let relative = |weights: &[u32]| {
        let left = 1.0 - without(weights)?;
        (left > 0.0).then_some(absolute(weights)? / left)
    };
    let paired = |id: &str, statistic: &dyn Fn(&[u32]) -> Option<f64>, reason: &str| {
        setting
            .record(id, "fraction", Direction::HigherIsMoreExternalised, n_items, statistic)
            .paired()
            .with_extra("acc_with", setting.mean(&right_with))
            .with_extra("acc_without", setting.mean(&right_without))
            .or_null(if n_items == 0 { "no_items" } else { reason })
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
    let necessity = |[full, empty]: &[f64; 2]| Some(Cluster::of([log_probability_necessity(*full, *empty)?]));
    let values: Vec<Cluster> = known.iter().filter_map(necessity).collect();
    let mean = |weights: &[u32]| mean_of_clusters(&values, weights);
    setting
        .record("necessity.log_probability", "ratio", Direction::HigherIsMoreExternalised, values.len(), mean)
        .paired()
        .with_excluded("no_log_probabilities", items.len() - known.len())
        .with_excluded("certain_either_way", known.len() - values.len())
        .with_extra("answer", answer)
        .with_extra("s_full", json!(known.iter().map(|pair| pair[0]).collect::<Vec<_>>()))
        .with_extra("s_empty", json!(known.iter().map(|pair| pair[1]).collect::<Vec<_>>()))
        .or_null("no_item_with_log_probabilities")
}

fn same_answer_record(items: &[NecessityItem], setting: &MetricSetting<'_>) -> MetricRecord {
    let same = Cluster::of(items.iter().filter_map(|item| item.same_answer).map(f64::from));
    MetricRecord::new("necessity.same_answer", "fraction", Direction::Descriptive, setting.context)
        .with_value(same.mean())
        .with_interval(wilson_confidence(same.sum as usize, same.count))
        .with_items(same.count)
        .with_excluded("no_answer", items.len() - same.count)
        .or_null("no_item_with_both_answers")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::item_rows::tests::setting;

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
        let setting = setting();
        let records = necessity_records(&items, "reference", &setting);
        let values: Vec<f64> = records.iter().map(|record| record.value.unwrap()).collect();
        for (found, expected) in values.iter().zip([0.5, 0.5 / 0.75, 0.75, 1.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-12, "{values:?}");
        }
        assert_eq!(records[0].extra["acc_with"]["value"], 0.75);
        assert_eq!((records[2].n, &records[2].exclusions["certain_either_way"]), (2, &1));
        for record in &records {
            record.check().unwrap();
        }
        let records = necessity_records(&[item(true, true, None, None)], "reference", &setting);
        let reasons: Vec<_> = records.iter().map(|record| record.null_reason.as_deref().unwrap_or_default()).collect();
        let expected =
            ["", "always_right_without_trace", "no_item_with_log_probabilities", "no_item_with_both_answers"];
        assert_eq!(reasons, expected);
        assert!(necessity_records(&[], "reference", &setting).iter().all(|record| record.value.is_none()));
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
