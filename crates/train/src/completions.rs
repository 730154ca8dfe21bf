//! Whole responses of a model to many requests.

use aloud_engine::{Engine, Event, FinishReason, Flow, Limits, Request, RequestError, Token};
use aloud_kernels::Backend;
use aloud_model::decoder::{Decoder, Policy};

/// A complete response.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Its tokens, with everything that was random about them.
    pub(crate) tokens: Vec<Token>,
    /// Why it ended.
    pub(crate) reason: FinishReason,
}

/// Answers every request, in their order.
///
/// # Errors
/// As [`Engine::run`].
pub(crate) fn complete<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    limits: Limits,
    requests: &[Request],
) -> Result<Vec<Completion>, RequestError> {
    let mut completions = vec![Completion { tokens: Vec::new(), reason: FinishReason::Length }; requests.len()];
    Engine::new(decoder, policy, limits).run(requests, &mut |event| {
        match event {
            Event::Token { request, token } => completions[request].tokens.push(token),
            Event::Finished { request, reason } => completions[request].reason = reason,
        }
        Flow::Continue
    })?;
    Ok(completions)
}
