//! How far two ways of running a model are apart (merged or not, activations exact or rounded): both read the same text at full depth.

use std::path::{Path, PathBuf};

use aloud_kernels::backend::{MAX_LOGIT_ROWS, Memory as _, Readout, Unembedding as _};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::rows::Rows;
use aloud_kernels::softmax_weights::SoftmaxWeights;
use aloud_model::decoder::{Forward, PackedBatch};
use serde::Serialize;

use crate::bail;
use crate::error::{Context as _, SessionError};
use crate::loaded_model::LoadedModel;

/// Most tokens that are read.
const MOST_TOKENS: usize = 512;
/// Tokens of a sequence.
const WINDOW: usize = 256;
/// Ids of a model whose tokenizer cannot express the built-in text.
const N_IDS: u32 = 256;

/// What is read if no text is given.
const BUILT_IN: &str = include_str!("difference_text.txt");

/// The text that both models read.
#[derive(Clone, Debug)]
pub struct SampleText {
    path: Option<PathBuf>,
    text: String,
}

/// How far a model is from the one that it stands for.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// `built-in`, `ids` (of a model whose tokenizer cannot express that), or the path of a file.
    pub text: String,
    /// Tokens that both models read.
    pub tokens: usize,
    /// Mean of `KL(one || other)` over the tokens, nats.
    pub kl_mean: f64,
    /// The largest one, nats.
    pub kl_largest: f64,
    /// Share of tokens at which both have the same most likely next token.
    pub same_top_token: f64,
    /// Decisions of exit heads: tokens times candidates.
    pub exit_decisions: usize,
    /// Decisions that differ: one model's hazard is above 0.5 and the other's is not.
    pub exit_decisions_changed: usize,
}

impl SampleText {
    /// The text at `path`, or the built-in one.
    ///
    /// # Errors
    /// If the file cannot be read or is empty.
    pub fn read(path: Option<&Path>) -> Result<Self, SessionError> {
        let Some(path) = path else { return Ok(Self { path: None, text: BUILT_IN.to_owned() }) };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        if text.trim().is_empty() {
            return Err(SessionError::usage(format!("--text {}: the file has no text", path.display())));
        }
        Ok(Self { path: Some(path.to_owned()), text })
    }

    /// What the text is, and its tokens.
    fn tokens(&self, model: &LoadedModel) -> Result<(String, Vec<u32>), SessionError> {
        let encode =
            || -> Result<Vec<u32>, SessionError> { Ok(model.text_codec()?.tokenizer.encode(&self.text, true)?) };
        match (&self.path, encode()) {
            (Some(path), tokens) => Ok((path.display().to_string(), tokens?)),
            (None, Ok(tokens)) => Ok(("built-in".to_owned(), tokens)),
            (None, Err(_)) => {
                let vocab_size = model.decoder.config().vocab_size as u32;
                Ok(("ids".to_owned(), (0..N_IDS).map(|i| (7 * i + i * i / 3) % vocab_size).collect()))
            }
        }
    }
}

impl Difference {
    /// In words, of a model whose activations are rounded, from the same with exact ones.
    pub fn of_rounding(&self) -> String {
        let Self { text, tokens, kl_mean, kl_largest, same_top_token, exit_decisions, exit_decisions_changed } = self;
        let top = 100.0 * same_top_token;
        format!(
            "Rounded activations against f32, {tokens} tokens ({text}): KL {kl_mean:.2e} nats a token, at most {kl_largest:.2e}; the same \
             most likely token at {top:.1} %; {exit_decisions_changed} of {exit_decisions} exit decisions differ.\n"
        )
    }

