//! How far a model's distributions are from the base's, on traces of the base.

use aloud_engine::decode::request::{Forced, Request};
use aloud_engine::read::reading::{PackedSteps, Reading, RecordedSequence};
use aloud_kernels::backend::{KlDirection, Unembedding as _};
use aloud_kernels::cpu::Cpu;
use aloud_model::decoder::Decoder;
use aloud_session::bail;
use aloud_session::error::SessionError;

use super::elicitation::Traced;
use super::examination::Examination;
use super::subject::Subject;

/// `KL(p_base || p)` in nats of every token of traces of the base: the model reads them with exits of its own, and `p` is its
/// distribution at the depth where it stops.
///
/// # Shapes
/// `[traces][tokens]`.
pub(crate) fn base_kls(
    subject: &Subject<'_>,
    base: &Decoder<Cpu>,
    exam: &Examination<'_>,
    traces: &[Traced<'_>],
    max_sequences: usize,
) -> Result<Vec<Vec<f64>>, SessionError> {
    let request = |traced: &Traced<'_>| Request {
        stop_tokens: Vec::new(),
        forced: Forced::Whole(traced.tokens.ids.clone()),
        ..traced.asked.request(exam, subject.exits(), traced.sample.seed)
    };
    let requests: Vec<Request> = traces.iter().map(request).collect();
    let read = subject.complete(max_sequences, &requests, &|| {})?;
    let kls = traces.iter().zip(&requests).zip(read).map(|((traced, request), read)| {
        let depths: Vec<usize> = read.tokens.iter().map(|token| token.depth).collect();
        kls_at(subject, base, &request.prompt, &traced.tokens.ids, &depths)
    });
    kls.collect()
}

/// The same of one trace, whose token `t` stopped at `depths[t]` (blocks).
fn kls_at(
    subject: &Subject<'_>,
    base: &Decoder<Cpu>,
    prompt: &[u32],
    ids: &[u32],
    depths: &[usize],
) -> Result<Vec<f64>, SessionError> {
    let full = vec![base.n_blocks(); ids.len()];
    let of_base = PackedSteps::new(base, &[RecordedSequence { prompt, response: ids, depths: &full }])?;
    let of_model = PackedSteps::new(base, &[RecordedSequence { prompt, response: ids, depths }])?;
    let backend = base.backend();
    let of_base = Reading::new(base, None, &[], &of_base, false);
    let of_model = Reading::new(subject.decoder, subject.policy, &[], &of_model, false);
    let kls = backend.distill_kl(of_model.readout(), of_base.readout(), KlDirection::Forward, None, None).0;
    let kls: Vec<f64> = kls.into_iter().map(f64::from).collect();
    if let Some(token) = kls.iter().position(|kl| !kl.is_finite()) {
        bail!("the KL from the base model at response token {token} is {}, expected a finite number", kls[token]);
    }
    // Rounding may take a KL of equal distributions a little below 0.
    Ok(kls.into_iter().map(|kl| kl.max(0.0)).collect())
}
