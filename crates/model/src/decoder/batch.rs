//! A batch of sequences, concatenated without padding.

use aloud_kernels::{KeyValues, Query};

/// Tokens of several sequences, one packed row each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBatch {
    token_ids: Vec<u32>,
    starts: Vec<usize>,
    positions: Vec<u32>,
    sequence_of: Vec<u32>,
}

/// Why tokens cannot be run.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// A token is not in the model's vocabulary.
    #[error(
        "token id {id} is not below the model's vocabulary of {vocab_size}: do tokenizer and model belong together?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sequence has more tokens than the model has positions.
    #[error(
        "a sequence of {length} tokens exceeds the model's context of {context}: shorten the prompt or the response"
    )]
    TooLong {
        /// Tokens of the sequence.
        length: usize,
        /// Positions of the model.
        context: usize,
    },
}

impl PackedBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sequence that starts at position 0.
    ///
    /// # Errors
    /// If a token or a position does not exist in the model.
    pub fn push(&mut self, token_ids: &[u32], vocab_size: usize, context: usize) -> Result<(), BatchError> {
        if token_ids.len() > context {
            return Err(BatchError::TooLong { length: token_ids.len(), context });
        }
        if let Some(&id) = token_ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(BatchError::UnknownToken { id, vocab_size });
        }
        let sequence = self.starts.len() as u32;
        self.starts.push(self.token_ids.len());
        self.token_ids.extend_from_slice(token_ids);
        self.positions.extend(0..token_ids.len() as u32);
        self.sequence_of.extend(std::iter::repeat_n(sequence, token_ids.len()));
        Ok(())
    }

    /// Number of rows `R` (tokens of all sequences).
    pub fn n_rows(&self) -> usize {
        self.token_ids.len()
    }

    /// All tokens.
    pub fn token_ids(&self) -> &[u32] {
        &self.token_ids
    }

    /// Position of every row in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// First row of every sequence.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// What a row may look at.
    pub(crate) fn query(&self, row: usize) -> Query {
        Query { sequence: self.sequence_of[row] as usize, n_keys: self.positions[row] as usize + 1 }
    }
}

/// Where the keys and values of a packed batch's sequences lie.
pub(super) fn key_values<'a, R>(batch: &PackedBatch, keys: &'a R, values: &'a R) -> Vec<KeyValues<'a, R>> {
    batch.starts().iter().map(|&first_row| KeyValues { keys, values, first_row }).collect()
}
