//! Ops on packed rows, forward and backward. This crate knows buffers, threads and SIMD; it knows nothing of models,
//! files or the meaning of tokens.

pub mod backend;
pub mod cpu;
pub mod dtype;
pub mod error;
pub mod host;
pub mod matrix;
mod panels;
pub mod quantise;
pub mod rope_table;
pub mod rows;
pub mod softmax_weights;
