//! Files of a model that need not be there.

use std::io::ErrorKind;
use std::path::Path;

use aloud_model::error::ModelError;
use serde_json::Value;

/// The bytes of a file, `None` if there is none.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(ModelError::io("read", path)),
    }
}

/// The JSON in a file, `Null` if there is none.
pub(crate) fn json_if_present(path: &Path) -> Result<Value, ModelError> {
    let Some(bytes) = read_if_present(path)? else { return Ok(Value::Null) };
    parse_json(&bytes, path)
}

/// The JSON in `bytes`, which `path` holds.
pub(crate) fn parse_json(bytes: &[u8], path: &Path) -> Result<Value, ModelError> {
    serde_json::from_slice(bytes).map_err(|error| ModelError::damaged(path, format!("not valid JSON: {error}")))
}
