//! The one random number of the project: it follows from its key alone, whatever was drawn before it.
//!
//! So work can be resumed, re-ordered, batched anew or spread over threads, and every draw stays what it was. The generator is
//! ChaCha8 in Bernstein's layout, used as a keyed function. Its 256-bit key is, little-endian, the seed, the [`Domain`] and two
//! numbers of the thing that is drawn for (64 bits each). A key has 2^64 streams, and a stream is a sequence of 64-bit numbers.
//!
//! | domain | the two numbers | stream | place in the stream |
//! |---|---|---|---|
//! | tasks | 0, 0 | number of the item | in order |
//! | training | trace; epoch and pattern, 32 bits each | token | candidate |
//! | statistics | 0, 0 | number of the draw | in order |
//! | decoding | sequence, step | exit head, or the token | 0 |
//!
//! Where things have names and no numbers, the key is SHA-256 of seed and name ([`KeyedRandom::named`]).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::digest::Digest;

/// What numbers are for: the second word of their key. All domains stand here, so that no new one takes the numbers of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Domain(u64);

/// Of the generators of tasks.
impl Domain {
    /// Problems, serial items and stories.
    pub const TASKS: Self = Self(0);
}

/// Of training.
impl Domain {
    /// Depth patterns of training samples.
    pub const TARGET_DEPTHS: Self = Self(1);
    /// Order of the traces in an epoch.
    pub const EPOCH_ORDER: Self = Self(2);
    /// Which traces are held out.
    pub const HELD_OUT: Self = Self(3);
    /// Free draws of target depths for reports.
    pub const TARGET_REPORT: Self = Self(4);
    /// Free draws of the student's depths for reports.
    pub const STUDENT_REPORT: Self = Self(5);
    /// First values of the adapters.
    pub const ADAPTER_INIT: Self = Self(6);
    /// Responses of the teacher.
    pub const TEACHER_SAMPLING: Self = Self(7);
    /// First values of a model's own weights.
    pub const WEIGHT_INIT: Self = Self(8);
    /// Difficulty of the examples of a pretraining.
    pub const PRETRAIN_LEVEL: Self = Self(9);
    /// Style of the examples of a pretraining.
    pub const PRETRAIN_STYLE: Self = Self(10);
    /// First values of exit translators.
    pub const TRANSLATOR_INIT: Self = Self(11);
    /// First values of propagation maps.
    pub const PROPAGATION_INIT: Self = Self(12);
}

/// Of statistics. They are numbered from 1 like those of training: under the same seed they repeat what training drew for
/// trace 0 of epoch 0. Both are kept, because results that were published rest on them; a new domain takes a word of its own.
impl Domain {
    /// Items of a bootstrap.
    pub const RESAMPLE: Self = Self(1);
    /// Halves of a set of items.
    pub const HALVES: Self = Self(2);
    /// Part of the traces that a statistic of pairs looks at.
    pub const SUBSAMPLE: Self = Self(3);
    /// Items of a bootstrap, within each number of steps.
    pub const RESAMPLE_WITHIN_STEPS: Self = Self(4);
    /// Depths from the histogram of another model.
    pub const RANDOM_MATCHED: Self = Self(5);
    /// Items of a bootstrap of two runs, within each number of steps.
    pub const RESAMPLE_PAIRS_WITHIN_STEPS: Self = Self(5);
    /// Items of a bootstrap, within each class.
    pub const RESAMPLE_WITHIN_CLASSES: Self = Self(6);
    /// Items of a bootstrap, traced ones.
    pub const RESAMPLE_TRACED: Self = Self(7);
}

/// Of decoding.
impl Domain {
    /// Exit decisions and tokens.
    pub const DECODING: Self = Self(u64::from_le_bytes(*b"decoding"));
}

/// The random numbers of one key.
#[derive(Clone, Debug)]
pub struct KeyedRandom(ChaCha8Rng);

impl KeyedRandom {
    /// The numbers of this key, at the beginning of stream 0.
    pub fn new(seed: u64, domain: Domain, thing: [u64; 2]) -> Self {
        let mut key = [0; 32];
        let (words, _) = key.as_chunks_mut::<8>();
        for (word, value) in words.iter_mut().zip([seed, domain.0, thing[0], thing[1]]) {
            *word = value.to_le_bytes();
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// The numbers of a name: the key is SHA-256 of the seed (64 bits, little-endian) and the name. Names of different purposes
    /// begin with different words.
    pub fn named(seed: u64, name: &str) -> Self {
        let mut key = Digest::new();
        key.add(seed.to_le_bytes());
        key.add(name);
        Self(ChaCha8Rng::from_seed(key.bytes()))
    }

    /// The same key, at the beginning of this stream.
    #[must_use]
    pub fn in_stream(mut self, stream: u64) -> Self {
        self.0.set_stream(stream);
        self
    }

    /// The 64 random bits at a place of a stream. The numbers in order go on from there.
    pub fn bits_at(&mut self, stream: u64, place: u64) -> u64 {
        self.0.set_stream(stream);
        self.0.set_word_pos(2 * u128::from(place));
        self.bits()
    }

    /// The number in `[0, 1)`, a multiple of 2^-53, at a place of a stream.
    pub fn uniform_at(&mut self, stream: u64, place: u64) -> f64 {
        unit(self.bits_at(stream, place))
    }

    /// The number in `0..n` at a place of a stream, uniform up to 2^-64; 0 for `n = 0`.
    pub fn below_at(&mut self, stream: u64, place: u64, n: usize) -> usize {
        scaled(self.bits_at(stream, place), n as u64) as usize
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next number in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// The next number in `0..n`, uniform up to `n / 2^64`; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        scaled(self.bits(), n as u64) as usize
    }

    /// The next whole number in `low..=high`; `low` if that is empty.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let count = u64::try_from(high - low).map_or(1, |span| span + 1);
        low + scaled(self.bits(), count) as i64
    }

    /// One of the choices, or `None` if there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let choice = self.below(choices.len());
        choices.get(choice)
    }

    /// Puts a list in a random order (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }

    /// The same from the beginning, another order of the same numbers: that of the generators of tasks.
    pub fn shuffle_from_start<T>(&mut self, list: &mut [T]) {
        for at in 1..list.len() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// Random bits as a number in `[0, 1)`.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// Random bits as a number in `0..n`: the upper 64 bits of `bits * n`.
fn scaled(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// Two independent normal numbers, mean 0 and variance 1, from two uniform ones in `[0, 1)` (Box and Muller).
pub fn normal_pair([first, second]: [f64; 2]) -> [f64; 2] {
    // 1 - u is not 0.
    let radius = (-2.0 * (1.0 - first).ln()).sqrt();
    let angle = std::f64::consts::TAU * second;
    [radius * angle.cos(), radius * angle.sin()]
}
