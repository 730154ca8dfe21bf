//! What the base model at full depth makes of a response that is given: how surprising each token is, and from which depth on
//! its readout is that of full depth.

use aloud_engine::read::reading::{PackedSteps, Reading, RecordedSequence};
use aloud_kernels::backend::LensRow;
use aloud_kernels::cpu::Cpu;
use aloud_model::decoder::{Decoder, Policy};
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
    let steps = at_full_depth(decoder, prompt, ids)?;
    let bits = |nats: f32| f64::from(nats) / std::f64::consts::LN_2;
    let reading = |row: LensRow| TokenReading {
        surprisal_bits: bits(-row.token.log_probability),
        entropy_bits: bits(row.token.entropy.max(0.0)),
        lens_js_bits: row.lenses.iter().filter_map(|lens| lens.js).map(|js| bits(js).min(1.0)).collect(),
        lens_kl: row.lenses.iter().map(|lens| f64::from(lens.kl)).collect(),
    };
    let rows = Reading::new(decoder, None, depths, &steps, false).lens_kl(true);
    check_finite(&rows, depths, ids)?;
    Ok(rows.into_iter().map(reading).collect())
}

/// Exit logits of every response token that may exit (all but the first) at every candidate, without offset, with all exits off.
///
/// # Shapes
/// `[tokens][candidates]`; `[0]` is empty.
pub(crate) fn exit_logits(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    prompt: &[u32],
    ids: &[u32],
) -> Result<Vec<Vec<f32>>, SessionError> {
    let (steps, candidates) = (at_full_depth(decoder, prompt, ids)?, &policy.heads.candidates);
    let mut logits = vec![Vec::new(); ids.len()];
    let reading = Reading::new(decoder, Some(policy), candidates, &steps, false);
    for candidate in 0..candidates.len() {
        for step in reading.exit_decisions(candidate, 0.0) {
            logits[step.token].push(step.decision.logit);
        }
    }
    Ok(logits)
}

fn at_full_depth(decoder: &Decoder<Cpu>, prompt: &[u32], ids: &[u32]) -> Result<PackedSteps, SessionError> {
    let depths = vec![decoder.n_blocks(); ids.len()];
    Ok(PackedSteps::new(decoder, &[RecordedSequence { prompt, response: ids, depths: &depths }])?)
}
