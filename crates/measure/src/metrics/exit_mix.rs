//! From exit logits, or from the teacher's lens KLs, to a distribution over depths.

/// Hazard of a candidate: `sigmoid(logit + offset)`, or 0 where that is below `tau`. `tau` is 0 but in the policy `compat`.
pub fn hazard_of_logit(logit: f64, offset: f64, tau: f64) -> f64 {
    let hazard = 1.0 / (1.0 + (-(logit + offset)).exp());
    if hazard >= tau { hazard } else { 0.0 }
}

/// The teacher's hazard `2 (1 - sigmoid(kl_factor KL))` of a lens KL in nats: 1 at KL 0, falling to 0.
pub fn target_hazard_of_kl(kl: f64, kl_factor: f64) -> f64 {
    let small = (-kl_factor * kl.max(0.0)).exp();
    2.0 * small / (1.0 + small)
}

/// The distribution over depths that hazards imply, by stick-breaking:
/// `pi_j = q_j prod_{i<j} (1 - q_i)`, `pi_L = prod_j (1 - q_j)`.
///
/// # Shapes
/// `hazards`: one a candidate. Result: the candidates, then full depth; it sums to 1.
pub fn stick_breaking(hazards: &[f64]) -> Vec<f64> {
    let mut left = 1.0;
    let mut mix: Vec<f64> = hazards
        .iter()
        .map(|hazard| {
            let here = left * hazard;
            left *= 1.0 - hazard;
            here
        })
        .collect();
    mix.push(left);
    mix
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPTHS: [f64; 6] = [5.0, 10.0, 15.0, 20.0, 25.0, 28.0];

    fn mean_depth(mix: &[f64]) -> f64 {
        assert!((mix.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        mix.iter().zip(DEPTHS).map(|(share, depth)| share * depth).sum()
    }

    #[test]
    fn golden_mix_of_kls() {
        let mix = |kl_factor: f64| -> Vec<f64> {
            stick_breaking(&[2.0, 1.0, 0.5, 0.2, 0.05].map(|kl| target_hazard_of_kl(kl, kl_factor)))
        };
        for (found, expected) in mix(1.0).iter().zip([0.2384, 0.4096, 0.2657, 0.0776, 0.0084, 0.0002]) {
            assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
        }
        for (kl_factor, expected) in [(1.0, 11.04), (0.5, 7.95), (2.0, 15.53), (4.0, 19.96)] {
            let found = mean_depth(&mix(kl_factor));
            assert!((found - expected).abs() < 5e-3, "{kl_factor}: {found} is not {expected}");
        }
    }

    #[test]
    fn golden_depths_of_offsets() {
        for (offset, expected) in [(-2.0, 27.64), (0.0, 20.68), (1.0, 15.17), (2.0, 11.12)] {
            let hazards = [-3.0, -2.0, -1.0, -1.0, 0.0].map(|logit| hazard_of_logit(logit, offset, 0.1));
            let found = mean_depth(&stick_breaking(&hazards));
            assert!((found - expected).abs() < 5e-3, "{offset}: {found} is not {expected}");
        }
    }

    proptest! {
        #[test]
        fn sums_to_1_and_rises_with_the_offset(logits in prop::collection::vec(-30.0_f64..30.0, 5), offset in -10.0_f64..10.0) {
            let depth = |offset: f64| {
                mean_depth(&stick_breaking(&logits.iter().map(|logit| hazard_of_logit(*logit, offset, 0.0)).collect::<Vec<_>>()))
            };
            prop_assert!(depth(offset + 0.5) <= depth(offset) + 1e-9);
        }

        #[test]
        fn target_hazards_fall_with_kl(kl in 0.0_f64..50.0, kl_factor in 0.1_f64..8.0) {
            let hazard = target_hazard_of_kl(kl, kl_factor);
            prop_assert!((0.0..=1.0).contains(&hazard) && target_hazard_of_kl(kl + 0.1, kl_factor) < hazard);
            prop_assert!((hazard - (1.0 - (kl_factor * kl / 2.0).tanh())).abs() < 1e-12);
        }
    }
}
