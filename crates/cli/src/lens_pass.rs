//! One teacher-forced pass that reads the model at every exit candidate.

use aloud_kernels::{Backend, LensReading, LensRow, MAX_LOGIT_ROWS, Readout};
use aloud_model::decoder::{BatchError, Decoder, PackedBatch, Policy};

/// What was read at one position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PositionReading {
    /// Top token of the position's own final distribution.
    pub(crate) argmax: u32,
    /// Log-probability of the next given token (nats); `None` at the last position.
    pub(crate) next_log_probability: Option<f32>,
    /// At each candidate: the KL of the position's own final distribution against the lens (nats), and the lens's top
    /// token. At and beyond the position's depth, 0 and its own top token.
    pub(crate) lenses: Vec<LensReading>,
    /// Exit logits of the candidates that the position reached, with a policy whose heads stand at `candidates`.
    pub(crate) exit_logits: Vec<f32>,
}

/// Runs a sequence with prescribed depths (blocks, one a token). A position's own final distribution is its residual at its
/// own depth through final norm and unembedding.
///
/// # Errors
/// If the sequence does not fit the model.
pub(crate) fn lens_pass<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    token_ids: &[u32],
    depths: &[usize],
    candidates: &[usize],
) -> Result<Vec<PositionReading>, BatchError> {
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    batch.push(token_ids, config.vocab_size, config.max_position_embeddings)?;
    let backend = decoder.backend();
    backend.run(|| {
        let forward = decoder.forward(policy, &batch, depths, candidates, false);
        let hidden = decoder.final_norm(&forward.residual);
        let readout = || Readout { hidden: &hidden, weight: decoder.unembedding() };
        let mut next: Vec<u32> = token_ids.iter().skip(1).copied().collect();
        next.push(0);
        // Rows that did not reach a candidate keep their frozen residual.
        let lenses: Vec<B::Rows> = (forward.reached.iter().zip(&forward.at_candidates))
            .map(|(rows, residual)| {
                let mut lens = forward.residual.clone();
                backend.scatter_rows(&mut lens, rows, residual);
                decoder.final_norm(&lens)
            })
            .collect();
        // A row's own distribution and its lenses are compared within one chunk of logits.
        let mut rows = Vec::new();
        for lenses in lenses.chunks(MAX_LOGIT_ROWS - 1) {
            append(&mut rows, backend.lens_kl(readout(), &lenses.iter().collect::<Vec<_>>(), &next));
        }
        if lenses.is_empty() {
            rows = backend.lens_kl(readout(), &[], &next);
        }
        let mut positions: Vec<PositionReading> = (rows.into_iter().zip(depths).enumerate())
            .map(|(position, (LensRow { token, mut lenses }, depth))| {
                for (lens, candidate) in lenses.iter_mut().zip(candidates) {
                    if candidate >= depth {
                        *lens = LensReading { kl: 0.0, js: 0.0, top_token: token.top_token };
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
    })
}

/// Appends the lenses of `more` to those of the same rows.
fn append(rows: &mut Vec<LensRow>, more: Vec<LensRow>) {
    if rows.is_empty() {
        *rows = more;
        return;
    }
    for (row, more) in rows.iter_mut().zip(more) {
        row.lenses.extend(more.lenses);
    }
}
