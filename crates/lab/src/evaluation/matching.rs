//! What controls are made equal to: the oracle's factor of equal mean depth, and weight noise of equal accuracy.

use std::sync::Arc;

use aloud_base::random::{self, Domain, KeyedRandom};
use aloud_engine::decode::complete::{Completion, complete};
use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{FinishReason, Request};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_measure::run_files::NoiseControl;
use aloud_measure::statistics::Bootstrap;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::savings::mean_depth;
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::PretrainedModel;
use aloud_model::weights::Parameter;
use aloud_session::error::SessionError;

use super::deciders::Oracle;
use super::examination::Examination;
use super::limits;
use super::parts::part;
use super::samples::{Asked, all_asked, ids};
use super::subject::NoisyModel;

/// Training items that a setting is first tried on.
const TRIED_ITEMS: usize = 96;

/// Most training items that noise is tuned on.
pub(crate) const NOISE_ITEMS: usize = 1024;

/// Settings that are tried in a search, and in the second search for noise, about what the first one found.
const TRIES: usize = 12;
const FINE_TRIES: usize = 6;

/// Half of the width of the second search for noise, in doublings of its strength.
const FINE_WIDTH: f64 = 1.5;

/// How near in accuracy the noisy model has to come in the first search, and in the second.
const NEAR_ACCURACY: f64 = 0.03;
const NEAREST_ACCURACY: f64 = 0.01;

/// How far the 95 % interval of the difference of accuracy may reach for two models to count as equally accurate.
pub(crate) const EQUAL_ACCURACY: f64 = 0.05;

/// Half width of the interval of a difference that noise is tuned at: [`EQUAL_ACCURACY`] less the difference that is left.
const TUNED_HALF_WIDTH: f64 = EQUAL_ACCURACY - NEAREST_ACCURACY;

/// How near in mean depth, as a share of all blocks, the oracle has to come.
const NEAR_DEPTH: f64 = 0.002;

/// A model with its exits, tried on items that are not evaluated.
struct Trial<'a> {
    decoder: &'a Decoder<Cpu>,
    policy: Option<&'a Policy<Cpu>>,
    exits: Exits,
}

/// Items that settings are tried on.
#[derive(Clone, Copy)]
pub(crate) struct Tuning<'a> {
    /// Training items.
    pub(crate) exam: &'a Examination<'a>,
    /// Seed of all draws.
    pub(crate) seed: u64,
    /// Most sequences decoded together.
    pub(crate) max_sequences: usize,
}

impl Tuning<'_> {
    /// Responses of a model to `n` of the items, in the arm with a trace.
    fn responses(&self, trial: &Trial<'_>, n: usize) -> Result<Vec<(usize, Completion)>, SessionError> {
        let asked: Vec<Asked<'_>> = all_asked(self.exam).into_iter().filter(|asked| asked.arm.has_trace).collect();
        let items: Vec<usize> = asked.iter().map(|asked| asked.item).collect();
        let asked: Vec<Asked<'_>> = part(self.exam, &items, n).into_iter().map(|place| asked[place]).collect();
        let request = |asked: &Asked<'_>| asked.request(self.exam, trial.exits.clone(), self.seed);
        let requests: Vec<Request> = asked.iter().map(request).collect();
        let limits = limits(self.max_sequences);
        let responses = complete(trial.decoder, trial.policy, limits, &requests, &|| {})?;
        Ok(asked.iter().map(|asked| asked.item).zip(responses).collect())
    }

    /// Whether a model answers each of `n` items rightly.
    fn answers(&self, trial: &Trial<'_>, n: usize) -> Result<Vec<bool>, SessionError> {
        let is_right = |(item, response): (usize, Completion)| {
            let read = self.exam.read(item, &ids(&response), response.reason == FinishReason::Length)?;
            Ok(read.correct.get("strict") == Some(&true))
        };
        self.responses(trial, n)?.into_iter().map(is_right).collect()
    }
}

