//! Which responses of evaluation runs a judge is asked about, and what for.

use std::collections::{BTreeMap, BTreeSet};

use super::corruption::ladder_items;
use super::markup::strip_markup;
use super::pairwise::PairwiseItem;
use super::run::JudgeItem;
use aloud_base::random::KeyedRandom;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::SampleRow;
use aloud_measure::statistics::choose_stratified;

/// Most items whose responses are graded for quality.
const QUALITY_ITEMS: usize = 150;
/// Most right responses of a model that are graded for legibility.
const LEGIBLE_ITEMS: usize = 100;
/// Most items on which a trained model is set against the base.
const PAIRED_ITEMS: usize = 40;
/// Most responses that are graded a second time without their markup, of all models together.
const STRIPPED_RESPONSES: usize = 40;
/// Most clean traces of the sanity ladder.
const LADDER_TRACES: usize = 8;

/// Key of the base model, and of a trained one with its own exits.
const BASE: &str = "base";
const TRAINED: &str = "exits";

/// Scorers by which a response counts as right, the most lenient first: how an answer is written is no matter of legibility.
const LENIENT_FIRST: [&str; 3] = ["flex", "lenient", "strict"];

/// A run whose responses are judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgedRun<'a> {
    /// Its name in rows. The judge is not told.
    pub name: &'a str,
    /// The run.
    pub run: &'a EvaluationRun,
}

/// What is known of an item beside the responses to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedTask {
    /// The task as text.
    pub question: String,
    /// A worked solution, if there is one.
    pub solution: Option<String>,
    /// Name of its stratum: its task, with its number of steps or kind of question where it has one. Parts of the items are taken
    /// of all strata in proportion.
    pub stratum: String,
}

/// What a judge is asked about some runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgeMaterial {
    /// Clean traces and each of their corruptions, for the sanity ladder.
    pub ladder: Vec<JudgeItem>,
    /// Responses of all runs to the same items, for the quality rubric.
    pub quality: Vec<JudgeItem>,
    /// Responses with a right answer, for the legibility rubric.
    pub legibility: Vec<JudgeItem>,
    /// Responses of the base and of each trained model to the same items.
    pub pairs: Vec<PairwiseItem>,
    /// Some of the responses of `quality` without their markup.
    pub stripped: Vec<JudgeItem>,
}

/// The name under which an item of a task stands in the rows of a judge.
pub fn judged_item(task: &str, item_id: &str) -> String {
    format!("{task}/{item_id}")
}

impl JudgeMaterial {
    /// Chooses responses of these runs to a task, by the names of items alone: the same ones for every model. `tasks` holds the
    /// items by [`judged_item`]; responses to others are left out. `seed` is that of corruptions and of what is stripped.
    ///
    /// The clean traces of the ladder are worked solutions. Where there are none, they are right responses, the base model's
    /// first.
    pub fn choose(runs: &[JudgedRun<'_>], task: &str, tasks: &BTreeMap<String, JudgedTask>, seed: u64) -> Self {
        let of_runs: Vec<Vec<(JudgeItem, bool)>> = runs.iter().map(|run| responses(run, task, tasks)).collect();
        let all = || of_runs.iter().flatten().map(|(item, _)| item);
        let names: Vec<String> = all().map(|item| item.item.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let graded = chosen(&names, tasks, QUALITY_ITEMS);
        let quality: Vec<JudgeItem> = all().filter(|item| graded.contains(item.item.as_str())).cloned().collect();
        let legible = of_runs.iter().flat_map(|responses| {
            let right: Vec<&JudgeItem> = responses.iter().filter(|(_, right)| *right).map(|(item, _)| item).collect();
            let names: Vec<String> = right.iter().map(|item| item.item.clone()).collect();
            let chosen = chosen(&names, tasks, LEGIBLE_ITEMS);
            right.into_iter().filter(|item| chosen.contains(item.item.as_str())).cloned().collect::<Vec<_>>()
        });
        Self {
            ladder: ladder_items(&clean_traces(runs, &of_runs, tasks, &names), seed),
            legibility: legible.collect(),
            pairs: pairs(runs, &of_runs, tasks, &names),
            stripped: stripped(&quality, seed),
            quality,
        }
    }
}

/// The first response of a run to each item, and whether it is right.
fn responses(judged: &JudgedRun<'_>, task: &str, tasks: &BTreeMap<String, JudgedTask>) -> Vec<(JudgeItem, bool)> {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::new();
    for sample in judged.run.traced_samples(task) {
        let item = judged_item(&sample.task, &sample.item_id);
        let Some(known) = tasks.get(&item) else { continue };
        if seen.insert(item.clone()) {
            let response = JudgeItem {
                model: judged.name.to_owned(),
                item,
                task: known.question.clone(),
                response: sample.completion.clone(),
                n_tokens: Some(sample.n_tokens()),
            };
            responses.push((response, is_right(sample)));
        }
    }
    responses
}

fn is_right(sample: &SampleRow) -> bool {
    LENIENT_FIRST.iter().find_map(|scorer| sample.correct.get(*scorer)).copied().unwrap_or(false)
}

/// `n` of these names, of all strata in proportion, in the one order that all choices of items follow.
fn chosen<'a>(names: &'a [String], tasks: &BTreeMap<String, JudgedTask>, n: usize) -> BTreeSet<&'a str> {
    let stratum = |name: &String| tasks.get(name).map_or("", |task| task.stratum.as_str());
    let items: Vec<(&str, &String)> = names.iter().map(|name| (stratum(name), name)).collect();
    choose_stratified("judge", &items, n).into_iter().filter_map(|place| names.get(place)).map(String::as_str).collect()
}

