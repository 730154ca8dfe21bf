//! Parts of the items: whatever looks at fewer items than a run has takes them here, of every stratum in proportion. Items come
//! sorted by difficulty, so the first ones would be the easiest.

use std::collections::{BTreeMap, HashMap};

use aloud_measure::run_files::SampleRow;
use aloud_measure::statistics::choose_stratified;
use serde_json::{Value, json};

use super::examination::Examination;

/// The stratum of item number `item`: its task, with its number of steps or its kind of question where it has one.
pub(crate) fn stratum(exam: &Examination<'_>, item: usize) -> String {
    let (task, n_steps) = exam.items().get(item).map_or(("", None), |item| (item.asked.task, item.asked.n_steps));
    match (n_steps, exam.question_kind(item)) {
        (Some(k), _) => format!("{task}/k{k}"),
        (None, Some((kind, _))) => format!("{task}/{kind}"),
        (None, None) => task.to_owned(),
    }
}

/// Places of `n` of these items, which are numbers of items of the examination; ascending.
pub(crate) fn part(exam: &Examination<'_>, items: &[usize], n: usize) -> Vec<usize> {
    let id = |item: usize| exam.items().get(item).map_or("", |item| item.prompt.id.as_str());
    let named: Vec<(String, &str)> = items.iter().map(|item| (stratum(exam, *item), id(*item))).collect();
    choose_stratified(exam.name(), &named, n)
}

/// The samples with a trace, with their places among `samples`, of `n_of_task` items of each task.
pub(crate) fn traced_part<'a>(
    exam: &Examination<'_>,
    samples: &'a [SampleRow],
    n_of_task: usize,
) -> Vec<(usize, &'a SampleRow)> {
    let numbers = exam.places();
    let mut by_task: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (place, sample) in samples.iter().enumerate().filter(|(_, sample)| exam.has_trace(&sample.arm)) {
        if let Some(number) = numbers.get(sample.item_id.as_str()) {
            let (places, items) = by_task.entry(&sample.task).or_default();
            places.push(place);
            items.push(*number);
        }
    }
    let mut chosen: Vec<usize> = by_task
        .into_values()
        .flat_map(|(places, items)| {
            part(exam, &items, n_of_task).into_iter().map(move |at| places[at]).collect::<Vec<_>>()
        })
        .collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|place| (place, &samples[place])).collect()
}

/// The strata of an examination's items by their names.
pub(crate) struct Strata<'a>(HashMap<&'a str, String>);

impl<'a> Strata<'a> {
    pub(crate) fn of(exam: &'a Examination<'a>) -> Self {
        Self(exam.places().into_iter().map(|(id, place)| (id, stratum(exam, place))).collect())
    }

    /// Number of items by stratum, for a record that is of these.
    pub(crate) fn counts<'i>(&self, items: impl IntoIterator<Item = &'i str>) -> Value {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for stratum in items.into_iter().filter_map(|item| self.0.get(item)) {
            *counts.entry(stratum).or_default() += 1;
        }
        json!(counts)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use aloud_tasks::task::Amount;

    use super::*;
    use crate::evaluation::test_codec::{serial_examination, symbol_codec};

    #[test]
    fn a_part_of_the_full_tier_has_every_number_of_steps_of_every_task() {
        // The full tier: 200 items of each number of steps, of which answers of 200 a task are elicited.
        let codec = symbol_codec();
        let exam = serial_examination(&codec, None, Amount::All);
        let items: Vec<usize> = (0..exam.items().len()).collect();
        let of_chain: Vec<usize> =
            items.iter().copied().filter(|item| exam.items()[*item].asked.task == "chain").collect();
        let strata = Strata::of(&exam);
        let counts = |items: &[usize], chosen: Vec<usize>| {
            let ids: Vec<&str> =
                chosen.into_iter().map(|place| exam.items()[items[place]].prompt.id.as_str()).collect();
            strata.counts(ids)
        };
        let of_task = counts(&of_chain, part(&exam, &of_chain, 200));
        assert_eq!(of_task.as_object().unwrap().len(), 8, "{of_task}");
        assert!(of_task.as_object().unwrap().values().all(|n| *n == 25), "{of_task}");
        let of_all = counts(&items, part(&exam, &items, 96));
        assert_eq!(of_all.as_object().unwrap().len(), 24, "{of_all}");
        assert!(of_all.as_object().unwrap().values().all(|n| *n == 4), "{of_all}");
    }
}
