//! Small statistics of grades. Intervals are left to the caller, who has the grades of every item.

/// The mean; `None` of nothing. The mean of equal values is that value to the last bit, so that they do not seem to vary.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let first = values.first()?;
    Some(first + values.iter().map(|value| value - first).sum::<f64>() / values.len() as f64)
}

/// The standard deviation of the sample (divided by `n - 1`); `None` for fewer than two values.
pub(super) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() >= 2)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Pearson's correlation of pairs; `None` for fewer than three pairs, or if one side does not vary.
pub(super) fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let [xx, xy, yy] = centred_products(pairs)?;
    (pairs.len() >= 3 && xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// Slope of the line of least squares, `y` by `x`; `None` for fewer than two pairs, or if `x` does not vary.
pub(super) fn slope(pairs: &[(f64, f64)]) -> Option<f64> {
    let [xx, xy, _] = centred_products(pairs)?;
    (xx > 0.0).then(|| xy / xx)
}

/// Sums of products of deviations from the means: `xx`, `xy`, `yy`.
fn centred_products(pairs: &[(f64, f64)]) -> Option<[f64; 3]> {
    let (xs, ys): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (mean_x, mean_y) = (mean(&xs)?, mean(&ys)?);
    Some(pairs.iter().fold([0.0; 3], |[xx, xy, yy], (x, y)| {
        let (x, y) = (x - mean_x, y - mean_y);
        [xx + x.powi(2), xy + x * y, yy + y.powi(2)]
    }))
}

/// Krippendorff's alpha for interval data, `1 - D_observed / D_expected` (Krippendorff, Computing Krippendorff's
/// Alpha-Reliability, 2011). A unit holds all values that were given to it; units with fewer than two say nothing. 1 is
/// agreement, 0 is chance. `None` if no unit has two values, or all values are equal.
pub(super) fn krippendorff_alpha(units: &[Vec<f64>]) -> Option<f64> {
    let units: Vec<&Vec<f64>> = units.iter().filter(|unit| unit.len() >= 2).collect();
    // The sum of squared differences over ordered pairs of n values is 2 n sum (value - mean)^2.
    let squares = |values: &[f64]| {
        let mean = mean(values).unwrap_or_default();
        2.0 * values.len() as f64 * values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let all: Vec<f64> = units.iter().copied().flatten().copied().collect();
    let observed: f64 = units.iter().map(|unit| squares(unit) / (unit.len() - 1) as f64).sum();
    let expected = squares(&all) / (all.len().max(2) - 1) as f64;
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 3.0]), Some(2.0));
        assert_eq!(mean(&[0.1; 3]), Some(0.1));
        assert_eq!(standard_deviation(&[1.0]), None);
        assert_eq!(standard_deviation(&[1.0, 3.0]), Some(2.0_f64.sqrt()));
        assert_eq!(correlation(&[(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)]), Some(1.0));
        assert_eq!(correlation(&[(1.0, 2.0), (2.0, 2.0), (4.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 4.0)]), None);
    }

    #[test]
    fn alpha_of_the_published_example() {
        // Krippendorff (2011), section D: four observers, twelve units, missing values. Interval alpha 0.849.
        const NONE: f64 = f64::NAN;
        let observers = [
            [1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 4.0, 1.0, 2.0, NONE, NONE, NONE],
            [1.0, 2.0, 3.0, 3.0, 2.0, 2.0, 4.0, 1.0, 2.0, 5.0, NONE, 3.0],
            [NONE, 3.0, 3.0, 3.0, 2.0, 3.0, 4.0, 2.0, 2.0, 5.0, 1.0, NONE],
            [1.0, 2.0, 3.0, 3.0, 2.0, 4.0, 4.0, 1.0, 2.0, 5.0, 1.0, NONE],
        ];
        let units: Vec<Vec<f64>> = (0..12)
            .map(|unit| observers.iter().map(|values| values[unit]).filter(|value| !value.is_nan()).collect())
            .collect();
        let alpha = krippendorff_alpha(&units).unwrap();
        assert!((alpha - 0.849).abs() < 5e-4, "{alpha}");
    }

    #[test]
    fn alpha_says_nothing_about_nothing() {
        assert_eq!(krippendorff_alpha(&[]), None);
        assert_eq!(krippendorff_alpha(&[vec![1.0], vec![2.0]]), None);
        assert_eq!(krippendorff_alpha(&[vec![3.0, 3.0], vec![3.0, 3.0]]), None);
        assert_eq!(krippendorff_alpha(&[vec![1.0, 1.0], vec![2.0, 2.0]]), Some(1.0));
    }

    proptest! {
        #[test]
        fn alpha_does_not_depend_on_zero_and_unit(
            units in prop::collection::vec(prop::collection::vec(1_u8..=10, 2..4), 2..8), shift in -50.0..50.0, scale in 0.1..9.0,
        ) {
            let plain: Vec<Vec<f64>> = units.iter().map(|unit| unit.iter().map(|value| f64::from(*value)).collect()).collect();
            let moved: Vec<Vec<f64>> =
                plain.iter().map(|unit| unit.iter().map(|value| shift + scale * value).collect()).collect();
            match (krippendorff_alpha(&plain), krippendorff_alpha(&moved)) {
                (Some(plain), Some(moved)) => prop_assert!((plain - moved).abs() < 1e-6 && plain <= 1.0),
                (None, _) => {}
                (Some(_), None) => prop_assert!(false),
            }
        }
    }
}
