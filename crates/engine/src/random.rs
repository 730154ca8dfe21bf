//! Counter-based random streams of decoding, keyed by (seed, sequence, step, head): what a sequence draws does not depend
//! on how requests were batched.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The head number of the token draw; exit heads are numbered from 0.
pub(crate) const TOKEN_DRAW: u32 = u32::MAX;

/// A number in `[0, 1)`, a multiple of 2^-53, that follows from its key alone.
pub fn uniform(seed: u64, sequence: u64, step: u64, head: u32) -> f64 {
    let mut key = [0; 32];
    let (words, _) = key.as_chunks_mut::<8>();
    for (word, value) in words.iter_mut().zip([seed, sequence, step, u64::from(head)]) {
        *word = value.to_le_bytes();
    }
    (ChaCha8Rng::from_seed(key).next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}
