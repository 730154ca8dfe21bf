//! Counter-based random numbers: a number follows from its key alone, whatever was drawn before it.
//!
//! The generator is ChaCha8 in Bernstein's layout, used as a keyed function. Its 256-bit key is, little-endian, seed
//! (64 bits), purpose (64), trace (64), epoch (32), sample (32); its 64-bit stream is the token; its position is the
//! candidate, two 32-bit words each. So training can be resumed, re-ordered or spread over threads, and every depth
//! pattern stays what it was. Decoding has a constant of its own in place of the purpose, so that no number is used twice.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random numbers are for. Different purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Depth patterns of training samples.
    TargetDepths = 1,
    /// Order of the traces in an epoch.
    EpochOrder = 2,
    /// Which traces are held out.
    HeldOut = 3,
    /// Free draws of target depths for reports.
    TargetReport = 4,
    /// Free draws of the student's depths for reports.
    StudentReport = 5,
    /// First values of the adapters.
    AdapterInit = 6,
    /// Responses of the teacher.
    TeacherSampling = 7,
    /// First values of a model's own weights.
    WeightInit = 8,
    /// Difficulty of the examples of a pretraining.
    PretrainLevel = 9,
    /// Style of the examples of a pretraining.
    PretrainStyle = 10,
}

/// The random numbers of one sample: one trace, in one epoch, with one depth pattern.
#[derive(Clone, Debug)]
pub struct SampleRandom {
    generator: ChaCha8Rng,
}

impl SampleRandom {
    /// The numbers of this key.
    pub fn new(seed: u64, purpose: Purpose, trace: u64, epoch: u32, sample: u32) -> Self {
        let mut key = [0; 32];
        let (words, _) = key.as_chunks_mut::<8>();
        let samples = u64::from(epoch) | u64::from(sample) << 32;
        for (word, value) in words.iter_mut().zip([seed, purpose as u64, trace, samples]) {
            *word = value.to_le_bytes();
        }
        Self { generator: ChaCha8Rng::from_seed(key) }
    }

    /// 64 random bits for this token and candidate.
    pub fn bits(&mut self, token: u64, candidate: u64) -> u64 {
        self.generator.set_stream(token);
        self.generator.set_word_pos(2 * u128::from(candidate));
        self.generator.next_u64()
    }

    /// A number in `[0, 1)`, a multiple of 2^-53, for this token and candidate.
    pub fn uniform(&mut self, token: u64, candidate: u64) -> f64 {
        (self.bits(token, candidate) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// One number in `[0, 1)` by its whole key; see [`SampleRandom`] for many of one sample.
pub fn uniform(seed: u64, purpose: Purpose, trace: u64, epoch: u32, sample: u32, token: u64, candidate: u64) -> f64 {
    SampleRandom::new(seed, purpose, trace, epoch, sample).uniform(token, candidate)
}

/// The order in which an epoch visits its traces: a permutation of `items` (Fisher-Yates) that depends on the seed, the
/// epoch and the items alone.
pub fn epoch_order(seed: u64, epoch: u32, mut items: Vec<usize>) -> Vec<usize> {
    let mut random = SampleRandom::new(seed, Purpose::EpochOrder, 0, epoch, 0);
    for last in (1..items.len()).rev() {
        // The upper 64 bits of bits * (last + 1): uniform in 0..=last up to 2^-64.
        let pick = (u128::from(random.bits(last as u64, 0)) * (last as u128 + 1)) >> 64;
        items.swap(last, pick as usize);
    }
    items
}

/// Splits traces `0..n` into training and held-out indices, both in increasing order. At least one trace is held out if
/// `fraction > 0` and `n >= 2`, and at least one is trained on.
///
/// Each trace has its own number, and those with the smallest are held out: adding traces to a store moves few others.
pub fn split_held_out(seed: u64, n: usize, fraction: f64) -> (Vec<usize>, Vec<usize>) {
    if n < 2 || fraction <= 0.0 || fraction.is_nan() {
        return ((0..n).collect(), Vec::new());
    }
    let n_held_out = ((n as f64 * fraction).round() as usize).clamp(1, n - 1);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&trace| (SampleRandom::new(seed, Purpose::HeldOut, trace as u64, 0, 0).bits(0, 0), trace));
    let mut training = order.split_off(n_held_out);
    training.sort_unstable();
    order.sort_unstable();
    (training, order)
}
