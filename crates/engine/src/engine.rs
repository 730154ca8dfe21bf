//! Continuous batching: requests join when there is room, leave when they end, and never change each other's results.

use aloud_kernels::{Backend, MAX_LOGIT_ROWS, Readout, Rows};
use aloud_model::decoder::{Decoder, Policy};

use crate::arena::Arena;
use crate::random::{TOKEN_DRAW, uniform};
use crate::request::{FinishReason, Forced, Request, RequestError, Token};
use crate::sampling::draw;
use crate::stepper::{StepResult, Work, step};

/// How much runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most sequences decoded together.
    pub max_sequences: usize,
    /// Most prompt tokens run in one pass (longer prompts take several).
    pub max_prompt_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_sequences: 16, max_prompt_rows: 512 }
    }
}

/// What the caller wants of a sequence after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End this sequence here (a stop text was found, the client is gone).
    Finish,
}

/// Something that happened to request number `request`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token was generated.
    Token {
        /// Index of the request.
        request: usize,
        /// The token.
        token: Token,
    },
    /// The response is complete.
    Finished {
        /// Index of the request.
        request: usize,
        /// Why.
        reason: FinishReason,
    },
}

/// Runs requests on a model, with or without a trained policy.
#[derive(Debug)]
pub struct Engine<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    policy: Option<&'a Policy<B>>,
    limits: Limits,
}

/// A request being run.
struct Running<B: Backend> {
    request: usize,
    arena: Arena<B>,
    /// Tokens not yet consumed: the prompt's rest, or the last generated token.
    next: Vec<u32>,
    /// Response tokens emitted so far.
    emitted: usize,
}

impl<'a, B: Backend> Engine<'a, B> {
    /// An engine over a model; exits are possible only with a policy.
    pub fn new(decoder: &'a Decoder<B>, policy: Option<&'a Policy<B>>, limits: Limits) -> Self {
        Self { decoder, policy, limits }
    }

    /// Runs all requests to their end. `on_event` sees every token as it is generated; its answer to a token may end the
    /// sequence.
    ///
    /// # Errors
    /// If a request is not valid; none is run then.
    pub fn run(
        &self,
        requests: &[Request],
        on_event: &mut (dyn FnMut(Event) -> Flow + Send),
    ) -> Result<(), RequestError> {
        for request in requests {
            request.validate(self.decoder, self.policy.is_some())?;
        }
        self.decoder.backend().run(|| self.run_all(requests, on_event));
        Ok(())
    }

    fn run_all(&self, requests: &[Request], on_event: &mut (dyn FnMut(Event) -> Flow + Send)) {
        let config = self.decoder.config();
        let mut waiting = 0..requests.len();
        let mut running: Vec<Running<B>> = Vec::new();
        loop {
            while running.len() < self.limits.max_sequences.max(1)
                && let Some(request) = waiting.next()
            {
                if requests[request].max_new_tokens == 0 {
                    on_event(Event::Finished { request, reason: FinishReason::Length });
                    continue;
                }
                let backend = self.decoder.backend();
                let arena = Arena::new(backend, config.n_layers, config.key_value_size(), config.hidden_size);
                running.push(Running { request, arena, next: requests[request].prompt.clone(), emitted: 0 });
            }
            if running.is_empty() {
                return;
            }
            let tokens = self.pass(requests, &mut running);
            let mut tokens = tokens.into_iter();
            running.retain_mut(|sequence| {
                let Some(Some(token)) = tokens.next() else { return true };
                let request = &requests[sequence.request];
                let (id, emitted) = (token.id, token.index + 1);
                sequence.emitted = emitted;
                sequence.next = vec![id];
                let flow = on_event(Event::Token { request: sequence.request, token });
                let last = match &request.forced {
                    Forced::Whole(tokens) => emitted >= tokens.len(),
                    Forced::None | Forced::Start(_) => emitted >= request.max_new_tokens,
                };
                let reason = if request.stop_tokens.contains(&id) || flow == Flow::Finish {
                    Some(FinishReason::Stop)
                } else if last || sequence.arena.len() + 1 > config.max_position_embeddings {
                    Some(FinishReason::Length)
                } else {
                    None
                };
                if let Some(reason) = reason {
                    on_event(Event::Finished { request: sequence.request, reason });
                }
                reason.is_none()
            });
        }
    }

    /// One pass: every running sequence consumes its next tokens, prompts as far as the row limit allows. Returns, per
    /// sequence, the token it emitted, if its prompt is through.
    fn pass(&self, requests: &[Request], running: &mut [Running<B>]) -> Vec<Option<Token>> {
        let mut room = self.limits.max_prompt_rows.max(1);
        let mut work = Vec::with_capacity(running.len());
        let mut members = Vec::with_capacity(running.len());
        let mut taken = Vec::with_capacity(running.len());
        for (index, sequence) in running.iter_mut().enumerate() {
            let request = &requests[sequence.request];
            let n = if sequence.emitted > 0 { 1 } else { sequence.next.len().min(room) };
            if n == 0 {
                continue;
            }
            if sequence.emitted == 0 {
                room -= n;
            }
            members.push(index);
            taken.push(n);
            work.push(Work {
                arena: &mut sequence.arena,
                request,
                tokens: &sequence.next[..n],
                step: sequence.emitted,
            });
        }
        let (results, hidden) = step(self.decoder, self.policy, &mut work);
        drop(work);

        // Rows whose prompt is not through emit nothing.
        let mut emitting = Vec::new();
        for (row, (&index, &n)) in members.iter().zip(&taken).enumerate() {
            running[index].next.drain(..n);
            if running[index].next.is_empty() {
                emitting.push((row, index));
            }
        }
        let mut tokens: Vec<Option<Token>> = running.iter().map(|_| None).collect();
        let mut results: Vec<Option<StepResult>> = results.into_iter().map(Some).collect();
        for chunk in emitting.chunks(MAX_LOGIT_ROWS) {
            let logits = self.logits(&hidden, chunk);
            for (i, &(row, index)) in chunk.iter().enumerate() {
                let sequence = &running[index];
                let Some(result) = results[row].take() else { continue };
                let request = &requests[sequence.request];
                tokens[index] = Some(emit(request, sequence.emitted, logits.row(i), result));
            }
        }
        tokens
    }

    /// Logits of chosen rows of `hidden`.
    fn logits(&self, hidden: &B::Rows, rows: &[(usize, usize)]) -> Rows {
        let backend = self.decoder.backend();
        let rows: Vec<u32> = rows.iter().map(|(row, _)| *row as u32).collect();
        let hidden = backend.gather_rows(hidden, &rows);
        backend.logits(Readout { hidden: &hidden, weight: self.decoder.unembedding() })
    }
}

/// The token of a step, drawn or forced.
fn emit(request: &Request, index: usize, logits: &[f32], result: StepResult) -> Token {
    let (id, log_probability) = match request.forced.tokens().get(index) {
        Some(&id) => (id, log_probability_of(logits, id, request.sampling.temperature)),
        None => draw(logits, request.sampling, uniform(request.seed, request.sequence, index as u64, TOKEN_DRAW)),
    };
    Token { index, id, depth: result.depth, log_probability, exits: result.exits }
}

/// Log-probability (nats) of a token under `softmax(logits / temperature)`; temperature 0 counts as 1.
pub(crate) fn log_probability_of(logits: &[f32], token: u32, temperature: f32) -> f32 {
    let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let total: f64 = logits.iter().map(|logit| f64::from((logit - largest) * scale).exp()).sum();
    (f64::from((logits[token as usize] - largest) * scale) - total.ln()) as f32
}
