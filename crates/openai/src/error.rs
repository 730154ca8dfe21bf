//! Why a reply could not be had.

use std::path::PathBuf;

/// An error of the chat client. No message contains the API key.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A setting is not usable.
    #[error("{name}: {reason}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the cache could not be read or written, or is damaged.
    #[error("cache file {}: {reason}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Only cached replies were allowed, and there is none for this request.
    #[error(
        "no cached reply of `{model}` for request {key}: in offline mode nothing is sent; run once without it, with the \
         same endpoint, model and settings"
    )]
    NotCached {
        /// The model that would have been asked.
        model: String,
        /// The request's key in the cache.
        key: String,
    },
    /// The budget is used up; what is cached is still served.
    #[error("the budget is used up: {reason}")]
    Budget {
        /// Which limit was reached.
        reason: String,
    },
    /// The endpoint refused the request, and would again.
    #[error("{url} answers {status}: {message}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the endpoint says, shortened.
        message: String,
    },
    /// Every try failed in a way that might have passed.
    #[error("{url} failed {n_tries} times, last: {reason}")]
    Failed {
        /// The address.
        url: String,
        /// Number of tries.
        n_tries: u32,
        /// What the last try said.
        reason: String,
    },
    /// An earlier failure concerns all requests, so this one was not sent.
    #[error("not sent: {reason}")]
    Stopped {
        /// The earlier failure.
        reason: String,
    },
}

impl ChatError {
    /// A setting is not usable, for this reason.
    pub fn setting(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Setting { name, reason: reason.into() }
    }

    /// Whether going on makes no sense: the mistake is on this side (settings, files, a reply that had to be cached). All
    /// else leaves one request without a reply, which callers count.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::Cache { .. } | Self::NotCached { .. })
    }
}
