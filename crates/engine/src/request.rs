//! What is asked of the engine, checked once, and what it answers.

use aloud_kernels::Backend;
use aloud_model::decoder::Decoder;

use crate::{ExitReading, Exits, Sampling};

/// One sequence to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; less if the model's context ends before.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How exits are decided.
    pub exits: Exits,
    /// Tokens that end the response; the ending token is part of it.
    pub stop_tokens: Vec<u32>,
    /// Seed of all draws of this sequence.
    pub seed: u64,
    /// Number of this sequence among those that share a seed.
    pub sequence: u64,
    /// Tokens to take instead of drawing them.
    pub forced: Forced,
}

/// Response tokens that are given and not drawn. Their steps decide exits as any other, and their log-probability is
/// recorded: that of the softmax at the request's temperature (0 counts as 1), without top-p and top-k.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Forced {
    /// Every token is drawn.
    #[default]
    None,
    /// The response begins with these tokens and goes on freely. A stop token among them ends it.
    Start(Vec<u32>),
    /// The response is these tokens, whatever `max_new_tokens` says: for replaying records.
    Whole(Vec<u32>),
}

impl Forced {
    /// The tokens, in the order of the response.
    pub fn tokens(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::Start(tokens) | Self::Whole(tokens) => tokens,
        }
    }
}

/// Why a request cannot be run.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum RequestError {
    /// The prompt has no token.
    #[error("the prompt is empty: at least one token is needed")]
    EmptyPrompt,
    /// The prompt leaves no room for a response.
    #[error("the prompt has {prompt} tokens and the model's context is {context}: shorten the prompt")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Positions of the model.
        context: usize,
    },
    /// A token is not in the model's vocabulary.
    #[error(
        "token id {id} is not below the model's vocabulary of {vocab_size}: do tokenizer and model belong together?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling setting is out of range.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// What was given.
        value: f32,
        /// What is allowed.
        expected: &'static str,
    },
    /// A depth is not one at which a token may stop.
    #[error("depth {depth} is not among 1..={n_blocks} blocks")]
    Depth {
        /// What was given.
        depth: usize,
        /// Full depth.
        n_blocks: usize,
    },
    /// The exit offset has another number for the answer, and nothing says where that begins.
    #[error("the answer's marker is empty: at least one token is needed")]
    EmptyAnswerMarker,
    /// Exits were asked of a model without exit heads.
    #[error("sampled exits need a checkpoint with exit heads: distil one first, or turn exits off")]
    NoHeads,
}

impl Request {
    /// Checks the request against a model; after this no code checks it again.
    ///
    /// # Errors
    /// Names the setting, the limit and the value given.
    pub fn validate<B: Backend>(&self, decoder: &Decoder<B>, has_heads: bool) -> Result<(), RequestError> {
        let (vocab_size, context) = (decoder.config().vocab_size, decoder.config().max_position_embeddings);
        if self.prompt.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        if self.prompt.len() >= context {
            return Err(RequestError::PromptTooLong { prompt: self.prompt.len(), context });
        }
        let answer = self.exits.offset().and_then(|offset| offset.answer.as_ref());
        let marker = answer.iter().flat_map(|answer| &answer.marker);
        if let Some(&id) =
            self.prompt.iter().chain(self.forced.tokens()).chain(marker).find(|id| **id as usize >= vocab_size)
        {
            return Err(RequestError::UnknownToken { id, vocab_size });
        }
        let setting = |ok: bool, name, value, expected| {
            if ok { Ok(()) } else { Err(RequestError::Setting { name, value, expected }) }
        };
        let Sampling { temperature, top_p, .. } = self.sampling;
        setting(temperature >= 0.0 && temperature.is_finite(), "temperature", temperature, "0 or more")?;
        setting(top_p > 0.0 && top_p <= 1.0, "top_p", top_p, "more than 0, at most 1")?;
        if let Some(offset) = self.exits.offset() {
            setting(offset.think.is_finite(), "exit offset", offset.think, "a finite number")?;
        }
        if let Some(answer) = answer {
            setting(answer.offset.is_finite(), "exit offset of the answer", answer.offset, "a finite number")?;
            if answer.marker.is_empty() {
                return Err(RequestError::EmptyAnswerMarker);
            }
        }
        if matches!(self.exits, Exits::Sampled { .. }) && !has_heads {
            return Err(RequestError::NoHeads);
        }
        let n_blocks = decoder.n_blocks();
        match self.exits.extra_depths().into_iter().find(|depth| *depth == 0 || *depth > n_blocks) {
            Some(depth) => Err(RequestError::Depth { depth, n_blocks }),
            None => Ok(()),
        }
    }
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Number of the token in its response, from 0.
    pub index: usize,
    /// The token.
    pub id: u32,
    /// Depth (blocks) of the step that emitted it.
    pub depth: usize,
    /// Log-probability (nats) under the distribution it was drawn from.
    pub log_probability: f32,
    /// The candidates that the step reached; none for token 0 and with exits off.
    pub exits: Vec<ExitReading>,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token, or the caller's word.
    Stop,
    /// As many tokens as were asked for, or the end of the context.
    Length,
}
