//! What a path or name stands for: a model, a checkpoint, or a PEFT adapter.

use std::path::{Path, PathBuf};

use aloud_model::checkpoint::{is_merged, is_peft_adapter};
use aloud_model::source::ModelSource;
use aloud_train::run_directory::RunDirectory;

use crate::error::SessionError;

/// What a path or name stands for.
#[derive(Clone, Debug)]
pub enum Named {
    /// A model, or a name that nothing else on the disk has.
    Model(ModelSource),
    /// A checkpoint, or the latest of a training run.
    Checkpoint(PathBuf),
    /// A PEFT adapter.
    Adapter(PathBuf),
}

/// What a source stands for.
///
/// # Errors
/// If a training run cannot be read.
pub fn what_is(source: &ModelSource) -> Result<Named, SessionError> {
    let ModelSource::Path(path) = source else { return Ok(Named::Model(source.clone())) };
    if let Some(checkpoint) = checkpoint_directory(path)? {
        return Ok(Named::Checkpoint(checkpoint));
    }
    // A model may lie in the same folder as an adapter; as in PEFT and transformers, it is the model then.
    let is_adapter = is_peft_adapter(path) && !path.join("config.json").is_file();
    Ok(if is_adapter { Named::Adapter(path.clone()) } else { Named::Model(source.clone()) })
}

/// What a path that is no base model is, for a message. A merged checkpoint is a base model too.
///
/// # Errors
/// As [`what_is`].
pub fn kind_of_directory(source: &ModelSource) -> Result<Option<&'static str>, SessionError> {
    Ok(match what_is(source)? {
        Named::Model(_) => None,
        Named::Checkpoint(path) if is_merged(&path)? => None,
        Named::Checkpoint(_) => Some("a checkpoint"),
        Named::Adapter(_) => Some("a PEFT adapter"),
    })
}

/// The checkpoint at `path`: the directory itself, or the latest of a training run; `None` if it is neither.
fn checkpoint_directory(path: &Path) -> Result<Option<PathBuf>, SessionError> {
    if path.join("aloud.json").is_file() {
        return Ok(Some(path.to_owned()));
    }
    // Other trainers leave a file of this name beside models and adapters.
    let is_other = path.join("config.json").is_file() || is_peft_adapter(path);
    if is_other || !path.join("latest").is_file() {
        return Ok(None);
    }
    Ok(RunDirectory::latest(path)?.map(|point| point.checkpoint))
}
