//! What controls are made equal to: the oracle's factor of equal mean depth, and weight noise of equal accuracy.

use aloud_engine::{
    Engine, Exits, FinishReason, Forced, Limits, OracleExits, Prefix, Request, Sampling, Token, uniform,
};
use aloud_kernels::{Cpu, Matrix};
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::PretrainedModel;
use aloud_model::weights::ParameterMut;

use super::family::TaskFamily;
use super::samples::{Asked, all_asked, run};

/// Most items that a setting is tried on.
const TRIED_ITEMS: usize = 96;

/// Settings that are tried in a search.
const TRIES: usize = 12;

/// How near in accuracy the noisy model has to come.
pub(super) const NEAR_ACCURACY: f64 = 0.02;

/// How near in mean depth, as a share of all blocks, the oracle has to come.
const NEAR_DEPTH: f64 = 0.002;

/// A model with its exits, tried on items that are not evaluated.
struct Trial<'a> {
    decoder: &'a Decoder<Cpu>,
    policy: Option<&'a Policy<Cpu>>,
    exits: Exits,
}

/// Responses of a model to the tuning items, in the arm with a trace.
fn responses(
    trial: &Trial<'_>,
    tuning: &dyn TaskFamily,
    seed: u64,
    max_sequences: usize,
) -> anyhow::Result<Vec<(usize, Vec<Token>, FinishReason)>> {
    let asked: Vec<Asked<'_>> = all_asked(tuning).into_iter().filter(|asked| asked.arm.has_trace).collect();
    let step = asked.len().div_ceil(TRIED_ITEMS).max(1);
    let asked: Vec<Asked<'_>> = asked.into_iter().step_by(step).collect();
    let request = |asked: &Asked<'_>| Request {
        prompt: tuning.items()[asked.item].prompt.token_ids.clone(),
        prefix: Prefix::default(),
        max_new_tokens: tuning.max_new_tokens(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        exits: trial.exits.clone(),
        stop_tokens: tuning.stop_tokens().to_vec(),
        seed,
        sequence: asked.sequence,
        forced: if asked.arm.start.is_empty() { Forced::None } else { Forced::Start(asked.arm.start.clone()) },
    };
    let requests: Vec<Request> = asked.iter().map(request).collect();
    let engine = Engine::new(trial.decoder, trial.policy, Limits { max_sequences, max_prompt_rows: 2048 });
    let responses = run(&engine, &requests, &|| {})?;
    Ok(asked.iter().zip(responses).map(|(asked, (tokens, reason))| (asked.item, tokens, reason)).collect())
}

/// Share of right answers.
fn accuracy(trial: &Trial<'_>, tuning: &dyn TaskFamily, seed: u64, max_sequences: usize) -> anyhow::Result<f64> {
    let responses = responses(trial, tuning, seed, max_sequences)?;
    let mut right = 0;
    for (item, tokens, reason) in &responses {
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let read = tuning.read(*item, &ids, *reason == FinishReason::Length)?;
        right += usize::from(read.correct.get("strict").copied().unwrap_or(false));
    }
    Ok(right as f64 / responses.len().max(1) as f64)
}

/// The factor at which the oracle on the base model has the mean depth (blocks) `wanted`, as nearly as a search finds it.
///
/// # Errors
/// If an item does not fit the model.
pub(super) fn oracle_factor(
    base: &Decoder<Cpu>,
    candidates: &[usize],
    wanted: f64,
    tuning: &dyn TaskFamily,
    seed: u64,
    max_sequences: usize,
) -> anyhow::Result<f32> {
    let mean_depth = |factor: f64| {
        let exits = Exits::Oracle(OracleExits { candidates: candidates.to_vec(), kl_factor: factor as f32 });
        let responses = responses(&Trial { decoder: base, policy: None, exits }, tuning, seed, max_sequences)?;
        let depths: Vec<usize> =
            responses.iter().flat_map(|(_, tokens, _)| tokens.iter().skip(1).map(|token| token.depth)).collect();
        anyhow::Ok(depths.iter().sum::<usize>() as f64 / depths.len().max(1) as f64)
    };
    let near = NEAR_DEPTH * base.n_blocks() as f64;
    // Depth rises with the factor.
    let factor = search([-10.0, 16.0], near, &mut |exponent| Ok(mean_depth(exponent.exp2())? - wanted))?;
    Ok(factor.exp2() as f32)
}

