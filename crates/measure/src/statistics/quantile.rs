//! Quantiles, and values between measured ones.

/// The `share` quantile (0 to 1) of numbers sorted in increasing order, linear between neighbours: 0 is the smallest, 1
/// the largest. `None` for no numbers or a share outside of 0 to 1.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    let place = share * (sorted.len().checked_sub(1)?) as f64;
    let below = place.floor();
    let low = *sorted.get(below as usize)?;
    let high = *sorted.get(place.ceil() as usize)?;
    Some(low + (high - low) * (place - below))
}

/// The smallest value up to which at least `share` (0 to 1) of all weight lies. `counts`: weight by value, values in
/// increasing order. `None` if there is no weight.
pub fn weighted_quantile(counts: impl IntoIterator<Item = (f64, f64)> + Clone, share: f64) -> Option<f64> {
    let total: f64 = counts.clone().into_iter().map(|(_, weight)| weight).sum();
    if total <= 0.0 || !(0.0..=1.0).contains(&share) {
        return None;
    }
    // A whole number of weights must not be missed by rounding.
    let wanted = share * total * (1.0 - 1e-12);
    let mut reached = 0.0;
    counts.into_iter().find_map(|(value, weight)| {
        reached += weight;
        (weight > 0.0 && reached >= wanted).then_some(value)
    })
}

/// The height at `x` of the line through points `[x, y]` in increasing order of `x`. `None` outside of them.
pub fn between(points: &[[f64; 2]], x: f64) -> Option<f64> {
    if let Some([_, y]) = points.iter().find(|[at, _]| *at == x) {
        return Some(*y);
    }
    let pair = points.windows(2).find(|pair| pair[0][0] < x && x < pair[1][0])?;
    let place = (x - pair[0][0]) / (pair[1][0] - pair[0][0]);
    Some(pair[0][1] + place * (pair[1][1] - pair[0][1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_between_neighbours() {
        let numbers = [1.0, 2.0, 4.0];
        for (share, expected) in [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)] {
            assert_eq!(quantile(&numbers, share), Some(expected));
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&numbers, 1.5), None);
        assert_eq!(quantile(&numbers, f64::NAN), None);
    }

    #[test]
    fn the_value_that_covers_a_share() {
        let counts = [(5.0, 9.0), (10.0, 0.0), (28.0, 1.0)];
        for (share, expected) in [(0.0, 5.0), (0.5, 5.0), (0.9, 5.0), (0.91, 28.0), (1.0, 28.0)] {
            assert_eq!(weighted_quantile(counts, share), Some(expected), "{share}");
        }
        assert_eq!(weighted_quantile([(5.0, 0.0)], 0.5), None);
    }
}
