//! `manifest.json`: what an evaluation run ran.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RunIdentity;
use crate::earlier_names::model_name;
use crate::error::MeasureError;
use crate::metric_record::{Decoding, Dial, Tier};
use crate::metrics::flops::ModelShape;
use aloud_base::durable_file;
use aloud_base::numerics::Numerics;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It is running, or was interrupted: the same command goes on.
    Running,
    /// All rows and metrics are there.
    Finished,
    /// It ended with an error.
    Failed,
}

/// The noise in a model's weights that makes it a weaker one, and what it was tuned to, on items that are not evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseControl {
    /// Standard deviation of the noise, as a share of the root mean square of each matrix.
    pub strength: f64,
    /// Accuracy that was wanted: the model's own on those items.
    pub wanted_accuracy: f64,
    /// Accuracy with the noise.
    pub found_accuracy: f64,
    /// Number of items that both are of.
    pub n_items: usize,
}

/// What an evaluation run ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Hashes, convention, blocks and candidates. The fields stand beside the others in the file.
    #[serde(flatten)]
    pub identity: RunIdentity,
    /// Version of the program, with its revision where known.
    pub code_version: String,
    /// Key of the model or control, for instance `exits` or `base`.
    pub model: String,
    /// Where the model is, for people.
    pub model_source: String,
    /// Where what was trained is, for people.
    #[serde(default)]
    pub adapter_source: Option<String>,
    /// Number format of the weights.
    pub dtype: String,
    /// Number formats, device and instructions; absent in runs that were begun before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<Numerics>,
    /// What the cost of a token depends on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<ModelShape>,
    /// The noise in the weights, of a `base_noise` that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseControl>,
    /// The dials.
    pub dial: Dial,
    /// How tokens were chosen.
    pub decoding: Decoding,
    /// Seeds of the run.
    pub seeds: Vec<u64>,
    /// How much was evaluated.
    pub tier: Tier,
    /// Items by task, in order.
    pub item_ids: BTreeMap<String, Vec<String>>,
    /// Texts that the model was given, by name: instructions, suffixes of elicitations.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
    /// Everything else that rows depend on, by name: a run goes on only with the same. Digests of what was asked, the whole exit
    /// offset, how many traces are elicited from.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// Items that were left out, by reason, for instance `trained_on`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, usize>,
    /// Time since the start, interruptions left out, in seconds.
    #[serde(default)]
    pub wall_seconds: f64,
    /// How far it has come.
    pub status: RunStatus,
}

/// Reads `manifest.json`.
///
/// # Errors
/// If the file cannot be read, is damaged, is of another schema, or contradicts itself.
pub fn read_manifest(path: &Path) -> Result<Manifest, MeasureError> {
    let mut manifest: Manifest = read_json(path, "a manifest of an evaluation run")?;
    manifest.model = model_name(&manifest.model).into();
    MeasureError::check_file(path, manifest.identity.fault())?;
    Ok(manifest)
}

/// Writes `manifest.json`, whole or not at all.
///
/// # Errors
/// If it contradicts itself or cannot be written.
pub fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), MeasureError> {
    MeasureError::check_file(path, manifest.identity.fault())?;
    write_json(path, manifest)
}

/// A whole JSON file; `what` it should be.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, MeasureError> {
    let text = MeasureError::read(path)?;
    serde_json::from_str(&text).map_err(|e| MeasureError::file(path, format!("not {what}: {e}")))
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), MeasureError> {
    let mut content = serde_json::to_vec_pretty(value)
        .map_err(|e| MeasureError::file(path, format!("cannot be written as JSON: {e}")))?;
    content.push(b'\n');
    Ok(durable_file::write(path, &content)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::Fixture;

    fn manifest() -> Manifest {
        crate::test_runs::manifest(&Fixture::default(), vec!["chain-1-0".to_owned()])
    }

    #[test]
    fn written_read_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        write_manifest(&path, &manifest()).unwrap();
        assert_eq!(read_manifest(&path).unwrap(), manifest());
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(whole.contains("\"exit_convention\": \"before_block\"") && whole.contains("\"L\": 28"), "{whole}");
        for (content, expected) in [
            (whole.replace("\"schema\": 1", "\"schema\": 2"), "manifest.json: schema is 2, this program reads 1"),
            (whole.replace("\"L\": 28", "\"L\": 25"), "are not strictly increasing depths in 1..25"),
            (whole.replace("before_block", "between"), "not a manifest of an evaluation run: unknown variant"),
            (whole[..90].to_owned(), "not a manifest of an evaluation run: EOF"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_manifest(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::write(&path, whole.replace("\"dtype\"", "\"news\": [1], \"dtype\"")).unwrap();
        assert_eq!(read_manifest(&path).unwrap(), manifest());
    }
}
