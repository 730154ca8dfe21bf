//! How far a measured share may be from the true one.

use crate::metric_record::{ConfidenceInterval, IntervalMethod};

/// Quantile of the standard normal distribution that leaves 2.5 % above it.
const Z_95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval (Wilson, 1927), `[low, high]`, of the probability of success, where `successes` were seen in
/// `n` independent trials:
///
/// `(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`, with `p = successes / n`, `z = 1.96`.
///
/// Unlike `p +- z sqrt(p (1 - p) / n)` it stays within 0 and 1, and has a width where `p` is 0 or 1. `None` for no
/// trial, and for more successes than trials.
pub fn wilson_interval(successes: usize, n: usize) -> Option<[f64; 2]> {
    if n == 0 || successes > n {
        return None;
    }
    let n_trials = n as f64;
    let share = successes as f64 / n_trials;
    let z_squared = Z_95 * Z_95;
    let scale = 1.0 + z_squared / n_trials;
    let middle = (share + z_squared / (2.0 * n_trials)) / scale;
    let variance = share * (1.0 - share) / n_trials + z_squared / (4.0 * n_trials * n_trials);
    let half_width = Z_95 * variance.sqrt() / scale;
    // At the ends the exact bounds are 0 and 1; rounding must not say otherwise.
    let low = if successes == 0 { 0.0 } else { (middle - half_width).max(0.0) };
    let high = if successes == n { 1.0 } else { (middle + half_width).min(1.0) };
    Some([low, high])
}

/// [`wilson_interval`] as the interval of a metric record.
pub fn wilson_confidence(successes: usize, n: usize) -> Option<ConfidenceInterval> {
    wilson_interval(successes, n).map(of_bounds)
}

/// Bounds of Wilson's intervals as an interval of a metric record.
pub(super) fn of_bounds([lo, hi]: [f64; 2]) -> ConfidenceInterval {
    ConfidenceInterval { level: 0.95, lo, hi, method: IntervalMethod::Wilson, b: None, cluster: None, seed: None }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_intervals() {
        // From the formula by hand: 8 of 10, 0 of 10 (high bound z^2 / (n + z^2)), 10 of 10.
        for ((successes, n), expected) in [
            ((8, 10), [0.490_162, 0.943_318]),
            ((0, 10), [0.0, 0.277_533]),
            ((10, 10), [0.722_467, 1.0]),
            ((50, 100), [0.403_832, 0.596_168]),
            ((150, 200), [0.685_659, 0.804_918]),
        ] {
            let found = wilson_interval(successes, n).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{successes} of {n}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn nothing_is_said_about_nothing() {
        assert_eq!(wilson_interval(0, 0), None);
        assert_eq!(wilson_interval(3, 2), None);
    }

    proptest! {
        #[test]
        fn the_share_is_inside_and_more_trials_say_more(n in 1_usize..5000, part in 0.0_f64..=1.0) {
            let successes = (part * n as f64) as usize;
            let share = successes as f64 / n as f64;
            let [low, high] = wilson_interval(successes, n).unwrap();
            prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0 && low < high);
            let [more_low, more_high] = wilson_interval(10 * successes, 10 * n).unwrap();
            prop_assert!(more_high - more_low < high - low);
            // What is true of successes is true of failures.
            let [failures_low, failures_high] = wilson_interval(n - successes, n).unwrap();
            prop_assert!((failures_low - (1.0 - high)).abs() < 1e-12 && (failures_high - (1.0 - low)).abs() < 1e-12);
        }
    }
}
