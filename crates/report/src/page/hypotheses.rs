//! The tables of the hypotheses that were fixed beforehand and of their controls, for every trained model that has controls.

use maud::{Markup, html};

use super::html::{Row, difference_cell, none_cell, noted_difference_cell, table, text_cell};
use crate::words::{difference, number};
use aloud_compare::verdicts::{Contrast, ControlCheck, TestedHypothesis, VERDICT_CONTROLS, Verdicts};
use aloud_measure::evaluation_run::RunSet;

const CONTROL_COLUMNS: [&str; 5] =
    ["run and control", "strict accuracy of model and control", "difference", "items", "is it one?"];

/// A row a model and hypothesis: its contrasts, and the verdict; and a row a control: whether it is one. `verdicts` are of the
/// runs of the set.
pub(super) fn tables(set: &RunSet, verdicts: &[Option<Verdicts>]) -> Markup {
    let found: Vec<(&str, &Verdicts)> =
        set.runs.iter().zip(verdicts).filter_map(|(run, found)| Some((run.name.as_str(), found.as_ref()?))).collect();
    let Some((_, first)) = found.first() else {
        return html! { p { "No trained model has one of the controls " (VERDICT_CONTROLS.join(", ")) " beside it." } };
    };
    let (mut hypotheses, mut controls): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
    for (run, verdicts) in &found {
        let row = |tested: &TestedHypothesis| (format!("{run}: {}", tested.name), cells(tested));
        hypotheses.extend(verdicts.hypotheses.iter().map(row));
        let row = |check: &ControlCheck| (format!("{run}: {}", check.control), control_cells(check));
        controls.extend(verdicts.controls.iter().map(row));
    }
    let mut columns = vec!["run and hypothesis".to_owned(), "claim".to_owned(), "metric".to_owned()];
    columns.extend(VERDICT_CONTROLS.map(|control| format!("− {control}")));
    columns.extend(["condition", "p (Holm)", "verdict"].map(str::to_owned));
    html! {
        (table(&columns, &hypotheses))
        p {
            "Fixed beforehand. A claim holds if it holds against base, base_noise and exits_off, or against same_training where \
             exits_off is no control; what is marked as no control decides nothing. p: Holm's correction over all five hypotheses. "
            (first.not_measured.join(", ")) " are about metrics that are not measured yet."
        }
        @if !controls.is_empty() { (table(&CONTROL_COLUMNS, &controls)) }
    }
}

fn cells(tested: &TestedHypothesis) -> Vec<Markup> {
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
fn contrast_cell(found: &Contrast) -> Markup {
    let raw = found.unadjusted.as_ref().map(|raw| format!(", unadjusted {}", difference(raw.difference, "")));
    let decides = if found.decides { "" } else { ", decides nothing" };
    let note = format!("n {}{}{decides}", found.n, raw.unwrap_or_default());
    noted_difference_cell(found.difference, found.ci.as_ref(), &note)
}

fn control_cells(check: &ControlCheck) -> Vec<Markup> {
    let percent = |share: f64| number(share, "fraction");
    let accuracy = check.accuracy.map(|[model, control]| format!("{} and {}", percent(model), percent(control)));
    let difference = check.accuracy_difference.as_ref();
    let difference = difference.map_or_else(
        || none_cell("not known"),
        |found| difference_cell(found.difference, found.ci.as_ref(), "fraction"),
    );
    let is_one = check.reason.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
    vec![
        accuracy.map_or_else(|| none_cell("not known"), |accuracy| text_cell(&accuracy)),
        difference,
        text_cell(&check.n.to_string()),
        text_cell(&is_one),
    ]
}
