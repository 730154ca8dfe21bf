//! The pre-registered hypotheses and what a model's differences from its controls say about them.
//!
//! A claim of externalisation needs the model to differ in the same direction from its base, from a model that is weaker for
//! another reason, and from the same training without exits: a hypothesis is as doubtful as the most doubtful of these contrasts.

mod calibration;
mod contrast;
mod controls;
mod decision;
mod early_answering;
mod horizon;
mod subject;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use calibration::{CalibratedHypothesis, NullSimulation, RecordedItem, RecordedItems};
pub use contrast::{Contrast, PairedDifference};
pub use controls::{ControlCheck, VERDICT_CONTROLS, control_check};
pub use decision::{Condition, TestedHypothesis, Verdict};

use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::statistics::Bootstrap;
use controls::Controls;
use decision::{below_standard, decide};
use subject::Measured;

/// All that can be said about a model and its controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdicts {
    /// Key of the model.
    pub model: String,
    /// The controls that were evaluated, and whether they are controls.
    pub controls: Vec<ControlCheck>,
    /// The hypotheses for which there are metrics.
    pub hypotheses: Vec<TestedHypothesis>,
    /// Hypotheses whose metrics are not measured yet.
    pub not_measured: Vec<&'static str>,
}

/// The verdicts on a model, from its run and those of its controls on the same items; runs that are no controls count for nothing. `H2`,
/// `H3` and `H5` are about metrics that are not measured yet.
pub fn verdicts(model: &EvaluationRun, controls: &[&EvaluationRun]) -> Verdicts {
    // The draws are always these: a verdict does not depend on where it is read.
    verdicts_of_draws(model, controls, &Bootstrap::headline())
}

fn verdicts_of_draws(model: &EvaluationRun, controls: &[&EvaluationRun], bootstrap: &Bootstrap) -> Verdicts {
    let of_key = |key: &str| controls.iter().find(|run| run.manifest.model == key);
    let controls: Vec<Measured<'_>> =
        VERDICT_CONTROLS.into_iter().filter_map(of_key).map(|run| Measured::new(run)).collect();
    let measured = Measured::new(model);
    // The family of the records that are over all tasks, or the one task.
    let task = model.tasks().into_iter().next().unwrap_or_default();
    let mut chosen = Controls::of(&measured, &controls, task, bootstrap);
    if let Some(below) = below_standard(model.manifest.tier) {
        chosen.obstacles.insert(0, below);
    }
    let evidence = vec![
        early_answering::evidence(&measured, &controls, &chosen, task, bootstrap),
        horizon::evidence(&measured, &controls, &chosen, bootstrap),
    ];
    Verdicts {
        model: model.manifest.model.clone(),
        controls: chosen.checks,
        hypotheses: decide(evidence),
        not_measured: vec!["H2", "H3", "H5"],
    }
}
