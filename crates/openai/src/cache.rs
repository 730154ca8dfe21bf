//! Replies on disk, by what was asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::error::ChatError;
use crate::message::{ChatRequest, Usage};
use aloud_base::digest::sha256_digits;
use aloud_base::durable_file;

/// The format of the files that this program writes, and the only one it reads.
pub(super) const SCHEMA: u32 = 1;

/// One cached reply: the file `<folder>/<first two digits>/<key>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CachedReply {
    pub(super) schema: u32,
    /// SHA-256 of what was asked.
    pub(super) key: String,
    /// The body as it was sent.
    pub(super) request: Value,
    /// The whole response.
    pub(super) response: Value,
    /// The model that the endpoint says it used.
    pub(super) model: String,
    pub(super) usage: Option<Usage>,
    /// How long the last try took, in seconds.
    pub(super) seconds: f64,
    /// When the reply came, in seconds since 1970.
    pub(super) unix_time: u64,
    /// Requests that were sent for it.
    pub(super) n_tries: u32,
}

/// A folder of cached replies.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The name of the request: SHA-256, in hexadecimal, of the canonical JSON (names in order, no white space) of all of it and
    /// its endpoint. The API key is not among them.
    pub(super) fn key(endpoint: &Endpoint, request: &ChatRequest) -> Result<String, ChatError> {
        let error = |error: serde_json::Error| ChatError::setting("request", error.to_string());
        let fields = serde_json::to_value(request).map_err(error)?;
        let mut fields: BTreeMap<String, Value> = serde_json::from_value(fields).map_err(error)?;
        fields.insert("endpoint".to_owned(), endpoint.id().into());
        Ok(sha256_digits(&serde_json::to_vec(&fields).map_err(error)?))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(format!("{key}.json"))
    }

    /// The reply with this key, if it was stored.
    pub(super) fn read(&self, key: &str) -> Result<Option<CachedReply>, ChatError> {
        let path = self.path(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ChatError::Cache { path, reason: error.to_string() }),
        };
        let read = match serde_json::from_slice::<CachedReply>(&text) {
            Err(error) => Err(format!("damaged: {error}")),
            Ok(CachedReply { schema, .. }) if schema != SCHEMA => {
                Err(format!("schema is {schema}, this program reads {SCHEMA}"))
            }
            Ok(reply) if reply.key != key => Err("it holds the reply to another request".to_owned()),
            Ok(reply) => Ok(Some(reply)),
        };
        read.map_err(|reason| ChatError::Cache { path, reason: format!("{reason}; delete the file to ask again") })
    }

    /// Stores a reply, whole or not at all.
    pub(super) fn write(&self, reply: &CachedReply) -> Result<(), ChatError> {
        let path = self.path(&reply.key);
        let error = |reason: String| ChatError::Cache { path: path.clone(), reason };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| error(e.to_string()))?;
        }
        let content = serde_json::to_vec_pretty(reply).map_err(|e| error(e.to_string()))?;
        durable_file::write(&path, &content).map_err(|e| error(e.to_string()))
    }
}
