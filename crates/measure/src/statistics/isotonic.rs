//! Monotone regression.

/// Which way a fit may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// It never falls.
    Rising,
    /// It never rises.
    Falling,
}

/// Monotone least-squares fit of values in order, by pooling of adjacent violators (Ayer et al., 1955): the monotone list
/// with the smallest weighted sum of squared differences.
///
/// # Shapes
/// One weight a value, positive; one fitted value a value.
pub fn isotonic_regression(values: &[f64], weights: &[f64], trend: Trend) -> Vec<f64> {
    struct Pool {
        mean: f64,
        weight: f64,
        count: usize,
    }
    let sign = match trend {
        Trend::Rising => 1.0,
        Trend::Falling => -1.0,
    };
    let mut pools: Vec<Pool> = Vec::new();
    for (value, weight) in values.iter().zip(weights) {
        let mut last = Pool { mean: sign * value, weight: *weight, count: 1 };
        while let Some(before) = pools.pop_if(|before| before.mean >= last.mean) {
            let weight = before.weight + last.weight;
            let mean = (before.mean * before.weight + last.mean * last.weight) / weight;
            last = Pool { mean, weight, count: before.count + last.count };
        }
        pools.push(last);
    }
    pools.into_iter().flat_map(|pool| std::iter::repeat_n(sign * pool.mean, pool.count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_examples() {
        let fit = |values: &[f64], trend| isotonic_regression(values, &vec![1.0; values.len()], trend);
        assert_eq!(fit(&[1.0, 3.0, 2.0, 4.0], Trend::Rising), [1.0, 2.5, 2.5, 4.0]);
        assert_eq!(fit(&[0.9, 0.95, 0.5, 0.6, 0.1], Trend::Falling), [0.925, 0.925, 0.55, 0.55, 0.1]);
        assert_eq!(fit(&[3.0, 2.0, 1.0], Trend::Rising), [2.0, 2.0, 2.0]);
        assert_eq!(isotonic_regression(&[2.0, 1.0], &[3.0, 1.0], Trend::Rising), [1.75, 1.75]);
        assert_eq!(fit(&[], Trend::Rising), [0.0; 0]);
    }

    proptest! {
        #[test]
        fn monotone_of_equal_mean_and_at_rest(values in prop::collection::vec((-5.0_f64..5.0, 0.1_f64..3.0), 1..20)) {
            let (values, weights): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
            let fit = isotonic_regression(&values, &weights, Trend::Falling);
            prop_assert!(fit.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12));
            let mean = |list: &[f64]| list.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f64>();
            prop_assert!((mean(&fit) - mean(&values)).abs() < 1e-9);
            for (again, once) in isotonic_regression(&fit, &weights, Trend::Falling).iter().zip(&fit) {
                prop_assert!((again - once).abs() < 1e-9);
            }
            // The least-squares condition: no monotone list is nearer. Shifting the fit's first values up is still monotone.
            let distance = |list: &[f64]| -> f64 {
                list.iter().zip(&values).zip(&weights).map(|((a, b), weight)| weight * (a - b) * (a - b)).sum()
            };
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
