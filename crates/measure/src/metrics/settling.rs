//! The depth at which a token stopped against the depth at which the base model's reading of it settled.

use serde_json::{Value, json};

use super::item_rows::MetricSetting;
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::Cluster;

/// Settling depths of a readout's distance from the final one: the first depth at which it is at most `threshold`, and the
/// first from which on it always is. `None` for no depths, or if the last distance is above the threshold.
///
/// # Shapes
/// `depths`: increasing, the last one full depth; `distances`: one a depth, for instance bits, 0 at full depth.
pub fn settling_depths(depths: &[usize], distances: &[f64], threshold: f64) -> Option<[usize; 2]> {
    let mut settled: Option<[usize; 2]> = None;
    let mut inside = false;
    for (depth, distance) in depths.iter().zip(distances) {
        let was_inside = inside;
        // A distance that is no number is not within any threshold.
        inside = *distance <= threshold;
        if inside && !was_inside {
            settled = Some([settled.map_or(*depth, |[first, _]| first), *depth]);
        }
    }
    settled.filter(|_| inside)
}

/// An eligible token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledToken {
    /// Depth at which it stopped, blocks.
    pub depth: usize,
    /// [`settling_depths`].
    pub settled: [usize; 2],
}

/// Tokens with their settling depths by one criterion.
#[derive(Clone, Debug, PartialEq)]
pub struct SettlingCriterion {
    /// What the criterion is, for instance `jsd_bits`.
    pub name: String,
    /// Its threshold.
    pub threshold: f64,
    /// Eligible tokens by item.
    pub items: Vec<Vec<SettledToken>>,
}

/// Which tokens settle late: those that settle at `LATE L` or deeper.
const LATE: f64 = 0.85;

/// Depth regret: how many blocks after (or before) the first harmless depth tokens stopped. The value is the mean of
/// `d - c_first` in blocks. In `extra`, with intervals: `under_exit`, the share of tokens with a negative regret;
/// `over_compute`, the mean of the positive part as a share of `L`; `dtr`, the share of tokens that settle for good at 0.85 `L`
/// or deeper, and `dtr_first` by the first depth; the same with settling depths rounded up to the next candidate; histograms,
/// and the same figures by the other criteria. The first criterion is the primary one.
///
/// `lens` names the readout, for instance `plain`.
pub fn regret_record(criteria: &[SettlingCriterion], lens: &str, setting: &MetricSetting<'_>) -> MetricRecord {
    let Some(primary) = criteria.first().filter(|first| first.items.iter().any(|item| !item.is_empty())) else {
        return MetricRecord::new("depth.regret", "blocks", Direction::Descriptive, setting.context)
            .with_extra("rho", LATE)
            .with_extra("lens", lens)
            .with_null("no_settling_depths");
    };
    let clusters = clusters(&primary.items, |token| regret(token.depth, token.settled[0]));
    let tokens = || primary.items.iter().flatten();
    setting
        .mean_record("depth.regret", "blocks", Direction::Descriptive, &clusters, "no_eligible_tokens")
        .with_tokens(tokens().count())
        .with_extra("rho", LATE)
        .with_extra("lens", lens)
        .with_extra("g", primary.threshold)
        .with_extra("settle_hist", histogram(tokens().map(|token| token.settled[0]), setting))
        .with_extra("settle_last_hist", histogram(tokens().map(|token| token.settled[1]), setting))
        .with_extra("regret_hist", regret_histogram(tokens(), setting))
        .with_extra("depth_by_settling", joint(tokens(), setting))
        .with_extra("criteria", criteria.iter().map(|criterion| figures(criterion, setting)).collect::<Value>())
}

fn regret(depth: usize, settled: usize) -> f64 {
    depth as f64 - settled as f64
}

fn clusters(items: &[Vec<SettledToken>], of: impl Fn(&SettledToken) -> f64) -> Vec<Cluster> {
    items.iter().map(|item| Cluster::of(item.iter().map(&of))).collect()
}

/// The smallest depth at which a token could have stopped from `depth` on.
fn next_candidate(depth: usize, setting: &MetricSetting<'_>) -> usize {
    let candidates = &setting.identity.exit_candidates;
    candidates.iter().copied().find(|candidate| *candidate >= depth).unwrap_or(setting.identity.n_blocks)
}

fn figures(criterion: &SettlingCriterion, setting: &MetricSetting<'_>) -> Value {
    let late = (LATE * setting.n_blocks()).ceil();
    let mean = |of: &dyn Fn(&SettledToken) -> f64| setting.mean(&clusters(&criterion.items, of));
    let with_candidates = |token: &SettledToken| regret(token.depth, next_candidate(token.settled[0], setting));
    json!({
        "name": criterion.name,
        "threshold": criterion.threshold,
        "regret": mean(&|token| regret(token.depth, token.settled[0])),
        "under_exit": mean(&|token| f64::from(token.depth < token.settled[0])),
        "over_compute": mean(&|token| regret(token.depth, token.settled[0]).max(0.0) / setting.n_blocks()),
        "dtr": mean(&|token| f64::from(token.settled[1] as f64 >= late)),
        "dtr_first": mean(&|token| f64::from(token.settled[0] as f64 >= late)),
        "regret_cand": mean(&with_candidates),
        "under_exit_cand": mean(&|token| f64::from(with_candidates(token) < 0.0)),
        "over_compute_cand": mean(&|token| with_candidates(token).max(0.0) / setting.n_blocks()),
    })
}

