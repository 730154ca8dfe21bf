//! A client for OpenAI-compatible chat endpoints: messages in, text and usage out.
//!
//! Every reply is stored in a content-addressed cache as soon as it is there, so that an interrupted run goes on where it
//! was, and a finished one is repeated without an endpoint. The client knows nothing of what is asked.

mod api_key;
mod budget;
mod cache;
mod client;
mod concurrency;
mod endpoint;
mod error;
mod message;
mod request_shape;
mod retry;
#[cfg(test)]
mod scripted_server;
#[cfg(test)]
mod tests;
mod transport;

pub use api_key::ApiKey;
pub use budget::{BudgetLimits, Prices};
pub use client::{ChatClient, ChatReport, ChatSettings};
pub use endpoint::Endpoint;
pub use error::ChatError;
pub use message::{ChatMessage, ChatReply, ChatRequest, ChatRole, Usage};
pub use retry::RetryPolicy;
#[cfg(test)]
pub(crate) use scripted_server::{Answer, ScriptedServer, completion};
pub use transport::Timeouts;
