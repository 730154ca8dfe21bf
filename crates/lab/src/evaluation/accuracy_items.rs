//! Items of which accuracy alone is measured: whether a control is as accurate as the model takes more items than anything else.

use std::collections::{BTreeMap, BTreeSet};

use aloud_measure::run_files::SampleRow;

use super::examination::Examination;
use super::matching::{EQUAL_ACCURACY, accuracy_difference, items_needed};

/// How many items accuracy is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccuracyItems {
    /// The run's own.
    Own,
    /// As many as it takes to tell equal accuracies from others, up to those of the largest tier.
    AsNeeded,
    /// This number, or as many as the largest tier has.
    Number(usize),
}

impl AccuracyItems {
    /// As it stands in a manifest.
    pub(crate) fn description(self) -> serde_json::Value {
        match self {
            Self::Own => "own".into(),
            Self::AsNeeded => "as_needed".into(),
            Self::Number(n) => n.into(),
        }
    }
}

/// Half width of the interval of a difference of accuracy that is planned for: gaps of up to 2 points are found to be within 5.
const PLANNED_HALF_WIDTH: f64 = 0.03;

/// Items that a comparison of a model's accuracy with each of its controls' needs, by the share of items at which they differ,
/// and not by the difference itself: so the number says nothing of the result. A control whose difference is certainly larger
/// than [`EQUAL_ACCURACY`] needs no more. Accuracy by number of steps is asked for too (with the base, at its horizon), with an
/// interval of [`EQUAL_ACCURACY`] to each side.
pub(crate) fn needed(exam: &Examination<'_>, model: &[SampleRow], controls: &[&[SampleRow]]) -> usize {
    let steps: BTreeSet<usize> = model.iter().filter_map(|row| row.n_steps).collect();
    let of_control = |control: &&[SampleRow]| {
        let [first, second] = answers(exam, model, control, None);
        let is_other = accuracy_difference(&first, &second)
            .is_some_and(|[low, high]| low > EQUAL_ACCURACY || high < -EQUAL_ACCURACY);
        if is_other {
            return 0;
        }
        let of_steps = steps.iter().map(|k| {
            let [first, second] = answers(exam, model, control, Some(*k));
            items_needed(&first, &second, EQUAL_ACCURACY) * steps.len()
        });
        of_steps.fold(items_needed(&first, &second, PLANNED_HALF_WIDTH), usize::max)
    };
    controls.iter().map(of_control).max().unwrap_or(0)
}

/// Whether two models are right, by the strict scorer, on the items that both answered with a trace.
fn answers(
    exam: &Examination<'_>,
    first: &[SampleRow],
    second: &[SampleRow],
    n_steps: Option<usize>,
) -> [Vec<bool>; 2] {
    let has_trace = |row: &&SampleRow| exam.has_trace(&row.arm);
    let of_second: BTreeMap<&str, &SampleRow> =
        second.iter().filter(has_trace).map(|row| (row.item_id.as_str(), row)).collect();
    let is_asked = |row: &&SampleRow| n_steps.is_none_or(|k| row.n_steps == Some(k));
    first
        .iter()
        .filter(has_trace)
        .filter(is_asked)
        .filter_map(|row| {
            let other = of_second.get(row.item_id.as_str())?;
            Some((*row.correct.get("strict")?, *other.correct.get("strict")?))
        })
        .unzip::<bool, bool, Vec<bool>, Vec<bool>>()
        .into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use aloud_tasks::task::Amount;

    use super::*;
    use crate::evaluation::test_codec::{serial_examination, symbol_codec};

    /// Answers to 200 items, right where `is_right` says so.
    fn answers(is_right: impl Fn(usize) -> bool, n_steps: Option<usize>) -> Vec<SampleRow> {
        let row = |item: usize| {
            json!({
                "key": format!("chain/{item}/think/0"), "task": "chain", "item_id": item.to_string(), "arm": "think",
                "sample_idx": 0, "seed": 0, "prompt_hash": "", "completion": "", "cot": "", "answer_text": "",
                "stop": "eos", "closed": true, "n_cot": 1, "n_answer": 1, "correct": {"strict": is_right(item)},
                "n_steps": n_steps,
            })
        };
        (0..200).map(|item| serde_json::from_value(row(item)).unwrap()).collect()
    }

    #[test]
    fn as_many_items_as_equal_accuracies_take() {
        let codec = symbol_codec();
        let exam = serial_examination(&codec, None, Amount::InAll(24));
        // One item in ten is right in one model alone, and one in the other: 20 % differ, 850 items are planned for.
        let model = answers(|item| item % 10 != 0, None);
        let equal = answers(|item| item % 10 != 1, None);
        let n = needed(&exam, &model, &[&equal]);
        assert!((830..=900).contains(&n), "{n}");
        // Ten numbers of steps would take 5 points at each: here there is one.
        let n = needed(&exam, &answers(|item| item % 10 != 0, Some(3)), &[&equal]);
        assert!((830..=900).contains(&n), "{n}");
        // What is certainly another accuracy, and what never differs, take no more than the run has.
        assert_eq!(needed(&exam, &model, &[&answers(|item| item % 2 != 0, None)]), 0);
        assert!(needed(&exam, &model, &[&model]) < 50);
        assert_eq!(needed(&exam, &model, &[]), 0);
    }
}
