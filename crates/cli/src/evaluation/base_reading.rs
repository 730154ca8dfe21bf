//! What the base model at full depth makes of a response that is given: how surprising each token is, and from which depth on
//! its readout is that of full depth.

use aloud_kernels::{Backend as _, Cpu, MAX_LOGIT_ROWS, Readout};
use aloud_model::decoder::{Decoder, PackedBatch, Policy};

/// The reading of one response token: of the step that emits it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenReading {
    /// `-log2 p(token | before)`.
    pub(super) surprisal_bits: f64,
    /// Entropy of the distribution there, bits.
    pub(super) entropy_bits: f64,
    /// At each lens: Jensen and Shannon's divergence of its readout from the final one, bits.
    pub(super) lens_js_bits: Vec<f64>,
    /// At each lens: `KL(final || lens)`, nats.
    pub(super) lens_kl: Vec<f64>,
}

/// Depths (blocks) at which a model is read: every block, or only the candidates where the vocabulary makes that dear.
pub(super) fn lens_depths(decoder: &Decoder<Cpu>, candidates: &[usize]) -> Vec<usize> {
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
///
/// # Errors
/// If they do not fit the model.
pub(super) fn read_response(
    decoder: &Decoder<Cpu>,
    prompt: &[u32],
    ids: &[u32],
    depths: &[usize],
) -> anyhow::Result<Vec<TokenReading>> {
    let batch = consumed(decoder, prompt, ids)?;
    let backend = decoder.backend();
    Ok(backend.run(|| {
        let full = vec![decoder.n_blocks(); batch.n_rows()];
        let forward = decoder.forward(None, &batch, &full, depths, false);
        let mut readings = Vec::with_capacity(ids.len());
        let rows: Vec<u32> = (prompt.len() as u32 - 1..batch.n_rows() as u32).collect();
        for (rows, ids) in rows.chunks(MAX_LOGIT_ROWS).zip(ids.chunks(MAX_LOGIT_ROWS)) {
            let probabilities = |residual: &<Cpu as aloud_kernels::Backend>::Rows| {
                let hidden = decoder.final_norm(&backend.gather_rows(residual, rows));
                let logits = backend.logits(Readout { hidden: &hidden, weight: decoder.unembedding() });
                (0..rows.len()).map(|row| log_softmax(logits.row(row))).collect::<Vec<_>>()
            };
            let last = probabilities(&forward.residual);
            let mut chunk: Vec<TokenReading> = (last.iter().zip(ids))
                .map(|(last, id)| TokenReading {
                    surprisal_bits: -last[*id as usize] / std::f64::consts::LN_2,
                    entropy_bits: entropy(last) / std::f64::consts::LN_2,
                    lens_js_bits: Vec::with_capacity(depths.len()),
                    lens_kl: Vec::with_capacity(depths.len()),
                })
                .collect();
            // With full depths, every row reaches every candidate.
            for residual in &forward.at_candidates {
                for (reading, (last, lens)) in chunk.iter_mut().zip(last.iter().zip(probabilities(residual))) {
                    let (js, kl) = divergences(last, &lens);
                    reading.lens_js_bits.push(js);
                    reading.lens_kl.push(kl);
                }
            }
            readings.extend(chunk);
        }
        readings
    }))
}

/// Exit logits of every response token at every candidate, without offset, with all exits off.
///
/// # Shapes
/// `[tokens][candidates]`.
///
/// # Errors
/// If prompt and response do not fit the model.
pub(super) fn exit_logits(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    prompt: &[u32],
    ids: &[u32],
) -> anyhow::Result<Vec<Vec<f32>>> {
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
pub(super) fn consumed(decoder: &Decoder<Cpu>, prompt: &[u32], ids: &[u32]) -> anyhow::Result<PackedBatch> {
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    let consumed = [prompt, &ids[..ids.len().saturating_sub(1)]].concat();
    batch.push(&consumed, config.vocab_size, config.max_position_embeddings)?;
    Ok(batch)
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b)));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    let log_total = largest + total.ln();
    logits.iter().map(|logit| f64::from(*logit) - log_total).collect()
}

/// Nats, of log-probabilities.
fn entropy(log_probabilities: &[f64]) -> f64 {
    (-log_probabilities.iter().map(|log| log.exp() * log).sum::<f64>()).max(0.0)
}

/// Jensen and Shannon's divergence in bits, and `KL(p || q)` in nats, of log-probabilities.
fn divergences(p: &[f64], q: &[f64]) -> (f64, f64) {
    let (mut js, mut kl) = (0.0, 0.0);
    for (log_p, log_q) in p.iter().zip(q) {
        let (p, q) = (log_p.exp(), log_q.exp());
        let log_middle = f64::midpoint(p, q).ln();
        // 0 ln 0 is 0.
        let term = |probability: f64, ratio: f64| if probability > 0.0 { probability * ratio } else { 0.0 };
        js += term(p, log_p - log_middle) + term(q, log_q - log_middle);
        kl += term(p, log_p - log_q);
    }
    ((js / 2.0 / std::f64::consts::LN_2).clamp(0.0, 1.0), kl.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_by_hand() {
        let logs = |p: &[f64]| p.iter().map(|p| p.ln()).collect::<Vec<f64>>();
        let (js, kl) = divergences(&logs(&[0.5, 0.5]), &logs(&[1.0, 0.0]));
        // Half of each against (3/4, 1/4): 1/2 (log2(2/3)/2 + log2(2)/2) + 1/2 log2(4/3).
        assert!((js - (0.25 * (2.0_f64 / 3.0).log2() + 0.25 + 0.5 * (4.0_f64 / 3.0).log2())).abs() < 1e-12, "{js}");
        assert_eq!(kl, f64::INFINITY);
        let (js, kl) = divergences(&logs(&[0.5, 0.5]), &logs(&[0.25, 0.75]));
        assert!(js > 0.0 && (kl - 0.5 * (0.5_f64 * 0.5 / (0.25 * 0.75)).ln()).abs() < 1e-12);
        assert_eq!(divergences(&logs(&[0.2, 0.8]), &logs(&[0.2, 0.8])), (0.0, 0.0));
    }

    #[test]
    fn entropy_of_a_coin_and_of_certainty() {
        assert!((entropy(&log_softmax(&[1.0, 1.0])) - std::f64::consts::LN_2).abs() < 1e-12);
        assert!(entropy(&log_softmax(&[500.0, 0.0])) < 1e-12);
    }
}
