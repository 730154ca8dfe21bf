//! Where a pretrained model is: a directory, a GGUF file, or a name to fetch it by.

use std::path::{Path, PathBuf};

/// A model that lies on this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedSource {
    /// A directory in the layout of Hugging Face: `config.json`, safetensors, `tokenizer.json`.
    Directory(PathBuf),
    /// One GGUF file.
    Gguf(PathBuf),
}

impl ResolvedSource {
    /// The directory or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Gguf(path) => path,
        }
    }
}
