//! What can be said of a text without a judge.
//!
//! These are surface statistics; they do not measure coherence or correctness.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::arithmetic::equations;
use crate::metrics::item_rows::{ItemRows, MetricSetting};
use crate::run_files::{SampleRow, TokenRow};
use crate::statistics::quantile;
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters};
use aloud_base::random::{Domain, KeyedRandom};

/// Tokens of a window in which repetitions are looked for, and length of what is repeated.
const WINDOW: usize = 64;
const REPEATED: usize = 8;
/// A loop says the same thing at least this often in its last window.
const LOOP_TIMES: usize = 4;
/// Tokens of a window of [`windowed_perplexity`].
const PERPLEXITY_WINDOW: usize = 32;
/// Share of repeated n-grams: `1 - unique / all`. `None` for fewer than `n` tokens.
pub fn repetition_n<T: Eq + Hash>(tokens: &[T], n: usize) -> Option<f64> {
    distinct_n(&[tokens], n).map(|distinct| 1.0 - distinct)
}

/// Share of distinct n-grams over several texts (Li et al., 2016): `unique / all`. N-grams do not go across texts. `None` if
/// there is none.
pub fn distinct_n<T: Eq + Hash>(texts: &[&[T]], n: usize) -> Option<f64> {
    let mut unique = HashSet::new();
    let mut all = 0_usize;
    for gram in texts.iter().flat_map(|tokens| tokens.windows(n.max(1))) {
        unique.insert(gram);
        all += 1;
    }
    (all > 0).then(|| unique.len() as f64 / all as f64)
}

/// Share of 64-token windows in which some 8-gram stands twice. A shorter text is one window. `None` for no tokens.
pub fn repeated_windows<T: Eq + Hash>(tokens: &[T]) -> Option<f64> {
    if tokens.is_empty() {
        return None;
    }
    // For each 8-gram the place at which it stood before.
    let mut last: HashMap<&[T], usize> = HashMap::new();
    let before: Vec<Option<usize>> =
        tokens.windows(REPEATED).enumerate().map(|(at, gram)| last.insert(gram, at)).collect();
    let n_windows = tokens.len().saturating_sub(WINDOW) + 1;
    let repeated = (0..n_windows)
        .filter(|start| {
            let end = (start + WINDOW + 1 - REPEATED).min(before.len());
            before
                .get(*start..end)
                .is_some_and(|grams| grams.iter().any(|earlier| earlier.is_some_and(|at| at >= *start)))
        })
        .count();
    Some(repeated as f64 / n_windows as f64)
}

/// Whether a text ends in a loop: some 8-gram stands at least 4 times in its last 64 tokens.
pub fn has_loop<T: Eq + Hash>(tokens: &[T]) -> bool {
    let mut counts: HashMap<&[T], usize> = HashMap::new();
    tokens[tokens.len().saturating_sub(WINDOW)..].windows(REPEATED).any(|gram| {
        let count = counts.entry(gram).or_default();
        *count += 1;
        *count >= LOOP_TIMES
    })
}

/// Compressed bytes (zlib, level 6) over bytes of the text. Little for repetitions; above 1 for very short texts. `None` for an
/// empty text.
pub fn zlib_ratio(text: &str) -> Option<f64> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(text.as_bytes()).ok()?;
    let compressed = encoder.finish().ok()?;
    (!text.is_empty()).then(|| compressed.len() as f64 / text.len() as f64)
}

/// Number of true equations of a text, and of all.
pub fn equation_validity(text: &str) -> (usize, usize) {
    let equations = equations(text);
    (equations.iter().filter(|equation| equation.is_true).count(), equations.len())
}

/// `exp(mean NLL)` of tokens' negative log-probabilities in nats. `None` for no tokens.
pub fn perplexity(nlls: &[f64]) -> Option<f64> {
    (!nlls.is_empty()).then(|| (nlls.iter().sum::<f64>() / nlls.len() as f64).exp())
}

/// The perplexity that 90 % of the 32-token windows of a text do not exceed: local breakdowns. A shorter text, and what is
/// left at the end, is a window too. `None` for no tokens.
pub fn windowed_perplexity(nlls: &[f64]) -> Option<f64> {
    let mut windows: Vec<f64> = nlls.chunks(PERPLEXITY_WINDOW).filter_map(perplexity).collect();
    windows.sort_by(f64::total_cmp);
    quantile(&windows, 0.9)
}

