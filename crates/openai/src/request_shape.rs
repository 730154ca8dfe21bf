//! Which fields an endpoint takes. What it does not take is learnt from its first refusal.

use serde_json::{Map, Value};

use crate::message::ChatRequest;

/// The fields that requests are sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestShape {
    /// Whether the limit of the reply is called `max_completion_tokens`, and not `max_tokens`.
    completion_limit: bool,
    /// Whether `temperature` is sent.
    temperature: bool,
    /// Whether `seed` is sent.
    seed: bool,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self { completion_limit: false, temperature: true, seed: true }
    }
}

impl RequestShape {
    /// The body of the request in this shape.
    pub(super) fn body(self, request: &ChatRequest) -> Value {
        let mut body = Map::new();
        body.insert("model".to_owned(), request.model.clone().into());
        body.insert("messages".to_owned(), serde_json::json!(request.messages));
        let limit = if self.completion_limit { "max_completion_tokens" } else { "max_tokens" };
        body.insert(limit.to_owned(), request.max_tokens.into());
        if self.temperature {
            body.insert("temperature".to_owned(), request.temperature.into());
        }
        if let Some(seed) = request.seed.filter(|_| self.seed) {
            body.insert("seed".to_owned(), seed.into());
        }
        Value::Object(body)
    }

    /// The shape that leaves out what either leaves out.
    pub(super) fn merged(self, other: Self) -> Self {
        Self {
            completion_limit: self.completion_limit || other.completion_limit,
            temperature: self.temperature && other.temperature,
            seed: self.seed && other.seed,
        }
    }

    /// What the refusal (status 400) of a request in this shape teaches: the next shape, and a sentence about it. `None`
    /// if the refusal names no field that could be left out.
    pub(super) fn after_refusal(self, refusal: &str) -> Option<(Self, &'static str)> {
        Some(if !self.completion_limit && has_word(refusal, "max_tokens") {
            let lesson = "the endpoint does not take `max_tokens`: `max_completion_tokens` is sent in its place";
            (Self { completion_limit: true, ..self }, lesson)
        } else if self.temperature && has_word(refusal, "temperature") {
            let lesson =
                "the endpoint does not take this `temperature`: it is left out, and the endpoint's own is used";
            (Self { temperature: false, ..self }, lesson)
        } else if self.seed && has_word(refusal, "seed") {
            (Self { seed: false, ..self }, "the endpoint does not take `seed`: it is left out")
        } else {
            return None;
        })
    }
}

/// Whether `word` occurs in the text as a whole name.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_field_is_given_up_once() {
        let shape = RequestShape::default();
        let refusal = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.";
        let (shape, _) = shape.after_refusal(refusal).unwrap();
        assert_eq!(shape.after_refusal(refusal), None);
        let (shape, _) = shape.after_refusal("`temperature` does not support 0").unwrap();
        let (shape, _) = shape.after_refusal("unknown field \"seed\"").unwrap();
        assert_eq!(shape, RequestShape { completion_limit: true, temperature: false, seed: false });
        assert_eq!(shape.after_refusal("max_tokens, temperature, seed"), None);
        let (no_seed, _) = RequestShape::default().after_refusal("seed").unwrap();
        let (no_temperature, _) = RequestShape::default().after_refusal("temperature").unwrap();
        let both = RequestShape { completion_limit: false, temperature: false, seed: false };
        assert_eq!((no_seed.merged(no_temperature), no_temperature.merged(no_seed)), (both, both));
        assert_eq!(RequestShape::default().after_refusal("birdseed and max_tokens_total are unknown"), None);
    }

    #[test]
    fn the_body_has_the_fields_of_the_shape() {
        let mut request = ChatRequest {
            model: "m".to_owned(),
            messages: vec![crate::message::ChatMessage::user("hi")],
            max_tokens: 9,
            ..ChatRequest::default()
        };
        let body = RequestShape::default().body(&request).to_string();
        assert_eq!(
            body,
            r#"{"model":"m","messages":[{"content":"hi","role":"user"}],"max_tokens":9,"temperature":0.0}"#
        );
        request.seed = Some(3);
        let bare = RequestShape { completion_limit: true, temperature: false, seed: true }.body(&request).to_string();
        assert!(bare.ends_with(r#""max_completion_tokens":9,"seed":3}"#), "{bare}");
    }
}
