//! Ops on packed rows, forward and backward. This crate knows buffers, threads and SIMD; it knows nothing of models,
//! files or the meaning of tokens.

mod backend;
mod cpu;
mod error;
mod matrix;
mod rope_table;
mod rows;

pub use backend::{
    Backend, Heads, KeyValues, KlDirection, LensReading, LensRow, MAX_LOGIT_ROWS, Query, Readout, Rotation,
    TokenReading,
};
pub use cpu::{Cpu, SimdLevel};
pub use error::KernelError;
pub use matrix::{DType, Matrix};
pub use rope_table::RopeTable;
pub use rows::Rows;
