//! The surface statistics of single traces: what their distributions, and their agreement with a judge, are of.

use super::text_statistics::{has_loop, repeated_windows, repetition_n, trace_ids, zlib_ratio};
use crate::metrics::text_statistics::{equation_validity, perplexity};
use crate::run_files::{SampleRow, TokenRow};

/// Metrics of texts that have a value for every trace, and not for a whole corpus alone.
pub const TRACE_STATISTICS: [&str; 9] = [
    "text.repeated_1",
    "text.repeated_2",
    "text.repeated_3",
    "text.repeated_4",
    "text.repeated_windows",
    "text.loops",
    "text.compression",
    "text.true_equations",
    "text.perplexity",
];

/// The value of one of [`TRACE_STATISTICS`] for one trace. `None` for any other metric, and where the trace has too little of
/// what it counts.
pub fn trace_statistic(id: &str, sample: &SampleRow, row: &TokenRow) -> Option<f64> {
    let ids = trace_ids(row);
    match id.strip_prefix("text.")? {
        "repeated_1" => repetition_n(ids, 1),
        "repeated_2" => repetition_n(ids, 2),
        "repeated_3" => repetition_n(ids, 3),
        "repeated_4" => repetition_n(ids, 4),
        "repeated_windows" => repeated_windows(ids),
        "loops" => (!ids.is_empty()).then(|| f64::from(u8::from(has_loop(ids)))),
        "compression" => zlib_ratio(&sample.cot),
        "true_equations" => match equation_validity(&sample.cot) {
            (_, 0) => None,
            (valid, all) => Some(valid as f64 / all as f64),
        },
        "perplexity" => perplexity(&nats(row)),
        _ => None,
    }
}

/// Negative log-probabilities of the tokens under the base model, in nats.
fn nats(row: &TokenRow) -> Vec<f64> {
    row.surprisal_bits.iter().map(|bits| bits * std::f64::consts::LN_2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_files::tests::{sample, token_row};

    #[test]
    fn every_statistic_has_a_value_for_a_trace() {
        let mut sample = sample("a");
        sample.cot = "2 + 2 = 4, and 2 + 2 = 5".to_owned();
        let mut row = token_row(&sample.key, &[28; 12]);
        row.surprisal_bits = vec![1.0; 12];
        for id in TRACE_STATISTICS {
            assert!(trace_statistic(id, &sample, &row).is_some_and(f64::is_finite), "{id}");
        }
        assert_eq!(trace_statistic("text.true_equations", &sample, &row), Some(0.5));
        // One bit a token.
        assert!(trace_statistic("text.perplexity", &sample, &row).is_some_and(|value| (value - 2.0).abs() < 1e-12));
        assert_eq!(trace_statistic("text.distinct_1", &sample, &row), None);
        assert_eq!(trace_statistic("length.trace", &sample, &row), None);
    }
}