/// The base model with noise in its weights, as accurate as the trained model `policy` with `exits` on items that are not
/// evaluated; with the noise's strength and both accuracies.
///
/// # Errors
/// If an item does not fit the model.
pub(super) fn noisy_model(
    base: &PretrainedModel,
    cpu: &Cpu,
    trained: (&Decoder<Cpu>, Option<&Policy<Cpu>>, &Exits),
    tuning: &dyn TaskFamily,
    seed: u64,
    max_sequences: usize,
) -> anyhow::Result<(Decoder<Cpu>, f32, [f64; 2])> {
    let (decoder, policy, exits) = trained;
    let wanted = accuracy(&Trial { decoder, policy, exits: exits.clone() }, tuning, seed, max_sequences)?;
    let of_noise = |exponent: f64| {
        let decoder = disturbed(base, cpu, exponent.exp2() as f32, seed)?;
        let accuracy =
            accuracy(&Trial { decoder: &decoder, policy: None, exits: Exits::Off }, tuning, seed, max_sequences)?;
        anyhow::Ok((decoder, accuracy))
    };
    // Accuracy falls with noise. Half of what would do, because the two accuracies are of few items.
    let exponent = search([-12.0, 0.0], NEAR_ACCURACY / 2.0, &mut |exponent| Ok(wanted - of_noise(exponent)?.1))?;
    let (decoder, found) = of_noise(exponent)?;
    Ok((decoder, exponent.exp2() as f32, [wanted, found]))
}

/// Where a rising function is within `near` of 0, by halving; the place nearest to it if none is.
fn search(
    [mut low, mut high]: [f64; 2],
    near: f64,
    excess: &mut dyn FnMut(f64) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let (mut best, mut smallest) = (low, f64::INFINITY);
    for _ in 0..TRIES {
        let middle = f64::midpoint(low, high);
        let excess = excess(middle)?;
        if excess.abs() < smallest {
            (best, smallest) = (middle, excess.abs());
        }
        if excess.abs() <= near {
            break;
        }
        (low, high) = if excess > 0.0 { (low, middle) } else { (middle, high) };
    }
    Ok(best)
}

/// The model with normal noise added to every matrix, of `strength` times the root mean square of its values.
fn disturbed(base: &PretrainedModel, cpu: &Cpu, strength: f32, seed: u64) -> anyhow::Result<Decoder<Cpu>> {
    let mut weights = base.weights.clone();
    for (number, (_, parameter)) in (0..).zip(weights.parameters_mut()) {
        let ParameterMut::Matrix(matrix) = parameter else { continue };
        let mut values = matrix.to_f32();
        let mean_square =
            values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len().max(1) as f64;
        let scale = strength * mean_square.sqrt() as f32;
        for (place, pair) in (0..).zip(values.chunks_mut(2)) {
            for (value, noise) in pair.iter_mut().zip(normal_pair(seed, number, place)) {
                *value += scale * noise;
            }
        }
        *matrix = Matrix::from_f32(matrix.rows(), matrix.columns(), values)?;
    }
    Ok(Decoder::new(cpu, &base.config, &weights))
}

/// Two normal numbers (Box and Muller).
fn normal_pair(seed: u64, tensor: u64, place: u64) -> [f32; 2] {
    let radius = (-2.0 * (1.0 - uniform(seed, tensor, place, 0)).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(seed, tensor, place, 1);
    [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_search_finds_where_a_function_is_0() {
        let mut tries = 0;
        let found = search([-10.0, 10.0], 1e-2, &mut |x| {
            tries += 1;
            Ok(x - 3.3)
        });
        assert!((found.unwrap() - 3.3).abs() <= 1e-2 && tries <= TRIES);
        // Out of reach: the nearest end.
        assert!(search([0.0, 1.0], 1e-9, &mut |x| Ok(x - 5.0)).unwrap() > 0.99);
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let numbers: Vec<f64> = (0..4000).flat_map(|place| normal_pair(3, 1, place)).map(f64::from).collect();
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07, "{mean} {variance}");
    }
}