fn share(right: &[bool]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

/// The 95 % interval of the difference of accuracy, first less second, of two models on the same items; `None` for fewer than two.
pub(crate) fn accuracy_difference(first: &[bool], second: &[bool]) -> Option<[f64; 2]> {
    let difference: Vec<f64> =
        first.iter().zip(second).map(|(first, second)| f64::from(*first) - f64::from(*second)).collect();
    let n = difference.len();
    let mean = |weights: &[u32]| {
        let sum: f64 = difference.iter().zip(weights).map(|(each, weight)| each * f64::from(*weight)).sum();
        (n > 0).then(|| sum / n as f64)
    };
    Bootstrap::default().paired_interval(n, mean).map(|interval| [interval.lo, interval.hi])
}

/// Items at which the 95 % interval of a difference of accuracy is `half_width` to each side, where two models differ in whether
/// they are right at this share of `first` and `second`. One item more each way, since a few items may happen to have none.
pub(crate) fn items_needed(first: &[bool], second: &[bool], half_width: f64) -> usize {
    const Z: f64 = 1.96;
    let discordant = first.iter().zip(second).filter(|(first, second)| first != second).count();
    let share = (discordant + 1) as f64 / (first.len() + 2) as f64;
    (share * (Z / half_width).powi(2)).ceil() as usize
}

/// The factor at which the oracle on the base model has the mean depth (blocks) `wanted`, as nearly as a search finds it.
pub(crate) fn oracle_factor(
    base: &Decoder<Cpu>,
    candidates: &[usize],
    wanted: f64,
    tuning: Tuning<'_>,
) -> Result<f32, SessionError> {
    let depth_at = |factor: f64| {
        let oracle = Oracle { candidates: candidates.to_vec(), kl_factor: factor as f32 };
        let exits = Exits::Decider(Arc::new(oracle));
        let responses = tuning.responses(&Trial { decoder: base, policy: None, exits }, TRIED_ITEMS)?;
        let tokens = responses.iter().flat_map(|(_, response)| response.tokens.iter().skip(1));
        let depths: Vec<usize> = tokens.map(|token| token.depth).collect();
        Ok::<_, SessionError>(mean_depth(&depths).unwrap_or(0.0))
    };
    let near = NEAR_DEPTH * base.n_blocks() as f64;
    // Depth rises with the factor.
    let factor = search([-10.0, 16.0], near, TRIES, &mut |exponent| Ok(depth_at(exponent.exp2())? - wanted))?;
    Ok(factor.exp2() as f32)
}

/// The base model with noise in its weights, as accurate as the trained model `policy` with `exits` on items that are not
/// evaluated: first on a few, then on as many as tell a difference of [`EQUAL_ACCURACY`], if there are so many.
pub(crate) fn noisy_model(
    base: &PretrainedModel,
    cpu: &Cpu,
    trained: (&Decoder<Cpu>, Option<&Policy<Cpu>>, &ExitPolicy),
    tuning: Tuning<'_>,
) -> Result<NoisyModel, SessionError> {
    let (decoder, policy, exits) = trained;
    let model = Trial { decoder, policy, exits: exits.clone().into() };
    let with_noise = |strength: f64, n: usize| {
        let decoder = disturbed(base, cpu, strength as f32, tuning.seed)?;
        let right = tuning.answers(&Trial { decoder: &decoder, policy: None, exits: Exits::default() }, n)?;
        Ok::<_, SessionError>((decoder, right))
    };
    // Accuracy falls with noise.
    let few = tuning.answers(&model, TRIED_ITEMS)?;
    let excess =
        |exponent: f64| Ok::<_, SessionError>(share(&few) - share(&with_noise(exponent.exp2(), TRIED_ITEMS)?.1));
    let coarse = search([-12.0, 0.0], NEAR_ACCURACY, TRIES, &mut { excess })?;
    let (_, right) = with_noise(coarse.exp2(), TRIED_ITEMS)?;
    let n = items_needed(&few, &right, TUNED_HALF_WIDTH).clamp(TRIED_ITEMS, NOISE_ITEMS);

    let wanted = tuning.answers(&model, n)?;
    let control = |strength: f64, found: &[bool]| NoiseControl {
        strength,
        wanted_accuracy: share(&wanted),
        found_accuracy: share(found),
        n_items: wanted.len(),
    };
    let (_, undisturbed) = with_noise(0.0, n)?;
    if share(&wanted) > share(&undisturbed) {
        return Ok(NoisyModel { noise: control(0.0, &undisturbed), decoder: None, is_equal: false });
    }
    let about = [coarse - FINE_WIDTH, coarse + FINE_WIDTH];
    let excess = |exponent: f64| Ok::<_, SessionError>(share(&wanted) - share(&with_noise(exponent.exp2(), n)?.1));
    let fine = search(about, NEAREST_ACCURACY, FINE_TRIES, &mut { excess })?;
    let (decoder, found) = with_noise(fine.exp2(), n)?;
    let interval = accuracy_difference(&wanted, &found);
    let is_equal = interval.is_some_and(|[low, high]| low >= -EQUAL_ACCURACY && high <= EQUAL_ACCURACY);
    Ok(NoisyModel { noise: control(fine.exp2(), &found), decoder: Some(decoder), is_equal })
}

/// Where a rising function is within `near` of 0, by halving; the place nearest to it if none is.
fn search(
    [mut low, mut high]: [f64; 2],
    near: f64,
    n_tries: usize,
    excess: &mut dyn FnMut(f64) -> Result<f64, SessionError>,
) -> Result<f64, SessionError> {
    let (mut best, mut smallest) = (low, f64::INFINITY);
    for _ in 0..n_tries {
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
fn disturbed(base: &PretrainedModel, cpu: &Cpu, strength: f32, seed: u64) -> Result<Decoder<Cpu>, SessionError> {
    let mut weights = base.weights.clone();
    for (number, (_, parameter)) in (0..).zip(weights.parameters_mut()) {
        let Parameter::Matrix(matrix) = parameter else { continue };
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

/// Two normal numbers.
fn normal_pair(seed: u64, tensor: u64, place: u64) -> [f32; 2] {
    let mut random = KeyedRandom::new(seed, Domain::DECODING, [tensor, place]);
    random::normal_pair([0, 1].map(|number| random.uniform_at(number, 0))).map(|number| number as f32)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_search_finds_where_a_function_is_0() {
        let mut tries = 0;
        let found = search([-10.0, 10.0], 1e-2, TRIES, &mut |x| {
            tries += 1;
            Ok(x - 3.3)
        });
        assert!((found.unwrap() - 3.3).abs() <= 1e-2 && tries <= TRIES);
        // Out of reach: the nearest end.
        assert!(search([0.0, 1.0], 1e-9, TRIES, &mut |x| Ok(x - 5.0)).unwrap() > 0.99);
    }

    #[test]
    fn as_many_items_are_needed_as_models_differ_at() {
        // The planning numbers: 850 pairs at 20 % discordance for a half width of 3 points, 310 for one of 5.
        let right: Vec<bool> = (0..1000).map(|item| item % 5 != 0).collect();
        let all = vec![true; 1000];
        assert!((840..=870).contains(&items_needed(&all, &right, 0.03)), "{}", items_needed(&all, &right, 0.03));
        assert!((300..=315).contains(&items_needed(&all, &right, 0.05)));
        let [low, high] = accuracy_difference(&all, &right).unwrap();
        assert!((low - 0.175).abs() < 0.005 && (high - 0.225).abs() < 0.005, "{low} {high}");
        assert!(accuracy_difference(&all[..1], &right[..1]).is_none());
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
