//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use super::FORMAT_VERSION;
use super::files::FileError;
use crate::lora::MisfitError;

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file is missing, damaged or does not fit the others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory is something else.
    #[error("`{}` is not an Aloud checkpoint: it has no `aloud.json`, nor is it a PEFT adapter; a model is named by --model", path.display())]
    NotACheckpoint {
        /// The directory.
        path: PathBuf,
    },
    /// An adapter that PEFT would apply in another way than `y = W x + (alpha / r) B A x`.
    #[error(
        "{0}; this program adds (alpha / r) B A x to linear layers and nothing else: merge the adapter into its base with \
         PEFT (merge_and_unload, save_pretrained) and name the merged model instead"
    )]
    UnsupportedAdapter(FileError),
    /// Weights in a format that can run code when it is read.
    #[error("{advice}")]
    Pickle {
        /// The file, why it is refused, and what to do.
        advice: String,
    },
    /// An adapter that was made for a model of another shape.
    #[error("adapter `{}`: {source}; name the base model that it was trained on with --base", path.display())]
    Misfit {
        /// The adapter's directory.
        path: PathBuf,
        /// The factors that do not fit.
        source: MisfitError,
    },
    /// Saving would overwrite something that is not a checkpoint.
    #[error("`{}` exists and is not an Aloud checkpoint; choose another directory or remove it", path.display())]
    WouldOverwrite {
        /// The directory.
        path: PathBuf,
    },
    /// Another version of the format.
    #[error(
        "`{}`, format_version: this program reads version {FORMAT_VERSION}, found {found}; use the version of Aloud that \
         wrote it", path.display()
    )]
    FormatVersion {
        /// The description file.
        path: PathBuf,
        /// The version it names.
        found: u64,
    },
    /// The checkpoint was trained for another base model.
    #[error(
        "checkpoint `{}` was trained for the base model `{source_name}` with SHA-256 {found}, but the model loaded has \
         {expected}; load `{source_name}`, or distill again on this model", path.display()
    )]
    OtherBase {
        /// The checkpoint.
        path: PathBuf,
        /// Source of the model that it was trained for.
        source_name: String,
        /// Hash of the model that it was trained for.
        found: String,
        /// Hash of the model that is loaded.
        expected: String,
    },
    /// The checkpoint to be saved contradicts itself.
    #[error("cannot save the checkpoint: {field} must be {expected}, found {found}")]
    Invalid {
        /// Field at fault.
        field: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl CheckpointError {
    /// A [`CheckpointError::Invalid`].
    pub(super) fn invalid(
        field: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Invalid { field: field.into(), expected: expected.to_string(), found: found.to_string() }
    }
}
