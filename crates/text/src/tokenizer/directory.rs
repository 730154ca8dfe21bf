//! A tokenizer read from a model directory: `tokenizer.json`, and what `tokenizer_config.json`, `generation_config.json`
//! and `config.json` say about the beginning and the end of texts.

use std::path::Path;

use serde_json::Value;

use aloud_model::error::ModelError;

use super::{AffixIds, Tokenizer, TokenizerError};
use crate::files::{json_if_present, parse_json};

/// Reads the tokenizer of the model in `directory`.
pub(super) fn load(directory: &Path) -> Result<Tokenizer, TokenizerError> {
    let path = directory.join("tokenizer.json");
    let bytes = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
    let inner = parse(&bytes, &path)?;

    let config = Config::read(directory, "tokenizer_config.json")?;
    let generation = Config::read(directory, "generation_config.json")?;
    let model = Config::read(directory, "config.json")?;
    let named = |key: &str, id_key: &str| -> Result<Option<u32>, ModelError> {
        if let Some(id) = config.token(key, &inner)? {
            return Ok(Some(id));
        }
        let ids = generation.ids(id_key)?.or(model.ids(id_key)?);
        Ok(ids.and_then(|ids| ids.first().copied()))
    };
    let bos_id = named("bos_token", "bos_token_id")?;
    let eos_id = named("eos_token", "eos_token_id")?;

    let mut eos_ids: Vec<u32> = eos_id.into_iter().collect();
    eos_ids.extend(generation.ids("eos_token_id")?.or(model.ids("eos_token_id")?).unwrap_or_default());

    // An explicit setting replaces the post-processor of tokenizer.json, as in the reference library.
    let add_bos = config.bool("add_bos_token")?;
    let add_eos = config.bool("add_eos_token")?;
    let affixes = (add_bos.is_some() || add_eos.is_some()).then(|| AffixIds {
        before: bos_id.filter(|_| add_bos == Some(true)),
        after: eos_id.filter(|_| add_eos == Some(true)),
    });
    Ok(Tokenizer::assemble(inner, bos_id, eos_id, eos_ids, affixes))
}

/// Reads `tokenizer.json` from `bytes`; `path` is for messages.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<tokenizers::Tokenizer, ModelError> {
    check_merges(&parse_json(bytes, path)?).map_err(|problem| ModelError::damaged(path, problem))?;
    tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|error| ModelError::damaged(path, format!("not a tokenizer this program can read: {error}")))
}

/// Checks that what each merge of a BPE model makes is a token; the library takes this for granted.
fn check_merges(tokenizer: &Value) -> Result<(), String> {
    let Some(model) = tokenizer.get("model") else { return Err("key `model`: missing".to_owned()) };
    let (Some(vocabulary), Some(merges)) = (model.get("vocab"), model.get("merges")) else { return Ok(()) };
    if model.get("continuing_subword_prefix").and_then(Value::as_str).is_some_and(|prefix| !prefix.is_empty()) {
        return Err("key `model.continuing_subword_prefix`: not supported, expected null".to_owned());
    }
    for (index, merge) in merges.as_array().into_iter().flatten().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [left, right] => left.as_str().zip(right.as_str()),
                _ => None,
            },
            _ => None,
        };
        let Some((left, right)) = pair else { return Err(format!("merge {index}: expected two texts, found {merge}")) };
        if vocabulary.get([left, right].concat()).is_none() {
            return Err(format!("merge {index}: {left:?} and {right:?} make no token"));
        }
    }
    Ok(())
}

/// An optional JSON file of settings.
struct Config {
    path: std::path::PathBuf,
    /// `Null` if there is no such file.
    value: Value,
}

impl Config {
    fn read(directory: &Path, name: &str) -> Result<Self, ModelError> {
        let path = directory.join(name);
        Ok(Self { value: json_if_present(&path)?, path })
    }

    /// The setting under `key`, `None` if it is absent or null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelError {
        ModelError::key(&self.path, key, format!("expected {expected}, found {found}"))
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", value))
    }

    /// The id of a token written as a text or as `{"content": text, ...}`.
    fn token(&self, key: &str, inner: &tokenizers::Tokenizer) -> Result<Option<u32>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().or_else(|| value.get("content")?.as_str());
        let text = text.ok_or_else(|| self.wrong(key, "the text of a token", value))?;
        let id = inner.token_to_id(text);
        id.map(Some).ok_or_else(|| self.wrong(key, "a token that tokenizer.json has", value))
    }

    /// One id or a list of ids.
    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids =
            items.iter().map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok())).collect::<Option<Vec<_>>>();
        ids.map(Some).ok_or_else(|| self.wrong(key, "a token id or a list of them", value))
    }
}
