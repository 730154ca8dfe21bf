//! Keys, values and frozen residuals of one sequence.
//!
//! After an exit a token's residual no longer changes, so its keys and values of all later blocks depend on nothing but
//! that residual. They are computed when a later token of the sequence first runs such a block, together for all tokens
//! that wait there; a block that no later token runs never pays for them.

use std::ops::Range;

use aloud_kernels::backend::{Backend, KeyValues};

/// Keys and values of one block.
struct BlockArena<B: Backend> {
    keys: B::Rows,
    values: B::Rows,
    /// Positions `0..filled` have their keys and values here.
    filled: usize,
}

/// The state of one sequence.
pub(crate) struct Arena<B: Backend> {
    blocks: Vec<BlockArena<B>>,
    /// Residuals of exited positions, `[positions, H]`; other rows are not used.
    frozen: B::Rows,
    len: usize,
}

impl<B: Backend> Arena<B> {
    pub(crate) fn new(backend: &B, n_blocks: usize, key_value_size: usize, hidden_size: usize) -> Self {
        let block = |_| BlockArena {
            keys: backend.zeros(0, key_value_size),
            values: backend.zeros(0, key_value_size),
            filled: 0,
        };
        Self { blocks: (0..n_blocks).map(block).collect(), frozen: backend.zeros(0, hidden_size), len: 0 }
    }

    /// Number of positions consumed.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Counts `n` more positions as consumed.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Positions before `start` that still need keys and values at `block`.
    pub(crate) fn waiting(&self, block: usize, start: usize) -> Range<usize> {
        self.blocks[block].filled..start
    }

    pub(crate) fn frozen(&self) -> &B::Rows {
        &self.frozen
    }

    /// Keeps the residual with which `position` left the blocks.
    pub(crate) fn freeze(&mut self, backend: &B, position: usize, x: &B::Rows, row: usize) {
        let capacity = grown(backend.n_rows(&self.frozen), position + 1);
        backend.grow(&mut self.frozen, capacity);
        backend.copy_rows(&mut self.frozen, position, x, row..row + 1);
    }

    /// Forgets keys and values of `position` and of what follows it in the blocks from `block` on.
    pub(crate) fn forget(&mut self, block: usize, position: usize) {
        for block in &mut self.blocks[block..] {
            block.filled = block.filled.min(position);
        }
    }

    /// Stores the rows `from` of `keys` and `values` at the positions that follow those already filled.
    pub(crate) fn store(&mut self, backend: &B, block: usize, keys: &B::Rows, values: &B::Rows, from: Range<usize>) {
        let block = &mut self.blocks[block];
        let n = grown(backend.n_rows(&block.keys), block.filled + from.len());
        backend.grow(&mut block.keys, n);
        backend.grow(&mut block.values, n);
        backend.copy_rows(&mut block.keys, block.filled, keys, from.clone());
        backend.copy_rows(&mut block.values, block.filled, values, from.clone());
        block.filled += from.len();
    }

    /// Begins with the first `n` positions of `source`. Nothing was consumed here yet.
    pub(crate) fn copy_start(&mut self, backend: &B, source: &Self, n: usize) {
        for (block, source) in source.blocks.iter().enumerate() {
            self.store(backend, block, &source.keys, &source.values, 0..n.min(source.filled));
        }
        let n_frozen = n.min(backend.n_rows(&source.frozen));
        backend.grow(&mut self.frozen, n_frozen);
        backend.copy_rows(&mut self.frozen, 0, &source.frozen, 0..n_frozen);
        self.advance(n);
    }

    pub(crate) fn key_values(&self, block: usize) -> KeyValues<'_, B::Rows> {
        KeyValues { keys: &self.blocks[block].keys, values: &self.blocks[block].values, first_row: 0 }
    }

    /// Number of positions with keys and values at `block`.
    pub(crate) fn filled(&self, block: usize) -> usize {
        self.blocks[block].filled
    }
}

/// Capacity for `needed` rows: doubled, so that growing costs a constant per row.
fn grown(capacity: usize, needed: usize) -> usize {
    if needed <= capacity { capacity } else { needed.max(2 * capacity).max(64) }
}
