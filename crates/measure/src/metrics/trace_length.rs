//! How long traces are, with those that were cut.

use serde_json::{Value, json};

use super::arithmetic::equations;
use super::item_rows::{ItemRows, MetricSetting, PairedItems, clusters_of};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{SampleRow, Stop};
use crate::statistics::{Cluster, Duration, kaplan_meier_median, mean_of_clusters, restricted_mean};

/// Length of a sample's trace. It is censored if the limit on tokens came before the trace's end.
fn trace(sample: &SampleRow) -> Duration {
    Duration { length: sample.n_cot, censored: sample.stop == Stop::Cap && !sample.closed }
}

/// Tokens of a trace. The value is the restricted mean `E[min(T, cap)]`. In `extra`: the mean of what was seen and the share
/// that was cut, Kaplan and Meier's median, tokens of the answer, sentences and equations a trace, and, against a base, the
/// ratio of the means on all shared items and on those that neither model was cut on.
pub fn trace_length_record(
    items: &[ItemRows<'_>],
    cap: usize,
    base: Option<&PairedItems<'_>>,
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let samples = || items.iter().flat_map(|item| &item.samples).map(|(sample, _)| *sample);
    let durations: Vec<Duration> = samples().map(trace).collect();
    let restricted = |weights: &[u32]| {
        let weighted = items.iter().zip(weights).flat_map(|(item, weight)| {
            item.samples.iter().flat_map(|(sample, _)| std::iter::repeat_n(trace(sample), *weight as usize))
        });
        restricted_mean(&weighted.collect::<Vec<_>>(), cap)
    };
    let mean = |of: fn(&SampleRow) -> f64| setting.mean(&clusters_of(items, |sample, _| Some(of(sample))));
    let censored = durations.iter().filter(|duration| duration.censored).count();
    setting
        .record("length.trace", "tokens", Direction::Descriptive, items.len(), restricted)
        .with_tokens(samples().map(SampleRow::n_tokens).sum())
        .with_extra("cap", cap)
        .with_extra("mean", mean(|sample| sample.n_cot as f64))
        .with_extra("censored", json!((!durations.is_empty()).then(|| censored as f64 / durations.len() as f64)))
        .with_extra("km_median", json!(kaplan_meier_median(&durations)))
        .with_extra("answer_tokens", mean(|sample| sample.n_answer as f64))
        .with_extra("sentences", mean(|sample| n_sentences(&sample.cot) as f64))
        .with_extra("equations", mean(|sample| equations(&sample.cot).len() as f64))
        .with_extra("ratio_paired", base.map_or(Value::Null, |paired| ratios(paired, setting)))
        .or_null(if durations.is_empty() { "no_samples" } else { "cut_below_the_cap" })
}

/// Ratios of the mean lengths of the first model's traces to the second's.
fn ratios(paired: &PairedItems<'_>, setting: &MetricSetting<'_>) -> Value {
    let ratio = |pairs: &[&(&ItemRows<'_>, &ItemRows<'_>)]| {
        let clusters = |item: &ItemRows<'_>| Cluster::of(item.samples.iter().map(|(sample, _)| sample.n_cot as f64));
        let (model, base): (Vec<Cluster>, Vec<Cluster>) =
            pairs.iter().map(|(model, base)| (clusters(model), clusters(base))).unzip();
        let ratio = setting.with_interval(pairs.len(), |weights| {
            let below = mean_of_clusters(&base, weights).filter(|mean| *mean > 0.0)?;
            Some(mean_of_clusters(&model, weights)? / below)
        });
        json!({"n": pairs.len(), "ratio": ratio})
    };
    let is_whole = |item: &ItemRows<'_>| item.samples.iter().all(|(sample, _)| sample.stop != Stop::Cap);
    let all: Vec<_> = paired.pairs.iter().collect();
    let whole: Vec<_> = paired.pairs.iter().filter(|(model, base)| is_whole(model) && is_whole(base)).collect();
    json!({"all": ratio(&all), "neither_cut": ratio(&whole)})
}

/// Number of sentences: pieces that end at a line break, or at `.`, `!` or `?` followed by a space or the end.
fn n_sentences(text: &str) -> usize {
    let mut count = 0;
    let mut has_words = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        has_words |= c.is_alphanumeric();
        let ends =
            c == '\n' || (matches!(c, '.' | '!' | '?') && characters.peek().is_none_or(|next| next.is_whitespace()));
        if ends && has_words {
            count += 1;
            has_words = false;
        }
    }
    count + usize::from(has_words)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::pair_items;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};

    #[test]
    fn sentences() {
        assert_eq!(n_sentences("It is 3.5 kg. So 7! 2 + 2 = 4\n\nDone"), 4);
        assert_eq!(n_sentences("... \n?"), 0);
    }

    #[test]
    fn cut_traces_are_not_dropped() {
        let items_with_cut = edited_items(&[&[28; 2], &[28; 4], &[28; 10]], |number, sample, _| {
            (sample.stop, sample.closed) = if number == 2 { (Stop::Cap, false) } else { (Stop::Eos, true) };
        });
        let record = trace_length_record(&items_with_cut, 10, None, &setting());
        assert!((record.value.unwrap() - 16.0 / 3.0).abs() < 1e-12);
        assert_eq!(record.extra["censored"], 1.0 / 3.0);
        assert_eq!(record.extra["km_median"], 4);
        assert_eq!(record.extra["sentences"]["value"], 1.0);
        assert_eq!(record.extra["equations"]["value"], 1.0);
        record.check().unwrap();
        let record = trace_length_record(&items_with_cut, 20, None, &setting());
        assert_eq!(record.null_reason.as_deref(), Some("cut_below_the_cap"));
        let base = items(&[&[28; 1], &[28; 2], &[28; 1]]);
        let paired = pair_items(&items_with_cut, &base);
        let ratios = &trace_length_record(&items_with_cut, 10, Some(&paired), &setting()).extra["ratio_paired"];
        assert_eq!(ratios["all"]["ratio"]["value"], 4.0);
        assert_eq!((&ratios["neither_cut"]["ratio"]["value"], &ratios["neither_cut"]["n"]), (&2.0.into(), &2.into()));
    }
}
