//! Decoding: requests are batched ([`batching`]), every pass runs their next tokens through the blocks that their exits leave, and
//! tokens are drawn. Keys and values of skipped blocks are computed when a later token needs them, or never.

pub(crate) mod arena;
pub mod batching;
pub mod complete;
pub mod exits;
mod hindsight;
pub mod request;
pub mod sampling;
pub mod step_key;
pub(crate) mod stepping;
pub(crate) mod work;
