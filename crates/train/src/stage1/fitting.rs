//! The loop in which exits are fitted before the rest: whole traces until a step has its tokens, a gradient, a step of AdamW.

use std::collections::BTreeMap;

use aloud_engine::read::reading::PackedSteps;
use aloud_kernels::backend::Backend;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy};

use crate::optimizer::{AdamW, Decay, OptimizerError, OptimizerSettings, Schedule};
use crate::order::epoch_order;
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

/// How long and how fast a fit goes.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Optimiser steps.
    pub(crate) steps: u64,
    /// Response tokens of a step, at least: whole traces are taken.
    pub(crate) tokens_per_step: usize,
    /// Learning rate at the end of the warm-up.
    pub(crate) learning_rate: f64,
    /// Seed of the order of traces.
    pub(crate) seed: u64,
}

/// Adds the gradient of some traces, and returns their mean losses.
type TraceGradient<'a, B> = dyn Fn(&Policy<B>, &[&Trace], &mut Gradients<B>) -> Result<Vec<f64>, BatchError> + 'a;

/// Fits what `policy` lets be trained.
pub(crate) fn fit_steps<B: Backend>(
    decoder: &Decoder<B>,
    policy: &mut Policy<B>,
    traces: &[&Trace],
    pace: Pace,
    gradient: &TraceGradient<'_, B>,
    on_step: &mut dyn FnMut(&FitProgress),
) -> Result<(), FitError> {
    let steps = pace.steps;
    let schedule = Schedule { steps, warmup_steps: steps.div_ceil(20), decay: Decay::Cosine };
    let mut optimizer = AdamW::new(OptimizerSettings::default());
    let mut order = (0..).flat_map(|epoch| epoch_order(pace.seed, epoch, (0..traces.len()).collect()));
    for step in 0..steps {
        let mut n_tokens = 0;
        let mut members: Vec<&Trace> = Vec::new();
        while n_tokens < pace.tokens_per_step
            && let Some(index) = order.next()
        {
            n_tokens += traces[index].response_len();
            members.push(traces[index]);
        }
        let mut gradients = Gradients::new(decoder.backend());
        let kl = gradient(policy, &members, &mut gradients)?;
        let gradients = gradients.into_host();
        let rate = schedule.factor(step) * pace.learning_rate;
        let mut failed = None;
        policy.update_parameters(&mut |name, _, values| {
            failed = failed.take().or(step_parameters(&mut optimizer, &gradients, rate, name, values).err());
        });
        if let Some(source) = failed {
            return Err(FitError::Optimizer { step: step + 1, source });
        }
        on_step(&FitProgress { step: step + 1, kl });
    }
    Ok(())
}

/// The rows of traces at full depth, each with rows of its own.
pub(crate) fn at_full_depth<B: Backend>(decoder: &Decoder<B>, traces: &[&Trace]) -> Result<PackedSteps, BatchError> {
    let longest = traces.iter().map(|trace| trace.response_len()).max().unwrap_or_default();
    let depths = vec![decoder.n_blocks(); longest];
    let sequences: Vec<_> = traces.iter().map(|trace| trace.at_depths(&depths[..trace.response_len()])).collect();
    PackedSteps::separate(decoder, &sequences)
}

/// A step of a parameter, if it has a gradient.
fn step_parameters(
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
