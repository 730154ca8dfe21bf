//! Start adapters: the folder `start_adapter` of a checkpoint, and directories as PEFT saves them.

use std::fs;
use std::path::Path;

use aloud_base::durable_file;
use serde::{Deserialize, Serialize};

use super::files::FileError;
use super::{CheckpointError, DESCRIPTION, adapter};
use crate::config::ModelConfig;
use crate::lora::Lora;

const FOLDER: &str = "start_adapter";

/// What `aloud.json` says of the start adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartAdapter {
    /// [`Lora::sha256`].
    sha256: String,
}

/// Writes the start adapter into the folder of a checkpoint that is being prepared.
pub(super) fn write_start_adapter(
    checkpoint: &Path,
    lora: &Lora,
    n_blocks: usize,
    base: &str,
) -> Result<StartAdapter, CheckpointError> {
    let folder = checkpoint.join(FOLDER);
    fs::create_dir(&folder).map_err(FileError::io("create", &folder))?;
    adapter::write(&folder, lora, n_blocks, base)?;
    durable_file::sync_folder(&folder);
    Ok(StartAdapter { sha256: lora.sha256() })
}

/// Reads the start adapter of a checkpoint and compares it with what `aloud.json` says.
pub(super) fn read_start_adapter(
    checkpoint: &Path,
    described: &StartAdapter,
    n_blocks: usize,
    hidden_size: usize,
) -> Result<Lora, CheckpointError> {
    let lora = adapter::read(&checkpoint.join(FOLDER), n_blocks, hidden_size)?;
    let found = lora.sha256();
    if !found.eq_ignore_ascii_case(&described.sha256) {
        let expected = format!("{found} (the adapter in {FOLDER})");
        let file = checkpoint.join(DESCRIPTION);
        return Err(FileError::content(&file, "start_adapter.sha256", expected, &described.sha256).into());
    }
    Ok(lora)
}

/// Whether `folder` is an adapter as PEFT saves it, and no checkpoint of this program.
pub fn is_peft_adapter(folder: &Path) -> bool {
    adapter::is_at(folder) && !folder.join(DESCRIPTION).is_file()
}

/// What the adapter in `folder` says its base model is (`base_model_name_or_path`). Nothing is looked up or fetched.
///
/// # Errors
/// If its configuration is missing, damaged, or of an adapter that is not supported.
pub fn peft_base(folder: &Path) -> Result<Option<String>, CheckpointError> {
    adapter::base_of(folder)
}

/// Reads the adapter that PEFT saved in `folder`, for a base model of this shape.
///
/// # Errors
/// If a file is missing or damaged, the adapter is of a kind that is not supported, or does not fit the model.
pub fn load_peft_adapter(folder: &Path, config: &ModelConfig) -> Result<Lora, CheckpointError> {
    let lora = adapter::read(folder, config.n_layers, config.hidden_size)?;
    lora.check_fits(config).map_err(|source| CheckpointError::Misfit { path: folder.to_owned(), source })?;
    Ok(lora)
}
