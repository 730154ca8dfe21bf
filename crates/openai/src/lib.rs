//! A client for OpenAI-compatible chat endpoints: messages in, text and usage out.
//!
//! Every reply is stored in a content-addressed cache as soon as it is there, so that an interrupted run goes on where it
//! was, and a finished one is repeated without an endpoint. The client knows nothing of what is asked.

pub mod api_key;
pub mod budget;
mod cache;
pub mod client;
mod concurrency;
pub mod endpoint;
pub mod error;
pub mod message;
mod request_shape;
pub mod retry;
#[cfg(any(test, feature = "scripted-server"))]
pub mod scripted_server;
#[cfg(test)]
mod tests;
pub mod transport;
