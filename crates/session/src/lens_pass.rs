//! One teacher-forced pass that reads the model at every exit candidate.

use crate::ensure;
use crate::error::SessionError;
use aloud_kernels::backend::{Backend, LensReading, LensRow, Readout};
use aloud_model::decoder::{Decoder, PackedBatch, Policy};

/// What was read at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionReading {
    /// Top token of the position's own final distribution.
    pub argmax: u32,
    /// Log-probability of the next given token (nats); `None` at the last position.
    pub next_log_probability: Option<f32>,
    /// At each candidate: the KL of the position's own final distribution against the lens (nats), and the lens's top
    /// token. At and beyond the position's depth, 0 and its own top token.
    pub lenses: Vec<LensReading>,
    /// Exit logits of the candidates that the position reached, with a policy whose heads stand at `candidates`.
    pub exit_logits: Vec<f32>,
}

/// Runs a sequence with prescribed depths (blocks, one a token). A position's own final distribution is its residual at its
/// own depth through final norm and unembedding.
///
/// # Errors
/// If the sequence does not fit the model, or the model's logits somewhere are not finite.
pub fn lens_pass<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    token_ids: &[u32],
    depths: &[usize],
    candidates: &[usize],
) -> Result<Vec<PositionReading>, SessionError> {
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    batch.push(token_ids, config.vocab_size, config.max_position_embeddings)?;
    let backend = decoder.backend();
    let forward = decoder.forward(policy, &batch, depths, candidates, false);
    let hidden = decoder.read_out(policy, &forward.residual, depths);
    let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
    let mut next: Vec<u32> = token_ids.iter().skip(1).copied().collect();
    next.push(0);
    // Rows that did not reach a candidate keep their frozen residual.
    let lenses: Vec<B::Rows> = (forward.reached.iter().zip(&forward.at_candidates).zip(candidates))
        .map(|((rows, residual), depth)| {
            let mut lens = forward.residual.clone();
            backend.scatter_rows(&mut lens, rows, residual);
            decoder.lens(policy, *depth, &lens)
        })
        .collect();
    let rows = backend.lens_kl(readout, &lenses.iter().collect::<Vec<_>>(), &next, false);
    check_finite(&rows, candidates, token_ids)?;
    let mut positions: Vec<PositionReading> = (rows.into_iter().zip(depths).enumerate())
        .map(|(position, (LensRow { token, mut lenses }, depth))| {
            for (lens, candidate) in lenses.iter_mut().zip(candidates) {
                if candidate >= depth {
                    *lens = LensReading { kl: 0.0, js: None, top_token: token.top_token };
                }
            }
            let next_log_probability = (position + 1 < token_ids.len()).then_some(token.log_probability);
            PositionReading { argmax: token.top_token, next_log_probability, lenses, exit_logits: Vec::new() }
        })
        .collect();
    if let Some(policy) = policy.filter(|policy| policy.heads.candidates == candidates) {
        for (head, (rows, residual)) in forward.reached.iter().zip(&forward.at_candidates).enumerate() {
            let logits = policy.exit_logits(head, residual, config.rms_norm_eps);
            for (row, logit) in rows.iter().zip(logits) {
                positions[*row as usize].exit_logits.push(logit);
            }
        }
    }
    Ok(positions)
}

/// Checks what was read at a sequence's rows with lenses at `depths` (blocks): what is not finite is no answer.
///
/// # Errors
/// Names the first token of `token_ids`, one a row, where something is not finite.
pub fn check_finite(rows: &[LensRow], depths: &[usize], token_ids: &[u32]) -> Result<(), SessionError> {
    for (number, (LensRow { token, lenses }, id)) in rows.iter().zip(token_ids).enumerate() {
        let of_row = ("the full depth of the token".to_owned(), token.log_probability + token.entropy);
        let of_lenses =
            lenses.iter().zip(depths).map(|(lens, depth)| (format!("depth {depth}"), lens.kl + lens.js.unwrap_or(0.0)));
        for (place, value) in std::iter::once(of_row).chain(of_lenses) {
            ensure!(
                value.is_finite(),
                "the logits at token {number} (id {id}), at {place}, are not finite. Weights of the model or its adapters are \
                 damaged, or too large for 32-bit floats"
            );
        }
    }
    Ok(())
}
