//! What depths came to: layer savings, exit rate, and whether the sampler does what the hazards say (arXiv 2603.21376, results).
//!
//! The depths are those of the tokens that were free to exit, `t >= 1`.

use crate::candidates::outcome;

/// Layer savings of one step, `1 - d / L`.
pub fn layer_savings(depth: usize, n_blocks: usize) -> f64 {
    1.0 - depth as f64 / n_blocks as f64
}

/// Average layer savings, `ALS = mean_t (1 - d_t / L)`, a fraction: the headline. `None` for no tokens.
pub fn average_layer_savings(depths: &[usize], n_blocks: usize) -> Option<f64> {
    Some(savings_of_mean_depth(mean_depth(depths)?, n_blocks))
}

/// Average layer savings where the mean depth is known, `ALS = 1 - mean_t d_t / L`.
pub fn savings_of_mean_depth(mean_depth: f64, n_blocks: usize) -> f64 {
    1.0 - mean_depth / n_blocks as f64
}

/// Average layer savings of an exit distribution, `sum_d pi_d (1 - d / L)`.
///
/// # Shapes
/// `distribution`: `[n_candidates + 1]`; full depth, the last, saves nothing.
pub fn savings_of_distribution(distribution: &[f64], candidates: &[usize], n_blocks: usize) -> f64 {
    let savings = candidates.iter().map(|depth| layer_savings(*depth, n_blocks));
    distribution.iter().zip(savings).map(|(share, saved)| share * saved).sum()
}

/// Mean depth in blocks, `mean_t d_t`. `None` for no tokens.
pub fn mean_depth(depths: &[usize]) -> Option<f64> {
    (!depths.is_empty()).then(|| depths.iter().sum::<usize>() as f64 / depths.len() as f64)
}

/// Exit rate, `#{t : d_t < L} / #{t}`. It flatters: an exit near full depth saves next to nothing. `None` for no tokens.
pub fn exit_rate(depths: &[usize], n_blocks: usize) -> Option<f64> {
    let exits = depths.iter().filter(|depth| **depth < n_blocks).count();
    (!depths.is_empty()).then(|| exits as f64 / depths.len() as f64)
}

/// Share of tokens at each candidate, then at full depth; sums to 1. Depths that are neither count as full depth. `None` for no
/// tokens.
///
/// # Shapes
/// `candidates`: distinct, below full depth. Result: `[n_candidates + 1]`.
pub fn exit_histogram(depths: &[usize], candidates: &[usize]) -> Option<Vec<f64>> {
    let mut counts = vec![0_usize; candidates.len() + 1];
    for depth in depths {
        counts[outcome(*depth, candidates)] += 1;
    }
    let share = |count: usize| count as f64 / depths.len() as f64;
    (!depths.is_empty()).then(|| counts.into_iter().map(share).collect())
}

/// Whether tokens exit at a candidate as often as their hazards say.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerCheck {
    /// The candidate's depth in blocks.
    pub depth: usize,
    /// Number of tokens that reached it and have a hazard recorded there.
    pub reached: usize,
    /// How many of them exited there.
    pub exits: usize,
    /// How many were to be expected: `sum q` over these tokens.
    pub expected: f64,
    /// `z = (exits - sum q) / sqrt(sum q (1 - q))`; `None` if the denominator is 0. A correct sampler has `|z| <= 4`.
    pub z: Option<f64>,
}

impl SamplerCheck {
    /// The check of a candidate from what its tokens saw there: the hazard, and whether they exited.
    pub fn of(depth: usize, seen: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let (mut reached, mut exits, mut expected, mut variance) = (0, 0, 0.0, 0.0);
        for (hazard, exited) in seen {
            reached += 1;
            exits += usize::from(exited);
            expected += hazard;
            variance += hazard * (1.0 - hazard);
        }
        let z = (variance > 0.0).then(|| (exits as f64 - expected) / variance.sqrt());
        Self { depth, reached, exits, expected, z }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const CANDIDATES: [usize; 5] = [5, 10, 15, 20, 25];

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn worked_example() {
        // 28 blocks; sum of depths 5+10+28+25+5+28+15 = 116 over 7 tokens, 5 of them exits.
        let depths = [5, 10, 28, 25, 5, 28, 15];
        close(mean_depth(&depths).unwrap(), 116.0 / 7.0);
        close(average_layer_savings(&depths, 28).unwrap(), 0.408_163_265_306);
        close(exit_rate(&depths, 28).unwrap(), 5.0 / 7.0);
        let expected = [2.0 / 7.0, 1.0 / 7.0, 1.0 / 7.0, 0.0, 1.0 / 7.0, 2.0 / 7.0];
        for (share, expected) in exit_histogram(&depths, &CANDIDATES).unwrap().iter().zip(expected) {
            close(*share, expected);
        }
        let nothing = (mean_depth(&[]), average_layer_savings(&[], 28), exit_rate(&[], 28));
        assert_eq!((nothing, exit_histogram(&[], &CANDIDATES)), ((None, None, None), None));
    }

    #[test]
    fn sampler_check_by_hand() {
        // 8 tokens reach depth 2 with q = 0.25: 2 expected, 3 exit, variance 8 * 0.25 * 0.75 = 1.5.
        let check = SamplerCheck::of(2, (0..8).map(|token| (0.25, token < 3)));
        assert_eq!((check.reached, check.exits), (8, 3));
        close(check.expected, 2.0);
        close(check.z.unwrap(), 1.0 / 1.5_f64.sqrt());
        // Hazards of 0 and 1 leave nothing to check.
        assert_eq!(SamplerCheck::of(2, [(1.0, true), (0.0, false)]).z, None);
    }

    proptest! {
        #[test]
        fn histograms_are_distributions_and_agree_with_the_means(choices in prop::collection::vec(0_usize..6, 1..200)) {
            let depths: Vec<usize> = choices.iter().map(|choice| [5, 10, 15, 20, 25, 28][*choice]).collect();
            let histogram = exit_histogram(&depths, &CANDIDATES).unwrap();
            prop_assert!((histogram.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(histogram.iter().all(|share| (0.0..=1.0).contains(share)));
            let savings = savings_of_distribution(&histogram, &CANDIDATES, 28);
            prop_assert!((savings - average_layer_savings(&depths, 28).unwrap()).abs() < 1e-9);
            let each: f64 = depths.iter().map(|depth| layer_savings(*depth, 28)).sum();
            prop_assert!((each / depths.len() as f64 - savings).abs() < 1e-9);
            prop_assert!((histogram[..5].iter().sum::<f64>() - exit_rate(&depths, 28).unwrap()).abs() < 1e-9);
        }
    }
}
