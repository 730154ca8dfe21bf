//! Exit heads, trained alone before the rest: on every response token and every candidate of the traces at once, first towards
//! the target distribution, then, if that is the objective, on what stopping is expected to cost.

use aloud_kernels::backend::Backend;
use aloud_method::exit_distribution::exit_distribution;
use aloud_method::exit_objective::{TokenLoss, cross_entropy, expected_cost, stopping_costs};
use aloud_method::targets::Targets;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy};

use crate::stage1::fitting::{FitError, FitProgress, Pace, at_full_depth, fit_steps};
use crate::stage1::recipe::{DistillRecipe, HeadSettings};
use crate::stage1::traces::Trace;

/// Trains the heads of `policy` on traces of the base model `decoder`, whose lens KLs must be those of the policy's translators.
/// Progress has one number a step: the mean loss before it, nats.
///
/// # Errors
/// If a trace does not fit the model or a gradient is not finite.
pub fn train_heads<B: Backend>(
    decoder: &Decoder<B>,
    policy: &mut Policy<B>,
    (traces, targets): (&[&Trace], &Targets),
    recipe: &DistillRecipe,
    on_step: &mut dyn FnMut(&FitProgress),
) -> Result<(), FitError> {
    let to_targets = |logits: &[f64], kl: &[f32]| cross_entropy(logits, &exit_distribution(&targets.hazards(kl)));
    let to_costs = |logits: &[f64], kl: &[f32]| {
        expected_cost(logits, &stopping_costs(kl, &targets.candidates, targets.n_blocks, recipe.price))
    };
    let (settings, seed) = (&recipe.exit_heads, recipe.seed);
    let HeadSettings { cross_entropy_steps, tokens_per_step, learning_rate, .. } = *settings;
    let mut before = 0;
    for (steps, loss) in [(cross_entropy_steps, &to_targets as &Loss<'_>), (recipe.cost_steps(), &to_costs)] {
        let gradient = |policy: &Policy<B>, members: &[&Trace], gradients: &mut Gradients<B>| {
            step_gradient(decoder, policy, members, loss, gradients).map(|mean| vec![mean])
        };
        let pace = Pace { steps, tokens_per_step, learning_rate, seed };
        fit_steps(decoder, policy, traces, pace, &gradient, &mut |progress| {
            on_step(&FitProgress { step: before + progress.step, kl: progress.kl.clone() });
        })?;
        before += steps;
    }
    Ok(())
}

/// Loss of a token: of its exit logits and its lens KLs.
type Loss<'a> = dyn Fn(&[f64], &[f32]) -> TokenLoss + 'a;

/// Gradient of the mean loss over the response tokens that decide an exit, and the mean.
fn step_gradient<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    traces: &[&Trace],
    loss: &Loss<'_>,
    gradients: &mut Gradients<B>,
) -> Result<f64, BatchError> {
    let (backend, config) = (decoder.backend(), decoder.config());
    let candidates = &policy.heads.candidates;
    let steps = at_full_depth(decoder, traces)?;
    let forward = decoder.forward(None, &steps.batch, &steps.depths, candidates, false);
    let rows: Vec<u32> = steps.exiting_rows().map(|(row, _)| row as u32).collect();
    let residuals: Vec<B::Rows> = forward.at_candidates.iter().map(|x| backend.gather_rows(x, &rows)).collect();
    let logits: Vec<Vec<f32>> = (residuals.iter().enumerate())
        .map(|(c, residual)| policy.exit_logits(c, residual, config.rms_norm_eps))
        .collect();
    let per_token = 1.0 / rows.len().max(1) as f64;
    let mut sum = 0.0;
    let mut d_logits = vec![Vec::with_capacity(rows.len()); candidates.len()];
    for (i, (_, (trace, t))) in steps.exiting_rows().enumerate() {
        let of_token: Vec<f64> = logits.iter().map(|logits| f64::from(logits[i])).collect();
        let kl = &traces[trace].lens_kl[t * candidates.len()..][..candidates.len()];
        let TokenLoss { value, gradient } = loss(&of_token, kl);
        sum += value;
        for (d_logits, gradient) in d_logits.iter_mut().zip(gradient) {
            d_logits.push((gradient * per_token) as f32);
        }
    }
    for (c, (residual, d_logits)) in residuals.iter().zip(&d_logits).enumerate() {
        let mut d_weight = vec![0.0; config.hidden_size];
        let mut d_bias = 0.0;
        let (weight, eps) = (&policy.heads.weights[c], policy.head_eps(config.rms_norm_eps));
        backend.exit_head_backward(residual, weight, eps, d_logits, None, &mut d_weight, &mut d_bias);
        gradients.add_head(candidates[c], &d_weight, d_bias);
    }
    Ok(sum * per_token)
}
