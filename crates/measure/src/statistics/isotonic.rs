//! Monotone regression.

/// Falling least-squares fit of values in order, by pooling of adjacent violators (Ayer et al., 1955): the list that never rises
/// with the smallest sum of squared differences.
pub fn falling_fit(values: &[f64]) -> Vec<f64> {
    struct Pool {
        mean: f64,
        count: usize,
    }
    let mut pools: Vec<Pool> = Vec::new();
    for value in values {
        let mut last = Pool { mean: *value, count: 1 };
        while let Some(before) = pools.pop_if(|before| before.mean <= last.mean) {
            let count = before.count + last.count;
            let mean = (before.mean * before.count as f64 + last.mean * last.count as f64) / count as f64;
            last = Pool { mean, count };
        }
        pools.push(last);
    }
    pools.into_iter().flat_map(|pool| std::iter::repeat_n(pool.mean, pool.count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_examples() {
        assert_eq!(falling_fit(&[0.9, 0.95, 0.5, 0.6, 0.1]), [0.925, 0.925, 0.55, 0.55, 0.1]);
        assert_eq!(falling_fit(&[4.0, 2.0, 3.0, 1.0]), [4.0, 2.5, 2.5, 1.0]);
        assert_eq!(falling_fit(&[1.0, 2.0, 3.0]), [2.0, 2.0, 2.0]);
        assert_eq!(falling_fit(&[]), [0.0; 0]);
    }

    proptest! {
        #[test]
        fn monotone_of_equal_mean_and_at_rest(values in prop::collection::vec(-5.0_f64..5.0, 1..20)) {
            let fit = falling_fit(&values);
            prop_assert!(fit.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12));
            prop_assert!((fit.iter().sum::<f64>() - values.iter().sum::<f64>()).abs() < 1e-9);
            for (again, once) in falling_fit(&fit).iter().zip(&fit) {
                prop_assert!((again - once).abs() < 1e-9);
            }
            // The least-squares condition: no monotone list is nearer. Shifting the fit's first values up is still monotone.
            let distance = |list: &[f64]| -> f64 { list.iter().zip(&values).map(|(a, b)| (a - b) * (a - b)).sum() };
            for end in 0..=fit.len() {
                for step in [-0.01, 0.01] {
                    let mut other = fit.clone();
                    other[..end].iter_mut().for_each(|value| *value += step);
                    if other.windows(2).all(|pair| pair[0] >= pair[1]) {
                        prop_assert!(distance(&other) >= distance(&fit) - 1e-9);
                    }
                }
            }
        }
    }
}
