//! Where requests go.

use ureq::http::Uri;

use crate::error::ChatError;

/// The base address of an OpenAI-compatible endpoint, for instance `https://api.example.org/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    base_url: String,
}

impl Endpoint {
    /// The endpoint at this base address. A slash at its end makes no difference.
    ///
    /// # Errors
    /// If it is not an `http` or `https` address, or has a user name, password, query or fragment: those may be secrets,
    /// and the address is part of cache files and messages.
    pub fn new(base_url: &str) -> Result<Self, ChatError> {
        let error = |reason: &str| Err(ChatError::setting("endpoint address", reason));
        let Ok(uri) = base_url.parse::<Uri>() else {
            return error("not an address; it looks like https://api.example.org/v1");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return error("it must start with http:// or https://");
        }
        if uri.host().is_none_or(str::is_empty) {
            return error("it names no host");
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return error("user name and password have no place in it; keys come from an environment variable");
        }
        if uri.query().is_some() || base_url.contains('#') {
            return error("`?` and `#` have no place in it; give the part before /chat/completions");
        }
        Ok(Self { base_url: base_url.trim_end_matches('/').to_owned() })
    }

    /// The name of the endpoint in cache keys: its base address.
    pub(super) fn id(&self) -> &str {
        &self.base_url
    }

    /// Where chat requests go.
    pub(super) fn completions_url(&self) -> String {
        format!("{}/chat/completions", self.base_url)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_without_secrets_only() {
        let endpoint = Endpoint::new("http://localhost:8080/v1/").unwrap();
        assert_eq!(endpoint.completions_url(), "http://localhost:8080/v1/chat/completions");
        assert_eq!(endpoint, Endpoint::new("http://localhost:8080/v1").unwrap());
        for (bad, expected) in [
            ("", "not an address"),
            ("local host", "not an address"),
            ("localhost:8080", "must start with"),
            ("/v1", "must start with"),
            ("ftp://a/v1", "must start with"),
            ("https://me:secret@a/v1", "user name and password"),
            ("https://a/v1?key=secret", "`?` and `#`"),
            ("https://a/v1#secret", "`?` and `#`"),
        ] {
            let error = Endpoint::new(bad).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{bad}: {error}");
        }
    }
}
