//! Accuracy by kind of question, against a guesser who knows the kind and its most frequent answer.
//!
//! Balanced accuracy too, where there are only two answers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::item_rows::MetricSetting;
use crate::metric_record::{ConfidenceInterval, Direction, MetricRecord};
use crate::statistics::{Bootstrap, wilson_interval};

/// An answer to a question of a known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindAnswer<'a> {
    /// Name of the kind.
    pub kind: &'a str,
    /// Whether the kind has only two answers.
    pub is_binary: bool,
    /// The true answer.
    pub gold: &'a str,
    /// Whether it was given.
    pub is_right: bool,
}

/// What was answered to the questions of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct KindAccuracy {
    /// Name of the kind.
    pub kind: String,
    /// Number of questions.
    pub n: usize,
    /// Number of right answers.
    pub n_right: usize,
    /// Share of the most frequent true answer: what a constant answer is worth.
    pub majority: f64,
}

impl KindAccuracy {
    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.n_right as f64 / self.n as f64
    }

    /// Wilson's interval of the share.
    pub fn interval(&self) -> Option<[f64; 2]> {
        wilson_interval(self.n_right, self.n)
    }
}

/// Accuracies by kind, in the order of their names.
pub fn accuracy_by_kind(answers: &[KindAnswer<'_>]) -> Vec<KindAccuracy> {
    let mut by_kind: BTreeMap<&str, (usize, BTreeMap<&str, usize>)> = BTreeMap::new();
    for answer in answers {
        let (n_right, golds) = by_kind.entry(answer.kind).or_default();
        *n_right += usize::from(answer.is_right);
        *golds.entry(answer.gold).or_default() += 1;
    }
    let accuracy = |(kind, (n_right, golds)): (&str, (usize, BTreeMap<&str, usize>))| {
        let n: usize = golds.values().sum();
        let most = golds.values().copied().max().unwrap_or_default();
        KindAccuracy { kind: kind.to_owned(), n, n_right, majority: most as f64 / n as f64 }
    };
    by_kind.into_iter().map(accuracy).collect()
}

/// Accuracy of a guesser who knows the kind of every question and gives the most frequent answer of the kind. `None` without
/// questions.
pub fn majority_baseline(kinds: &[KindAccuracy]) -> Option<f64> {
    let n: usize = kinds.iter().map(|kind| kind.n).sum();
    let right: f64 = kinds.iter().map(|kind| kind.majority * kind.n as f64).sum();
    (n > 0).then(|| right / n as f64)
}

/// Balanced accuracy of the binary questions: of each true answer the share that was given, averaged over the true answers. A
/// constant answer is worth no more than chance. `None` without binary questions.
pub fn balanced_accuracy(
    answers: &[KindAnswer<'_>],
    bootstrap: &Bootstrap,
) -> Option<(f64, Option<ConfidenceInterval>)> {
    let mut classes: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for answer in answers.iter().filter(|answer| answer.is_binary) {
        classes.entry(answer.gold).or_default().push(answer.is_right);
    }
    let classes: Vec<Vec<bool>> = classes.into_values().collect();
    let share = |class: &Vec<bool>| class.iter().filter(|is_right| **is_right).count() as f64 / class.len() as f64;
    let value = classes.iter().map(share).sum::<f64>() / classes.len() as f64;
    (!classes.is_empty()).then(|| (value, bootstrap.mean_of_shares_interval(&classes)))
}

/// `record`, which is of these answers, with the accuracy of every kind and the majority baselines in `extra`.
#[must_use]
pub fn with_kinds(record: MetricRecord, answers: &[KindAnswer<'_>], label_source: &str) -> MetricRecord {
    let kinds = accuracy_by_kind(answers);
    let per_type: Map<String, Value> = (kinds.iter())
        .map(|kind| {
            let [lo, hi] = kind.interval().map_or([None; 2], |bounds| bounds.map(Some));
            let value = json!({"n": kind.n, "value": kind.accuracy(), "lo": lo, "hi": hi, "majority": kind.majority});
            (kind.kind.clone(), value)
        })
        .collect();
    record
        .with_extra("per_type", per_type)
        .with_extra("majority", json!(majority_baseline(&kinds)))
        .with_extra("label_source", label_source)
}

/// Balanced accuracy as a record; in `extra` the kinds that it is of.
pub fn balanced_accuracy_record(
    id: &str,
    answers: &[KindAnswer<'_>],
    label_source: &str,
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let binary: Vec<KindAnswer<'_>> = answers.iter().copied().filter(|answer| answer.is_binary).collect();
    let (value, interval) = balanced_accuracy(&binary, &setting.bootstrap).unzip();
    let record = MetricRecord::new(id, "fraction", Direction::HigherIsBetter, setting.context)
        .with_items(binary.len())
        .with_excluded("not_binary", answers.len() - binary.len())
        .with_value(value)
        .with_interval(interval.flatten())
        .or_null("no_binary_questions");
    with_kinds(record, &binary, label_source)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metric_record::IntervalMethod;
    use crate::metrics::item_rows::tests::setting;

    fn answer(kind: &'static str, gold: &'static str, is_right: bool) -> KindAnswer<'static> {
        KindAnswer { kind, is_binary: matches!(gold, "yes" | "no"), gold, is_right }
    }

    #[test]
    fn a_constant_answer_is_worth_half() {
        // Always `yes`, where four of five are: 80 % of all, and half of what is balanced.
        let mut answers = vec![answer("yes-no", "yes", true); 4];
        answers.push(answer("yes-no", "no", false));
        answers.extend([answer("place", "tin", true), answer("place", "crate", false)]);
        let (value, interval) = balanced_accuracy(&answers, &Bootstrap::default()).unwrap();
        assert_eq!((value, interval.unwrap().method), (0.5, IntervalMethod::Wilson));
        let kinds = accuracy_by_kind(&answers);
        assert_eq!(kinds.iter().map(|kind| (kind.n, kind.n_right)).collect::<Vec<_>>(), [(2, 1), (5, 4)]);
        assert_eq!((kinds[0].majority, kinds[1].majority), (0.5, 0.8));
        assert!((majority_baseline(&kinds).unwrap() - 5.0 / 7.0).abs() < 1e-12);
        let mixed = [answer("yes-no", "yes", true), answer("yes-no", "no", true), answer("yes-no", "no", false)];
        assert_eq!(balanced_accuracy(&mixed, &Bootstrap::default()).unwrap().0, 0.75);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(balanced_accuracy(&[answer("place", "tin", true)], &Bootstrap::default()), None);
        assert_eq!(majority_baseline(&accuracy_by_kind(&[])), None);
    }

    #[test]
    fn records_keep_to_their_format() {
        let answers = [answer("yes-no", "yes", true), answer("yes-no", "no", false), answer("place", "tin", true)];
        let record = balanced_accuracy_record("accuracy.balanced", &answers, "belief tracking", &setting());
        record.check().unwrap();
        assert_eq!((record.value, record.n, record.n_excluded), (Some(0.5), 2, 1));
        assert_eq!(record.extra["per_type"]["yes-no"]["majority"], 0.5);
        let none = balanced_accuracy_record("accuracy.balanced", &answers[2..], "belief tracking", &setting());
        assert_eq!(none.null_reason.as_deref(), Some("no_binary_questions"));
        none.check().unwrap();
    }
}
