//! Surface statistics of traces: of single ones, which their agreement with a judge is of, and of all of a run.

use super::item_rows::{ItemRows, MetricSetting, clusters_of};
use super::text_statistics::{
    distinct_n, equation_validity, has_loop, perplexity, repeated_windows, repetition_n, windowed_perplexity,
    zlib_ratio,
};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{Region, SampleRow, TokenRow};
use crate::statistics::{Cluster, mean_of_clusters};
use aloud_base::random::{Domain, KeyedRandom};

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
        "loops" => (!ids.is_empty()).then(|| f64::from(has_loop(ids))),
        "compression" => zlib_ratio(&sample.cot),
        "true_equations" => equations_of(sample).mean(),
        "perplexity" => perplexity(&nats(row)),
        _ => None,
    }
}

/// The ids of a trace; of the whole response where its parts are not known.
pub(super) fn trace_ids(row: &TokenRow) -> &[u32] {
    let end = row.region.iter().position(|region| *region == Region::Answer).unwrap_or(row.ids.len());
    &row.ids[..end.min(row.ids.len())]
}

/// Negative log-probabilities of the tokens under the base model, in nats.
fn nats(row: &TokenRow) -> Vec<f64> {
    row.surprisal_bits.iter().map(|bits| bits * std::f64::consts::LN_2).collect()
}

/// The true equations of a trace, of all that it has.
fn equations_of(sample: &SampleRow) -> Cluster {
    let (n_true, count) = equation_validity(&sample.cot);
    Cluster { sum: n_true as f64, count }
}

/// Repetition, loops, compression and true equations of the traces, one record each: `text.repeated_1` to `text.repeated_4`,
/// `text.repeated_windows`, `text.loops`, `text.compression`, means over traces; `text.true_equations`, a share of equations.
pub fn text_statistics_records(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> Vec<MetricRecord> {
    let mean = |id: &&str| {
        let direction = if *id == "text.compression" { Direction::Descriptive } else { Direction::LowerIsBetter };
        over_traces(id, direction, items, setting, &|sample, row| trace_statistic(id, sample, row))
            .or_null("no_trace_long_enough")
    };
    TRACE_STATISTICS[..7].iter().map(mean).chain([equation_record(items, setting)]).collect()
}

/// The mean over traces of a statistic of them.
pub(super) fn over_traces(
    id: &str,
    direction: Direction,
    items: &[ItemRows<'_>],
    setting: &MetricSetting<'_>,
    of: &dyn Fn(&SampleRow, &TokenRow) -> Option<f64>,
) -> MetricRecord {
    setting
        .mean_record(id, "fraction", direction, &clusters_of(items, of), "trace_too_short")
        .with_extra("family", "proxy_quality")
}

fn equation_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let of_item = |item: &ItemRows<'_>| item.samples.iter().map(|(sample, _)| equations_of(sample)).sum();
    let clusters: Vec<Cluster> = items.iter().map(of_item).collect();
    setting
        .mean_record("text.true_equations", "fraction", Direction::HigherIsBetter, &clusters, "no_equation")
        .with_interval(setting.bootstrap.share_interval(&clusters))
        .with_extra("family", "proxy_quality")
        .with_extra("n_equations", Cluster::total(&clusters).count)
        .or_null("no_equation")
}

/// `text.distinct_1` or `_2`: share of distinct n-grams over traces, taken in random order until there are `n_tokens` tokens.
/// The share falls with length, so models can only be compared at an equal number: that of the smallest corpus among them.
pub fn distinct_record(items: &[ItemRows<'_>], n: usize, n_tokens: usize, setting: &MetricSetting<'_>) -> MetricRecord {
    let mut traces: Vec<&[u32]> = items.iter().flat_map(|item| &item.samples).map(|(_, row)| trace_ids(row)).collect();
    KeyedRandom::new(setting.bootstrap.seed, Domain::SUBSAMPLE, [0, 0]).in_stream(0).shuffle(&mut traces);
    let mut left = n_tokens;
    for trace in &mut traces {
        *trace = &trace[..trace.len().min(left)];
        left -= trace.len();
    }
    let record =
        MetricRecord::new(format!("text.distinct_{n}"), "fraction", Direction::HigherIsBetter, setting.context)
            .with_value(distinct_n(&traces, n))
            .with_items(traces.iter().filter(|trace| !trace.is_empty()).count())
            .with_tokens(n_tokens - left)
            .with_extra("family", "proxy_quality");
    if left > 0 { record.with_null("fewer_tokens_than_asked_for") } else { record }
}

/// `text.perplexity`: perplexity of the traces under the base model at full depth, which rows have as bits. Loops have little of it:
/// it is never to be read without the repetitions. In `extra`: `ppl_base_q90`, the mean over traces of [`windowed_perplexity`].
pub fn perplexity_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let clusters = clusters_of(items, |_, row| nats(row));
    let of_draw = |weights: &[u32]| mean_of_clusters(&clusters, weights).map(f64::exp);
    let windows = clusters_of(items, |_, row| windowed_perplexity(&nats(row)));
    let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
    setting
        .record("text.perplexity", "perplexity", Direction::Descriptive, clusters.len(), of_draw)
        .with_items(clusters.len() - empty)
        .with_tokens(Cluster::total(&clusters).count)
        .with_excluded("no_tokens", empty)
        .with_extra("family", "proxy_quality")
        .with_extra("ppl_base_q90", setting.mean(&windows))
        .or_null("no_tokens")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};
    use crate::test_runs::{sample, token_row};

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
        assert!((trace_statistic("text.perplexity", &sample, &row).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(trace_statistic("text.distinct_1", &sample, &row), None);
        assert_eq!(trace_statistic("length.trace", &sample, &row), None);
    }

    #[test]
    fn records_of_a_run() {
        let (two, setting) = (
            edited_items(&[&[28; 10], &[28; 3]], |number, sample, row| {
                sample.cot = ["2 + 2 = 4 and 3 * 3 = 10", ""][number].to_owned();
                row.surprisal_bits = vec![1.0; [10, 0][number]];
            }),
            setting(),
        );
        let records = text_statistics_records(&two, &setting);
        let of = |id: &str| records.iter().find(|record| record.id == id).unwrap();
        assert_eq!((of("text.repeated_1").value, of("text.repeated_1").n), (Some(0.0), 2));
        assert_eq!((of("text.repeated_4").n, of("text.repeated_4").exclusions["trace_too_short"]), (1, 1));
        assert_eq!((of("text.true_equations").value, of("text.true_equations").n_excluded), (Some(0.5), 1));
        assert_eq!(of("text.compression").n, 1);
        assert_eq!(records.len(), 8);
        for record in &records {
            record.check().unwrap();
        }
        // Ids 1 to 10 and 1 to 3: 13 tokens, 10 of them distinct.
        let distinct = distinct_record(&two, 1, 13, &setting);
        assert_eq!((distinct.value, distinct.n_tokens), (Some(10.0 / 13.0), Some(13)));
        let too_many = distinct_record(&two, 1, 14, &setting);
        assert_eq!(too_many.null_reason.as_deref(), Some("fewer_tokens_than_asked_for"));
        assert!(text_statistics_records(&items(&[]), &setting).iter().all(|record| record.value.is_none()));
        let record = perplexity_record(&two, &setting);
        assert!((record.value.unwrap() - 2.0).abs() < 1e-12 && (record.n, record.n_excluded) == (1, 1));
    }
}
