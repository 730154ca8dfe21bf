//! Rows in, numbers out: records of responses and their exits, the files of an evaluation run, statistics and metrics. Knows what
//! was decided; knows nothing of models, of how a token was computed, or of how numbers are shown.

pub mod depth_summary;
pub mod earlier_names;
pub mod error;
pub mod evaluation_run;
pub mod metric_record;
pub mod metrics;
pub mod record;
pub mod run_files;
pub mod statistics;
#[cfg(any(test, feature = "test-runs"))]
pub mod test_runs;
pub mod token_class;
mod writing_system;