    /// Lets both models read the text, teacher-forced, in windows of at most 256 tokens.
    ///
    /// # Errors
    /// If the text cannot be encoded, or a distribution is not finite.
    pub fn between(one: &LoadedModel, other: &LoadedModel, text: &SampleText) -> Result<Self, SessionError> {
        let (text, mut tokens) = text.tokens(one)?;
        tokens.truncate(MOST_TOKENS);
        let config = one.decoder.config();
        let candidates = one.head_depths().unwrap_or_default();
        let (mut kls, mut same_top_tokens) = (Vec::new(), 0);
        let (mut exit_decisions, mut exit_decisions_changed) = (0, 0);
        for window in tokens.chunks(WINDOW.min(config.max_position_embeddings)) {
            let mut batch = PackedBatch::new();
            batch.push(window, config.vocab_size, config.max_position_embeddings)?;
            let reads = [one, other].map(|model| (model, read(model, &batch, candidates)));
            for first in (0..window.len()).step_by(MAX_LOGIT_ROWS) {
                let rows: Vec<u32> = (first as u32..window.len() as u32).take(MAX_LOGIT_ROWS).collect();
                let [p, q] = reads.each_ref().map(|(model, read)| logits(model, read, &rows));
                for row in 0..rows.len() {
                    let Some((kl, same_top_token)) = compare(p.row(row), q.row(row)) else {
                        let at = kls.len();
                        bail!("the distributions at token {at} of the text cannot be compared: a logit is not finite");
                    };
                    kls.push(kl);
                    same_top_tokens += usize::from(same_top_token);
                }
            }
            for head in 0..candidates.len() {
                let [before, after] = reads.each_ref().map(|(model, read)| decisions(model, read, head));
                exit_decisions += before.len();
                exit_decisions_changed += before.iter().zip(&after).filter(|(before, after)| before != after).count();
            }
        }
        let tokens = kls.len();
        Ok(Self {
            text,
            tokens,
            kl_mean: kls.iter().sum::<f64>() / tokens.max(1) as f64,
            kl_largest: kls.iter().copied().fold(0.0, f64::max),
            same_top_token: same_top_tokens as f64 / tokens.max(1) as f64,
            exit_decisions,
            exit_decisions_changed,
        })
    }
}

/// Logits after some rows of what was read, each model by its own products.
fn logits(model: &LoadedModel, read: &Forward<Cpu>, rows: &[u32]) -> Rows {
    let backend = model.decoder.backend();
    let hidden = model.decoder.final_norm(&backend.gather_rows(&read.residual, rows));
    backend.logits(Readout { hidden: &hidden, weight: model.decoder.unembedding() })
}

/// `KL(p || q)` of two rows of logits (nats, not below 0), and whether the largest of both is the same. `None` if a logit is not
/// finite.
fn compare(p: &[f32], q: &[f32]) -> Option<(f64, bool)> {
    let [of_p, of_q] = [p, q].map(|logits| SoftmaxWeights::new(logits, 1.0).ok());
    let (of_p, of_q) = (of_p?, of_q?);
    let apart = |(p, q): (&f32, &f32)| {
        let log = |weights: &SoftmaxWeights, logit: f32| f64::from(logit - weights.largest) - weights.total.ln();
        of_p.weight(*p) / of_p.total * (log(&of_p, *p) - log(&of_q, *q))
    };
    let kl: f64 = p.iter().zip(q).map(apart).sum();
    let top = |logits: &[f32], weights: &SoftmaxWeights| logits.iter().position(|logit| *logit == weights.largest);
    Some((kl.max(0.0), top(p, &of_p) == top(q, &of_q)))
}

fn read(model: &LoadedModel, batch: &PackedBatch, candidates: &[usize]) -> Forward<Cpu> {
    let depths = vec![model.n_blocks(); batch.n_rows()];
    model.decoder.forward(model.policy.as_ref(), batch, &depths, candidates, false)
}

/// Whether each token's hazard at candidate number `head` is above 0.5: its exit logit is above 0.
fn decisions(model: &LoadedModel, read: &Forward<Cpu>, head: usize) -> Vec<bool> {
    let Some(policy) = &model.policy else { return Vec::new() };
    let logits = policy.exit_logits(head, &read.at_candidates[head], model.decoder.config().rms_norm_eps);
    logits.iter().map(|logit| *logit > 0.0).collect()
}
