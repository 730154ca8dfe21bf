//! Metrics: rows in, records out. Nothing here runs a model, reads a file or draws a random number that does not follow
//! from a seed.

pub mod accuracy;
pub mod answer_kinds;
pub mod arithmetic;
pub mod controls;
pub mod dial_curve;
pub mod distances;
pub mod early_answering;
pub mod exit_distribution;
pub mod exit_rate;
pub mod flops;
pub mod item_rows;
pub mod layer_savings;
pub mod necessity;
pub mod serial_depth;
pub mod serial_horizon;
pub mod settling;
pub mod step_coverage;
pub mod surprisal;
pub mod text_drift;
pub mod text_statistics;
pub mod token_classes;
pub mod trace_length;
pub mod trace_statistics;
pub mod truncation;
