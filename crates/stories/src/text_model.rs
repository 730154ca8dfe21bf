//! Language models that stories are searched with, or told in prose by. What they are asked is decided in this crate; how it
//! reaches them is not.

use std::error::Error;
use std::fmt::Debug;

/// One message to a language model that waits for a reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// The message.
    pub text: String,
    /// 0 for the most likely reply.
    pub temperature: f64,
    /// Most tokens of the reply.
    pub max_tokens: u32,
    /// Seed of the reply, where the model has one.
    pub seed: u64,
    /// The same message with another number is asked anew.
    pub repeat: u32,
    /// Version of the wording.
    pub version: &'static str,
}

/// A language model, wherever it runs.
pub trait TextModel: Debug + Send + Sync {
    /// Its name in files.
    fn name(&self) -> &str;

    /// Its replies, in the order of what was asked.
    ///
    /// # Errors
    /// If one is not to be had.
    fn replies(&self, asked: &[Asking]) -> Result<Vec<String>, Box<dyn Error + Send + Sync>>;
}
