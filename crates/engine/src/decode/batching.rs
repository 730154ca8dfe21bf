//! Continuous batching: requests join when there is room, leave when they end, and never change each other's results.
//! What prompts and prefixes that run together have in common at their beginnings is run once.

use std::ops::Range;

use aloud_kernels::backend::{Backend, MAX_LOGIT_ROWS, Readout};
use aloud_kernels::rows::Rows;
use aloud_model::decoder::{Decoder, Policy};

use super::arena::Arena;
use super::request::{FinishReason, Forced, Prefix, Request, RequestError, Token};
use super::sampling::{draw, log_probability_of};
use super::step_key::{StepKey, TOKEN_DRAW};
use super::stepping::step;
use super::work::{StepResult, Work};

/// How much runs at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most sequences decoded together.
    pub max_sequences: usize,
    /// Most tokens of prompts and prefixes run in one pass (longer ones take several).
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
    /// The given tokens with their depths: the prompt, and what has a recorded depth of the prefix.
    given: Given,
    /// Response tokens so far, those of the prefix included.
    tokens: Vec<u32>,
    /// Exit offset of the next step.
    offset: f32,
    /// Hidden state after the final norm at the last of the given tokens, once they are through.
    given_end: Option<B::Rows>,
}

/// Tokens that a sequence begins with, and the depth (blocks) of each.
#[derive(PartialEq)]
struct Given {
    tokens: Vec<u32>,
    depths: Vec<usize>,
}

/// Fewest positions that a sequence waits for another one to run.
const MIN_SHARED: usize = 16;

impl Given {
    /// How many positions a sequence takes over from one that is given `earlier`: all if they are equal, else what both
    /// begin with. The last one then stays to be run, because it emits a token. 0 if it is not worth waiting.
    fn shared_with(&self, earlier: &Self) -> usize {
        let n = self.tokens.len();
        let common = (self.tokens.iter().zip(&self.depths))
            .zip(earlier.tokens.iter().zip(&earlier.depths))
            .take_while(|(own, other)| own == other)
            .count();
        match common {
            all if all == n && all == earlier.tokens.len() => all,
            part if part.min(n - 1) < MIN_SHARED => 0,
            part => part.min(n - 1),
        }
    }

    fn of(request: &Request, n_blocks: usize) -> Self {
        let Prefix { tokens: prefix, depths: recorded } = &request.prefix;
        let mut tokens = [request.prompt.as_slice(), prefix].concat();
        // The step that emits response token `t` consumes the token before it.
        let mut depths = vec![n_blocks; request.prompt.len() - 1];
        match recorded.as_slice() {
            [] => depths.push(n_blocks),
            recorded => depths.extend(recorded),
        }
        tokens.truncate(depths.len());
        Self { tokens, depths }
    }
}

impl<B: Backend> Running<B> {
    fn new(decoder: &Decoder<B>, requests: &[Request], index: usize) -> Self {
        let (config, request) = (decoder.config(), &requests[index]);
        let arena = Arena::new(decoder.backend(), config.n_layers, config.key_value_size(), config.hidden_size);
        let given = Given::of(request, decoder.n_blocks());
        let tokens = request.prefix.tokens.clone();
        let offset = request.exits.offset().map_or(0.0, |offset| offset.before_step(&tokens));
        Self { request: index, arena, given, tokens, offset, given_end: None }
    }

    /// Where it takes over the beginning of its given tokens from: an earlier sequence, and how many positions. Only a
    /// sequence that has consumed nothing does; the longest beginning counts, the first sequence among equals.
    fn source(&self, earlier: &[Self]) -> Option<(usize, usize)> {
        if self.arena.len() > 0 {
            return None;
        }
        let shared = |(index, earlier): (usize, &Self)| (index, self.given.shared_with(&earlier.given));
        let longest = earlier.iter().enumerate().map(shared).max_by_key(|(index, n)| (*n, std::cmp::Reverse(*index)));
        longest.filter(|(_, n)| *n > 0)
    }

    /// Takes over the first `n` positions of `source`.
    fn copy_given(&mut self, decoder: &Decoder<B>, source: &Self, n: usize) {
        self.arena.copy_start(decoder.backend(), &source.arena, n);
        if n == self.given.tokens.len() {
            self.given_end.clone_from(&source.given_end);
        }
    }

