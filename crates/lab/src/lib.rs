//! Evaluation runs and sweeps: models and their controls, asked the same items with the same random numbers. Knows sessions
//! and what is measured of them; knows nothing of arguments and terminals.

pub mod evaluation;
pub mod limits;
pub mod machine_speed;
pub mod measured_rows;
pub mod serial_evaluation;
pub mod serial_report;
pub mod sweep;
pub mod words;
pub mod workloads;
