//! What other models say of a response: grades by a judge. Knows responses and endpoints; knows nothing of training.

pub mod judge;
