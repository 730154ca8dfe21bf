//! Average layer savings.

use aloud_method::savings::layer_savings;
use serde_json::json;

use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::item_rows::{ItemRows, MetricSetting};
use crate::run_files::Region;
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters, weighted_quantile};

/// `ALS = mean over eligible tokens (1 - d_t / L)`, over all tokens of all items (long traces count more). In `extra`:
/// mean depth and depth quantiles (blocks), the mean of the items' means, the value over all tokens, over those of the
/// answer, the largest possible, and the share of it.
pub fn layer_savings_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let saving = |depth: usize| layer_savings(depth, setting.identity.n_blocks);
    let clusters: Vec<Cluster> = items.iter().map(|item| Cluster::of(item.eligible_depths().map(saving))).collect();
    let average = |weights: &[u32]| mean_of_clusters(&clusters, weights);
    let mut depths: Vec<usize> = items.iter().flat_map(ItemRows::eligible_depths).collect();
    depths.sort_unstable();
    let quantile = |share: f64| weighted_quantile(depths.iter().map(|depth| (*depth as f64, 1.0)), share);
    let item_means: Vec<Cluster> = clusters
        .iter()
        .filter(|cluster| cluster.count > 0)
        .map(|cluster| Cluster::of([cluster.sum / cluster.count as f64]))
        .collect();
    let over = |tokens: fn(&ItemRows<'_>) -> Vec<usize>| {
        let clusters: Vec<Cluster> =
            items.iter().map(|item| Cluster::of(tokens(item).into_iter().map(saving))).collect();
        setting.with_interval(clusters.len(), |weights| mean_of_clusters(&clusters, weights))
    };
    let value = Bootstrap::value(clusters.len(), average);
    let smallest = setting.identity.exit_candidates.first();
    let largest_saving = smallest.map(|depth| saving(*depth));
    let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
    let record = MetricRecord::new("savings.average", "fraction", Direction::HigherIsMoreSaving, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.interval(clusters.len(), average))
        .with_items(clusters.len() - empty)
        .with_tokens(depths.len())
        .with_excluded("no_eligible_tokens", empty)
        .with_extra(
            "mean_depth",
            setting.with_interval(clusters.len(), |weights| {
                average(weights).map(|saving| (1.0 - saving) * setting.n_blocks())
            }),
        )
        .with_extra(
            "depth_quantiles",
            json!({"q50": quantile(0.5), "q90": quantile(0.9), "q95": quantile(0.95), "q99": quantile(0.99)}),
        )
        .with_extra(
            "als_item",
            setting.with_interval(item_means.len(), |weights| mean_of_clusters(&item_means, weights)),
        )
        .with_extra("als_all", over(all_depths))
        .with_extra("als_answer", over(answer_depths))
        .with_extra("als_max", json!(largest_saving))
        .with_extra("als_norm", json!(value.zip(largest_saving).map(|(value, largest)| value / largest)));
    if value.is_none() { record.with_null("no_eligible_tokens") } else { record }
}

fn all_depths(item: &ItemRows<'_>) -> Vec<usize> {
    item.samples.iter().flat_map(|(_, tokens)| tokens.depth.iter().copied()).collect()
}

/// Depths of the eligible tokens of answers, where regions are known.
fn answer_depths(item: &ItemRows<'_>) -> Vec<usize> {
    item.samples
        .iter()
        .flat_map(|(_, tokens)| {
            let places = tokens.depth.iter().zip(tokens.eligible()).zip(&tokens.region);
            places
                .filter(|((_, eligible), region)| *eligible && **region == Region::Answer)
                .map(|((depth, _), _)| *depth)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{with_edited_items, with_items};

    #[test]
    fn golden_values() {
        with_items(&[&[28, 5, 10, 28, 25, 5, 28, 15]], |items, setting| {
            let record = layer_savings_record(items, setting);
            assert!((record.value.unwrap() - 0.408_163_265_3).abs() < 1e-10);
            assert!((record.extra["als_all"]["value"].as_f64().unwrap() - 0.357_142_857_1).abs() < 1e-10);
            assert!((record.extra["mean_depth"]["value"].as_f64().unwrap() - 116.0 / 7.0).abs() < 1e-9);
            assert!((record.extra["als_max"].as_f64().unwrap() - (1.0 - 5.0 / 28.0)).abs() < 1e-12);
            assert_eq!(record.extra["depth_quantiles"]["q50"], 15.0);
            assert_eq!(record.extra["depth_quantiles"]["q99"], 28.0);
            assert_eq!(record.extra["als_answer"]["value"], serde_json::Value::Null);
            assert_eq!((record.n, record.n_tokens, record.ci.clone()), (1, Some(7), None));
            record.check().unwrap();
        });
    }

    #[test]
    fn long_traces_count_more_and_items_are_the_clusters() {
        with_items(&[&[28, 5, 5, 5], &[28, 28], &[28]], |items, setting| {
            let record = layer_savings_record(items, setting);
            let saving = 1.0 - 5.0 / 28.0;
            assert!((record.value.unwrap() - 0.75 * saving).abs() < 1e-12);
            assert!((record.extra["als_item"]["value"].as_f64().unwrap() - 0.5 * saving).abs() < 1e-12);
            assert_eq!((record.n, record.n_excluded, record.exclusions["no_eligible_tokens"]), (2, 1, 1));
            assert!(record.ci.is_some());
        });
    }

    #[test]
    fn nothing_to_measure_is_null_with_a_reason() {
        with_items(&[&[28], &[]], |items, setting| {
            let record = layer_savings_record(items, setting);
            assert_eq!((record.value, record.null_reason.as_deref()), (None, Some("no_eligible_tokens")));
            record.check().unwrap();
        });
        with_items(&[], |items, setting| assert_eq!(layer_savings_record(items, setting).value, None));
    }

    #[test]
    fn the_answer_by_itself() {
        with_edited_items(
            &[&[28, 5, 28]],
            |_, _, tokens| tokens.region = vec![Region::Think, Region::Think, Region::Answer],
            |items, setting| {
                assert_eq!(layer_savings_record(items, setting).extra["als_answer"]["value"], 0.0);
            },
        );
    }
}
