//! Digests of vocabularies.

use aloud_base::digest::Digest;
use aloud_text::tokenizer::Tokenizer;

/// SHA-256, in hexadecimal, of a vocabulary: what every token id stands for, whatever file it was read from.
pub(crate) fn of_vocabulary(tokenizer: &Tokenizer, vocab_size: usize) -> String {
    let mut digest = Digest::new();
    for id in 0..vocab_size as u32 {
        digest.add(tokenizer.token_text(id));
        digest.add([0]);
    }
    digest.digits()
}
