//! Records of responses and their exits, depth metrics, the token viewer, and text for the terminal. This crate reads what
//! was decided; it knows nothing of training loops or of how a token was computed.

mod atomic;
mod depth_metrics;
mod error;
mod metric_record;
mod palette;
mod record;
mod run_files;
mod statistics;
mod table;
mod terminal;
mod token_class;
mod view;

pub use atomic::write_atomically;
pub use depth_metrics::{
    DepthSummary, SamplerCheck, average_layer_savings, candidate_shares, exit_histogram, exit_rate, mean_depth,
    sampler_check, summarise, total_variation,
};
pub use error::EvalError;
pub use metric_record::{
    ConfidenceInterval, Decoding, DepthPolicy, Dial, Direction, Gate, IntervalMethod, MetricRecord, RecordContext,
    ReplayMode, Tier, read_metric_records, write_metric_records,
};
pub use palette::{Colour, Theme, depth_colour};
pub use record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord, read_records, write_records};
pub use run_files::{
    COPY_FLAG, CurveIndex, CurvePoint, ElicitationKind, ElicitationRow, ExitConvention, Extracted, Hint, Log, LogRow,
    LogWriter, Manifest, RUN_SCHEMA, Region, RunIdentity, RunStatus, SampleRow, Stop, TokenRow, read_curve_index,
    read_log, read_manifest, sample_key, write_curve_index, write_manifest,
};
pub use statistics::{
    Bootstrap, Cluster, Discordant, Duration, PartialRankedPairs, RankedPairs, Trend, bootstrap_front, choose_items,
    covariance, dominates_in_draws, holm_adjusted, hypervolume, isotonic_regression, items_of_tier,
    kaplan_meier_median, mcnemar_exact, mean_of_clusters, quantile, restricted_mean, spearman, weighted_quantile,
    wilson_confidence, wilson_interval,
};
pub use table::{Align, Table};
pub use terminal::{ColourSupport, coloured_token, legend_line};
pub use token_class::TokenClass;
pub use view::{ViewOptions, render_page};
