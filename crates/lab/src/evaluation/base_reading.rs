//! What the base model at full depth makes of a response that is given: how surprising each token is, and from which depth on
//! its readout is that of full depth.

use aloud_kernels::backend::{LensRow, Memory as _, Readout, Unembedding as _};
use aloud_kernels::cpu::Cpu;
use aloud_model::decoder::{Decoder, PackedBatch, Policy};
use aloud_session::error::SessionError;

use aloud_session::lens_pass::check_finite;

/// Threshold of the primary criterion of settling, bits of Jensen and Shannon's divergence.
pub(crate) const SETTLED_BITS: f64 = 0.5;

/// The reading of one response token: of the step that emits it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenReading {
    /// `-log2 p(token | before)`.
    pub(crate) surprisal_bits: f64,
    /// Entropy of the distribution there, bits.
    pub(crate) entropy_bits: f64,
    /// At each lens: Jensen and Shannon's divergence of its readout from the final one, bits.
    pub(crate) lens_js_bits: Vec<f64>,
    /// At each lens: `KL(final || lens)`, nats.
    pub(crate) lens_kl: Vec<f64>,
}

/// Depths (blocks) at which a model is read: every block, or only the candidates where the vocabulary makes that dear.
pub(crate) fn lens_depths(decoder: &Decoder<Cpu>, candidates: &[usize]) -> Vec<usize> {
    /// Products an unembedding of one position may have, over all blocks.
    const AFFORDABLE: usize = 1 << 24;
    let config = decoder.config();
    if config.vocab_size * config.hidden_size * decoder.n_blocks() <= AFFORDABLE {
        (1..decoder.n_blocks()).collect()
    } else {
        candidates.to_vec()
    }
}

/// Reads a response to a prompt at `depths` (blocks, ascending, below full depth) and at full depth.
pub(crate) fn read_response(
    decoder: &Decoder<Cpu>,
    prompt: &[u32],
    ids: &[u32],
    depths: &[usize],
) -> Result<Vec<TokenReading>, SessionError> {
    let batch = consumed(decoder, prompt, ids)?;
    let backend = decoder.backend();
    backend.run(|| {
        let full = vec![decoder.n_blocks(); batch.n_rows()];
        let forward = decoder.forward(None, &batch, &full, depths, false);
        let first = prompt.len() as u32 - 1;
        let rows: Vec<u32> = (first..batch.n_rows() as u32).collect();
        let hidden_at = |residual| decoder.final_norm(&backend.gather_rows(residual, &rows));
        let hidden = hidden_at(&forward.residual);
        // With full depths, every row reaches every candidate.
        let lenses: Vec<_> = forward.at_candidates.iter().map(hidden_at).collect();
        let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
        let bits = |nats: f32| f64::from(nats) / std::f64::consts::LN_2;
        let reading = |row: LensRow| TokenReading {
            surprisal_bits: bits(-row.token.log_probability),
            entropy_bits: bits(row.token.entropy.max(0.0)),
            lens_js_bits: row.lenses.iter().map(|lens| bits(lens.js).min(1.0)).collect(),
            lens_kl: row.lenses.iter().map(|lens| f64::from(lens.kl)).collect(),
        };
        let rows = backend.lens_kl(readout, &lenses.iter().collect::<Vec<_>>(), ids);
        check_finite(&rows, depths, ids)?;
        Ok(rows.into_iter().map(reading).collect())
    })
}

/// Exit logits of every response token at every candidate, without offset, with all exits off.
///
/// # Shapes
/// `[tokens][candidates]`.
pub(crate) fn exit_logits(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    prompt: &[u32],
    ids: &[u32],
) -> Result<Vec<Vec<f32>>, SessionError> {
    let batch = consumed(decoder, prompt, ids)?;
    Ok(decoder.backend().run(|| {
        let full = vec![decoder.n_blocks(); batch.n_rows()];
        let forward = decoder.forward(Some(policy), &batch, &full, &policy.heads.candidates, false);
        let mut logits = vec![Vec::new(); ids.len()];
        for (head, residual) in forward.at_candidates.iter().enumerate() {
            let of_head = policy.exit_logits(head, residual, decoder.config().rms_norm_eps);
            for (of_token, logit) in logits.iter_mut().zip(&of_head[prompt.len() - 1..]) {
                of_token.push(*logit);
            }
        }
        logits
    }))
}

/// The positions that emit a response: the prompt and all tokens but the last.
pub(crate) fn consumed(decoder: &Decoder<Cpu>, prompt: &[u32], ids: &[u32]) -> Result<PackedBatch, SessionError> {
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    let consumed = [prompt, &ids[..ids.len().saturating_sub(1)]].concat();
    batch.push(&consumed, config.vocab_size, config.max_position_embeddings)?;
    Ok(batch)
}
