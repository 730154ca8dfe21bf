//! What is asked of the engine, checked once, and what it answers.

use aloud_kernels::backend::Backend;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::Decoder;

use super::exits::Exits;
use super::sampling::Sampling;
use crate::exit_reading::ExitReading;

/// One sequence to generate. The default draws from the whole distribution at full depth; it has no prompt yet.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// The recorded beginning of the response, which is run as it was and not generated again.
    pub prefix: Prefix,
    /// Most tokens to generate after the prefix; less if the model's context ends before.
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

/// The recorded beginning of a response: tokens with the depths of the steps that emitted them. What was computed for it is
/// computed again, all positions together, so that generation goes on from the very state that the record left. Other
/// depths give another state; full depth everywhere is what a reader of the bare text would have.
///
/// The step that consumes the last token of a prefix is no first step: it decides its exit as any later one. Without a
/// prefix the first step consumes the last prompt token and runs at full depth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The tokens; none for a response from its beginning.
    pub tokens: Vec<u32>,
    /// Depth (blocks) of the step that emitted token `t`; the first is full depth. One more than there are tokens if the
    /// step after the last token has a recorded depth too; else that step decides its own.
    pub depths: Vec<usize>,
}

impl Prefix {
    /// The first `n` tokens of a response whose step `t` ran to depth `depths[t]`, and the depth of the step after them, if
    /// there was one.
    pub fn of(tokens: &[u32], depths: &[usize], n: usize) -> Self {
        let n = n.min(tokens.len());
        if n == 0 {
            return Self::default();
        }
        Self { tokens: tokens[..n].to_vec(), depths: depths[..depths.len().min(n + 1)].to_vec() }
    }

    /// The first `n` of these tokens with every step at full depth.
    pub fn at_full_depth(tokens: &[u32], n: usize, n_blocks: usize) -> Self {
        Self::of(tokens, &vec![n_blocks; tokens.len() + 1], n)
    }
}

/// Response tokens that are given and not drawn. They follow the prefix. Their steps decide exits as any other, and their log-probability is
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

/// Why a request cannot be run, or not to its end.
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
    /// The prefix has not one depth a token.
    #[error("the prefix has {tokens} tokens and {depths} depths, expected as many, or one depth more")]
    PrefixDepths {
        /// Tokens of the prefix.
        tokens: usize,
        /// Depths given.
        depths: usize,
    },
    /// The first depth of a prefix belongs to the step of the last prompt token, which never exits.
    #[error("the first token of the prefix has depth {depth}, expected full depth, {n_blocks} blocks")]
    PrefixStart {
        /// What was given.
        depth: usize,
        /// Full depth.
        n_blocks: usize,
    },
    /// The exit policy is not one that a model follows by itself.
    #[error("the exits `{0}` are not the model's own: give the engine what decides them")]
    NoDecider(&'static str),
    /// The model's logits for a token are not finite: they say nothing about what comes next.
    #[error(
        "the logits of response token {token} of sequence {sequence} (position {position}) are not finite: that of token \
         id {id} is {value}. Weights of the model or its adapters are damaged, or too large for 32-bit floats"
    )]
    NotFinite {
        /// Index of the request among those that ran together.
        request: usize,
        /// Number of its sequence.
        sequence: u64,
        /// Number of the token in the response, from 0.
        token: usize,
        /// Position that emits it, from 0.
        position: usize,
        /// The first token id with such a logit.
        id: usize,
        /// The logit.
        value: f32,
    },
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
        let given = self.prompt.len() + self.prefix.tokens.len();
        if given >= context {
            return Err(RequestError::PromptTooLong { prompt: given, context });
        }
        let answer = self.exits.offset().and_then(|offset| offset.answer.as_ref());
        let marker = answer.iter().flat_map(|answer| &answer.marker);
        let mut tokens = self.prompt.iter().chain(&self.prefix.tokens).chain(self.forced.tokens()).chain(marker);
        if let Some(&id) = tokens.find(|id| **id as usize >= vocab_size) {
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
        if let Exits::Policy(policy @ (ExitPolicy::Recorded | ExitPolicy::RandomMatched | ExitPolicy::Oracle { .. })) =
            &self.exits
        {
            return Err(RequestError::NoDecider(policy.name()));
        }
        if self.exits.offset().is_some() && !has_heads {
            return Err(RequestError::NoHeads);
        }
        let n_blocks = decoder.n_blocks();
        let (tokens, depths) = (self.prefix.tokens.len(), self.prefix.depths.len());
        if depths != tokens && (tokens == 0 || depths != tokens + 1) {
            return Err(RequestError::PrefixDepths { tokens, depths });
        }
        if let Some(&depth) = self.prefix.depths.first().filter(|depth| **depth != n_blocks) {
            return Err(RequestError::PrefixStart { depth, n_blocks });
        }
        let mut depths = self.exits.extra_depths().iter().chain(&self.prefix.depths);
        match depths.find(|depth| **depth == 0 || **depth > n_blocks) {
            Some(&depth) => Err(RequestError::Depth { depth, n_blocks }),
            None => Ok(()),
        }
    }
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Number of the token in its response, from 0; tokens of a prefix count.
    pub index: usize,
    /// The token.
    pub id: u32,
    /// Depth (blocks) of the step that emitted it.
    pub depth: usize,
    /// Log-probability (nats) under the distribution it was drawn from.
    pub log_probability: f32,
    /// The candidates that the step reached; none for token 0, for a step of recorded prefix and with exits off.
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
