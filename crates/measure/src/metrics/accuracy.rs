//! Shares of right answers, by scorer.

use serde_json::json;

use super::item_rows::PairedItems;
use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::item_rows::{ItemRows, MetricSetting};
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters};
use crate::statistics::{Discordant, mcnemar_exact, wilson_confidence};

/// Id of a scorer's accuracy: `accuracy.strict`, `accuracy.flexible` of the scorer `flex`.
pub fn accuracy_id(scorer: &str) -> String {
    let scorer = scorer.strip_suffix("flex").map_or_else(|| scorer.to_owned(), |start| format!("{start}flexible"));
    format!("accuracy.{scorer}")
}

/// Share of samples that a scorer calls right. A sample without an answer is wrong. With one sample an item the interval is
/// Wilson's, with several a cluster bootstrap. In `extra`: how many are right, the share without an answer of any form, and
/// `format_gap`, flexible (or lenient) less strict, where both scorers ran. Samples that the scorer did not judge are left out and counted.
pub fn accuracy_record(id: &str, scorer: &str, items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let clusters = scored(items, scorer);
    let judged = |cluster: &&Cluster| cluster.count > 0;
    let n_items = clusters.iter().filter(judged).count();
    let n_samples: usize = clusters.iter().map(|cluster| cluster.count).sum();
    let n_correct: f64 = clusters.iter().map(|cluster| cluster.sum).sum();
    let interval = if clusters.iter().all(|cluster| cluster.count <= 1) {
        wilson_confidence(n_correct as usize, n_samples)
    } else {
        setting.bootstrap.share_interval(&clusters)
    };
    let samples = || items.iter().flat_map(|item| &item.samples);
    let unparsed =
        samples().filter(|(sample, _)| sample.extracted.strict.is_none() && sample.extracted.flex.is_none()).count();
    let value = |scorer: &str| {
        let clusters = scored(items, scorer);
        Bootstrap::value(clusters.len(), |weights| mean_of_clusters(&clusters, weights))
    };
    let gap = value("flex").or_else(|| value("lenient")).zip(value("strict")).map(|(flex, strict)| flex - strict);
    let n_all = samples().count();
    let record = MetricRecord::new(id, "fraction", Direction::HigherIsBetter, setting.context)
        .with_value(value(scorer))
        .with_interval(interval)
        .with_items(n_items)
        .with_excluded("not_scored", n_all - n_samples)
        .with_extra("scorer", scorer)
        .with_extra("correct", n_correct as usize)
        .with_extra("samples", n_samples)
        .with_extra("unparsed_rate", json!((n_all > 0).then(|| unparsed as f64 / n_all as f64)))
        .with_extra("format_gap", json!(gap));
    if n_samples == 0 { record.with_null("no_scored_samples") } else { record }
}

/// Difference of a scorer's share between two models on the same items, first less second, with a paired bootstrap. In `extra`:
/// both shares, the discordant items `b` (only the first right) and `c`, by the first sample of each, and McNemar's exact p.
pub fn paired_accuracy(id: &str, scorer: &str, paired: &PairedItems<'_>, setting: &MetricSetting<'_>) -> MetricRecord {
    let judged: Vec<_> = paired
        .pairs
        .iter()
        .map(|(first, second)| (scored_item(first, scorer), scored_item(second, scorer)))
        .filter(|(first, second)| first.count > 0 && second.count > 0)
        .collect();
    let (first, second): (Vec<Cluster>, Vec<Cluster>) = judged.iter().copied().unzip();
    let difference = |weights: &[u32]| Some(mean_of_clusters(&first, weights)? - mean_of_clusters(&second, weights)?);
    let mut discordant = Discordant::default();
    for (first, second) in &paired.pairs {
        match (first_is_right(first, scorer), first_is_right(second, scorer)) {
            (Some(true), Some(false)) => discordant.only_first += 1,
            (Some(false), Some(true)) => discordant.only_second += 1,
            _ => {}
        }
    }
    let n_items = judged.len();
    let share = |clusters: &[Cluster]| Bootstrap::value(clusters.len(), |weights| mean_of_clusters(clusters, weights));
    let value = Bootstrap::value(n_items, difference);
    let record = MetricRecord::new(id, "fraction", Direction::HigherIsBetter, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.paired_interval(n_items, difference))
        .with_items(n_items)
        .with_excluded("only_one_model_has_the_item", paired.n_unpaired)
        .with_excluded("not_scored", paired.pairs.len() - n_items)
        .with_extra("scorer", scorer)
        .with_extra("first", json!(share(&first)))
        .with_extra("second", json!(share(&second)))
        .with_extra("b", discordant.only_first)
        .with_extra("c", discordant.only_second)
        .with_extra("mcnemar_p", mcnemar_exact(discordant));
    if value.is_none() { record.with_null("no_item_scored_for_both") } else { record }
}