/// How often each of `n` bins is meant; others do not count.
fn counts(n: usize, bins: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0; n];
    for bin in bins.filter(|bin| *bin < n) {
        counts[bin] += 1;
    }
    counts
}

/// Number of tokens by depth, 1 to `L`.
fn histogram(depths: impl Iterator<Item = usize>, setting: &MetricSetting<'_>) -> Value {
    json!(counts(setting.identity.n_blocks, depths.filter_map(|depth| depth.checked_sub(1))))
}

/// Number of tokens by regret, `-L` to `L`.
fn regret_histogram<'a>(tokens: impl Iterator<Item = &'a SettledToken>, setting: &MetricSetting<'_>) -> Value {
    let n_blocks = setting.identity.n_blocks;
    let bins = tokens.filter_map(|token| (token.depth + n_blocks).checked_sub(token.settled[0]));
    json!({"from": -(n_blocks as i64), "counts": counts(2 * n_blocks + 1, bins)})
}

/// Number of tokens by depth (rows) and settling depth rounded up to the next candidate (columns).
fn joint<'a>(tokens: impl Iterator<Item = &'a SettledToken>, setting: &MetricSetting<'_>) -> Value {
    let depths = setting.depths();
    let bin = |depth: usize| depths.iter().position(|at| *at == depth);
    let mut counts = vec![vec![0_usize; depths.len()]; depths.len()];
    for token in tokens {
        if let (Some(row), Some(column)) = (bin(token.depth), bin(next_candidate(token.settled[0], setting))) {
            counts[row][column] += 1;
        }
    }
    json!({"depths": depths, "counts": counts})
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::item_rows::tests::setting;

    #[test]
    fn a_dip_is_the_first_depth_and_not_the_last() {
        let depths = [1, 2, 3, 4, 5];
        assert_eq!(settling_depths(&depths, &[0.9, 0.4, 0.8, 0.3, 0.0], 0.5), Some([2, 4]));
        assert_eq!(settling_depths(&depths, &[0.5, 0.5, 0.5, 0.5, 0.0], 0.5), Some([1, 1]));
        assert_eq!(settling_depths(&depths, &[0.9, 0.9, 0.9, f64::NAN, 0.0], 0.5), Some([5, 5]));
        assert_eq!(settling_depths(&depths, &[0.1, 0.9, 0.9, 0.9, 0.9], 0.5), None);
        assert_eq!(settling_depths(&[], &[], 0.5), None);
    }

    #[test]
    fn figures_by_hand() {
        let token = |depth, settled| SettledToken { depth, settled };
        // Regrets 2, -4, 0 with L = 28; late from ceil(23.8) = 24 on.
        let items = vec![vec![token(5, [3, 24]), token(10, [14, 14])], vec![token(28, [28, 28])], vec![]];
        let criterion = SettlingCriterion { name: "jsd_bits".to_owned(), threshold: 0.5, items };
        let setting = setting();
        let record = regret_record(&[criterion], "plain", &setting);
        assert!((record.value.unwrap() + 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((record.n, record.n_tokens, record.n_excluded), (2, Some(3), 1));
        let figure = |name: &str| record.extra["criteria"][0][name]["value"].as_f64().unwrap();
        for (name, expected) in [
            ("under_exit", 1.0 / 3.0),
            ("over_compute", 2.0 / 3.0 / 28.0),
            ("dtr", 2.0 / 3.0),
            ("dtr_first", 1.0 / 3.0),
            // Rounded up: 5, 15 and 28.
            ("regret_cand", -5.0 / 3.0),
            ("over_compute_cand", 0.0),
        ] {
            assert!((figure(name) - expected).abs() < 1e-12, "{name}: {}", figure(name));
        }
        assert_eq!(record.extra["depth_by_settling"]["counts"][1], json!([0, 0, 1, 0, 0, 0]));
        assert_eq!(record.extra["regret_hist"]["counts"][28 + 2], 1);
        record.check().unwrap();
        assert_eq!(regret_record(&[], "plain", &setting).null_reason.as_deref(), Some("no_settling_depths"));
    }

    proptest! {
        #[test]
        fn the_definitions_hold(distances in prop::collection::vec(0.0_f64..1.0, 0..12), threshold in 0.0_f64..1.0) {
            let depths: Vec<usize> = (1..=distances.len() + 1).collect();
            let distances: Vec<f64> = distances.into_iter().chain([0.0]).collect();
            let [first, last] = settling_depths(&depths, &distances, threshold).unwrap();
            let first_expected = depths.iter().find(|l| distances[**l - 1] <= threshold).unwrap();
            let last_expected = depths.iter().find(|l| distances[**l - 1..].iter().all(|d| *d <= threshold)).unwrap();
            prop_assert_eq!((first, last), (*first_expected, *last_expected));
        }
    }
}
