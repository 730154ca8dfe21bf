//! The teacher-forced reading of a recorded response: what each step's depth and token were worth.

use aloud_kernels::backend::{Backend, Readout};
use aloud_method::exit_offset::ExitOffset;
use aloud_method::hazard::hazard;
use aloud_method::joint_action::log_joint;
use aloud_model::decoder::{BatchError, Decoder, PackedBatch, Policy};

use crate::exit_reading::ExitReading;

/// One response token under the joint action (exit depth, token) of arXiv 2603.21376.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayedToken {
    /// The candidates that the step reached; none for token 0.
    pub exits: Vec<ExitReading>,
    /// `log p(token)` at the step's depth, nats.
    pub log_probability: f32,
    /// `log P = sum log(1 - q) over reached candidates not taken + [exited] log q + log p(token)`, nats.
    pub log_joint: f32,
}

/// The positions that a recorded response consumed, with their depths: prompt tokens at full depth; the last token of the
/// response is consumed by none. Prompt and response must not be empty.
pub(crate) fn recorded_rows<B: Backend>(
    decoder: &Decoder<B>,
    prompt: &[u32],
    tokens: &[u32],
    depths: &[usize],
) -> Result<(PackedBatch, Vec<usize>), BatchError> {
    let mut consumed = prompt.to_vec();
    consumed.extend_from_slice(&tokens[..tokens.len() - 1]);
    let mut batch = PackedBatch::new();
    let vocab_size = decoder.config().vocab_size;
    batch.push(&consumed, vocab_size, decoder.config().max_position_embeddings)?;
    if let Some(&id) = tokens.last().filter(|id| **id as usize >= vocab_size) {
        return Err(BatchError::UnknownToken { id, vocab_size });
    }
    let mut row_depths = vec![decoder.n_blocks(); prompt.len() - 1];
    row_depths.extend_from_slice(depths);
    Ok((batch, row_depths))
}

/// Reads a response of `tokens` whose step `t` ran to depth `depths[t]` (blocks), in one teacher-forced pass.
///
/// # Errors
/// If a token or a position does not exist in the model.
///
/// # Panics
/// If the prompt is empty or there is not one depth a token.
pub fn replay<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    prompt: &[u32],
    tokens: &[u32],
    depths: &[usize],
    offset: &ExitOffset,
    temperature: f32,
) -> Result<Vec<ReplayedToken>, BatchError> {
    assert!(!prompt.is_empty() && tokens.len() == depths.len(), "a prompt, and one depth a token");
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let backend = decoder.backend();
    let first = prompt.len() - 1;
    let (batch, row_depths) = recorded_rows(decoder, prompt, tokens, depths)?;
    let offsets = offset.of_steps(tokens);
    let candidates = &policy.heads.candidates;
    let forward = decoder.forward(Some(policy), &batch, &row_depths, candidates, false);
    let mut exits: Vec<Vec<ExitReading>> = vec![Vec::new(); tokens.len()];
    for (c, &depth) in candidates.iter().enumerate() {
        let logits = policy.exit_logits(c, &forward.at_candidates[c], decoder.config().rms_norm_eps);
        for (row, logit) in forward.reached[c].iter().zip(logits) {
            if let Some(t) = (*row as usize).checked_sub(first).filter(|t| *t > 0) {
                let hazard = hazard(logit, offsets[t]);
                exits[t].push(ExitReading { depth, logit, hazard, exited: depths[t] == depth });
            }
        }
    }
    let rows: Vec<u32> = (first as u32..batch.n_rows() as u32).collect();
    let hidden = decoder.final_norm(&backend.gather_rows(&forward.residual, &rows));
    let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
    let temperature = if temperature > 0.0 { temperature } else { 1.0 };
    let readings = backend.token_log_probs(readout, tokens, temperature);
    Ok(exits
        .into_iter()
        .zip(readings)
        .zip(offsets)
        .map(|((exits, reading), offset)| ReplayedToken {
            log_joint: log_joint(exits.iter().map(|exit| exit.decision(offset)), reading.log_probability),
            log_probability: reading.log_probability,
            exits,
        })
        .collect())
}