fn scored(items: &[ItemRows<'_>], scorer: &str) -> Vec<Cluster> {
    items.iter().map(|item| scored_item(item, scorer)).collect()
}

fn scored_item(item: &ItemRows<'_>, scorer: &str) -> Cluster {
    let verdicts = item.samples.iter().filter_map(|(sample, _)| sample.correct.get(scorer));
    Cluster::of(verdicts.map(|right| f64::from(u8::from(*right))))
}

fn first_is_right(item: &ItemRows<'_>, scorer: &str) -> Option<bool> {
    item.samples.first()?.0.correct.get(scorer).copied()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metric_record::IntervalMethod;
    use crate::metrics::item_rows::pair_items;
    use crate::metrics::item_rows::tests::with_edited_items;

    /// Items of one sample each, judged right where `right` says so.
    fn with_verdicts(right: &[bool], check: impl FnOnce(&[ItemRows<'_>], &MetricSetting<'_>)) {
        let depths: Vec<&[usize]> = vec![&[28, 5]; right.len()];
        let edit = |number: usize, sample: &mut crate::run_files::SampleRow, _: &mut crate::run_files::TokenRow| {
            sample.correct = [("strict".to_owned(), right[number]), ("flex".to_owned(), true)].into();
        };
        with_edited_items(&depths, edit, check);
    }

    #[test]
    fn a_share_with_wilsons_interval() {
        with_verdicts(&[true, true, true, true, true, true, true, true, false, false], |items, setting| {
            let record = accuracy_record("accuracy.strict", "strict", items, setting);
            assert_eq!((record.value, record.n), (Some(0.8), 10));
            let interval = record.ci.clone().unwrap();
            assert_eq!(interval.method, IntervalMethod::Wilson);
            assert!((interval.lo - 0.490_162).abs() < 1e-6 && (interval.hi - 0.943_318).abs() < 1e-6);
            assert!((record.extra["format_gap"].as_f64().unwrap() - 0.2).abs() < 1e-12);
            assert_eq!(record.extra["unparsed_rate"], 0.0);
            let other = accuracy_record("accuracy.compat", "compat", items, setting);
            assert_eq!((other.null_reason.as_deref(), other.exclusions["not_scored"]), (Some("no_scored_samples"), 10));
            other.check().unwrap();
        });
    }

    #[test]
    fn a_difference_with_mcnemars_test() {
        let first: Vec<bool> = (0..20).map(|i| i < 12).collect();
        let second: Vec<bool> = (0..20).map(|i| (10..15).contains(&i)).collect();
        with_verdicts(&first, |first, _| {
            with_verdicts(&second, |second, setting| {
                let record = paired_accuracy("accuracy.strict", "strict", &pair_items(first, second), setting);
                assert!((record.value.unwrap() - 0.35).abs() < 1e-12);
                assert_eq!((&record.extra["b"], &record.extra["c"]), (&10.into(), &3.into()));
                assert!((record.extra["mcnemar_p"].as_f64().unwrap() - 0.092_285_156_3).abs() < 1e-10);
                assert_eq!(record.ci.as_ref().unwrap().method, IntervalMethod::PairedClusterBootstrap);
                record.check().unwrap();
            });
        });
    }
}
