//! Counter-based random streams of decoding, keyed by (seed, sequence, step, head): what a sequence draws does not depend
//! on how requests were batched.
//!
//! The generator is ChaCha8 as a keyed function. Its 256-bit key is, little-endian, seed, [`DOMAIN`], sequence and step
//! (64 bits each); its 64-bit stream is the head. The second word of the key keeps this domain apart from all others that
//! share a seed: training has a purpose from 1 on there, the generators of tasks 0.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The head number of the token draw; exit heads are numbered from 0.
pub(crate) const TOKEN_DRAW: u32 = u32::MAX;

/// The second word of every key of decoding.
const DOMAIN: u64 = u64::from_le_bytes(*b"decoding");

/// A number in `[0, 1)`, a multiple of 2^-53, that follows from its key alone.
pub fn uniform(seed: u64, sequence: u64, step: u64, head: u32) -> f64 {
    let mut key = [0; 32];
    let (words, _) = key.as_chunks_mut::<8>();
    for (word, value) in words.iter_mut().zip([seed, DOMAIN, sequence, step]) {
        *word = value.to_le_bytes();
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(head.into());
    (generator.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}
