//! Continuous batching: requests join when there is room, leave when they end, and never change each other's results.
//! Equal prompts that run together are run once.

use std::ops::Range;

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
    tokens: Vec<u32>,
    /// Exit offset of the next step.
    offset: f32,
    /// Hidden state after the final norm at the last token of the prompt, once the prompt is through.
    prompt_end: Option<B::Rows>,
}

impl<B: Backend> Running<B> {
    /// Takes over what `source` has of an equal prompt. No prompt token exits, so every block has its keys and values.
    fn copy_prompt(&mut self, decoder: &Decoder<B>, source: &Self) {
        let n = self.next.len();
        self.arena.copy_start(decoder.backend(), &source.arena, n);
        self.prompt_end.clone_from(&source.prompt_end);
        self.next.clear();
    }
}

/// A sequence of the pass that emits a token.
struct Emitting {
    /// Among those running.
    index: usize,
    /// Of the pass's hidden states; a prompt's end is kept by its sequence.
    row: usize,
    result: StepResult,
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
                let next = requests[request].prompt.clone();
                let offset = requests[request].exits.offset().map_or(0.0, |offset| offset.think);
                running.push(Running { request, arena, next, tokens: Vec::new(), offset, prompt_end: None });
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
                sequence.tokens.push(id);
                if let Some(offset) = request.exits.offset() {
                    sequence.offset = offset.after(&sequence.tokens, sequence.offset);
                }
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
        let same_prompt = |a: &Running<B>, b: &Running<B>| requests[a.request].prompt == requests[b.request].prompt;
        // Equal prompts run once: sequences wait for the first of them, which is never behind them, and copy its state.
        let waits: Vec<bool> = (running.iter().enumerate())
            .map(|(index, sequence)| {
                sequence.prompt_end.is_none() && running[..index].iter().any(|earlier| same_prompt(earlier, sequence))
            })
            .collect();
        let mut room = self.limits.max_prompt_rows.max(1);
        let mut work = Vec::with_capacity(running.len());
        let mut members = Vec::with_capacity(running.len());
        for (index, sequence) in running.iter_mut().enumerate() {
            let n = match sequence.tokens.len() {
                0 if waits[index] => 0,
                0 => sequence.next.len().min(room),
                _ => 1,
            };
            if n == 0 {
                continue;
            }
            if sequence.tokens.is_empty() {
                room -= n;
            }
            members.push((index, n));
            work.push(Work {
                arena: &mut sequence.arena,
                request: &requests[sequence.request],
                tokens: &sequence.next[..n],
                step: sequence.tokens.len(),
                offset: sequence.offset,
            });
        }
        let (results, hidden) = step(self.decoder, self.policy, &mut work);
        drop(work);

        let backend = self.decoder.backend();
        // Rows whose prompt is not through emit nothing.
        let mut emitting: Vec<Emitting> = Vec::with_capacity(running.len());
        for (row, ((index, n), result)) in members.into_iter().zip(results).enumerate() {
            let sequence = &mut running[index];
            sequence.next.drain(..n);
            if sequence.next.is_empty() {
                if sequence.tokens.is_empty() {
                    sequence.prompt_end = Some(backend.gather_rows(&hidden, &[row as u32]));
                }
                emitting.push(Emitting { index, row, result });
            }
        }
        for index in (0..running.len()).filter(|index| waits[*index]) {
            let (earlier, rest) = running.split_at_mut(index);
            let source = earlier.iter().find(|earlier| same_prompt(earlier, &rest[0]) && earlier.prompt_end.is_some());
            if let Some(source) = source {
                rest[0].copy_prompt(self.decoder, source);
                let result = StepResult { depth: self.decoder.n_blocks(), exits: Vec::new() };
                emitting.push(Emitting { index, row: 0, result });
            }
        }
        let mut tokens: Vec<Option<Token>> = running.iter().map(|_| None).collect();
        let mut emitting = emitting.into_iter();
        loop {
            let chunk: Vec<Emitting> = emitting.by_ref().take(MAX_LOGIT_ROWS).collect();
            if chunk.is_empty() {
                return tokens;
            }
            let logits = self.logits(running, &hidden, &chunk);
            for (i, Emitting { index, result, .. }) in chunk.into_iter().enumerate() {
                let sequence = &running[index];
                let request = &requests[sequence.request];
                tokens[index] = Some(emit(request, sequence.tokens.len(), logits.row(i), result));
            }
        }
    }

    /// Logits of the tokens to be emitted. `hidden` are the hidden states of the pass.
    fn logits(&self, running: &[Running<B>], hidden: &B::Rows, emitting: &[Emitting]) -> Rows {
        let backend = self.decoder.backend();
        let rows: Vec<(&B::Rows, Range<usize>)> = emitting
            .iter()
            .map(|emitting| match &running[emitting.index] {
                Running { tokens, prompt_end: Some(prompt_end), .. } if tokens.is_empty() => (prompt_end, 0..1),
                _ => (hidden, emitting.row..emitting.row + 1),
            })
            .collect();
        let hidden = backend.concat_rows(self.decoder.config().hidden_size, &rows);
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
