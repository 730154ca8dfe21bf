//! Replies on disk, by what was asked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::error::ChatError;
use crate::message::{ChatMessage, ChatRequest, Usage};
use aloud_base::digest::sha256_digits;
use aloud_base::durable_file;

/// The format of the files that this program writes, and the only one it reads.
pub(super) const SCHEMA: u32 = 1;

/// One cached reply: the file `<folder>/<first two digits>/<key>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CachedReply {
    /// [`SCHEMA`].
    pub(super) schema: u32,
    /// SHA-256 of what was asked.
    pub(super) key: String,
    /// The body as it was sent.
    pub(super) request: Value,
    /// The whole response.
    pub(super) response: Value,
    /// The model that the endpoint says it used.
    pub(super) model: String,
    /// Tokens used, if the endpoint counts them.
    pub(super) usage: Option<Usage>,
    /// How long the last try took, in seconds.
    pub(super) seconds: f64,
    /// When the reply came, in seconds since 1970.
    pub(super) unix_time: u64,
    /// Requests that were sent for it.
    pub(super) n_tries: u32,
}

/// Everything about a request that its reply may depend on. The fields are in the order of their names, and so is the JSON
/// that is hashed. The API key is not among them.
#[derive(Serialize)]
struct KeyedFields<'a> {
    ask_index: u32,
    endpoint: &'a str,
    max_tokens: u32,
    messages: &'a [ChatMessage],
    model: &'a str,
    prompt_version: &'a str,
    repeat_index: u32,
    seed: Option<u64>,
    temperature: f64,
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

    /// The name of the request: SHA-256, in hexadecimal, of its canonical JSON (names in order, no white space).
    pub(super) fn key(endpoint: &Endpoint, request: &ChatRequest) -> Result<String, ChatError> {
        let fields = KeyedFields {
            ask_index: request.ask_index,
            endpoint: endpoint.id(),
            max_tokens: request.max_tokens,
            messages: &request.messages,
            model: &request.model,
            prompt_version: &request.prompt_version,
            repeat_index: request.repeat_index,
            seed: request.seed,
            temperature: request.temperature,
        };
        let json = serde_json::to_vec(&fields)
            .map_err(|error| ChatError::Setting { name: "request", reason: error.to_string() })?;
        Ok(sha256_digits(&json))
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
        let damaged = |path: &Path, reason: &str| ChatError::Cache {
            path: path.to_path_buf(),
            reason: format!("{reason}; delete the file to ask again"),
        };
        let reply: CachedReply =
            serde_json::from_slice(&text).map_err(|error| damaged(&path, &format!("damaged: {error}")))?;
        if reply.schema != SCHEMA {
            let reason = format!("schema is {}, this program reads {SCHEMA}", reply.schema);
            return Err(damaged(&path, &reason));
        }
        if reply.key != key {
            return Err(damaged(&path, "it holds the reply to another request"));
        }
        Ok(Some(reply))
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
