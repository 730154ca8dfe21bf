//! Random choices from a counter-based stream: one ChaCha stream per problem. The choices are made by this file alone, so
//! that the problems of a seed do not change with the version of a library.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The random choices of one problem.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream `index` of `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(index);
        Self(stream)
    }

    /// A whole number in `low..=high` (`low` if the range is empty). The bias is below 2^-40 for ranges of this crate's size.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let count = u64::try_from(high - low).map_or(1, |span| span + 1);
        let scaled = (u128::from(self.0.next_u64()) * u128::from(count)) >> 64;
        low + scaled as i64
    }

    /// One of the choices, or `None` if there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let last = i64::try_from(choices.len()).ok()? - 1;
        choices.get(usize::try_from(self.between(0, last)).ok()?)
    }

    /// A random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in 1..list.len() {
            list.swap(at, self.between(0, at as i64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_covered_evenly() {
        let mut draw = Draw::new(1, 2);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            counts[usize::try_from(draw.between(10, 14) - 10).unwrap_or(5)] += 1;
        }
        // 1000 each, standard deviation sqrt(5000 * 0.2 * 0.8) = 28: five of them.
        assert!(counts.iter().all(|count| (860..=1140).contains(count)), "{counts:?}");
        assert_eq!(draw.between(3, 3), 3);
        assert_eq!(draw.pick::<u8>(&[]), None);
    }

    #[test]
    fn streams_are_independent_of_each_other() {
        let first: Vec<i64> = (0..4).map(|i| Draw::new(9, i).between(0, 1 << 40)).collect();
        let again: Vec<i64> = (0..4).rev().map(|i| Draw::new(9, i).between(0, 1 << 40)).rev().collect();
        assert_eq!(first, again);
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
