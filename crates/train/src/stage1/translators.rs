//! Exit translators, fitted first and alone: at every candidate, on residuals of the base model at full depth, towards its own
//! final distribution. What they say then is the lens that targets are made of.

use aloud_engine::read::reading::{Reading, group_by_rows};
use aloud_kernels::backend::{Backend, Readout};
use aloud_kernels::rows::Rows;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use crate::stage1::fitting::{FitError, FitProgress, Pace, at_full_depth, fit_steps};
use crate::stage1::recipe::TranslatorSettings;
use crate::stage1::traces::Trace;

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
    let TranslatorSettings { steps, tokens_per_step, learning_rate, .. } = *settings;
    policy.trains_translators = true;
    let gradient = |policy: &Policy<B>, members: &[&Trace], gradients: &mut Gradients<B>| {
        step_gradient(decoder, policy, members, settings, gradients)
    };
    fit_steps(decoder, policy, traces, Pace { steps, tokens_per_step, learning_rate, seed }, &gradient, on_step)?;
    policy.trains_translators = false;
    Ok(())
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
    let steps = at_full_depth(decoder, traces)?;
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
    for members in group_by_rows(0..traces.len(), |i| lengths[i], rows_per_pass) {
        let group: Vec<&Trace> = members.iter().map(|&i| &*traces[i]).collect();
        let steps = at_full_depth(decoder, &group)?;
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