fn clean_traces(
    runs: &[JudgedRun<'_>],
    of_runs: &[Vec<(JudgeItem, bool)>],
    tasks: &BTreeMap<String, JudgedTask>,
    names: &[String],
) -> Vec<JudgeItem> {
    let mut clean: BTreeMap<String, JudgeItem> = BTreeMap::new();
    for name in names {
        if let Some(JudgedTask { question, solution: Some(solution), .. }) = tasks.get(name) {
            let (task, response) = (question.clone(), solution.clone());
            clean.insert(name.clone(), JudgeItem { item: name.clone(), task, response, ..JudgeItem::default() });
        }
    }
    if clean.is_empty() {
        let is_base = |place: &usize| runs[*place].run.manifest.model == BASE;
        let (base, others): (Vec<usize>, Vec<usize>) = (0..runs.len()).partition(is_base);
        for (item, _) in base.into_iter().chain(others).flat_map(|place| &of_runs[place]).filter(|(_, right)| *right) {
            clean.entry(item.item.clone()).or_insert_with(|| item.clone());
        }
    }
    let names: Vec<String> = clean.keys().cloned().collect();
    let kept = chosen(&names, tasks, LADDER_TRACES);
    clean.into_values().filter(|item| kept.contains(item.item.as_str())).collect()
}

/// The base's responses first, a trained model's second.
fn pairs(
    runs: &[JudgedRun<'_>],
    of_runs: &[Vec<(JudgeItem, bool)>],
    tasks: &BTreeMap<String, JudgedTask>,
    names: &[String],
) -> Vec<PairwiseItem> {
    let Some(base) = runs.iter().position(|run| run.run.manifest.model == BASE) else { return Vec::new() };
    let compared = chosen(names, tasks, PAIRED_ITEMS);
    let of_base: BTreeMap<&str, &JudgeItem> =
        of_runs[base].iter().map(|(item, _)| (item.item.as_str(), item)).collect();
    let trained = (0..runs.len()).filter(|place| runs[*place].run.manifest.model == TRAINED);
    trained
        .flat_map(|place| &of_runs[place])
        .filter(|(item, _)| compared.contains(item.item.as_str()))
        .filter_map(|(second, _)| {
            let first = of_base.get(second.item.as_str())?;
            Some(PairwiseItem {
                models: [first.model.clone(), second.model.clone()],
                item: second.item.clone(),
                task: second.task.clone(),
                responses: [first.response.clone(), second.response.clone()],
            })
        })
        .collect()
}

/// Responses that have markup, without it.
fn stripped(quality: &[JudgeItem], seed: u64) -> Vec<JudgeItem> {
    let without_markup = |item: &JudgeItem| {
        let response = strip_markup(&item.response);
        // White space is no markup.
        let is_same = response.split_whitespace().eq(item.response.split_whitespace());
        (!is_same).then(|| JudgeItem { response, ..item.clone() })
    };
    let mut with_markup: Vec<JudgeItem> = quality.iter().filter_map(without_markup).collect();
    KeyedRandom::named(seed, "judge stripped").shuffle(&mut with_markup);
    with_markup.truncate(STRIPPED_RESPONSES);
    with_markup
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::corruption::LADDER_CLEAN;
    use super::*;
    use aloud_measure::test_runs::{Fixture, write_run};

    fn tasks(n: usize, solution: Option<&str>) -> BTreeMap<String, JudgedTask> {
        (0..n)
            .map(|number| {
                let question = format!("Question {number}?");
                let solution = solution.map(|text| format!("{text} {number}"));
                (
                    judged_item("gsm8k", &format!("item-{number}")),
                    JudgedTask { question, solution, stratum: "gsm8k".to_owned() },
                )
            })
            .collect()
    }

    fn material(n_items: usize, tasks: &BTreeMap<String, JudgedTask>) -> JudgeMaterial {
        let folder = tempfile::tempdir().unwrap();
        let runs: Vec<EvaluationRun> = [("base", 0.9), ("exits", 0.5), ("base_one_depth", 0.3)]
            .into_iter()
            .map(|(model, accuracy)| {
                let folder = folder.path().join(model);
                write_run(&folder, &Fixture { model, accuracy, n_items, ..Fixture::default() });
                EvaluationRun::open(&folder).unwrap()
            })
            .collect();
        let judged: Vec<JudgedRun<'_>> = runs.iter().map(|run| JudgedRun { name: &run.manifest.model, run }).collect();
        JudgeMaterial::choose(&judged, "gsm8k", tasks, 0)
    }

    #[test]
    fn every_model_is_asked_about_the_same_items() {
        let material = material(160, &tasks(160, Some("It is so. It is thus. #### ")));
        let of_model = |items: &[JudgeItem], model: &str| -> BTreeSet<String> {
            items.iter().filter(|item| item.model == model).map(|item| item.item.clone()).collect()
        };
        assert_eq!(of_model(&material.quality, "base").len(), QUALITY_ITEMS);
        assert_eq!(of_model(&material.quality, "base"), of_model(&material.quality, "base_one_depth"));
        let legible = |model: &str| of_model(&material.legibility, model).len();
        assert_eq!(legible("base"), LEGIBLE_ITEMS);
        assert!(legible("base_one_depth") < legible("exits") && legible("exits") < LEGIBLE_ITEMS);
        assert_eq!(material.pairs.len(), PAIRED_ITEMS);
        assert!(material.pairs.iter().all(|pair| pair.models == ["base", "exits"]));
        // The responses of fixtures have no markup.
        assert!(material.stripped.is_empty());
    }

    #[test]
    fn clean_traces_are_solutions_or_right_responses() {
        let clean = |material: &JudgeMaterial| -> Vec<String> {
            let clean = material.ladder.iter().filter(|item| item.model == LADDER_CLEAN);
            clean.map(|item| item.response.clone()).collect()
        };
        let with_solutions = clean(&material(24, &tasks(24, Some("Solved."))));
        assert_eq!(with_solutions.len(), LADDER_TRACES);
        assert!(with_solutions.iter().all(|response| response.starts_with("Solved.")), "{with_solutions:?}");
        let without = clean(&material(24, &tasks(24, None)));
        assert!(without.len() == LADDER_TRACES && without.iter().all(|response| response.starts_with("So")));
        assert!(clean(&material(24, &BTreeMap::new())).is_empty());
    }

    #[test]
    fn markup_is_taken_off_where_there_is_some() {
        let responses = ["<think>\nso\n</think>", "so"].map(str::to_owned).into_iter().cycle();
        let items: Vec<JudgeItem> =
            responses.map(|response| JudgeItem { response, ..JudgeItem::default() }).take(90).collect();
        let stripped = stripped(&items, 0);
        assert_eq!(stripped.len(), STRIPPED_RESPONSES);
        assert!(stripped.iter().all(|item| item.response == "so"));
    }
}
