//! The tables of the pre-registered hypotheses and of their controls, for every trained model that has controls beside it.

use super::html::{Estimate, difference, estimate_cell, none_cell, number, paragraph, table, text_cell};
use super::tables::TRAINED;
use aloud_compare::verdicts::verdicts;
use aloud_compare::verdicts::{Contrast, ControlCheck, TestedHypothesis, VERDICT_CONTROLS};
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::ConfidenceInterval;

/// A row a model and hypothesis: its contrasts, and the verdict; and a row a control: whether it is one. They are those of
/// `verdicts.json`, whatever the draws of the page.
pub(super) fn table_of(set: &RunSet) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut of_controls: Vec<(String, Vec<String>)> = Vec::new();
    let mut not_measured: Vec<&str> = Vec::new();
    for run in set.runs.iter().filter(|run| run.manifest.model == TRAINED) {
        let controls = controls_of(set, run);
        if controls.is_empty() {
            continue;
        }
        let found = verdicts(run, &controls);
        rows.extend(found.hypotheses.iter().map(|tested| (format!("{}: {}", run.name, tested.name), cells(tested))));
        let row = |check: &ControlCheck| (format!("{}: {}", run.name, check.control), control_cells(check));
        of_controls.extend(found.controls.iter().map(row));
        not_measured = found.not_measured;
    }
    if rows.is_empty() {
        return paragraph(&format!(
            "No trained model has one of the controls {} beside it.",
            VERDICT_CONTROLS.join(", ")
        ));
    }
    let of_control = VERDICT_CONTROLS.map(|control| format!("− {control}"));
    let columns =
        [&["run and hypothesis", "claim", "metric"].map(str::to_owned)[..], &of_control, &LAST.map(str::to_owned)];
    let of_controls =
        if of_controls.is_empty() { String::new() } else { table(&CONTROL_COLUMNS.map(str::to_owned), &of_controls) };
    table(&columns.concat(), &rows)
        + &paragraph(&format!(
            "Fixed beforehand. A claim holds if it holds against base, base_noise and exits_off, or against same_training where exits_off is no control; \
             what is marked as no control decides nothing. p: Holm's correction over all five hypotheses. {} are about metrics that are not \
             measured yet.",
            not_measured.join(", ")
        ))
        + &of_controls
}

const LAST: [&str; 3] = ["condition", "p (Holm)", "verdict"];

const CONTROL_COLUMNS: [&str; 5] =
    ["run and control", "strict accuracy of model and control", "difference", "items", "is it one?"];

/// Runs of the same evaluation that are controls.
fn controls_of<'a>(set: &'a RunSet, run: &EvaluationRun) -> Vec<&'a EvaluationRun> {
    let is_control = |other: &&EvaluationRun| {
        VERDICT_CONTROLS.contains(&other.manifest.model.as_str()) && other.folder.parent() == run.folder.parent()
    };
    set.runs.iter().filter(is_control).collect()
}

fn cells(tested: &TestedHypothesis) -> Vec<String> {
    let contrast = |control: &&str| match tested.contrasts.iter().find(|contrast| contrast.control == **control) {
        Some(found) => contrast_cell(found),
        None => none_cell("not tested"),
    };
    let p = tested.p_holm.map_or_else(|| none_cell("not tested"), |p| text_cell(&format!("{p:.3}")));
    let condition = tested.condition.as_ref();
    let condition = condition.map_or_else(|| none_cell("no condition"), |condition| text_cell(&condition.sentence()));
    let reason = tested.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let verdict = text_cell(&format!("{}{reason}", tested.verdict.words()));
    let words = [tested.claim, tested.metric].map(text_cell);
    words.into_iter().chain(VERDICT_CONTROLS.iter().map(contrast)).chain([condition, p, verdict]).collect()
}

/// A difference with its interval, number of items, and what a reader must not overlook.
fn contrast_cell(found: &Contrast) -> String {
    let cell = of_unit(found.difference, found.ci.as_ref(), "");
    let raw = found.unadjusted.as_ref().map(|raw| format!(", unadjusted {}", difference(raw.difference, "")));
    let decides = if found.decides { "" } else { ", decides nothing" };
    let words = format!("n {}{}{decides}", found.n, raw.unwrap_or_default());
    cell.replace("</td>", &format!("<small>{words}</small></td>"))
}

fn of_unit(value: f64, interval: Option<&ConfidenceInterval>, unit: &str) -> String {
    estimate_cell(&Estimate { value, interval: interval.cloned(), unit: unit.to_owned() }, difference)
}

fn control_cells(check: &ControlCheck) -> Vec<String> {
    let percent = |share: f64| number(share, "fraction");
    let accuracy = check.accuracy.map(|[model, control]| format!("{} and {}", percent(model), percent(control)));
    let difference = check.accuracy_difference.as_ref();
    let difference = difference.map_or_else(
        || none_cell("not known"),
        |found| of_unit(found.difference, found.ci.as_ref(), "fraction").replace(" class=\"decided\"", ""),
    );
    let is_one = match &check.reason {
        None => "yes".to_owned(),
        Some(reason) => format!("no: {reason}"),
    };
    vec![
        accuracy.map_or_else(|| none_cell("not known"), |accuracy| text_cell(&accuracy)),
        difference,
        text_cell(&check.n.to_string()),
        text_cell(&is_one),
    ]
}
