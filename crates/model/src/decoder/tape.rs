//! What the teacher-forced pass keeps for its backward.

use aloud_kernels::backend::{Backend, Query};

use super::{AttentionInputs, PackedBatch};

/// What one block leaves for its backward.
pub(super) struct BlockTape<B: Backend> {
    pub(super) x: B::Rows,
    pub(super) active: Option<Vec<u32>>,
    pub(super) queries: Vec<Query>,
    pub(super) inputs: AttentionInputs<B>,
    pub(super) attention: B::Rows,
    pub(super) log_sum_exp: B::Rows,
    pub(super) middle: B::Rows,
    pub(super) gate: B::Rows,
    pub(super) up: B::Rows,
}

/// What a whole pass leaves for its backward.
pub(super) struct Tape<B: Backend> {
    pub(super) batch: PackedBatch,
    pub(super) blocks: Vec<BlockTape<B>>,
}
