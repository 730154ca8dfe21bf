//! The random choices of the generators: one stream a problem.

use aloud_base::random::{Domain, KeyedRandom};

/// The choices of problem `index` of a seed.
pub fn draws(seed: u64, index: u64) -> KeyedRandom {
    KeyedRandom::new(seed, Domain::TASKS, [0, 0]).in_stream(index)
}
