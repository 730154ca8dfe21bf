//! The table of the pre-registered hypotheses, for every trained model that has its controls beside it.

use super::html::{Estimate, difference, estimate_cell, none_cell, paragraph, table, text_cell};
use super::tables::TRAINED;
use crate::verdicts::CONTROLS;
use crate::{Bootstrap, EvaluationRun, RunSet, TestedHypothesis, verdicts};

/// A row a model and hypothesis: the three contrasts, and the verdict. The draws are those of `verdicts.json`, whatever those of the
/// page: a verdict does not depend on where it is read.
pub(super) fn table_of(set: &RunSet) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut not_measured: Vec<&str> = Vec::new();
    for run in set.runs.iter().filter(|run| run.manifest.model == TRAINED) {
        let controls = controls_of(set, run);
        if controls.is_empty() {
            continue;
        }
        let found = verdicts(run, &controls, &Bootstrap::default());
        rows.extend(found.hypotheses.iter().map(|tested| (format!("{}: {}", run.name, tested.name), cells(tested))));
        not_measured = found.not_measured;
    }
    if rows.is_empty() {
        return paragraph("No trained model has one of the controls base, base_noise and ee_off beside it.");
    }
    let columns =
        ["run and hypothesis", "claim", "metric", "− base", "− base_noise", "− ee_off", "p (Holm)", "verdict"];
    table(&columns.map(str::to_owned), &rows)
        + &paragraph(&format!(
            "Fixed beforehand. A claim holds if it holds against all three controls. {} are about metrics that are not measured yet.",
            not_measured.join(", ")
        ))
}

/// Runs of the same evaluation that are controls.
fn controls_of<'a>(set: &'a RunSet, run: &EvaluationRun) -> Vec<&'a EvaluationRun> {
    let is_control = |other: &&EvaluationRun| {
        CONTROLS.contains(&other.manifest.model.as_str()) && other.folder.parent() == run.folder.parent()
    };
    set.runs.iter().filter(is_control).collect()
}

fn cells(tested: &TestedHypothesis) -> Vec<String> {
    let contrast = |control: &&str| match tested.contrasts.iter().find(|contrast| contrast.control == **control) {
        Some(found) => {
            let unit = String::new();
            estimate_cell(&Estimate { value: found.difference, interval: found.ci.clone(), unit }, difference)
        }
        None => none_cell("not tested"),
    };
    let p = tested.p_holm.map_or_else(|| none_cell("not tested"), |p| text_cell(&format!("{p:.3}")));
    let reason = tested.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let verdict = text_cell(&format!("{}{reason}", tested.verdict.words()));
    let words = [tested.claim, tested.metric].map(text_cell);
    words.into_iter().chain(CONTROLS.iter().map(contrast)).chain([p, verdict]).collect()
}
