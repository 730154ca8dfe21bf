//! Early-exit rate.

use serde_json::{Map, Value, json};

use super::item_rows::{ItemRows, MetricSetting, clusters_of};
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::Cluster;

/// `EER = #{eligible t : d_t < L} / #eligible`. In `extra`: the share at each candidate, the rate over all tokens, and how
/// many tokens were eligible and how many not. It flatters: an exit near full depth saves next to nothing.
pub fn exit_rate_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let full = setting.identity.n_blocks;
    let share_where = |stopped: &dyn Fn(usize) -> bool| {
        clusters_of(items, |_, row| row.eligible_depths().map(|depth| f64::from(stopped(depth))))
    };
    let clusters = share_where(&|depth| depth < full);
    let candidates = setting.identity.exit_candidates.iter();
    let at: Map<String, Value> =
        candidates.map(|at| (at.to_string(), setting.mean(&share_where(&|depth| depth == *at)))).collect();
    let all = Cluster::total(&clusters_of(items, |_, row| row.depth.iter().map(|depth| f64::from(*depth < full))));
    let n_eligible = Cluster::total(&clusters).count;
    setting
        .mean_record("exits.rate", "fraction", Direction::Descriptive, &clusters, "no_eligible_tokens")
        .with_interval(setting.bootstrap.share_interval(&clusters))
        .with_tokens(n_eligible)
        .with_extra("exit_rate_at", at)
        .with_extra("eer_all", json!(all.mean()))
        .with_extra("n_eligible", n_eligible)
        .with_extra("n_forced", all.count - n_eligible)
        .or_null("no_eligible_tokens")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{items, setting};

    #[test]
    fn golden_values() {
        let record = exit_rate_record(&items(&[&[28, 5, 10, 28, 25, 5, 28, 15]]), &setting());
        assert!((record.value.unwrap() - 5.0 / 7.0).abs() < 1e-12);
        assert_eq!(record.extra["eer_all"], 5.0 / 8.0);
        assert_eq!((&record.extra["n_eligible"], &record.extra["n_forced"]), (&7.into(), &1.into()));
        assert!((record.extra["exit_rate_at"]["5"]["value"].as_f64().unwrap() - 2.0 / 7.0).abs() < 1e-12);
        assert_eq!(record.extra["exit_rate_at"]["20"]["value"], 0.0);
    }

    #[test]
    fn a_rate_of_0_has_wilsons_interval() {
        let interval = exit_rate_record(&items(&[&[28, 28, 28][..]; 10]), &setting()).ci.unwrap();
        assert!((interval.hi - 0.277_533).abs() < 1e-6 && interval.lo == 0.0);
    }
}
