//! One HTTP exchange.

use std::time::{Duration, SystemTime};

use ureq::Agent;
use ureq::http::HeaderValue;

use super::retry::retry_after;
use crate::api_key::ApiKey;
use crate::endpoint::Endpoint;
use crate::error::ChatError;

/// Replies are texts of a few kilobytes. What is larger than this, in bytes, is not one.
const MAX_RESPONSE_BYTES: u64 = 8 << 20;

/// How long one try may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the whole reply is there.
    pub total: Duration,
    /// Until a request is given up: all its tries and the pauses between them, without those that the endpoint asked for.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_mins(2), request: Duration::from_mins(5) }
    }
}

/// What an endpoint answered.
#[derive(Debug)]
pub(super) struct HttpReply {
    pub(super) status: u16,
    /// How long it asks to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct NoReply {
    pub(super) reason: String,
    /// Whether another try makes sense.
    pub(super) may_pass: bool,
    /// Whether the request may have been worked on.
    pub(super) may_be_billed: bool,
}

/// Sends requests to one address.
#[derive(Debug)]
pub(super) struct Transport {
    agent: Agent,
    url: String,
    /// Marked as sensitive: it is not shown where headers are.
    authorization: Option<HeaderValue>,
}

impl Transport {
    pub(super) fn new(endpoint: &Endpoint, key: Option<&ApiKey>, timeouts: Timeouts) -> Result<Self, ChatError> {
        let authorization = key.map(|key| HeaderValue::from_str(&key.authorization())).transpose();
        let Ok(mut authorization) = authorization else {
            return Err(ChatError::setting("API key", "an HTTP header cannot carry it"));
        };
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry prompts, and perhaps the key, to a place that nobody named.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(timeouts.connect))
            .user_agent(concat!("aloud/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), url: endpoint.completions_url(), authorization })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Posts a JSON document and waits for the whole answer, at most so long.
    pub(super) fn post(&self, body: &[u8], longest: Duration) -> Result<HttpReply, NoReply> {
        let request = self.agent.post(&self.url).config().timeout_global(Some(longest)).build();
        let mut request = request.header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.clone());
        }
        let mut response = request.send(body).map_err(|error| no_reply(&error))?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|header| header.to_str().ok())
            .and_then(|header| retry_after(header, SystemTime::now()));
        let status = response.status().as_u16();
        let body =
            response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec().map_err(|e| no_reply(&e))?;
        Ok(HttpReply { status, retry_after, body })
    }
}

/// Connections that fail or end early may stand the next time; a wrong certificate or address stays wrong.
fn no_reply(error: &ureq::Error) -> NoReply {
    use ureq::Error;
    let (may_pass, may_be_billed) = match error {
        Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
        | Error::HostNotFound
        | Error::ConnectionFailed
        | Error::ConnectProxyFailed(_) => (true, false),
        Error::Io(error) => (true, error.kind() != std::io::ErrorKind::ConnectionRefused),
        Error::Timeout(_) | Error::Protocol(_) => (true, true),
        _ => (false, false),
    };
    NoReply { reason: error.to_string(), may_pass, may_be_billed }
}
