//! Early-exit rate.

use serde_json::{Map, Value, json};

use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::item_rows::{ItemRows, MetricSetting};
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters};

/// `EER = #{eligible t : d_t < L} / #eligible`. In `extra`: the share at each candidate, the rate over all tokens, and how
/// many tokens were eligible and how many not. It flatters: an exit near full depth saves next to nothing.
pub fn exit_rate_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let full = setting.identity.n_blocks;
    let share_where = |stopped: &dyn Fn(usize) -> bool| -> Vec<Cluster> {
        let share = |depth: usize| if stopped(depth) { 1.0 } else { 0.0 };
        items.iter().map(|item| Cluster::of(item.eligible_depths().map(share))).collect()
    };
    let clusters = share_where(&|depth| depth < full);
    let value = Bootstrap::value(clusters.len(), |weights| mean_of_clusters(&clusters, weights));
    let at: Map<String, Value> = setting
        .identity
        .exit_candidates
        .iter()
        .map(|candidate| {
            let clusters = share_where(&|depth| depth == *candidate);
            let share = setting.with_interval(clusters.len(), |weights| mean_of_clusters(&clusters, weights));
            (candidate.to_string(), share)
        })
        .collect();
    let n_eligible: usize = clusters.iter().map(|cluster| cluster.count).sum();
    let all: Vec<usize> =
        items.iter().flat_map(|item| &item.samples).flat_map(|(_, tokens)| tokens.depth.iter().copied()).collect();
    let all_rate =
        (!all.is_empty()).then(|| all.iter().filter(|depth| **depth < full).count() as f64 / all.len() as f64);
    let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
    let record = MetricRecord::new("exits.rate", "fraction", Direction::Descriptive, setting.context)
        .with_value(value)
        .with_interval(setting.bootstrap.share_interval(&clusters))
        .with_items(clusters.len() - empty)
        .with_tokens(n_eligible)
        .with_excluded("no_eligible_tokens", empty)
        .with_extra("exit_rate_at", at)
        .with_extra("eer_all", json!(all_rate))
        .with_extra("n_eligible", n_eligible)
        .with_extra("n_forced", all.len() - n_eligible);
    if value.is_none() { record.with_null("no_eligible_tokens") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::with_items;

    #[test]
    fn golden_values() {
        with_items(&[&[28, 5, 10, 28, 25, 5, 28, 15]], |items, setting| {
            let record = exit_rate_record(items, setting);
            assert!((record.value.unwrap() - 5.0 / 7.0).abs() < 1e-12);
            assert_eq!(record.extra["eer_all"], 5.0 / 8.0);
            assert_eq!((&record.extra["n_eligible"], &record.extra["n_forced"]), (&7.into(), &1.into()));
            assert!((record.extra["exit_rate_at"]["5"]["value"].as_f64().unwrap() - 2.0 / 7.0).abs() < 1e-12);
            assert_eq!(record.extra["exit_rate_at"]["20"]["value"], 0.0);
        });
    }

    #[test]
    fn a_rate_of_0_has_wilsons_interval() {
        with_items(&[[28, 28, 28].as_slice(); 10], |items, setting| {
            let interval = exit_rate_record(items, setting).ci.unwrap();
            assert!((interval.hi - 0.277_533).abs() < 1e-6 && interval.lo == 0.0);
        });
    }
}
