//! The secret that an endpoint asks for.

use std::fmt;

use serde_json::Value;

use crate::error::ChatError;

/// What stands in the place of the key in texts of the endpoint that repeat it.
const HIDDEN: &str = "[key hidden]";

/// Keys shorter than this, in bytes, are placeholders of local servers. They are not searched for in texts: hiding every
/// `x` of a text protects nothing.
const SHORTEST_SECRET_BYTES: usize = 8;

/// An API key. It comes from the environment, goes into one header, and is shown nowhere: `Debug` hides it, and it has no
/// `Display` and no serialisation.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key held by the environment variable of this name.
    ///
    /// # Errors
    /// If there is no such variable, or what it holds is no key. The message does not repeat the name: someone may have
    /// given the key in its place.
    pub fn from_environment(variable: &str) -> Result<Self, ChatError> {
        let reason = "there is no environment variable of the given name; give the name of the variable that holds the key, \
                      never the key";
        let value = std::env::var(variable).map_err(|_| ChatError::setting("API key", reason))?;
        Self::new(&value)
    }

    /// This key, without the white space around it.
    ///
    /// # Errors
    /// If it is empty or has characters that an HTTP header cannot carry.
    pub fn new(key: &str) -> Result<Self, ChatError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "the environment variable is empty or holds something other than visible ASCII characters";
            return Err(ChatError::setting("API key", reason));
        }
        Ok(Self(key.to_owned()))
    }

    /// The value of the `Authorization` header.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The text without the key.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_SECRET_BYTES { text.to_owned() } else { text.replace(&self.0, HIDDEN) }
    }

    /// The JSON without the key, in names and in texts.
    pub(super) fn hide_in_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.hide_in(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.hide_in_json(item)).collect()),
            Value::Object(fields) => Value::Object(
                fields.into_iter().map(|(name, value)| (self.hide_in(&name), self.hide_in_json(value))).collect(),
            ),
            other => other,
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::new(" sk-very-secret\n").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(hidden)");
        assert_eq!(key.authorization(), "Bearer sk-very-secret");
        assert_eq!(key.hide_in("wrong key sk-very-secret."), "wrong key [key hidden].");
        let json = serde_json::json!({"a": ["x sk-very-secret"], "sk-very-secret": 1});
        assert_eq!(key.hide_in_json(json).to_string(), r#"{"a":["x [key hidden]"],"[key hidden]":1}"#);
        // A placeholder is left alone.
        assert_eq!(ApiKey::new("x").unwrap().hide_in("max"), "max");
    }

    #[test]
    fn the_name_of_a_variable_may_be_a_key_and_is_not_repeated() {
        for given in ["sk-very-secret", "", "a=b", "a\0b"] {
            let error = ApiKey::from_environment(given).unwrap_err().to_string();
            assert!(error.contains("there is no environment variable of the given name"), "{error}");
            assert!(given.is_empty() || !error.contains(given), "{error}");
        }
        // Set by cargo for every test.
        assert_eq!(ApiKey::from_environment("CARGO_PKG_NAME").unwrap().authorization(), "Bearer aloud-openai");
        for bad in ["", " \n", "two words", "schlüssel"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