/// Repetition, loops, compression and true equations of the traces, one record each: `text.repeated_1` to `text.repeated_4`,
/// `text.repeated_windows`, `text.loops`, `text.compression`, means over traces; `text.true_equations`, a share of equations.
pub fn text_statistics_records(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> Vec<MetricRecord> {
    let mut records: Vec<MetricRecord> = (1..=4)
        .map(|n| {
            let repetition = move |_: &SampleRow, row: &TokenRow| repetition_n(trace_ids(row), n);
            over_traces(&format!("text.repeated_{n}"), Direction::LowerIsBetter, items, setting, &repetition)
        })
        .collect();
    let lower = Direction::LowerIsBetter;
    records
        .push(over_traces("text.repeated_windows", lower, items, setting, &|_, row| repeated_windows(trace_ids(row))));
    records.push(over_traces("text.loops", lower, items, setting, &|_, row| {
        let ids = trace_ids(row);
        (!ids.is_empty()).then(|| f64::from(u8::from(has_loop(ids))))
    }));
    let descriptive = Direction::Descriptive;
    records.push(over_traces("text.compression", descriptive, items, setting, &|sample, _| zlib_ratio(&sample.cot)));
    records.push(equation_record(items, setting));
    records
}

/// The ids of a trace; of the whole response where its parts are not known.
pub(super) fn trace_ids(row: &TokenRow) -> &[u32] {
    let end = row.region.iter().position(|region| *region == crate::run_files::Region::Answer).unwrap_or(row.ids.len());
    &row.ids[..end.min(row.ids.len())]
}

pub(super) fn over_traces(
    id: &str,
    direction: Direction,
    items: &[ItemRows<'_>],
    setting: &MetricSetting<'_>,
    of: &dyn Fn(&SampleRow, &TokenRow) -> Option<f64>,
) -> MetricRecord {
    let clusters: Vec<Cluster> =
        items.iter().map(|item| Cluster::of(item.samples.iter().filter_map(|(sample, row)| of(sample, row)))).collect();
    let mean = |weights: &[u32]| mean_of_clusters(&clusters, weights);
    let value = Bootstrap::value(clusters.len(), mean);
    let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
    let record = MetricRecord::new(id, "fraction", direction, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.interval(clusters.len(), mean))
        .with_items(clusters.len() - empty)
        .with_excluded("trace_too_short", empty)
        .with_extra("family", "proxy_quality");
    if value.is_none() { record.with_null("no_trace_long_enough") } else { record }
}

fn equation_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let clusters: Vec<Cluster> = items
        .iter()
        .map(|item| {
            let counts = item.samples.iter().map(|(sample, _)| equation_validity(&sample.cot));
            let (valid, all) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
            Cluster { sum: valid as f64, count: all }
        })
        .collect();
    let value = Bootstrap::value(clusters.len(), |weights| mean_of_clusters(&clusters, weights));
    let without = clusters.iter().filter(|cluster| cluster.count == 0).count();
    let record = MetricRecord::new("text.true_equations", "fraction", Direction::HigherIsBetter, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.share_interval(&clusters))
        .with_items(clusters.len() - without)
        .with_excluded("no_equation", without)
        .with_extra("family", "proxy_quality")
        .with_extra("n_equations", clusters.iter().map(|cluster| cluster.count).sum::<usize>());
    if value.is_none() { record.with_null("no_equation") } else { record }
}

/// `text.distinct_1` or `_2`: share of distinct n-grams over traces, taken in random order until there are `n_tokens` tokens.
/// The share falls with length, so models can only be compared at an equal number: that of the smallest corpus among them.
pub fn distinct_record(items: &[ItemRows<'_>], n: usize, n_tokens: usize, setting: &MetricSetting<'_>) -> MetricRecord {
    let mut traces: Vec<&[u32]> = items.iter().flat_map(|item| &item.samples).map(|(_, row)| trace_ids(row)).collect();
    KeyedRandom::new(setting.bootstrap.seed, Domain::SUBSAMPLE, [0, 0]).in_stream(0).shuffle(&mut traces);
    let mut left = n_tokens;
    let chosen: Vec<&[u32]> = traces
        .iter()
        .map(|trace| {
            let taken = &trace[..trace.len().min(left)];
            left -= taken.len();
            taken
        })
        .collect();
    let record =
        MetricRecord::new(format!("text.distinct_{n}"), "fraction", Direction::HigherIsBetter, setting.context)
            .with_value(distinct_n(&chosen, n))
            .with_items(chosen.iter().filter(|trace| !trace.is_empty()).count())
            .with_tokens(n_tokens - left)
            .with_extra("family", "proxy_quality");
    if left > 0 { record.with_null("fewer_tokens_than_asked_for") } else { record }
}

/// `text.perplexity`: perplexity of the traces under the base model at full depth, of each item's tokens' negative log-probabilities
/// in nats, by item and sample. Loops have little of it: it is never to be read without the repetitions. In `extra`:
/// `ppl_base_q90`, the mean over traces of [`windowed_perplexity`].
pub fn perplexity_record(nlls: &[Vec<Vec<f64>>], setting: &MetricSetting<'_>) -> MetricRecord {
    let clusters: Vec<Cluster> = nlls.iter().map(|samples| Cluster::of(samples.iter().flatten().copied())).collect();
    let of_draw = |weights: &[u32]| mean_of_clusters(&clusters, weights).map(f64::exp);
    let windows: Vec<Cluster> =
        nlls.iter().map(|samples| Cluster::of(samples.iter().filter_map(|nlls| windowed_perplexity(nlls)))).collect();
    let value = Bootstrap::value(clusters.len(), of_draw);
    let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
    let record = MetricRecord::new("text.perplexity", "perplexity", Direction::Descriptive, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.interval(clusters.len(), of_draw))
        .with_items(clusters.len() - empty)
        .with_tokens(clusters.iter().map(|cluster| cluster.count).sum())
        .with_excluded("no_tokens", empty)
        .with_extra("family", "proxy_quality")
        .with_extra(
            "ppl_base_q90",
            setting.with_interval(windows.len(), |weights| mean_of_clusters(&windows, weights)),
        );
    if value.is_none() { record.with_null("no_tokens") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::item_rows::tests::{with_edited_items, with_items};

    #[test]
    fn golden_values() {
        let text: Vec<&str> = "a b c a b c a b c d".split(' ').collect();
        for (n, expected) in [(1, 0.4), (2, 4.0 / 9.0), (3, 0.5), (4, 4.0 / 7.0)] {
            assert!((distinct_n(&[text.as_slice()], n).unwrap() - expected).abs() < 1e-12);
            assert!((repetition_n(&text, n).unwrap() - (1.0 - expected)).abs() < 1e-12);
        }
        assert_eq!(repetition_n(&text, 11), None);
    }

    #[test]
    fn windows_and_loops() {
        let circle = |length: usize, around: usize| (0..length).map(|at| at % around).collect::<Vec<_>>();
        // 8-grams come back after 16 tokens: within 64 there are 57 of them, each 3 or 4 times.
        assert_eq!((repeated_windows(&circle(200, 16)), has_loop(&circle(200, 16))), (Some(1.0), true));
        // After 40 tokens: twice within a window, which is no loop.
        assert_eq!((repeated_windows(&circle(200, 40)), has_loop(&circle(200, 40))), (Some(1.0), false));
        // After 57 tokens: not within a window.
        assert_eq!((repeated_windows(&circle(200, 57)), has_loop(&circle(200, 57))), (Some(0.0), false));
        assert_eq!((repeated_windows(&circle(200, 56)), repeated_windows(&circle(0, 1))), (Some(1.0), None));
        assert_eq!((repeated_windows(&circle(9, 1)), repeated_windows(&circle(8, 1))), (Some(1.0), Some(0.0)));
        // A loop that has ended is none.
        let mut ended = circle(100, 4);
        ended.extend(1000..1064);
        assert!(!has_loop(&ended) && repeated_windows(&ended).unwrap() > 0.3);
    }

    #[test]
    fn compression_and_perplexity() {
        assert!(zlib_ratio(&"the same again. ".repeat(40)).unwrap() < 0.1);
        assert_eq!(zlib_ratio(""), None);
        assert_eq!(perplexity(&[0.0; 5]), Some(1.0));
        assert!((perplexity(&[1.0, 3.0]).unwrap() - 2.0_f64.exp()).abs() < 1e-12);
        // Ten windows, one of them bad: the quantile is between the last two.
        let mut nlls = vec![0.0; 320];
        nlls[300..].fill(8.0);
        let worst = perplexity(&nlls[288..]).unwrap();
        assert!((windowed_perplexity(&nlls).unwrap() - (1.0 + 0.1 * (worst - 1.0))).abs() < 1e-9);
        assert_eq!((perplexity(&[]), windowed_perplexity(&[])), (None, None));
    }

    #[test]
    fn records_of_a_run() {
        let edit = |number: usize, sample: &mut SampleRow, _: &mut TokenRow| {
            sample.cot = if number == 0 { "2 + 2 = 4 and 3 * 3 = 10".to_owned() } else { String::new() };
        };
        with_edited_items(&[&[28; 10], &[28; 3]], edit, |items, setting| {
            let records = text_statistics_records(items, setting);
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
            let distinct = distinct_record(items, 1, 13, setting);
            assert_eq!((distinct.value, distinct.n_tokens), (Some(10.0 / 13.0), Some(13)));
            let too_many = distinct_record(items, 1, 14, setting);
            assert_eq!(too_many.null_reason.as_deref(), Some("fewer_tokens_than_asked_for"));
        });
        with_items(&[], |items, setting| {
            assert!(text_statistics_records(items, setting).iter().all(|record| record.value.is_none()));
            let record = perplexity_record(&[vec![vec![1.0, 1.0]], vec![vec![]]], setting);
            assert!((record.value.unwrap() - 1.0_f64.exp()).abs() < 1e-12 && record.n == 1);
        });
    }

    proptest! {
        #[test]
        fn windows_by_their_definition(tokens in prop::collection::vec(0_u8..2, 1..150)) {
            let windows: Vec<&[u8]> = if tokens.len() <= WINDOW { vec![&tokens] } else { tokens.windows(WINDOW).collect() };
            let repeats = |window: &&&[u8]| {
                let grams: Vec<&[u8]> = window.windows(REPEATED).collect();
                grams.iter().collect::<HashSet<_>>().len() < grams.len()
            };
            let expected = windows.iter().filter(repeats).count() as f64 / windows.len() as f64;
            prop_assert_eq!(repeated_windows(&tokens), Some(expected));
        }
    }
}