    /// Whether exactly the given tokens are consumed, and the next one is emitted from there. It is not if the last token of
    /// the prefix has no recorded depth and is still to consume.
    fn emits_at_given_end(&self, request: &Request) -> bool {
        let n_given = self.given.tokens.len();
        self.arena.len() == n_given && n_given == request.prompt.len() + request.prefix.tokens.len()
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
    /// If a request is not valid; none is run then. If the logits for a token are not finite: all end there.
    pub fn run(
        &self,
        requests: &[Request],
        on_event: &mut (dyn FnMut(Event) -> Flow + Send),
    ) -> Result<(), RequestError> {
        for request in requests {
            request.validate(self.decoder, self.policy.is_some())?;
        }
        self.run_all(requests, on_event)
    }

    fn run_all(
        &self,
        requests: &[Request],
        on_event: &mut (dyn FnMut(Event) -> Flow + Send),
    ) -> Result<(), RequestError> {
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
                running.push(Running::new(self.decoder, requests, request));
            }
            if running.is_empty() {
                return Ok(());
            }
            let tokens = self.pass(requests, &mut running)?;
            let mut tokens = tokens.into_iter();
            running.retain_mut(|sequence| {
                let Some(Some(token)) = tokens.next() else { return true };
                let request = &requests[sequence.request];
                let (id, emitted) = (token.id, token.index + 1 - request.prefix.tokens.len());
                sequence.tokens.push(id);
                if let Some(offset) = request.exits.offset() {
                    sequence.offset = offset.after(&sequence.tokens, sequence.offset);
                }
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

    /// One pass: every running sequence consumes its next tokens, given ones as far as the row limit allows. Returns, per
    /// sequence, the token it emitted, if its given tokens are through.
    fn pass(&self, requests: &[Request], running: &mut [Running<B>]) -> Result<Vec<Option<Token>>, RequestError> {
        // Equal beginnings run once: sequences wait for an earlier one, which is never behind, and copy its state.
        let sources: Vec<Option<(usize, usize)>> =
            (running.iter().enumerate()).map(|(index, sequence)| sequence.source(&running[..index])).collect();
        let mut room = self.limits.max_prompt_rows.max(1);
        let mut work = Vec::with_capacity(running.len());
        let mut members = Vec::with_capacity(running.len());
        for (index, sequence) in running.iter_mut().enumerate().filter(|(index, _)| sources[*index].is_none()) {
            let (request, offset, step) = (&requests[sequence.request], sequence.offset, sequence.tokens.len());
            let (tokens, depths) = if sequence.given_end.is_none() {
                let start = sequence.arena.len();
                let rows = start..sequence.given.tokens.len().min(start + room);
                room -= rows.len();
                (&sequence.given.tokens[rows.clone()], Some(&sequence.given.depths[rows]))
            } else {
                (&sequence.tokens[step - 1..], None)
            };
            if !tokens.is_empty() {
                members.push(index);
                work.push(Work { arena: &mut sequence.arena, request, tokens, depths, step, offset });
            }
        }
        let (results, hidden) = step(self.decoder, self.policy, &mut work);
        drop(work);

        let backend = self.decoder.backend();
        // Sequences that still have given tokens to consume emit nothing.
        let mut emitting: Vec<Emitting> = Vec::with_capacity(running.len());
        for (row, (index, result)) in members.into_iter().zip(results).enumerate() {
            let sequence = &mut running[index];
            let n_given = sequence.given.tokens.len();
            if sequence.arena.len() == n_given {
                sequence.given_end = Some(backend.gather_rows(&hidden, &[row as u32]));
            }
            if sequence.arena.len() > n_given || sequence.emits_at_given_end(&requests[sequence.request]) {
                emitting.push(Emitting { index, row, result });
            }
        }
        for (index, source) in sources.iter().enumerate() {
            let Some((source, n_shared)) = *source else { continue };
            let (earlier, rest) = running.split_at_mut(index);
            let (source, sequence) = (&earlier[source], &mut rest[0]);
            if source.arena.len() >= n_shared {
                sequence.copy_given(self.decoder, source, n_shared);
                if sequence.emits_at_given_end(&requests[sequence.request]) {
                    let depth = sequence.given.depths.last().copied().unwrap_or_else(|| self.decoder.n_blocks());
                    emitting.push(Emitting { index, row: 0, result: StepResult { depth, exits: Vec::new() } });
                }
            }
        }
        let mut tokens: Vec<Option<Token>> = running.iter().map(|_| None).collect();
        let mut emitting = emitting.into_iter();
        loop {
            let chunk: Vec<Emitting> = emitting.by_ref().take(MAX_LOGIT_ROWS).collect();
            if chunk.is_empty() {
                return Ok(tokens);
            }
            let logits = self.logits(running, &hidden, &chunk);
            for (i, Emitting { index, result, .. }) in chunk.into_iter().enumerate() {
                let sequence = &running[index];
                let (request, token, logits) = (&requests[sequence.request], sequence.tokens.len(), logits.row(i));
                let emitted = emit(request, token, logits, result).map_err(|id| RequestError::NotFinite {
                    request: sequence.request,
                    sequence: request.sequence,
                    token,
                    position: request.prompt.len() + token - 1,
                    id,
                    value: logits[id],
                })?;
                tokens[index] = Some(emitted);
            }
        }
    }

    /// Logits of the tokens to be emitted. `hidden` are the hidden states of the pass.
    fn logits(&self, running: &[Running<B>], hidden: &B::Rows, emitting: &[Emitting]) -> Rows {
        let backend = self.decoder.backend();
        let rows: Vec<(&B::Rows, Range<usize>)> = emitting
            .iter()
            .map(|emitting| match &running[emitting.index] {
                Running { arena, given, given_end: Some(end), .. } if arena.len() == given.tokens.len() => (end, 0..1),
                _ => (hidden, emitting.row..emitting.row + 1),
            })
            .collect();
        let hidden = backend.concat_rows(self.decoder.config().hidden_size, &rows);
        backend.logits(Readout { hidden: &hidden, weight: self.decoder.unembedding() })
    }
}

/// The token of a step, drawn or forced.
///
/// # Errors
/// The first index at which a logit is not finite.
fn emit(request: &Request, index: usize, logits: &[f32], result: StepResult) -> Result<Token, usize> {
    let forced = request.forced.tokens().get(index - request.prefix.tokens.len());
    let (id, log_probability) = if let Some(&id) = forced {
        (id, log_probability_of(logits, id, request.sampling.temperature)?)
    } else {
        let key = StepKey { seed: request.seed, sequence: request.sequence, step: index };
        draw(logits, request.sampling, key.uniform(TOKEN_DRAW))?
    };
    Ok(Token { index, id, depth: result.depth, log_probability, exits: result.exits })
}
