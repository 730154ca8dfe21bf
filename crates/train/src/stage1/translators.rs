//! Exit translators, fitted first and alone: at every candidate, on residuals of the base model at full depth, towards its own
//! final distribution. What they say then is the lens that targets are made of.

use std::collections::BTreeMap;

use aloud_engine::read::reading::{PackedSteps, Reading, group_by_rows};
use aloud_kernels::backend::{Backend, Readout};
use aloud_kernels::rows::Rows;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use crate::optimizer::{AdamW, Decay, OptimizerError, OptimizerSettings, Schedule};
use crate::order::epoch_order;
use crate::stage1::recipe::TranslatorSettings;
use crate::stage1::traces::Trace;

/// A step of the fit.
#[derive(Clone, Debug)]
pub struct FitProgress {
    /// Steps done.
    pub step: u64,
    /// Mean loss of the step's tokens before it, nats: of translators the KL at each candidate, of heads one number.
    pub kl: Vec<f64>,
}

/// Why translators or heads cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A trace does not fit the model.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A gradient is unusable.
    #[error("fitting exits, step {step}: {source}")]
    Optimizer {
        /// The step, from 1.
        step: u64,
        /// What is wrong.
        source: OptimizerError,
    },
}

/// Fits the translators of `policy`, which begin as they are, on traces of the base model `decoder`.
///
/// # Errors
/// If a trace does not fit the model or a gradient is not finite.
pub fn fit<B: Backend>(
    decoder: &Decoder<B>,
    policy: &mut Policy<B>,
    traces: &[&Trace],
    settings: &TranslatorSettings,
    seed: u64,
    on_step: &mut dyn FnMut(&FitProgress),
) -> Result<(), FitError> {
    let schedule = Schedule { steps: settings.steps, warmup_steps: settings.steps.div_ceil(20), decay: Decay::Cosine };
    let mut optimizer = AdamW::new(OptimizerSettings::default());
    let mut order = (0..).flat_map(|epoch| epoch_order(seed, epoch, (0..traces.len()).collect()));
    policy.trains_translators = true;
    for step in 0..settings.steps {
        let mut n_tokens = 0;
        let mut members: Vec<&Trace> = Vec::new();
        while n_tokens < settings.tokens_per_step
            && let Some(index) = order.next()
        {
            n_tokens += traces[index].response_len();
            members.push(traces[index]);
        }
        let mut gradients = Gradients::new(decoder.backend());
        let kl = step_gradient(decoder, policy, &members, settings, &mut gradients)?;
        let gradients = gradients.into_host();
        let rate = schedule.factor(step) * settings.learning_rate;
        let mut failed = None;
        policy.update_translators(&mut |name, values| {
            failed = failed.take().or(step_parameters(&mut optimizer, &gradients, rate, name, values).err());
        });
        if let Some(source) = failed {
            return Err(FitError::Optimizer { step: step + 1, source });
        }
        on_step(&FitProgress { step: step + 1, kl });
    }
    policy.trains_translators = false;
    Ok(())
}

/// A step of a parameter, if it has a gradient.
pub(crate) fn step_parameters(
    optimizer: &mut AdamW,
    gradients: &BTreeMap<String, Vec<f32>>,
    rate: f64,
    name: &str,
    values: &mut [f32],
) -> Result<(), OptimizerError> {
    let Some(gradient) = gradients.get(name) else { return Ok(()) };
    if gradient.iter().any(|value| !value.is_finite()) {
        return Err(OptimizerError::NotFinite(name.to_owned()));
    }
    optimizer.step(name, rate, false, values, gradient)
}

/// Gradient of the mean KL of the first `tokens_per_step` response tokens at every candidate; returns the means by candidate.
fn step_gradient<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    traces: &[&Trace],
    settings: &TranslatorSettings,
    gradients: &mut Gradients<B>,
) -> Result<Vec<f64>, BatchError> {
    let backend = decoder.backend();
    let Some(translators) = &policy.translators else { return Ok(Vec::new()) };
    let depths = vec![decoder.n_blocks(); traces.iter().map(|trace| trace.response_len()).max().unwrap_or_default()];
    let sequences: Vec<_> = traces.iter().map(|trace| trace.at_depths(&depths[..trace.response_len()])).collect();
    let steps = PackedSteps::separate(decoder, &sequences)?;
    let forward = decoder.forward(None, &steps.batch, &steps.depths, &translators.candidates, false);
    let n = settings.tokens_per_step.min(steps.response_rows.len());
    let width = decoder.config().hidden_size;
    let teacher: Vec<f32> = traces.iter().flat_map(|trace| &trace.final_hidden).take(n * width).copied().collect();
    let teacher = backend.upload(Rows::new(width, teacher));
    let weight = decoder.unembedding();
    let d_kl = vec![1.0 / n.max(1) as f32; n];
    let mut means = Vec::with_capacity(translators.maps.len());
    for ((depth, translator), residual) in
        translators.candidates.iter().zip(&translators.maps).zip(&forward.at_candidates)
    {
        let x = backend.gather_rows(residual, &steps.response_rows[..n]);
        let translated = decoder.translate(translator, &x);
        let hidden = decoder.final_norm(&translated);
        let (student, teacher) = (Readout { hidden: &hidden, weight }, Readout { hidden: &teacher, weight });
        let (kl, d_hidden) = backend.distill_kl(student, teacher, settings.kl_direction, Some(&d_kl), None);
        means.push(kl.iter().map(|kl| f64::from(*kl)).sum::<f64>() / n.max(1) as f64);
        if let Some(d_hidden) = d_hidden {
            let d_out = decoder.final_norm_backward(&translated, &d_hidden, Trained::Adapters, gradients);
            decoder.translate_backward(*depth, translator, &x, &d_out, Some(gradients));
        }
    }
    Ok(means)
}

/// Computes the lens KLs of traces anew, as the translators of `policy` read them.
///
/// # Errors
/// If a trace does not fit the model.
pub fn translate_lens_kl<'t, B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    traces: impl Iterator<Item = &'t mut Trace>,
    rows_per_pass: usize,
    on_trace: &mut dyn FnMut(),
) -> Result<(), BatchError> {
    let mut traces: Vec<&mut Trace> = traces.collect();
    let lengths: Vec<usize> = traces.iter().map(|trace| trace.token_ids.len()).collect();
    let longest = traces.iter().map(|trace| trace.response_len()).max().unwrap_or_default();
    let depths = vec![decoder.n_blocks(); longest];
    for members in group_by_rows(0..traces.len(), |i| lengths[i], rows_per_pass) {
        let sequence = |&i: &usize| traces[i].at_depths(&depths[..traces[i].response_len()]);
        let sequences: Vec<_> = members.iter().map(sequence).collect();
        let steps = PackedSteps::separate(decoder, &sequences)?;
        // Keys and values are the base model's: the policy has no adapters, and nothing stops.
        let rows = Reading::new(decoder, Some(policy), &policy.heads.candidates, &steps, false).lens_kl(false);
        let mut rows = rows.into_iter();
        for i in members {
            let n = traces[i].response_len();
            traces[i].lens_kl = rows.by_ref().take(n).flat_map(|row| row.lenses).map(|lens| lens.kl).collect();
            on_trace();
        }
    }
    Ok(())
}
