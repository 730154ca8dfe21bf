//! Distances of two distributions over the same depths.

use aloud_method::exit_distribution::total_variation;
use serde::Serialize;

/// Added to both sides of a logarithm that would be infinite, before renormalising.
const SMOOTHING: f64 = 1e-6;

/// How far two distributions are apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distances {
    /// [`total_variation`].
    pub tv: f64,
    /// Jensen and Shannon's divergence, bits, 0 to 1.
    pub js: f64,
    /// Kullback and Leibler's divergence of the first from the second, bits.
    pub kl: f64,
    /// Wasserstein's distance, blocks.
    pub w1: f64,
}

/// All distances of two distributions.
///
/// # Shapes
/// One probability a depth; depths (blocks) increase. What is beyond the shortest list does not count.
pub fn distances(depths: &[usize], a: &[f64], b: &[f64]) -> Distances {
    Distances { tv: total_variation(a, b), js: js_bits(a, b), kl: kl_bits(a, b), w1: wasserstein(depths, a, b) }
}

/// Jensen and Shannon's divergence in bits: `1/2 KL(a || m) + 1/2 KL(b || m)` with `m = (a + b) / 2`. It is 0 to 1.
fn js_bits(a: &[f64], b: &[f64]) -> f64 {
    let side = |a: f64, b: f64| if a > 0.0 { a * (2.0 * a / (a + b)).log2() } else { 0.0 };
    (a.iter().zip(b).map(|(a, b)| side(*a, *b) + side(*b, *a)).sum::<f64>() / 2.0).clamp(0.0, 1.0)
}

/// `KL(a || b) = sum a log2(a / b)` in bits. Where `b` has nothing and `a` has something it would be infinite; then 1e-6 is
/// added to every probability of both, they are renormalised, and the number says little.
fn kl_bits(a: &[f64], b: &[f64]) -> f64 {
    let infinite = a.iter().zip(b).any(|(a, b)| *a > 0.0 && *b <= 0.0);
    let added = if infinite { SMOOTHING } else { 0.0 };
    let total = |p: &[f64]| p.iter().map(|p| p + added).sum::<f64>();
    let (total_a, total_b) = if infinite { (total(a), total(b)) } else { (1.0, 1.0) };
    let term = |a: f64, b: f64| if a > 0.0 { a * (a / b).log2() } else { 0.0 };
    a.iter().zip(b).map(|(a, b)| term((a + added) / total_a, (b + added) / total_b)).sum::<f64>().max(0.0)
}

/// Wasserstein's distance in blocks: `sum_i |A_i - B_i| (depth_{i+1} - depth_i)` with cumulative `A`, `B`. Missing by one
/// block costs less than missing by five.
fn wasserstein(depths: &[usize], a: &[f64], b: &[f64]) -> f64 {
    let (mut gap, mut sum) = (0.0, 0.0);
    for (pair, (a, b)) in depths.windows(2).zip(a.iter().zip(b)) {
        gap += a - b;
        sum += f64::abs(gap) * (pair[1] as f64 - pair[0] as f64);
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPTHS: [usize; 6] = [5, 10, 15, 20, 25, 28];

    #[test]
    fn golden_values() {
        let found = distances(&DEPTHS, &[0.1, 0.1, 0.1, 0.1, 0.2, 0.4], &[0.05, 0.05, 0.1, 0.1, 0.2, 0.5]);
        for (found, expected) in
            [(found.tv, 0.1), (found.kl, 0.071_228_762_1), (found.js, 0.016_271_398_0), (found.w1, 2.05)]
        {
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let found = distances(&[5, 28], &[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!((found.tv, found.js, found.w1), (1.0, 1.0, 23.0));
        // log2 of about 1 / 1e-6.
        assert!(found.kl > 19.0 && found.kl < 21.0, "{}", found.kl);
    }

    prop_compose! {
        fn distribution()(weights in prop::collection::vec(0_u32..20, 6), at in 0_usize..6) -> Vec<f64> {
            let mut weights = weights;
            weights[at] += 1;
            let total: u32 = weights.iter().sum();
            weights.iter().map(|weight| f64::from(*weight) / f64::from(total)).collect()
        }
    }

    proptest! {
        #[test]
        fn distances_of_equals_are_0_and_bounds_hold(a in distribution(), b in distribution()) {
            prop_assert_eq!(distances(&DEPTHS, &a, &a), Distances { tv: 0.0, js: 0.0, kl: 0.0, w1: 0.0 });
            let (there, back) = (distances(&DEPTHS, &a, &b), distances(&DEPTHS, &b, &a));
            prop_assert!((there.tv - back.tv).abs() < 1e-12 && (there.js - back.js).abs() < 1e-12);
            prop_assert!((there.w1 - back.w1).abs() < 1e-9);
            // Pinsker's inequality, and what can be moved at most and by how little.
            prop_assert!(there.kl + 1e-4 >= 2.0 * there.tv * there.tv / std::f64::consts::LN_2);
            prop_assert!(there.w1 >= 3.0 * there.tv - 1e-9 && there.w1 <= 23.0 * there.tv + 1e-9);
            let mean = |p: &[f64]| p.iter().zip(DEPTHS).map(|(p, depth)| p * depth as f64).sum::<f64>();
            prop_assert!(there.w1 >= (mean(&a) - mean(&b)).abs() - 1e-9);
            prop_assert!(there.js <= there.tv + 1e-12);
        }
    }
}
