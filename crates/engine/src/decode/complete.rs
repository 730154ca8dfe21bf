//! Whole responses of a model to many requests.

use aloud_kernels::backend::Backend;
use aloud_model::decoder::{Decoder, Policy};

use super::batching::{Engine, Event, Flow, Limits};
use super::request::{FinishReason, Request, RequestError, Token};

/// A complete response.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Its tokens, with everything that was random about them.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub reason: FinishReason,
}

/// Answers every request, in their order. `on_done` hears of every response that is complete.
///
/// # Errors
/// As [`Engine::run`].
pub fn complete<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    limits: Limits,
    requests: &[Request],
    on_done: &(dyn Fn() + Sync),
) -> Result<Vec<Completion>, RequestError> {
    let mut completions = vec![Completion { tokens: Vec::new(), reason: FinishReason::Length }; requests.len()];
    Engine::new(decoder, policy, limits).run(requests, &mut |event| {
        match event {
            Event::Token { request, token } => completions[request].tokens.push(token),
            Event::Finished { request, reason } => {
                completions[request].reason = reason;
                on_done();
            }
        }
        Flow::Continue
    })?;
    Ok(completions)
}
