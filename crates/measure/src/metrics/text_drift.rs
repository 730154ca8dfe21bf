//! Whether traces stay in the prompt's writing system and vocabulary.
//!
//! And how far a model's distributions are from the base's.

use std::collections::BTreeMap;

use super::item_rows::{ItemRows, MetricSetting};
use super::trace_statistics::{over_traces, trace_ids};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{SampleRow, TokenRow};
use crate::statistics::{Cluster, mean_of_clusters};
use crate::writing_system::WritingSystem;

/// Stands for bytes that are no text.
const REPLACEMENT: char = '\u{FFFD}';

/// Share of a text's letters that are of the writing system of most letters of the prompt. `None` if one of them has no letter.
pub fn share_in_script(prompt: &str, text: &str) -> Option<f64> {
    let expected = WritingSystem::of_most(prompt)?;
    Cluster::of(text.chars().filter_map(WritingSystem::of).map(|system| f64::from(system == expected))).mean()
}

/// `text.same_script`: mean over traces of [`share_in_script`]. `prompts` are by item.
pub fn script_record(
    items: &[ItemRows<'_>],
    prompts: &BTreeMap<&str, &str>,
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let share = |sample: &SampleRow, _: &TokenRow| share_in_script(prompts.get(sample.item_id.as_str())?, &sample.cot);
    over_traces("text.same_script", Direction::HigherIsBetter, items, setting, &share).or_null("no_letters")
}

/// `text.unknown_tokens`: share of traces' tokens that are the tokenizer's unknown token (`unknown`, if it has one) or stand for bytes that
/// are no text: each U+FFFD of the trace counts as one.
pub fn unknown_record(items: &[ItemRows<'_>], unknown: Option<u32>, setting: &MetricSetting<'_>) -> MetricRecord {
    let of_sample = |(sample, row): &(&SampleRow, &TokenRow)| {
        let ids = trace_ids(row);
        let unknown = ids.iter().filter(|id| Some(**id) == unknown).count();
        let broken = sample.cot.chars().filter(|character| *character == REPLACEMENT).count();
        Cluster { sum: (unknown + broken).min(ids.len()) as f64, count: ids.len() }
    };
    let clusters: Vec<Cluster> = items.iter().map(|item| item.samples.iter().map(of_sample).sum()).collect();
    let all = Cluster::total(&clusters);
    MetricRecord::new("text.unknown_tokens", "fraction", Direction::LowerIsBetter, setting.context)
        .with_value(all.mean())
        .with_interval(setting.bootstrap.share_interval(&clusters))
        .with_items(clusters.len())
        .with_tokens(all.count)
        .with_extra("has_unknown_token", unknown.is_some())
        .with_extra("family", "proxy_quality")
        .or_null("no_trace")
}

/// `text.divergence_from_base`: mean over tokens of the base's traces of `KL(p_base || p)` in nats, `p` being the model's distribution at the
/// depth where it stops on these tokens. `kls` are by item; `Err` says why there are none.
pub fn base_kl_record(kls: Result<&[Vec<f64>], &str>, setting: &MetricSetting<'_>) -> MetricRecord {
    let clusters: Vec<Cluster> =
        kls.unwrap_or_default().iter().map(|of_item| Cluster::of(of_item.iter().copied())).collect();
    let mean = |weights: &[u32]| mean_of_clusters(&clusters, weights);
    let record = setting
        .record("text.divergence_from_base", "nats", Direction::LowerIsBetter, clusters.len(), mean)
        .with_extra("family", "proxy_quality")
        .with_extra("traces", "of the base");
    match kls {
        Ok(_) => record.with_tokens(Cluster::total(&clusters).count).or_null("no_trace"),
        Err(reason) => record.with_null(reason),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, setting};

    #[test]
    fn letters_of_another_script_are_noticed() {
        assert_eq!(share_in_script("How many?", "Four, 四"), Some(0.8));
        assert_eq!(share_in_script("Сколько?", "четыре"), Some(1.0));
        assert_eq!((share_in_script("1 + 1", "two"), share_in_script("one", "2")), (None, None));
    }

    #[test]
    fn records_by_hand() {
        let items = edited_items(&[&[28, 5][..]; 3], |number, sample, row| {
            sample.cot = ["ab", "жз", "a\u{FFFD}"][number].to_owned();
            row.ids = vec![number as u32; row.ids.len()];
        });
        let setting = setting();
        let prompts = items.iter().map(|item| (item.item_id, "word")).collect();
        let record = script_record(&items, &prompts, &setting);
        assert!((record.value.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(script_record(&items, &BTreeMap::new(), &setting).null_reason.as_deref(), Some("no_letters"));
        // Both tokens of the second trace, and the broken character of the third.
        let record = unknown_record(&items, Some(1), &setting);
        assert_eq!((record.value, record.n_tokens), (Some(0.5), Some(6)));
        assert!((unknown_record(&items, None, &setting).value.unwrap() - 1.0 / 6.0).abs() < 1e-12);
        record.check().unwrap();
        let record = base_kl_record(Ok(&[vec![1.0, 2.0], vec![6.0]]), &setting);
        assert_eq!((record.value, record.n, record.n_tokens), (Some(3.0), 2, Some(3)));
        let record = base_kl_record(Err("no_base"), &setting);
        assert_eq!((record.value, record.null_reason.as_deref()), (None, Some("no_base")));
        record.check().unwrap();
    }
}
