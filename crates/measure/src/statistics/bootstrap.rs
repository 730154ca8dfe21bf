//! The cluster bootstrap: items are drawn with replacement, each with all its tokens and samples.
//!
//! A draw is a list of weights, how often each item was drawn. Statistics are functions of weights, so that one with many
//! tokens can be computed from sums an item. The weights depend on seed, draw and number of items alone: statistics over
//! the same items see the same draws. That makes differences of two models paired, and joint distributions possible.

use std::iter::Sum;
use std::ops::Add;

use super::quantile::quantile;
use super::wilson::wilson_confidence;
use crate::metric_record::{ConfidenceInterval, IntervalMethod};
use aloud_base::random::{Domain, KeyedRandom};

/// A statistic that is undefined in more than this share of the draws has no interval.
const MAX_UNDEFINED: f64 = 0.1;

/// How often items are drawn, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of draws.
    pub n_draws: usize,
    /// Coverage of intervals, between 0 and 1.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { n_draws: 2000, level: 0.95, seed: 7 }
    }
}

/// Sum and count of what one item adds to a mean over tokens or samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Sum of the values.
    pub sum: f64,
    /// Number of values.
    pub count: usize,
}

impl Cluster {
    /// The cluster of these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        values.into_iter().map(|sum| Self { sum, count: 1 }).sum()
    }

    /// Several clusters as one.
    pub fn total(clusters: &[Self]) -> Self {
        clusters.iter().copied().sum()
    }

    /// The mean of the values; `None` for none.
    pub fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Add for Cluster {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, count: self.count + other.count }
    }
}

impl Sum for Cluster {
    fn sum<Clusters: Iterator<Item = Self>>(clusters: Clusters) -> Self {
        clusters.fold(Self::default(), Self::add)
    }
}

/// The mean over all values of weighted clusters, one weight a cluster; `None` for no values.
pub fn mean_of_clusters(clusters: &[Cluster], weights: &[u32]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for (cluster, weight) in clusters.iter().zip(weights) {
        sum += f64::from(*weight) * cluster.sum;
        count += f64::from(*weight) * cluster.count as f64;
    }
    (count > 0.0).then(|| sum / count)
}

/// Sums of the numbers of weighted items, one weight an item.
pub(crate) fn weighted_sums<const N: usize>(items: &[[f64; N]], weights: &[u32]) -> [f64; N] {
    items.iter().zip(weights).fold([0.0; N], |mut sums, (numbers, weight)| {
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += f64::from(*weight) * number;
        }
        sums
    })
}

impl Bootstrap {
    /// The draws of headline numbers and verdicts.
    pub fn headline() -> Self {
        Self { n_draws: 10_000, ..Self::default() }
    }

    /// Values of a statistic over the draws; draws for which it is undefined are left out.
    ///
    /// `statistic` is given one weight an item.
    pub fn distribution<T>(&self, n_items: usize, statistic: impl Fn(&[u32]) -> Option<T>) -> Vec<T> {
        let mut weights = vec![0; n_items];
        (0..self.n_draws)
            .filter_map(|draw| {
                weights.fill(0);
                let mut draws = KeyedRandom::new(self.seed, Domain::RESAMPLE, [0, 0]).in_stream(draw as u64);
                for _ in 0..n_items {
                    if let Some(weight) = weights.get_mut(draws.below(n_items)) {
                        *weight += 1;
                    }
                }
                statistic(&weights)
            })
            .collect()
    }

    /// The value of a statistic with every item once.
    pub fn value<T>(n_items: usize, statistic: impl Fn(&[u32]) -> Option<T>) -> Option<T> {
        statistic(&vec![1; n_items])
    }

    /// Percentile interval of a statistic. `None` for fewer than two items, which cannot show any spread, and for a
    /// statistic that is undefined or not finite in more than a tenth of the draws.
    pub fn interval(&self, n_items: usize, statistic: impl Fn(&[u32]) -> Option<f64>) -> Option<ConfidenceInterval> {
        if n_items < 2 {
            return None;
        }
        self.interval_of_draws(self.distribution(n_items, statistic))
    }

    /// The same for a statistic that compares two models on the same items, in the same order.
    pub fn paired_interval(
        &self,
        n_items: usize,
        statistic: impl Fn(&[u32]) -> Option<f64>,
    ) -> Option<ConfidenceInterval> {
        Some(self.interval(n_items, statistic)?.by(IntervalMethod::PairedClusterBootstrap))
    }

    /// Interval of a share of samples: Wilson's if no item has several of them, else [`Bootstrap::share_interval`].
    pub fn share_of_samples_interval(&self, clusters: &[Cluster]) -> Option<ConfidenceInterval> {
        if clusters.iter().any(|cluster| cluster.count > 1) {
            return self.share_interval(clusters);
        }
        let all = Cluster::total(clusters);
        wilson_confidence(all.sum as usize, all.count)
    }

    /// Interval of a share: of a mean of values that are 0 or 1. Where all values are 0, or all are 1, there is nothing to
    /// resample: Wilson's interval then, with each item with a value as one trial.
    pub fn share_interval(&self, clusters: &[Cluster]) -> Option<ConfidenceInterval> {
        let n_items = clusters.iter().filter(|cluster| cluster.count > 0).count();
        let all = |share: f64| clusters.iter().all(|cluster| cluster.sum == share * cluster.count as f64);
        if all(0.0) {
            wilson_confidence(0, n_items)
        } else if all(1.0) {
            wilson_confidence(n_items, n_items)
        } else {
            self.interval(clusters.len(), |weights| mean_of_clusters(clusters, weights))
        }
    }

