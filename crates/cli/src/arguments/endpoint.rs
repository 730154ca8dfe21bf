//! A language model behind an OpenAI-compatible endpoint, from what the command line says of it.

use std::error::Error;
use std::path::PathBuf;

use aloud_openai::api_key::ApiKey;
use aloud_openai::client::{ChatClient, ChatSettings};
use aloud_openai::endpoint::Endpoint;
use aloud_openai::error::ChatError;
use aloud_openai::message::{ChatMessage, ChatRequest};
use aloud_stories::text_model::{Asking, TextModel};

use aloud_session::error::SessionError;

/// How a model at the address `url` is asked, with the key in the environment variable `key_variable` and replies cached in the
/// folder `cache`. What the flags begin with is for messages: `search` for `--search-url`.
pub(crate) fn chat_settings(
    flag: &str,
    url: &str,
    key_variable: Option<&str>,
    cache: PathBuf,
    offline: bool,
) -> Result<ChatSettings, SessionError> {
    let usage = |option: &str, error: ChatError| SessionError::usage(format!("--{flag}-{option}: {error}"));
    // What is cached needs no key.
    let key = key_variable.filter(|_| !offline).map(ApiKey::from_environment).transpose();
    let key = key.map_err(|error| usage("key-env", error))?;
    let endpoint = Endpoint::new(url).map_err(|error| usage("url", error))?;
    Ok(ChatSettings { key, offline, ..ChatSettings::new(endpoint, cache) })
}

/// A model that stories are made with.
#[derive(Debug)]
pub(crate) struct ChatTextModel {
    client: ChatClient,
    /// The model, by the endpoint's name for it.
    model: String,
}

impl ChatTextModel {
    /// The model of this name at the endpoint.
    pub(crate) fn open(settings: ChatSettings, model: &str) -> Result<Self, SessionError> {
        Ok(Self { client: ChatClient::new(settings).map_err(SessionError::usage)?, model: model.to_owned() })
    }

    /// How many requests were sent and how many replies came from the cache.
    pub(crate) fn summary(&self) -> String {
        let report = self.client.report();
        format!("{}: {} requests sent, {} replies from the cache", self.model, report.n_sent, report.n_cached)
    }
}

impl TextModel for ChatTextModel {
    fn name(&self) -> &str {
        &self.model
    }

    fn replies(&self, asked: &[Asking]) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let reply = |asking: &Asking| {
            let request = ChatRequest {
                model: self.model.clone(),
                messages: vec![ChatMessage::user(&asking.text)],
                temperature: asking.temperature,
                max_tokens: asking.max_tokens,
                seed: Some(asking.seed),
                prompt_version: asking.version.to_owned(),
                repeat_index: asking.repeat,
                ask_index: 0,
            };
            self.client.complete(&request).map(|reply| reply.text)
        };
        self.client.try_map(asked, reply).map_err(Into::into)
    }
}
