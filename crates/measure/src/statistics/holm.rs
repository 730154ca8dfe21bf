//! Holm's correction for several tests.

/// Holm's adjusted p-values (Holm, 1979), in the order given: the `k`-th smallest of `m` is multiplied by `m - k + 1`, and
/// none is below the adjusted one before it. A hypothesis is rejected at level `alpha` if its adjusted value is at most
/// `alpha`; then the probability of any false rejection is at most `alpha`.
pub fn holm_adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (smaller, index) in order.into_iter().enumerate() {
        largest = largest.max((p_values[index] * (p_values.len() - smaller) as f64).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 are 0.02, 0.03, 0.06, 0.04, the last raised to 0.06.
        let adjusted = holm_adjusted(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm_adjusted(&[0.6, 0.9]), [1.0, 1.0]);
        assert_eq!(holm_adjusted(&[]), [0.0; 0]);
    }

    proptest! {
        #[test]
        fn between_the_value_and_bonferroni_and_in_the_same_order(values in prop::collection::vec(0.0_f64..=1.0, 1..8)) {
            let adjusted = holm_adjusted(&values);
            let m = values.len() as f64;
            for (p, a) in values.iter().zip(&adjusted) {
                prop_assert!(a >= p && *a <= (p * m).min(1.0) + 1e-12);
                for (other, b) in values.iter().zip(&adjusted) {
                    prop_assert!(p > other || a <= b);
                }
            }
        }
    }
}
