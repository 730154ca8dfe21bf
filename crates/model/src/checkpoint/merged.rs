//! Checkpoints whose adapters were folded into the weights: exit heads and description beside the files of a model.

use std::path::Path;

use super::{Checkpoint, CheckpointError, DESCRIPTION, TrainedKind, read_description};

/// Whether the directory is a checkpoint with [`super::Trained::Merged`], which is a model as well.
///
/// # Errors
/// If it has an `aloud.json` that cannot be read or is damaged.
pub fn is_merged(path: &Path) -> Result<bool, CheckpointError> {
    Ok(path.join(DESCRIPTION).is_file() && matches!(read_description(path)?.trained, TrainedKind::Merged))
}

impl Checkpoint {
    /// Writes the checkpoint's own files into the folder of its model, which is being prepared.
    ///
    /// # Errors
    /// As [`Checkpoint::save`].
    pub fn write_beside_model(&self, folder: &Path) -> Result<(), CheckpointError> {
        self.check()?;
        self.write_files(folder, None)
    }
}
