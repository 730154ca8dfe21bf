//! How far a merged model is from the unmerged one: both read the same text at full depth.

use std::path::{Path, PathBuf};

use aloud_kernels::backend::{KlDirection, Readout, Unembedding as _};
use aloud_kernels::cpu::Cpu;
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
const BUILT_IN: &str = include_str!("merge_text.txt");

/// The text that both models read.
#[derive(Clone, Debug)]
pub struct SampleText {
    path: Option<PathBuf>,
    text: String,
}

/// How far a merged model is from the unmerged one.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// `built-in`, `ids` (of a model whose tokenizer cannot express that), or the path of a file.
    pub text: String,
    /// Tokens that both models read.
    pub tokens: usize,
    /// Mean of `KL(unmerged || merged)` over the tokens, nats.
    pub kl_mean: f64,
    /// The largest one, nats.
    pub kl_largest: f64,
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
    /// Lets both models read the text, teacher-forced, in windows of at most 256 tokens.
    ///
    /// # Errors
    /// If the text cannot be encoded, or a distribution is not finite.
    pub fn between(unmerged: &LoadedModel, merged: &LoadedModel, text: &SampleText) -> Result<Self, SessionError> {
        let (text, mut tokens) = text.tokens(unmerged)?;
        tokens.truncate(MOST_TOKENS);
        let config = unmerged.decoder.config();
        let candidates = unmerged.head_depths().unwrap_or_default();
        let mut kls: Vec<f32> = Vec::new();
        let (mut exit_decisions, mut exit_decisions_changed) = (0, 0);
        for window in tokens.chunks(WINDOW.min(config.max_position_embeddings)) {
            let mut batch = PackedBatch::new();
            batch.push(window, config.vocab_size, config.max_position_embeddings)?;
            let (teacher, student) = (read(unmerged, &batch, candidates), read(merged, &batch, candidates));
            let hidden = [(unmerged, &teacher), (merged, &student)]
                .map(|(model, read)| model.decoder.final_norm(&read.residual));
            let [teacher_out, student_out] = [(unmerged, &hidden[0]), (merged, &hidden[1])]
                .map(|(model, hidden)| Readout { hidden, weight: model.decoder.unembedding() });
            let backend = unmerged.decoder.backend();
            kls.extend(backend.distill_kl(student_out, teacher_out, KlDirection::Forward, None, None).0);
            for head in 0..candidates.len() {
                let [before, after] =
                    [(unmerged, &teacher), (merged, &student)].map(|(model, read)| decisions(model, read, head));
                exit_decisions += before.len();
                exit_decisions_changed += before.iter().zip(&after).filter(|(before, after)| before != after).count();
            }
        }
        if let Some(at) = kls.iter().position(|kl| !kl.is_finite()) {
            bail!("the distributions at token {at} of the text cannot be compared: a logit is not finite");
        }
        // A KL of two equal distributions may be rounded below 0.
        let kls = kls.iter().map(|kl| f64::from(kl.max(0.0)));
        let tokens = kls.len();
        Ok(Self {
            text,
            tokens,
            kl_mean: kls.clone().sum::<f64>() / tokens.max(1) as f64,
            kl_largest: kls.fold(0.0, f64::max),
            exit_decisions,
            exit_decisions_changed,
        })
    }
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
