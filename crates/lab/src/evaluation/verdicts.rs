//! The verdicts on a trained model, from what was written about it and its controls.

use aloud_session::error::SessionError;
use std::path::{Path, PathBuf};

use aloud_base::durable_file;
use aloud_compare::verdicts::verdicts;
use aloud_compare::verdicts::{ControlCheck, TestedHypothesis, VERDICT_CONTROLS, Verdicts};
use aloud_measure::evaluation_run::EvaluationRun;

use super::subject::ModelKey;

/// Name of the file.
const VERDICTS: &str = "verdicts.json";

/// Writes `verdicts.json` into the folder of the evaluation; `folders` are those of its models. `None` without a trained model, its
/// base, and one more of the controls that it has to differ from.
///
/// # Errors
/// If a run cannot be read or the file cannot be written.
pub(crate) fn write_verdicts(output: &Path, folders: &[(ModelKey, PathBuf)]) -> Result<Option<Verdicts>, SessionError> {
    let folder = |key: ModelKey| folders.iter().find(|(known, _)| *known == key).map(|(_, folder)| folder);
    let (Some(model), Some(_)) = (folder(ModelKey::Exits), folder(ModelKey::Base)) else { return Ok(None) };
    let controls: Vec<&PathBuf> =
        (folders.iter()).filter(|(key, _)| VERDICT_CONTROLS.contains(&key.name())).map(|(_, folder)| folder).collect();
    if controls.len() < 2 {
        return Ok(None);
    }
    let model = EvaluationRun::open(model)?;
    let controls = controls.into_iter().map(|folder| EvaluationRun::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let found = verdicts(&model, &controls.iter().collect::<Vec<_>>());
    let mut text = serde_json::to_vec_pretty(&found)?;
    text.push(b'\n');
    durable_file::write(&output.join(VERDICTS), &text)?;
    Ok(Some(found))
}

/// What is none of the controls, then a line a hypothesis, with its contrasts below.
pub(crate) fn lines(verdicts: &Verdicts) -> Vec<String> {
    let no_control =
        |check: &ControlCheck| Some(format!("{} is no control: {}", check.control, check.reason.as_ref()?));
    let hypothesis = |tested: &TestedHypothesis| {
        let reason = tested.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let p = tested.p_holm.map(|p| format!(", p {p:.3}")).unwrap_or_default();
        let head = format!("{} {} ({}{p}){reason}", tested.name, tested.verdict.words(), tested.metric);
        let contrasts = tested.contrasts.iter().map(|contrast| {
            format!("  {}{}", contrast.words(), if contrast.decides { "" } else { ", decides nothing" })
        });
        let condition = tested.condition.iter().map(|condition| format!("  {}", condition.sentence()));
        [head].into_iter().chain(contrasts).chain(condition).collect::<Vec<_>>()
    };
    let not_measured = format!("{} are not measured yet", verdicts.not_measured.join(", "));
    (verdicts.controls.iter().filter_map(no_control))
        .chain(verdicts.hypotheses.iter().flat_map(hypothesis))
        .chain([not_measured])
        .collect()
}
