//! What the random draws of a step follow from: what a sequence draws does not depend on how requests were batched.

use aloud_base::random::{Domain, KeyedRandom};

/// The number of the token draw; exit heads, and what else decides exits, are numbered from 0.
pub const TOKEN_DRAW: u32 = u32::MAX;

/// A step, as its draws know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepKey {
    /// Seed of all draws of the sequence.
    pub seed: u64,
    /// Number of the sequence among those that share a seed.
    pub sequence: u64,
    /// The response token that the step emits, from 0.
    pub step: usize,
}

impl StepKey {
    /// A number in `[0, 1)`, a multiple of 2^-53, for this exit head, or for the token with [`TOKEN_DRAW`].
    pub fn uniform(self, head: u32) -> f64 {
        KeyedRandom::new(self.seed, Domain::DECODING, [self.sequence, self.step as u64]).uniform_at(head.into(), 0)
    }
}
