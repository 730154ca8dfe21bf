//! A bootstrap within classes: every draw has as many items of each class as there are.

use super::wilson::{of_bounds, wilson_interval};
use crate::metric_record::{ConfidenceInterval, IntervalMethod};
use crate::statistics::Bootstrap;
use aloud_base::random::{Domain, KeyedRandom};

impl Bootstrap {
    /// Interval of the mean over classes of the share of `true` in each. Where no class has both, there is nothing to resample:
    /// the means of the bounds of Wilson's intervals of the classes then. `None` without a class, or with an empty one.
    pub fn mean_of_shares_interval(&self, classes: &[Vec<bool>]) -> Option<ConfidenceInterval> {
        if classes.is_empty() || classes.iter().any(Vec::is_empty) {
            return None;
        }
        let n_classes = classes.len() as f64;
        let count = |class: &[bool]| class.iter().filter(|is_true| **is_true).count();
        if classes.iter().all(|class| matches!(count(class), n if n == 0 || n == class.len())) {
            let bounds: Vec<[f64; 2]> =
                classes.iter().filter_map(|class| wilson_interval(count(class), class.len())).collect();
            let mean = |at: usize| bounds.iter().map(|bounds| bounds[at]).sum::<f64>() / n_classes;
            return Some(of_bounds([mean(0), mean(1)]));
        }
        let draw = |number: usize| {
            let mut draws =
                KeyedRandom::new(self.seed, Domain::RESAMPLE_WITHIN_CLASSES, [0, 0]).in_stream(number as u64);
            let share = |class: &Vec<bool>| {
                let n_true = (0..class.len()).filter(|_| class[draws.below(class.len())]).count();
                n_true as f64 / class.len() as f64
            };
            classes.iter().map(share).sum::<f64>() / n_classes
        };
        Some(self.interval_of_draws((0..self.n_draws).map(draw))?.by(IntervalMethod::StratifiedBootstrap))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn classes_count_equally_whatever_their_size() {
        // 0.5 of 100 and 0.5 of 400: the variance is (0.25 / 100 + 0.25 / 400) / 4 = 0.02795^2.
        let class = |n: usize| (0..n).map(|number| number % 2 == 0).collect::<Vec<bool>>();
        let interval = Bootstrap::default().mean_of_shares_interval(&[class(100), class(400)]).unwrap();
        assert_eq!(interval.method, IntervalMethod::StratifiedBootstrap);
        let half = 1.96 * 0.027_95;
        assert!((interval.lo - (0.5 - half)).abs() < 0.006 && (interval.hi - (0.5 + half)).abs() < 0.006);
    }

    #[test]
    fn without_spread_it_is_wilsons() {
        // 0 of 10 and 10 of 10: the bounds of the two are mirror images.
        let constant = [vec![false; 10], vec![true; 10]];
        let interval = Bootstrap::default().mean_of_shares_interval(&constant).unwrap();
        assert_eq!(interval.method, IntervalMethod::Wilson);
        assert!((interval.lo - 0.361_234).abs() < 1e-6 && (interval.hi - 0.638_766).abs() < 1e-6, "{interval:?}");
        assert_eq!(Bootstrap::default().mean_of_shares_interval(&[]), None);
        assert_eq!(Bootstrap::default().mean_of_shares_interval(&[vec![true], vec![]]), None);
    }
}
