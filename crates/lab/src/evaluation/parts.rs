//! Parts of the items: whatever looks at fewer items than a run has takes them here, of every stratum in proportion. Items come
//! sorted by difficulty, so the first ones would be the easiest.

use std::collections::{BTreeMap, HashMap};

use aloud_measure::run_files::SampleRow;
use aloud_measure::statistics::choose_stratified;
use serde_json::{Value, json};

use super::examination::Examination;

/// The stratum of item number `item`: its task, with its number of steps or its kind of question where it has one.
pub(crate) fn stratum(family: &Examination<'_>, item: usize) -> String {
    let (task, n_steps) = family.items().get(item).map_or(("", None), |item| (item.task.as_str(), item.n_steps));
    match (n_steps, family.question_kind(item)) {
        (Some(k), _) => format!("{task}/k{k}"),
        (None, Some((kind, _))) => format!("{task}/{kind}"),
        (None, None) => task.to_owned(),
    }
}

/// Places of `n` of these items, which are numbers of items of the family; ascending.
pub(crate) fn part(family: &Examination<'_>, items: &[usize], n: usize) -> Vec<usize> {
    let id = |item: usize| family.items().get(item).map_or("", |item| item.prompt.id.as_str());
    let named: Vec<(String, &str)> = items.iter().map(|item| (stratum(family, *item), id(*item))).collect();
    choose_stratified(family.name(), &named, n)
}

/// The samples with a trace, with their places among `samples`, of `n_of_task` items of each task.
pub(crate) fn traced_part<'a>(
    family: &Examination<'_>,
    samples: &'a [SampleRow],
    n_of_task: usize,
) -> Vec<(usize, &'a SampleRow)> {
    let numbers: HashMap<&str, usize> =
        family.items().iter().enumerate().map(|(number, item)| (item.prompt.id.as_str(), number)).collect();
    let has_trace = |sample: &SampleRow| family.arms().iter().any(|arm| arm.has_trace && arm.name == sample.arm);
    let mut by_task: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (place, sample) in samples.iter().enumerate().filter(|(_, sample)| has_trace(sample)) {
        if let Some(number) = numbers.get(sample.item_id.as_str()) {
            let (places, items) = by_task.entry(&sample.task).or_default();
            places.push(place);
            items.push(*number);
        }
    }
    let mut chosen: Vec<usize> = by_task
        .into_values()
        .flat_map(|(places, items)| {
            part(family, &items, n_of_task).into_iter().map(move |at| places[at]).collect::<Vec<_>>()
        })
        .collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|place| (place, &samples[place])).collect()
}

/// The strata of a family's items by their names.
pub(crate) struct Strata<'a>(HashMap<&'a str, String>);

impl<'a> Strata<'a> {
    pub(crate) fn of(family: &'a Examination<'a>) -> Self {
        let of_item = |(number, item): (usize, &'a super::examination::EvaluationItem)| {
            (item.prompt.id.as_str(), stratum(family, number))
        };
        Self(family.items().iter().enumerate().map(of_item).collect())
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
        let family = serial_examination(&codec, None, Amount::All);
        let items: Vec<usize> = (0..family.items().len()).collect();
        let of_chain: Vec<usize> = items.iter().copied().filter(|item| family.items()[*item].task == "chain").collect();
        let strata = Strata::of(&family);
        let counts = |items: &[usize], chosen: Vec<usize>| {
            let ids: Vec<&str> =
                chosen.into_iter().map(|place| family.items()[items[place]].prompt.id.as_str()).collect();
            strata.counts(ids)
        };
        let of_task = counts(&of_chain, part(&family, &of_chain, 200));
        assert_eq!(of_task.as_object().unwrap().len(), 8, "{of_task}");
        assert!(of_task.as_object().unwrap().values().all(|n| *n == 25), "{of_task}");
        let of_all = counts(&items, part(&family, &items, 96));
        assert_eq!(of_all.as_object().unwrap().len(), 24, "{of_all}");
        assert!(of_all.as_object().unwrap().values().all(|n| *n == 4), "{of_all}");
    }
}
