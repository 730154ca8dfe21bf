//! What can be wrong with a tokenizer, or with a text or ids given to it.

use aloud_model::error::ModelError;

/// An error while loading or using a tokenizer. The message names the file and what was expected in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file could not be read, or does not describe a tokenizer that this program can use.
    #[error(transparent)]
    File(#[from] ModelError),
    /// The tokenizer makes ids that the model has no embedding for.
    #[error(
        "the tokenizer has ids up to {}, but the model's vocabulary has only {model_vocab_size} tokens (ids up to {}); \
         tokenizer and weights are of different models", tokenizer_vocab_size.saturating_sub(1), model_vocab_size.saturating_sub(1)
    )]
    VocabularyMismatch {
        /// Ids of the tokenizer, the largest plus one.
        tokenizer_vocab_size: usize,
        /// Rows of the model's embedding.
        model_vocab_size: usize,
    },
    /// A text could not be turned into ids.
    #[error("cannot encode a text of {length} bytes: {problem}")]
    Encode {
        /// Length of the text in bytes.
        length: usize,
        /// What the tokenizer complained of.
        problem: String,
    },
    /// Ids could not be turned into a text.
    #[error("cannot decode {count} ids: {problem}")]
    Decode {
        /// How many ids were given.
        count: usize,
        /// What the tokenizer complained of.
        problem: String,
    },
}
