//! What is asked and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Instructions that come before the conversation; not every model takes them.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation. The order of the fields is that of the cache key (by name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// The text.
    pub content: String,
    /// Who says it.
    pub role: ChatRole,
}

impl ChatMessage {
    /// A message of the one who asks.
    pub fn user(content: impl Into<String>) -> Self {
        Self { content: content.into(), role: ChatRole::User }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { content: content.into(), role: ChatRole::Assistant }
    }
}

/// One request for a reply. Everything that the reply may depend on: all of it decides about the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatRequest {
    /// The model, by the endpoint's name for it.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// 0 for the most likely reply.
    pub temperature: f64,
    /// Upper bound of the reply's length in tokens, hidden reasoning included.
    pub max_tokens: u32,
    /// Seed of the endpoint's sampling, where it has one.
    pub seed: Option<u64>,
    /// Version of the text of the prompt: requests of different versions never share a reply.
    pub prompt_version: String,
    /// The same request with another number is asked anew.
    pub repeat_index: u32,
    /// How often the answer to this request was already found unusable.
    pub ask_index: u32,
}

/// Tokens that were paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the reply, hidden reasoning included.
    pub output_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// The reply to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatReply {
    /// Its text; empty if the model wrote none.
    pub text: String,
    /// Why it ended, in the endpoint's words: `stop`, `length` and others; empty if not said.
    pub finish_reason: String,
    /// The model that the endpoint says it used; the one asked for if it says none.
    pub model: String,
    /// Tokens used, if the endpoint counts them.
    pub usage: Option<Usage>,
    /// Whether it came from the cache.
    pub from_cache: bool,
}

impl ChatReply {
    /// Whether the reply was cut off at `max_tokens`.
    pub fn is_cut_off(&self) -> bool {
        self.finish_reason == "length"
    }

    /// Reads a chat completion. The fault is described where it is none.
    pub(super) fn from_response(response: &Value, asked_model: &str) -> Result<Self, String> {
        let Some(choice) = response.pointer("/choices/0") else {
            return Err("the JSON has no choices[0]".to_owned());
        };
        let Some(message) = choice.get("message").filter(|message| message.is_object()) else {
            return Err("choices[0] has no message".to_owned());
        };
        let text = match message.get("content") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            // Some endpoints answer in parts.
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
            }
            Some(_) => return Err("choices[0].message.content is not a text".to_owned()),
        };
        let string = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let model = string(response.get("model"));
        let count = |name: &str| response.get("usage").and_then(|usage| usage.get(name)).and_then(Value::as_u64);
        let usage = count("prompt_tokens")
            .zip(count("completion_tokens"))
            .map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens });
        Ok(Self {
            text,
            finish_reason: string(choice.get("finish_reason")),
            model: if model.is_empty() { asked_model.to_owned() } else { model },
            usage,
            from_cache: false,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_of_different_endpoints() {
        let read = |value: Value| ChatReply::from_response(&value, "asked");
        let full = json!({"model": "m-1", "choices": [{"message": {"role": "assistant", "content": "hi"},
            "finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
        let reply = read(full).unwrap();
        assert_eq!((reply.text.as_str(), reply.model.as_str(), reply.is_cut_off()), ("hi", "m-1", true));
        assert_eq!(reply.usage, Some(Usage { input_tokens: 3, output_tokens: 4 }));
        let reply = read(json!({"choices": [{"message": {"content": null}}]})).unwrap();
        assert_eq!((reply.text.as_str(), reply.model.as_str(), reply.usage), ("", "asked", None));
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "other"}]);
        assert_eq!(read(json!({"choices": [{"message": {"content": parts}}]})).unwrap().text, "ab");
        for (bad, expected) in [
            (json!([]), "no choices[0]"),
            (json!({"choices": []}), "no choices[0]"),
            (json!({"choices": [{"message": "hi"}]}), "no message"),
            (json!({"choices": [{"message": {"content": 3}}]}), "not a text"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
