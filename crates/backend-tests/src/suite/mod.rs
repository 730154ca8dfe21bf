//! The tests. Values and gradients are compared with plain f64 loops and their finite differences; results of one row, and of
//! another instance of the backend, are compared bit for bit.

pub mod attention;
pub mod contracts;
pub mod determinism;
pub mod layers;
pub mod linear;
pub mod row_invariance;
pub mod unembedding;
