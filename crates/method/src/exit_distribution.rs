//! Exit distributions: from the hazards of a token to the probability of each depth, and draws from it (arXiv 2603.21376, the
//! exit distribution).

/// Exit distribution of hazards by stick-breaking: `pi_d = q_d prod_{e<d} (1 - q_e)`, and `pi_L = prod_e (1 - q_e)` last.
///
/// # Shapes
/// `hazards`: `[n_candidates]`; result: `[n_candidates + 1]`, sums to 1.
pub fn exit_distribution(hazards: &[f64]) -> Vec<f64> {
    let mut stick = 1.0;
    let mut distribution = Vec::with_capacity(hazards.len() + 1);
    for hazard in hazards {
        distribution.push(stick * hazard);
        stick *= 1.0 - hazard;
    }
    distribution.push(stick);
    distribution
}

/// Hazards that give a distribution, stick-breaking turned around: `q_d = pi_d / (1 - sum_{e<d} pi_e)`.
///
/// # Shapes
/// `distribution`: `[n_candidates + 1]`; result: `[n_candidates]`, 0 where nothing is left.
pub fn hazards_of_distribution(distribution: &[f64]) -> Vec<f64> {
    let mut left = 1.0;
    distribution[..distribution.len().saturating_sub(1)]
        .iter()
        .map(|share| {
            let hazard = if left > 0.0 { (share / left).clamp(0.0, 1.0) } else { 0.0 };
            left -= share;
            hazard
        })
        .collect()
}

/// Draws a depth from `pi`: at each candidate in turn, stop if `uniform(candidate number) < q_d`; else run all `n_blocks`.
///
/// `uniform` gives numbers in `[0, 1)`; it is asked once per candidate that the token reaches.
pub fn draw_depth(
    hazards: &[f64],
    candidates: &[usize],
    n_blocks: usize,
    mut uniform: impl FnMut(usize) -> f64,
) -> usize {
    let exit = hazards.iter().zip(candidates).enumerate().find(|&(i, (&hazard, _))| uniform(i) < hazard);
    exit.map_or(n_blocks, |(_, (_, &depth))| depth)
}

/// Mean depth in blocks, `sum_d pi_d d`.
///
/// # Shapes
/// `distribution`: `[n_candidates + 1]`, full depth last.
pub fn mean_depth(distribution: &[f64], candidates: &[usize], n_blocks: usize) -> f64 {
    let depths = candidates.iter().copied().chain([n_blocks]);
    distribution.iter().zip(depths).map(|(share, depth)| share * depth as f64).sum()
}

/// Total variation of two distributions over the same depths, `TV = 1/2 sum_d |a_d - b_d|`, 0 to 1.
pub fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hazard::sigmoid_f64;
    use crate::targets::target_hazard;

    /// Of a model of 28 blocks.
    const CANDIDATES: [usize; 5] = [5, 10, 15, 20, 25];

    #[test]
    fn distribution_by_hand() {
        assert_eq!(exit_distribution(&[0.5, 0.5, 0.0]), [0.5, 0.25, 0.0, 0.25]);
        assert_eq!(exit_distribution(&[1.0, 0.5]), [1.0, 0.0, 0.0]);
        assert_eq!(exit_distribution(&[]), [1.0]);
        assert_eq!(hazards_of_distribution(&[0.5, 0.25, 0.0, 0.25]), [0.5, 0.5, 0.0]);
        assert_eq!(hazards_of_distribution(&[1.0, 0.0, 0.0]), [1.0, 0.0]);
        assert_eq!(mean_depth(&[0.5, 0.25, 0.25], &[4, 8], 12), 7.0);
    }

    #[test]
    fn golden_mix_of_kls() {
        let mix = |kl_factor: f64| -> Vec<f64> {
            exit_distribution(&[2.0, 1.0, 0.5, 0.2, 0.05].map(|kl| target_hazard(kl, kl_factor)))
        };
        for (found, expected) in mix(1.0).iter().zip([0.2384, 0.4096, 0.2657, 0.0776, 0.0084, 0.0002]) {
            assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
        }
        for (kl_factor, expected) in [(1.0, 11.04), (0.5, 7.95), (2.0, 15.53), (4.0, 19.96)] {
            let found = mean_depth(&mix(kl_factor), &CANDIDATES, 28);
            assert!((found - expected).abs() < 5e-3, "{kl_factor}: {found} is not {expected}");
        }
    }

    #[test]
    fn total_variation_by_hand() {
        // |0.05| + |0.05| + 0 + 0 + 0 + |0.1| = 0.2, halved.
        let a = [0.1, 0.1, 0.1, 0.1, 0.2, 0.4];
        let b = [0.05, 0.05, 0.1, 0.1, 0.2, 0.5];
        assert!((total_variation(&a, &b) - 0.1).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn hazards_and_distributions_are_two_forms_of_one_thing(hazards in prop::collection::vec(0.0_f64..1.0, 0..12)) {
            let distribution = exit_distribution(&hazards);
            prop_assert!(distribution.iter().all(|share| (0.0..=1.0).contains(share)));
            prop_assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let again = exit_distribution(&hazards_of_distribution(&distribution));
            prop_assert!(distribution.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-9));
        }

        #[test]
        fn depth_follows_the_first_draw_below_its_hazard(hazards in prop::collection::vec(0.0..1.0, 5), draws in prop::collection::vec(0.0..1.0, 5)) {
            let depth = draw_depth(&hazards, &CANDIDATES, 30, |i| draws[i]);
            let expected = (0..5).find(|&i| draws[i] < hazards[i]).map_or(30, |i| CANDIDATES[i]);
            prop_assert_eq!(depth, expected);
        }

        #[test]
        fn depth_falls_with_the_offset(logits in prop::collection::vec(-30.0_f64..30.0, 5), offset in -10.0_f64..10.0) {
            let depth = |offset: f64| {
                let hazards: Vec<f64> = logits.iter().map(|logit| sigmoid_f64(logit + offset)).collect();
                mean_depth(&exit_distribution(&hazards), &CANDIDATES, 28)
            };
            prop_assert!(depth(offset + 0.5) <= depth(offset) + 1e-9);
        }

        #[test]
        fn total_variation_is_a_distance(a in prop::collection::vec(0.01_f64..1.0, 6), b in prop::collection::vec(0.01_f64..1.0, 6)) {
            let normal = |values: &[f64]| -> Vec<f64> { values.iter().map(|v| v / values.iter().sum::<f64>()).collect() };
            let (a, b) = (normal(&a), normal(&b));
            let distance = total_variation(&a, &b);
            prop_assert!((0.0..=1.0).contains(&distance));
            prop_assert_eq!(distance, total_variation(&b, &a));
            prop_assert_eq!(total_variation(&a, &a), 0.0);
        }
    }
}
