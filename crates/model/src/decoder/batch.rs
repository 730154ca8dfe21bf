//! A batch of sequences, concatenated without padding.

use aloud_kernels::backend::{Backend, KeyValues, Query};

/// Tokens of several sequences, one packed row each. Sequences that begin alike may share the rows of their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBatch {
    token_ids: Vec<u32>,
    positions: Vec<u32>,
    sequence_of: Vec<u32>,
    /// The rows of every sequence in the order of its positions, one sequence after the other.
    key_rows: Vec<u32>,
    /// First of every sequence's rows in `key_rows`.
    starts: Vec<usize>,
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
        self.add(0, token_ids, vocab_size, context)
    }

    /// Adds a sequence that begins with the first `n_shared` tokens of the sequence before it, at the same depths, and goes
    /// on with `token_ids`: what they have in common has its rows only once.
    ///
    /// # Errors
    /// If a token or a position does not exist in the model.
    ///
    /// # Panics
    /// If the sequence before is shorter than that, or there is none.
    pub fn push_branch(
        &mut self,
        n_shared: usize,
        token_ids: &[u32],
        vocab_size: usize,
        context: usize,
    ) -> Result<(), BatchError> {
        let before = self.starts.last().map_or(0, |start| self.key_rows.len() - start);
        assert!(n_shared > 0 && n_shared <= before, "{n_shared} tokens shared with a sequence of {before}");
        self.add(n_shared, token_ids, vocab_size, context)
    }

    /// Adds a sequence of the last one's first `n_shared` tokens and `token_ids`.
    fn add(&mut self, n_shared: usize, token_ids: &[u32], vocab_size: usize, context: usize) -> Result<(), BatchError> {
        let length = n_shared + token_ids.len();
        if length > context {
            return Err(BatchError::TooLong { length, context });
        }
        if let Some(&id) = token_ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(BatchError::UnknownToken { id, vocab_size });
        }
        let sequence = self.starts.len() as u32;
        let before = self.starts.last().copied().unwrap_or_default();
        self.starts.push(self.key_rows.len());
        self.key_rows.extend_from_within(before..before + n_shared);
        let first_row = self.token_ids.len() as u32;
        self.key_rows.extend(first_row..first_row + token_ids.len() as u32);
        self.token_ids.extend_from_slice(token_ids);
        self.positions.extend(n_shared as u32..length as u32);
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

    /// What a row may look at.
    pub(crate) fn query(&self, row: usize) -> Query {
        Query { sequence: self.sequence_of[row] as usize, n_keys: self.positions[row] as usize + 1 }
    }

    /// Whether some rows belong to several sequences.
    fn has_branches(&self) -> bool {
        self.key_rows.len() > self.n_rows()
    }

    /// Number of rows in the layout that attention reads, where every sequence has its own.
    pub(super) fn n_key_rows(&self) -> usize {
        self.key_rows.len()
    }

    /// Keys or values of all rows in the layout that attention reads; `None` if that is the layout they have.
    pub(super) fn key_layout<B: Backend>(&self, backend: &B, rows: &B::Rows) -> Option<B::Rows> {
        self.has_branches().then(|| backend.gather_rows(rows, &self.key_rows))
    }

    /// The backward of [`PackedBatch::key_layout`]: gradients of shared rows add up.
    pub(super) fn key_layout_backward<B: Backend>(&self, backend: &B, d_layout: B::Rows, width: usize) -> B::Rows {
        if !self.has_branches() {
            return d_layout;
        }
        let mut d_rows = backend.zeros(self.n_rows(), width);
        backend.scatter_add_rows(&mut d_rows, Some(&self.key_rows), &d_layout);
        d_rows
    }

    /// Where keys and values of every sequence lie in the layout that attention reads.
    pub(super) fn key_values<'a, R>(&self, keys: &'a R, values: &'a R) -> Vec<KeyValues<'a, R>> {
        self.starts.iter().map(|&first_row| KeyValues { keys, values, first_row }).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn branches_have_positions_keys_and_limits_of_their_own() {
        let mut batch = PackedBatch::new();
        batch.push(&[5, 6, 7], 10, 5).unwrap();
        batch.push_branch(2, &[8, 9], 10, 5).unwrap();
        batch.push_branch(2, &[], 10, 5).unwrap();
        assert_eq!(batch.token_ids(), [5, 6, 7, 8, 9]);
        assert_eq!(batch.positions(), [0, 1, 2, 2, 3]);
        assert_eq!(batch.key_rows, [0, 1, 2, 0, 1, 3, 4, 0, 1]);
        assert_eq!(batch.query(3), Query { sequence: 1, n_keys: 3 });
        assert_eq!(batch.query(4), Query { sequence: 1, n_keys: 4 });
        let refused = batch.clone();
        assert_eq!(batch.push_branch(2, &[1; 4], 10, 5), Err(BatchError::TooLong { length: 6, context: 5 }));
        assert_eq!(batch.push_branch(2, &[10], 10, 5), Err(BatchError::UnknownToken { id: 10, vocab_size: 10 }));
        assert_eq!(batch, refused, "what is refused leaves nothing behind");
    }
}
