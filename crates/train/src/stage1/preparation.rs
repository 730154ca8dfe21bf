//! What stage 1 does before its first joint step: it fits exit translators, reads the traces through them, and trains the heads
//! alone. What comes of it is the checkpoint of step 0.

use std::collections::BTreeMap;

use aloud_kernels::backend::Backend;
use aloud_method::targets::{TargetStatistics, Targets};
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::exit_heads::ExitHeads;
use aloud_model::exit_translators::ExitTranslators;
use aloud_model::load::PretrainedModel;

use crate::stage1::fitting::{FitError, FitProgress};
use crate::stage1::heads::train_heads;
use crate::stage1::recipe::DistillRecipe;
use crate::stage1::traces::Trace;
use crate::stage1::translators::{fit, translate_lens_kl};

/// What is being done before the first step.
#[derive(Debug)]
pub enum Preparation<'a> {
    /// Translators are being fitted.
    Translators {
        /// The step that was done.
        progress: &'a FitProgress,
        /// Steps of the fit.
        steps: u64,
    },
    /// Traces are being read through the translators.
    LensKl {
        /// Traces read.
        done: usize,
    },
    /// Heads are being trained alone.
    Heads {
        /// The step that was done.
        progress: &'a FitProgress,
        /// Steps of this training.
        steps: u64,
    },
}

/// Listens to preparations.
pub type OnPreparation<'a> = dyn FnMut(Preparation<'_>) + 'a;

/// The traces of a run.
pub(crate) struct Traces<'a> {
    pub(crate) training: &'a mut BTreeMap<usize, Trace>,
    pub(crate) held_out: &'a mut Vec<Trace>,
}

impl DistillRecipe {
    /// Steps of the heads' own training.
    fn head_steps(&self) -> u64 {
        self.exit_heads.cross_entropy_steps + self.cost_steps()
    }

    /// Whether anything is fitted before the first step.
    pub(crate) fn prepares(&self) -> bool {
        !self.exit_readout.is_none() || self.head_steps() > 0
    }
}

/// Fits translators as the recipe wants them, or takes those that an earlier call `kept`; `None` if residuals are read as they are.
/// The lens KLs of all traces are theirs then.
pub(crate) fn translators<B: Backend>(
    backend: &B,
    model: &PretrainedModel,
    recipe: &DistillRecipe,
    targets: &Targets,
    traces: &mut Traces<'_>,
    kept: Option<ExitTranslators>,
    on_preparation: &mut OnPreparation<'_>,
) -> Result<Option<ExitTranslators>, FitError> {
    let (settings, seed, candidates) = (&recipe.translators, recipe.seed, &targets.candidates);
    let is_fitted = kept.is_some();
    let first = || ExitTranslators::new(recipe.exit_readout, candidates, settings.rank, &model.config, seed);
    let Some(translators) = kept.or_else(first) else { return Ok(None) };
    let decoder = Decoder::new(backend, &model.config, &model.weights);
    let mut policy = Policy::new(backend, None, first_heads(recipe, targets, traces, model));
    policy = policy.with_translators(Some(&translators));
    if !is_fitted {
        let training: Vec<&Trace> = traces.training.values().collect();
        fit(&decoder, &mut policy, &training, settings, seed, &mut |progress| {
            on_preparation(Preparation::Translators { progress, steps: settings.steps });
        })?;
    }
    let mut done = 0;
    let all = traces.training.values_mut().chain(traces.held_out.iter_mut());
    translate_lens_kl(&decoder, &policy, all, recipe.batch.tokens_per_step, &mut || {
        done += 1;
        on_preparation(Preparation::LensKl { done });
    })?;
    Ok(policy.translators())
}

/// Heads with constant hazards, the means of the targets, or trained alone if the recipe says so.
pub(crate) fn heads<B: Backend>(
    backend: &B,
    model: &PretrainedModel,
    recipe: &DistillRecipe,
    targets: &Targets,
    traces: &Traces<'_>,
    on_preparation: &mut OnPreparation<'_>,
) -> Result<ExitHeads, FitError> {
    let heads = first_heads(recipe, targets, traces, model);
    let steps = recipe.head_steps();
    if steps == 0 {
        return Ok(heads);
    }
    let decoder = Decoder::new(backend, &model.config, &model.weights);
    let mut policy = Policy::new(backend, None, heads);
    let training: Vec<&Trace> = traces.training.values().collect();
    train_heads(&decoder, &mut policy, (&training, targets), recipe, &mut |progress| {
        on_preparation(Preparation::Heads { progress, steps });
    })?;
    Ok(policy.heads)
}

fn first_heads(recipe: &DistillRecipe, targets: &Targets, traces: &Traces<'_>, model: &PretrainedModel) -> ExitHeads {
    let mut statistics = TargetStatistics::new(targets.clone());
    for trace in traces.training.values() {
        statistics.add_trace(&trace.lens_kl, 0, |_, _, _| 0.0);
    }
    let hazards: Vec<f32> = statistics.mean_hazards().iter().map(|hazard| *hazard as f32).collect();
    ExitHeads::new(targets.candidates.clone(), recipe.head_input, model.config.hidden_size, &hazards)
}
