//! Stage 1.

mod damaged_traces;
mod distil;
mod plan;
mod student_golden;
mod traces;
