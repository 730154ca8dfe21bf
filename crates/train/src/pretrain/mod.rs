//! Pretraining: a small model from random weights.

pub mod initial_weights;
pub mod pretraining;
pub mod recipe;
