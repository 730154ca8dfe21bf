//! GGUF files (versions 2 and 3, little-endian): metadata and the table of tensors.
//!
//! Only headers are read here; the tensors' bytes are read one by one by [`crate::weights`]. Every length in the file is
//! checked against what is left of the file before anything is allocated for it.

mod model;
mod parse;
mod split;
mod types;
mod value;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub(crate) use split::PartName;
pub use types::GgmlType;
pub use value::{GgufArray, GgufValue};

use crate::error::ModelError;

/// One row of the table of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// Index into [`GgufFile::files`].
    pub file: usize,
    /// Lengths in row-major order, slowest first: `[rows, columns]`. (The file lists them the other way round.)
    pub shape: Vec<usize>,
    /// The number format.
    pub ggml_type: GgmlType,
    /// Where the tensor's bytes begin, from the start of the file.
    pub start: u64,
    /// How many bytes they are; 0 for a format whose size is not known here.
    pub size_bytes: u64,
}

/// The headers of a GGUF file, or of all parts of one that is split.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The files that hold the tensors: `path`, or all parts in order.
    pub files: Vec<PathBuf>,
    /// Metadata by key, of the first part.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Reads the headers of the file at `path`; of all parts, which lie beside each other, if it is one of several.
    ///
    /// # Errors
    /// If a file cannot be read, is not GGUF version 2 or 3, or is truncated or damaged: the message says where. If a part
    /// is missing: the message names it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_part(path)?.with_all_parts()
    }

    /// Reads the headers of one file, whether or not it is a part.
    fn open_part(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io("open", path))?;
        let length = file.metadata().map_err(ModelError::io("read", path))?.len();
        Self::read(BufReader::new(file), length, path)
    }

    /// Reads the headers from the start of `input`, which holds `length` bytes; `path` is for messages.
    ///
    /// # Errors
    /// If they are not those of GGUF version 2 or 3, or are truncated or damaged: the message says where.
    pub fn read(input: impl Read, length: u64, path: &Path) -> Result<Self, ModelError> {
        parse::parse(input, length, path)
    }

    /// The string under `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// If the key has a value of another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.typed(
            key,
            "a string",
            |value| if let GgufValue::String(text) = value { Some(text.as_str()) } else { None },
        )
    }

    /// The bool under `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// If the key has a value of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.typed(key, "a bool", |value| if let GgufValue::Bool(value) = value { Some(*value) } else { None })
    }

    /// The integer under `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// If the key has a value of another type, or a negative one.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, ModelError> {
        self.typed(key, "a non-negative integer", GgufValue::as_u64)
    }

    /// The float under `key`, `None` if the key is absent.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.typed(key, "a float", GgufValue::as_f64)
    }

    /// The array under `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// If the key has a value of another type.
    pub fn array(&self, key: &str) -> Result<Option<&GgufArray>, ModelError> {
        self.typed(key, "an array", |value| if let GgufValue::Array(array) = value { Some(array) } else { None })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        view: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        view(value).map(Some).ok_or_else(|| {
            let found = match value {
                GgufValue::Array(array) => format!("an array of {}", array.len()),
                GgufValue::String(_) => "a string".to_owned(),
                other => format!("{other:?}"),
            };
            ModelError::key(&self.path, key, format!("expected {expected}, found {found}"))
        })
    }
}
