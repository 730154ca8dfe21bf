//! Stage 1: a student learns from traces of its teacher to stop early and to say the same (arXiv 2603.21376).

pub mod distil;
pub mod fitting;
pub mod heads;
pub mod held_out;
pub mod metrics;
pub mod plan;
pub mod preparation;
pub mod recipe;
pub mod student;
pub mod teacher;
pub mod traces;
pub mod translators;
