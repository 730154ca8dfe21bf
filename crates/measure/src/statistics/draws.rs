//! Random numbers of the statistics: one ChaCha stream for each purpose and number, so that no draw depends on another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    /// Stream `number` of `seed` for a purpose (a constant of the caller's).
    pub(crate) fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose.to_le_bytes());
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(number);
        Self(stream)
    }

    /// A number in `0..n`; 0 if `n` is 0. The bias is below `n / 2^64`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number in `[0, 1)`, in steps of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts a list into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_covered_evenly_and_streams_differ() {
        let mut draws = Draws::new(1, 2, 3);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            counts[draws.below(5)] += 1;
        }
        // 1000 each, standard deviation sqrt(5000 * 0.2 * 0.8) = 28: five of them.
        assert!(counts.iter().all(|count| (860..=1140).contains(count)), "{counts:?}");
        assert_eq!(draws.below(0), 0);
        let first = |seed, purpose, number| Draws::new(seed, purpose, number).below(usize::MAX);
        let all = [first(1, 2, 3), first(2, 2, 3), first(1, 3, 3), first(1, 2, 4)];
        assert!((1..4).all(|other| all[other] != all[0]) && first(1, 2, 3) == all[0]);
    }

    #[test]
    fn a_shuffled_list_is_the_same_list() {
        let mut list: Vec<usize> = (0..50).collect();
        Draws::new(5, 0, 0).shuffle(&mut list);
        assert_ne!(list, (0..50).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
    }
}
