//! Average layer savings.

use aloud_method::savings::layer_savings;
use serde_json::json;

use super::item_rows::{ItemRows, MetricSetting, clusters_of};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{Region, TokenRow};
use crate::statistics::{Cluster, mean_of_clusters, weighted_quantile};

/// `ALS = mean over eligible tokens (1 - d_t / L)`, over all tokens of all items (long traces count more). In `extra`:
/// mean depth and depth quantiles (blocks), the mean of the items' means, the value over all tokens, over those of the
/// answer, the largest possible, and the share of it.
pub fn layer_savings_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let saving = |depth: usize| layer_savings(depth, setting.identity.n_blocks);
    let clusters = clusters_of(items, |_, row| row.eligible_depths().map(saving));
    let mean_depth =
        |weights: &[u32]| mean_of_clusters(&clusters, weights).map(|saving| (1.0 - saving) * setting.n_blocks());
    let mut depths: Vec<usize> = items.iter().flat_map(ItemRows::eligible_depths).collect();
    depths.sort_unstable();
    let quantile = |share: f64| weighted_quantile(depths.iter().map(|depth| (*depth as f64, 1.0)), share);
    let item_means: Vec<Cluster> = clusters.iter().filter_map(|cluster| Some(Cluster::of([cluster.mean()?]))).collect();
    let all = clusters_of(items, |_, row| row.depth.iter().map(|depth| saving(*depth)));
    let of_answers = clusters_of(items, |_, row| answer_depths(row).map(saving));
    let largest_saving = setting.identity.exit_candidates.first().map(|depth| saving(*depth));
    let record = setting
        .mean_record("savings.average", "fraction", Direction::HigherIsMoreSaving, &clusters, "no_eligible_tokens")
        .with_tokens(depths.len())
        .with_extra("mean_depth", setting.with_interval(clusters.len(), mean_depth))
        .with_extra(
            "depth_quantiles",
            json!({"q50": quantile(0.5), "q90": quantile(0.9), "q95": quantile(0.95), "q99": quantile(0.99)}),
        )
        .with_extra("als_item", setting.mean(&item_means))
        .with_extra("als_all", setting.mean(&all))
        .with_extra("als_answer", setting.mean(&of_answers))
        .with_extra("als_max", json!(largest_saving))
        .or_null("no_eligible_tokens");
    let share_of_largest = record.value.zip(largest_saving).map(|(value, largest)| value / largest);
    record.with_extra("als_norm", json!(share_of_largest))
}

/// Depths of the eligible tokens of an answer, where regions are known.
fn answer_depths(row: &TokenRow) -> impl Iterator<Item = usize> {
    let places = row.depth.iter().zip(row.eligible()).zip(&row.region);
    places.filter(|((_, eligible), region)| *eligible && **region == Region::Answer).map(|((depth, _), _)| *depth)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};

    #[test]
    fn golden_values() {
        let record = layer_savings_record(&items(&[&[28, 5, 10, 28, 25, 5, 28, 15]]), &setting());
        assert!((record.value.unwrap() - 0.408_163_265_3).abs() < 1e-10);
        assert!((record.extra["als_all"]["value"].as_f64().unwrap() - 0.357_142_857_1).abs() < 1e-10);
        assert!((record.extra["mean_depth"]["value"].as_f64().unwrap() - 116.0 / 7.0).abs() < 1e-9);
        assert!((record.extra["als_max"].as_f64().unwrap() - (1.0 - 5.0 / 28.0)).abs() < 1e-12);
        assert_eq!(record.extra["depth_quantiles"]["q50"], 15.0);
        assert_eq!(record.extra["depth_quantiles"]["q99"], 28.0);
        assert_eq!(record.extra["als_answer"]["value"], serde_json::Value::Null);
        assert_eq!((record.n, record.n_tokens, &record.ci), (1, Some(7), &None));
        record.check().unwrap();
    }

    #[test]
    fn long_traces_count_more_and_items_are_the_clusters() {
        let record = layer_savings_record(&items(&[&[28, 5, 5, 5], &[28, 28], &[28]]), &setting());
        let saving = 1.0 - 5.0 / 28.0;
        assert!((record.value.unwrap() - 0.75 * saving).abs() < 1e-12);
        assert!((record.extra["als_item"]["value"].as_f64().unwrap() - 0.5 * saving).abs() < 1e-12);
        assert_eq!((record.n, record.n_excluded, record.exclusions["no_eligible_tokens"]), (2, 1, 1));
        assert!(record.ci.is_some());
    }

    #[test]
    fn nothing_to_measure_is_null_with_a_reason() {
        for items in [items(&[&[28], &[]]), items(&[])] {
            let record = layer_savings_record(&items, &setting());
            assert_eq!((record.value, record.null_reason.as_deref()), (None, Some("no_eligible_tokens")));
            record.check().unwrap();
        }
    }

    #[test]
    fn the_answer_by_itself() {
        let regions = vec![Region::Think, Region::Think, Region::Answer];
        let items = edited_items(&[&[28, 5, 28]], |_, _, row| row.region.clone_from(&regions));
        assert_eq!(layer_savings_record(&items, &setting()).extra["als_answer"]["value"], 0.0);
    }
}
