//! Metrics: rows in, records out. Nothing here runs a model, reads a file or draws a random number that does not follow
//! from a seed.

mod accuracy;
mod answer_kinds;
mod arithmetic;
mod controls;
mod dial_curve;
mod distances;
mod early_answering;
mod exit_distribution;
mod exit_mix;
mod exit_rate;
mod flops;
mod item_rows;
mod layer_savings;
mod necessity;
mod serial_depth;
mod serial_horizon;
mod settling;
mod speed;
mod step_coverage;
mod surprisal;
mod text_drift;
mod text_statistics;
mod token_classes;
mod trace_length;
mod trace_statistics;
mod truncation;

pub use accuracy::{accuracy_record, paired_accuracy};
pub use answer_kinds::{
    KindAccuracy, KindAnswer, accuracy_by_kind, balanced_accuracy, balanced_accuracy_record, majority_baseline,
    with_kinds,
};
pub use arithmetic::{Equation, Rational, equations, numbers_in};
pub use controls::{RandomMatched, static_depth_of_equal_mean};
pub use dial_curve::{AccuracyCurve, DialPoint, dose_response_record, front_record};
pub use distances::{Distances, distances, js_bits, kl_bits, wasserstein};
pub(crate) use early_answering::joined_to_values;
pub use early_answering::{
    EarlyAnswers, area_over_curve, commit_point, early_answering_record, interior_area_over_curve,
    soft_area_over_curve, soft_early_answering_record, step_early_answering_record, suffix_shift,
};
pub use exit_distribution::{HazardReading, exit_distribution_record};
pub use exit_mix::{hazard_of_logit, stick_breaking, target_hazard_of_kl};
pub use exit_rate::exit_rate_record;
pub(crate) use flops::saved_operations;
pub use flops::{ExitHeadKind, ModelShape, flops_record};
pub use item_rows::{ItemRows, MetricSetting, PairedItems, join_items, pair_items};
pub use layer_savings::layer_savings_record;
pub use necessity::{NecessityItem, log_probability_necessity, necessity_records};
pub use serial_depth::{exchange_record, opaque_depth_record};
pub use serial_horizon::{Horizon, StepAccuracy, serial_horizon, serial_horizon_record};
pub use settling::{SettledToken, SettlingCriterion, regret_record, settling_depths};
pub use speed::{PromptTimes, speed_record};
pub use step_coverage::{SolvedItem, StepCoverage, n_written_values, step_coverage, step_coverage_records};
pub use surprisal::surprisal_record;
pub use text_drift::{base_kl_record, script_record, share_in_script, unknown_record};
pub use text_statistics::{
    distinct_n, distinct_record, equation_validity, has_loop, perplexity, perplexity_record, repeated_windows,
    repetition_n, text_statistics_records, windowed_perplexity, zlib_ratio,
};
pub use token_classes::{CLASSIFIER_VERSION, TokenText, classify_tokens, token_class_record};
pub use trace_length::trace_length_record;
pub use trace_statistics::{TRACE_STATISTICS, trace_statistic};
pub use truncation::{Funnel, truncation_record};
