//! Random numbers that follow from a seed and a name alone, whatever was drawn before them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The random numbers of one purpose: ChaCha8 under the key SHA-256(seed, little-endian, then the name).
#[derive(Debug)]
pub struct KeyedRandom(ChaCha8Rng);

impl KeyedRandom {
    /// The numbers of this seed and name. Names of different purposes start with different words.
    pub fn new(seed: u64, name: &str) -> Self {
        let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
        Self(ChaCha8Rng::from_seed(key.into()))
    }

    /// The next number in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// The next number in `0..n`, uniform up to 2^-64; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        // The upper 64 bits of bits * n.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts the items in a random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_seed_and_name() {
        let draws = |seed, name| {
            let mut random = KeyedRandom::new(seed, name);
            [random.uniform(), random.uniform()]
        };
        assert_eq!(draws(7, "a"), draws(7, "a"));
        assert_ne!(draws(7, "a"), draws(8, "a"));
        assert_ne!(draws(7, "a"), draws(7, "b"));
    }

    #[test]
    fn every_order_is_about_as_frequent() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut items = [0, 1, 2];
            KeyedRandom::new(seed, "shuffle").shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        // Each of the six orders: 1000 expected, standard deviation 29.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
