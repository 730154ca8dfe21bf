//! Shares of right answers, by scorer.

use serde_json::json;

use super::item_rows::{ItemRows, MetricSetting, PairedItems};
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::{Cluster, Discordant, mcnemar_exact, mean_of_clusters};

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
    let all = Cluster::total(&clusters);
    let samples = || items.iter().flat_map(|item| &item.samples);
    let n_all = samples().count();
    let unparsed = samples().filter(|(sample, _)| !sample.has_answer()).count();
    let value = |scorer: &str| Cluster::total(&scored(items, scorer)).mean();
    let gap = value("flex").or_else(|| value("lenient")).zip(value("strict")).map(|(flex, strict)| flex - strict);
    MetricRecord::new(id, "fraction", Direction::HigherIsBetter, setting.context)
        .with_value(all.mean())
        .with_interval(setting.bootstrap.share_of_samples_interval(&clusters))
        .with_items(clusters.iter().filter(|cluster| cluster.count > 0).count())
        .with_excluded("not_scored", n_all - all.count)
        .with_extra("scorer", scorer)
        .with_extra("correct", all.sum as usize)
        .with_extra("samples", all.count)
        .with_extra("unparsed_rate", json!((n_all > 0).then(|| unparsed as f64 / n_all as f64)))
        .with_extra("format_gap", json!(gap))
        .or_null("no_scored_samples")
}

/// Difference of a scorer's share between two models on the same items, first less second, with a paired bootstrap. In `extra`:
/// both shares, the discordant items `b` (only the first right) and `c`, by the first sample of each, and McNemar's exact p.
pub fn paired_accuracy(id: &str, scorer: &str, paired: &PairedItems<'_>, setting: &MetricSetting<'_>) -> MetricRecord {
    let scored =
        |(first, second): &(&ItemRows<'_>, &ItemRows<'_>)| (scored_item(first, scorer), scored_item(second, scorer));
    let judged = paired.pairs.iter().map(scored).filter(|(first, second)| first.count > 0 && second.count > 0);
    let (first, second): (Vec<Cluster>, Vec<Cluster>) = judged.unzip();
    let difference = |weights: &[u32]| Some(mean_of_clusters(&first, weights)? - mean_of_clusters(&second, weights)?);
    let first_sample = |item: &ItemRows<'_>| item.samples.first()?.0.correct.get(scorer).copied();
    let firsts = paired.pairs.iter().filter_map(|(first, second)| Some((first_sample(first)?, first_sample(second)?)));
    let discordant = Discordant::count(firsts);
    let n_items = first.len();
    setting
        .record(id, "fraction", Direction::HigherIsBetter, n_items, difference)
        .paired()
        .with_excluded("only_one_model_has_the_item", paired.n_unpaired)
        .with_excluded("not_scored", paired.pairs.len() - n_items)
        .with_extra("scorer", scorer)
        .with_extra("first", json!(Cluster::total(&first).mean()))
        .with_extra("second", json!(Cluster::total(&second).mean()))
        .with_extra("b", discordant.only_first)
        .with_extra("c", discordant.only_second)
        .with_extra("mcnemar_p", mcnemar_exact(discordant))
        .or_null("no_item_scored_for_both")
}

fn scored(items: &[ItemRows<'_>], scorer: &str) -> Vec<Cluster> {
    items.iter().map(|item| scored_item(item, scorer)).collect()
}

fn scored_item(item: &ItemRows<'_>, scorer: &str) -> Cluster {
    let verdicts = item.samples.iter().filter_map(|(sample, _)| sample.correct.get(scorer));
    Cluster::of(verdicts.map(|right| f64::from(*right)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metric_record::IntervalMethod;
    use crate::metrics::item_rows::pair_items;
    use crate::metrics::item_rows::tests::{edited_items, setting};

    /// Items of one sample each, judged right where `right` says so.
    fn judged(right: &[bool]) -> Vec<ItemRows<'static>> {
        edited_items(&vec![&[28, 5][..]; right.len()], |number, sample, _| {
            sample.correct = [("strict".to_owned(), right[number]), ("flex".to_owned(), true)].into();
        })
    }

    #[test]
    fn a_share_with_wilsons_interval() {
        let items = judged(&[true, true, true, true, true, true, true, true, false, false]);
        let record = accuracy_record("accuracy.strict", "strict", &items, &setting());
        assert_eq!((record.value, record.n), (Some(0.8), 10));
        let interval = record.ci.unwrap();
        assert_eq!(interval.method, IntervalMethod::Wilson);
        assert!((interval.lo - 0.490_162).abs() < 1e-6 && (interval.hi - 0.943_318).abs() < 1e-6);
        assert!((record.extra["format_gap"].as_f64().unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(record.extra["unparsed_rate"], 0.0);
        let other = accuracy_record("accuracy.compat", "compat", &items, &setting());
        assert_eq!((other.null_reason.as_deref(), other.exclusions["not_scored"]), (Some("no_scored_samples"), 10));
        other.check().unwrap();
    }

    #[test]
    fn a_difference_with_mcnemars_test() {
        let first = judged(&(0..20).map(|i| i < 12).collect::<Vec<_>>());
        let second = judged(&(0..20).map(|i| (10..15).contains(&i)).collect::<Vec<_>>());
        let record = paired_accuracy("accuracy.strict", "strict", &pair_items(&first, &second), &setting());
        assert!((record.value.unwrap() - 0.35).abs() < 1e-12);
        assert_eq!((&record.extra["b"], &record.extra["c"]), (&10.into(), &3.into()));
        assert!((record.extra["mcnemar_p"].as_f64().unwrap() - 0.092_285_156_3).abs() < 1e-10);
        assert_eq!(record.ci.as_ref().unwrap().method, IntervalMethod::PairedClusterBootstrap);
        record.check().unwrap();
    }
}
