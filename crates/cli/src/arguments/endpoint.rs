//! A language model behind an OpenAI-compatible endpoint, from what the command line says of it.

use std::error::Error;
use std::path::PathBuf;

use aloud_openai::api_key::ApiKey;
use aloud_openai::budget::BudgetLimits;
use aloud_openai::client::{ChatClient, ChatSettings};
use aloud_openai::endpoint::Endpoint;
use aloud_openai::message::{ChatMessage, ChatRequest};
use aloud_openai::retry::RetryPolicy;
use aloud_stories::text_model::{Asking, TextModel};

use crate::error::UsageError;

/// Where a model is, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct EndpointOptions<'a> {
    /// What the flags begin with, for messages: `search` for `--search-url`.
    pub(crate) flag: &'static str,
    /// Base address.
    pub(crate) url: &'a str,
    /// Name of the environment variable that holds the key.
    pub(crate) key_variable: Option<&'a str>,
    /// Folder of cached replies.
    pub(crate) cache: PathBuf,
    /// Whether nothing may be sent.
    pub(crate) offline: bool,
    /// Requests at a time.
    pub(crate) concurrency: usize,
    /// What all requests together may be.
    pub(crate) limits: BudgetLimits,
    /// How often a request is tried.
    pub(crate) retry: RetryPolicy,
    /// Seed of the pauses between tries.
    pub(crate) seed: u64,
}

impl EndpointOptions<'_> {
    /// The client; nothing is sent yet.
    ///
    /// # Errors
    /// If an option is not usable (a usage error).
    pub(crate) fn open(&self) -> Result<ChatClient, UsageError> {
        let usage = |option: &str, error: aloud_openai::error::ChatError| {
            UsageError::new(format!("--{}-{option}: {error}", self.flag))
        };
        let key = match self.key_variable {
            // What is cached needs no key.
            Some(variable) if !self.offline => {
                Some(ApiKey::from_environment(variable).map_err(|error| usage("key-env", error))?)
            }
            _ => None,
        };
        let endpoint = Endpoint::new(self.url).map_err(|error| usage("url", error))?;
        let settings = ChatSettings {
            key,
            offline: self.offline,
            concurrency: self.concurrency,
            limits: self.limits,
            retry: self.retry,
            seed: self.seed,
            ..ChatSettings::new(endpoint, self.cache.clone())
        };
        ChatClient::new(settings).map_err(|error| UsageError::new(error.to_string()))
    }
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
    ///
    /// # Errors
    /// If an option is not usable (a usage error).
    pub(crate) fn open(options: &EndpointOptions<'_>, model: &str) -> Result<Self, UsageError> {
        Ok(Self { client: options.open()?, model: model.to_owned() })
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
