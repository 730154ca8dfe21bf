//! Ops on packed rows, forward and backward. This crate knows buffers, threads and SIMD; it knows nothing of models,
//! files or the meaning of tokens.

mod error;
mod matrix;

pub use error::KernelError;
pub use matrix::{DType, Matrix};
