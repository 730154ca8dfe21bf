//! SHA-256 of texts and vocabularies, as hexadecimal digits.

use std::fmt::Write as _;

use aloud_text::tokenizer::Tokenizer;
use sha2::{Digest, Sha256};

/// Of a text.
pub(crate) fn of_text(text: &str) -> String {
    hexadecimal(&Sha256::digest(text))
}

/// Of a vocabulary: what every token id stands for, whatever file it was read from.
pub(crate) fn of_vocabulary(tokenizer: &Tokenizer, vocab_size: usize) -> String {
    let mut hash = Sha256::new();
    for id in 0..vocab_size as u32 {
        hash.update(tokenizer.token_text(id));
        hash.update([0]);
    }
    hexadecimal(&hash.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
