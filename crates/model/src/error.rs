//! What can be wrong with a pretrained model's files, or with getting them.

use std::path::{Path, PathBuf};

use aloud_base::digest::ReadError;
use aloud_base::durable_file::WriteError;

/// An error while finding, fetching, reading or writing a model. The message names the file and what was expected in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The bytes of a file are not what its format prescribes: truncated, damaged or another format.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// A key of a configuration (`config.json`, GGUF metadata) is missing, has a value that cannot be, or asks for
    /// something that this program does not compute.
    #[error("{}: key `{key}`: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// One tensor has another shape or number format than the configuration calls for.
    #[error("{}: tensor `{tensor}`: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The tensors present are not those that the configuration calls for.
    #[error("{}: the tensors do not fit the configuration{}{}", path.display(), listed("missing", missing), listed("not used", unused))]
    TensorNames {
        /// The file or folder.
        path: PathBuf,
        /// Names called for and not present.
        missing: Vec<String>,
        /// Names present and not called for.
        unused: Vec<String>,
    },
    /// What the user named is not a source of models or an index of packages, or cannot be fetched.
    #[error("{what} `{text}`: {problem}")]
    Named {
        /// `model source`, `package index` or `cannot fetch`.
        what: &'static str,
        /// The text as given.
        text: String,
        /// What is wrong, and what may be given or done instead.
        problem: String,
    },
}

impl From<WriteError> for ModelError {
    fn from(WriteError { path, source }: WriteError) -> Self {
        Self::Io { action: "write", path, source }
    }
}

impl From<ReadError> for ModelError {
    fn from(ReadError { action, path, source }: ReadError) -> Self {
        Self::Io { action, path, source }
    }
}

impl ModelError {
    /// For `map_err` on an operation of the file system.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A [`ModelError::Damaged`].
    pub fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    /// A [`ModelError::Key`].
    pub fn key(path: &Path, key: &str, problem: impl Into<String>) -> Self {
        Self::Key { path: path.to_owned(), key: key.to_owned(), problem: problem.into() }
    }

    /// A [`ModelError::Named`].
    pub(crate) fn named(what: &'static str, text: &impl ToString, problem: impl Into<String>) -> Self {
        Self::Named { what, text: text.to_string(), problem: problem.into() }
    }

    /// A [`ModelError::Tensor`].
    pub fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }
}

/// `; 3 missing: a, b, c`, at most 16 names written out, or nothing for no names.
fn listed(label: &str, names: &[String]) -> String {
    const SHOWN: usize = 16;
    if names.is_empty() {
        return String::new();
    }
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("; {} {label}: {shown}{more}", names.len())
}
