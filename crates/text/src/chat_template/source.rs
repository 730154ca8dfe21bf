//! Where a model's chat template is found.

use std::path::Path;

use serde_json::Value;

use super::ChatTemplateError;
use crate::files::{json_if_present, read_if_present};
use aloud_model::error::ModelError;
use aloud_model::gguf::GgufFile;

/// The text of a chat template and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSource {
    /// The Jinja text.
    pub text: String,
    /// Where it came from, for messages: a file, or a key of a file.
    pub origin: String,
}

impl TemplateSource {
    /// The template of the model in `directory`: the file `chat_template.jinja`, or `chat_template` in
    /// `tokenizer_config.json` (one text, or a list of named ones of which `default` is taken). `None` if there is none.
    ///
    /// # Errors
    /// If a file cannot be read or holds something else there.
    pub fn from_directory(directory: &Path) -> Result<Option<Self>, ChatTemplateError> {
        let jinja = directory.join("chat_template.jinja");
        if let Some(bytes) = read_if_present(&jinja)? {
            let text = String::from_utf8(bytes).map_err(|_| ModelError::damaged(&jinja, "is not UTF-8 text"))?;
            return Ok(Some(Self { text, origin: jinja.display().to_string() }));
        }
        let path = directory.join("tokenizer_config.json");
        let text = match json_if_present(&path)?.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(named)) => {
                default_template(named).map_err(|problem| ModelError::damaged(&path, problem))?
            }
            Some(other) => {
                let problem = format!("`chat_template`: expected a text or a list, found {other}");
                return Err(ModelError::damaged(&path, problem).into());
            }
        };
        Ok(Some(Self { text, origin: format!("{}, `chat_template`", path.display()) }))
    }

    /// The template in a GGUF file's metadata (`tokenizer.chat_template`), `None` if there is none.
    ///
    /// # Errors
    /// If the key holds something else.
    pub fn from_gguf(file: &GgufFile) -> Result<Option<Self>, ChatTemplateError> {
        let key = "tokenizer.chat_template";
        let text = file.string(key)?;
        Ok(text.map(|text| Self { text: text.to_owned(), origin: format!("{}, `{key}`", file.path.display()) }))
    }
}

/// The template called `default` of a list of `{"name", "template"}`.
fn default_template(named: &[Value]) -> Result<String, String> {
    let field = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut names = Vec::new();
    for entry in named {
        let (Some(name), Some(template)) = (field(entry, "name"), field(entry, "template")) else {
            return Err(format!("`chat_template`: expected entries with `name` and `template`, found {entry}"));
        };
        if name == "default" {
            return Ok(template);
        }
        names.push(name);
    }
    Err(format!("`chat_template`: none of its templates is called `default` (found: {})", names.join(", ")))
}

/// `text` without the tags `generation` and `endgeneration`, an extension of the reference library that marks what the
/// model said and writes nothing: they become a condition that always holds, so that trimming around tags stays as it is.
pub(super) fn without_generation_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let name_at = after.len() - after.trim_start_matches(['-', '+']).trim_start().len();
        let (lead, tag) = after.split_at(name_at);
        out.push_str(lead);
        let word = tag.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => word,
        };
        out.push_str(replacement);
        rest = tag.strip_prefix(word).unwrap_or(tag);
    }
    out.push_str(rest);
    out
}
