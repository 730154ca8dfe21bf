//! Records of responses and their exits, metrics, evaluation runs with their figures, reports, comparisons and exports, grades by
//! a judge, the token viewer, and text for the terminal. This crate reads what was decided; it knows nothing of training loops
//! or of how a token was computed.

mod atomic;
pub mod chat;
mod compare;
mod depth_metrics;
mod digest;
mod error;
mod evaluation_run;
pub mod inspect;
pub mod judge;
mod keyed_random;
mod metric_record;
mod metrics;
mod palette;
pub mod plot;
mod record;
pub mod report;
mod run_files;
mod statistics;
mod table;
pub mod tensorboard;
mod terminal;
#[cfg(test)]
mod test_runs;
mod text;
mod token_class;
mod verdicts;
mod view;
mod writing_system;

pub use atomic::write_atomically;
pub use compare::{Comparison, Difference, compare};
pub use depth_metrics::{
    DepthSummary, SamplerCheck, average_layer_savings, candidate_shares, exit_histogram, exit_rate, mean_depth,
    sampler_check, summarise, total_variation,
};
pub use error::EvalError;
pub use evaluation_run::{EvaluationRun, LeftOut, RunSet, Sweep, dial_name, open_runs};
pub use metric_record::{
    ConfidenceInterval, Decoding, DepthPolicy, Dial, Direction, Gate, IntervalMethod, MetricRecord, RecordContext,
    ReplayMode, Tier, read_metric_records, write_metric_records,
};
pub use metrics::{
    AccuracyCurve, CLASSIFIER_VERSION, DialPoint, Distances, EarlyAnswers, Equation, ExitHeadKind, Funnel,
    HazardReading, Horizon, ItemRows, KindAccuracy, KindAnswer, MetricSetting, ModelShape, NecessityItem, PairedItems,
    PromptTimes, RandomMatched, Rational, SettledToken, SettlingCriterion, SolvedItem, StepAccuracy, StepCoverage,
    TRACE_STATISTICS, TokenText, accuracy_by_kind, accuracy_record, area_over_curve, balanced_accuracy,
    balanced_accuracy_record, base_kl_record, classify_tokens, commit_point, distances, distinct_n, distinct_record,
    dose_response_record, early_answering_record, equation_validity, equations, exchange_record,
    exit_distribution_record, exit_rate_record, flops_record, front_record, has_loop, hazard_of_logit,
    interior_area_over_curve, join_items, js_bits, kl_bits, layer_savings_record, log_probability_necessity,
    majority_baseline, n_written_values, necessity_records, numbers_in, opaque_depth_record, pair_items,
    paired_accuracy, perplexity, perplexity_record, regret_record, repeated_windows, repetition_n, script_record,
    serial_horizon, serial_horizon_record, settling_depths, share_in_script, soft_area_over_curve,
    soft_early_answering_record, speed_record, static_depth_of_equal_mean, step_coverage, step_coverage_records,
    step_early_answering_record, stick_breaking, suffix_shift, surprisal_record, target_hazard_of_kl,
    text_statistics_records, token_class_record, trace_length_record, trace_statistic, truncation_record,
    unknown_record, wasserstein, windowed_perplexity, with_kinds, zlib_ratio,
};
pub use palette::{Colour, Theme, depth_colour};
pub use record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord, read_records, write_records};
pub use run_files::{
    COPY_FLAG, CurveIndex, CurvePoint, ElicitationKind, ElicitationRow, ExitConvention, Extracted, Hint, Log, LogRow,
    LogWriter, Manifest, NoiseControl, RUN_SCHEMA, Region, RunIdentity, RunStatus, SampleRow, Stop, TokenRow,
    read_curve_index, read_log, read_manifest, sample_key, write_curve_index, write_manifest,
};
pub use statistics::{
    Bootstrap, Cluster, Discordant, Duration, PartialRankedPairs, RankedPairs, Trend, bootstrap_front, choose_items,
    choose_stratified, covariance, dominates_in_draws, holm_adjusted, hypervolume, isotonic_regression, items_of_tier,
    kaplan_meier_median, mcnemar_exact, mean_of_clusters, quantile, restricted_mean, spearman, weighted_quantile,
    wilson_confidence, wilson_interval,
};
pub use table::{Align, Table};
pub use terminal::{ColourSupport, coloured_token, legend_line};
pub use token_class::TokenClass;
pub use verdicts::{
    CalibratedHypothesis, Condition, Contrast, ControlCheck, NullSimulation, PairedDifference, RecordedItem,
    RecordedItems, TestedHypothesis, VERDICT_CONTROLS, Verdict, Verdicts, control_check, verdicts,
};
pub use view::{ResponseGroup, ViewOptions, render_page};
pub use writing_system::WritingSystem;
