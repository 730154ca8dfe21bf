//! The verdicts on a trained model, from what was written about it and its controls.

use std::path::Path;

use aloud_eval::{Bootstrap, EvaluationRun, TestedHypothesis, Verdicts, verdicts, write_atomically};

use super::subject::ModelKey;

/// Name of the file.
const VERDICTS: &str = "verdicts.json";

/// The controls that verdicts need.
const NEEDED: [ModelKey; 3] = [ModelKey::Base, ModelKey::BaseNoise, ModelKey::EeOff];

/// Writes `verdicts.json` into the folder of the evaluation; `folders` are those of its models. `None` without a trained model, or
/// without one of the controls that it has to differ from.
///
/// # Errors
/// If a run cannot be read or the file cannot be written.
pub(super) fn write_verdicts(
    output: &Path,
    folders: &[(ModelKey, std::path::PathBuf)],
) -> anyhow::Result<Option<Verdicts>> {
    let folder = |key: ModelKey| folders.iter().find(|(known, _)| *known == key).map(|(_, folder)| folder);
    let Some(model) = folder(ModelKey::Ee) else { return Ok(None) };
    let Some(controls) = NEEDED.into_iter().map(folder).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let model = EvaluationRun::open(model)?;
    let controls = controls.into_iter().map(|folder| EvaluationRun::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let found = verdicts(&model, &controls.iter().collect::<Vec<_>>(), &Bootstrap::default());
    let mut text = serde_json::to_vec_pretty(&found)?;
    text.push(b'\n');
    write_atomically(&output.join(VERDICTS), &text)?;
    Ok(Some(found))
}

/// One line a hypothesis.
pub(super) fn lines(verdicts: &Verdicts) -> Vec<String> {
    let line = |tested: &TestedHypothesis| {
        let reason = tested.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let p = tested.p_holm.map(|p| format!(", p {p:.3}")).unwrap_or_default();
        format!("{} {} ({}{p}){reason}", tested.name, tested.verdict.words(), tested.metric)
    };
    let not_measured = format!("{} are not measured yet", verdicts.not_measured.join(", "));
    verdicts.hypotheses.iter().map(line).chain([not_measured]).collect()
}