    /// Percentile interval of values of a statistic that were kept from [`Bootstrap::distribution`]. `None` if more than a
    /// tenth of the draws have no finite value.
    pub fn interval_of_draws(&self, values: impl IntoIterator<Item = f64>) -> Option<ConfidenceInterval> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        if values.is_empty() || (values.len() as f64) < (1.0 - MAX_UNDEFINED) * self.n_draws as f64 {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(ConfidenceInterval {
            level: self.level,
            lo: quantile(&values, tail)?,
            hi: quantile(&values, 1.0 - tail)?,
            method: IntervalMethod::ClusterBootstrap,
            b: Some(self.n_draws),
            cluster: Some("item".to_owned()),
            seed: Some(self.seed),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn clusters(values: &[f64]) -> Vec<Cluster> {
        values.iter().map(|value| Cluster { sum: *value, count: 1 }).collect()
    }

    #[test]
    fn the_interval_of_a_mean_has_its_known_width() {
        // 400 values 0 or 1, half each: standard error 0.5 / 20, so +- 1.96 * 0.025.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let interval = Bootstrap::default().share_interval(&clusters(&values)).unwrap();
        assert!((interval.lo - 0.451).abs() < 0.006 && (interval.hi - 0.549).abs() < 0.006, "{interval:?}");
        assert_eq!((interval.b, interval.method), (Some(2000), IntervalMethod::ClusterBootstrap));
    }

    #[test]
    fn clusters_are_drawn_as_a_whole() {
        // Ten items of 100 equal tokens each know as much as ten tokens, not as a thousand.
        let of_items: Vec<Cluster> = (0..10).map(|i| Cluster { sum: f64::from(100 * (i % 2)), count: 100 }).collect();
        let interval = Bootstrap::default().share_interval(&of_items).unwrap();
        assert!(interval.hi - interval.lo > 0.5, "{interval:?}");
    }

    #[test]
    fn shares_of_0_and_1_fall_back_to_wilson() {
        let bootstrap = Bootstrap::default();
        let none = bootstrap.share_interval(&[Cluster { sum: 0.0, count: 30 }; 10]).unwrap();
        assert_eq!((none.method, none.lo), (IntervalMethod::Wilson, 0.0));
        assert!((none.hi - 0.277_533).abs() < 1e-6);
        let all = bootstrap.share_interval(&[Cluster { sum: 30.0, count: 30 }; 10]).unwrap();
        assert!((all.lo - 0.722_467).abs() < 1e-6 && all.hi == 1.0);
        assert_eq!(bootstrap.share_interval(&[]), None);
        assert_eq!(bootstrap.share_interval(&[Cluster::default()]), None);
    }

    #[test]
    fn pairing_takes_away_what_items_have_in_common() {
        // Items differ by up to 100, models by 1 on each item.
        let first: Vec<f64> = (0..50).map(|i| f64::from(i * 37 % 101)).collect();
        let (a, b) = (clusters(&first), clusters(&first.iter().map(|value| value + 1.0).collect::<Vec<_>>()));
        let bootstrap = Bootstrap::default();
        let difference = |weights: &[u32]| Some(mean_of_clusters(&b, weights)? - mean_of_clusters(&a, weights)?);
        let paired = bootstrap.paired_interval(50, difference).unwrap();
        assert!((paired.lo - 1.0).abs() < 1e-9 && (paired.hi - 1.0).abs() < 1e-9);
        let alone = bootstrap.interval(50, |weights| mean_of_clusters(&a, weights)).unwrap();
        assert!(alone.hi - alone.lo > 10.0);
    }

    #[test]
    fn what_is_mostly_undefined_has_no_interval() {
        let bootstrap = Bootstrap { n_draws: 200, ..Bootstrap::default() };
        // With ten items, one of them is missing from a draw with probability 0.35.
        assert_eq!(bootstrap.interval(10, |weights| (weights[0] > 0).then_some(1.0)), None);
        assert_eq!(bootstrap.interval(10, |_| Some(f64::NAN)), None);
        assert_eq!(bootstrap.interval(1, |_| Some(1.0)), None);
    }

    proptest! {
        #[test]
        fn draws_are_whole_repeatable_and_joint(n_items in 1_usize..30, seed: u64) {
            let bootstrap = Bootstrap { n_draws: 20, level: 0.95, seed };
            let weights = bootstrap.distribution(n_items, |weights| Some(weights.to_vec()));
            prop_assert!(weights.iter().all(|weights| weights.iter().sum::<u32>() as usize == n_items));
            prop_assert_eq!(&weights, &bootstrap.distribution(n_items, |weights| Some(weights.to_vec())));
            let other = Bootstrap { seed: seed ^ 1, ..bootstrap };
            prop_assert!(n_items < 3 || weights != other.distribution(n_items, |weights| Some(weights.to_vec())));
        }

        #[test]
        fn intervals_move_and_scale_with_their_values(values in prop::collection::vec(-5.0_f64..5.0, 2..20), by in -3.0_f64..3.0, scale in 0.1_f64..4.0) {
            let bootstrap = Bootstrap { n_draws: 100, ..Bootstrap::default() };
            let interval = |values: &[f64]| {
                let clusters = clusters(values);
                bootstrap.interval(clusters.len(), |weights| mean_of_clusters(&clusters, weights)).unwrap()
            };
            let first = interval(&values);
            let moved = interval(&values.iter().map(|value| scale * value + by).collect::<Vec<_>>());
            prop_assert!((moved.lo - (scale * first.lo + by)).abs() < 1e-9);
            prop_assert!((moved.hi - (scale * first.hi + by)).abs() < 1e-9);
            let (low, high) = (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max));
            prop_assert!(low - 1e-9 <= first.lo && first.lo <= first.hi && first.hi <= high + 1e-9);
        }
    }
}
