//! The verdicts on a trained model, from what was written about it and its controls.

use aloud_session::error::SessionError;
use std::path::{Path, PathBuf};

use aloud_base::durable_file;
use aloud_compare::verdicts::{VERDICT_CONTROLS, verdicts};
use aloud_measure::evaluation_run::EvaluationRun;

use super::subject::ModelKey;

/// Name of the file.
const VERDICTS: &str = "verdicts.json";

/// Writes `verdicts.json` into the folder of the evaluation; `folders` are those of its models. Nothing without a trained model,
/// its base, and one more of the controls that it has to differ from.
pub(crate) fn write_verdicts(output: &Path, folders: &[(ModelKey, PathBuf)]) -> Result<(), SessionError> {
    let folder = |key: ModelKey| folders.iter().find(|(known, _)| *known == key).map(|(_, folder)| folder);
    let (Some(model), Some(_)) = (folder(ModelKey::Exits), folder(ModelKey::Base)) else { return Ok(()) };
    let controls: Vec<&PathBuf> =
        (folders.iter()).filter(|(key, _)| VERDICT_CONTROLS.contains(&key.name())).map(|(_, folder)| folder).collect();
    if controls.len() < 2 {
        return Ok(());
    }
    let model = EvaluationRun::open(model)?;
    let controls = controls.into_iter().map(|folder| EvaluationRun::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let found = verdicts(&model, &controls.iter().collect::<Vec<_>>());
    let mut text = serde_json::to_vec_pretty(&found)?;
    text.push(b'\n');
    Ok(durable_file::write(&output.join(VERDICTS), &text)?)
}
