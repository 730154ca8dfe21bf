//! Lengths of which some are only known to be at least so long.

/// One length, for instance a trace's number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration {
    /// The length as far as it was seen.
    pub length: usize,
    /// It was cut there: the true length is at least this.
    pub censored: bool,
}

/// The share of lengths above each length at which one ended, in increasing order: Kaplan and Meier's estimate (1958). Where
/// ends and cuts have the same length, the cut ones were still there.
fn survival(durations: &[Duration]) -> Vec<(usize, f64)> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable_by_key(|duration| duration.length);
    let mut curve = Vec::new();
    let mut at_risk = sorted.len();
    let mut share = 1.0;
    for group in sorted.chunk_by(|a, b| a.length == b.length) {
        let ended = group.iter().filter(|duration| !duration.censored).count();
        if ended > 0 {
            share *= 1.0 - ended as f64 / at_risk as f64;
            curve.push((group[0].length, share));
        }
        at_risk -= group.len();
    }
    curve
}

/// The length that half of all exceed at most, by Kaplan and Meier's estimate. `None` if more than half were cut before
/// they ended: the median is then not known.
pub fn kaplan_meier_median(durations: &[Duration]) -> Option<usize> {
    // Rounding of the product must not move the median.
    survival(durations).into_iter().find(|(_, share)| *share <= 0.5 + 1e-12).map(|(length, _)| length)
}

/// `E[min(T, limit)]`, the area below the survival curve up to `limit`. Where nothing was cut below the limit it is the plain
/// mean of `min(T, limit)`. `None` for no lengths, and if the curve ends below the limit because all that was left was cut.
pub fn restricted_mean(durations: &[Duration], limit: usize) -> Option<f64> {
    let last = durations.iter().map(|duration| duration.length).max()?;
    let curve = survival(durations);
    let left = curve.last().map_or(1.0, |(_, share)| *share);
    if last < limit && left > 1e-12 {
        return None;
    }
    let (mut area, mut from, mut height) = (0.0, 0, 1.0);
    for (length, share) in curve.into_iter().filter(|(length, _)| *length < limit) {
        area += height * (length - from) as f64;
        (from, height) = (length, share);
    }
    Some(area + height * (limit - from) as f64)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn durations(lengths: &[(usize, bool)]) -> Vec<Duration> {
        lengths.iter().map(|(length, censored)| Duration { length: *length, censored: *censored }).collect()
    }

    #[test]
    fn worked_example() {
        // At 6: three of six end, one is cut there; 7: of two one ends; 10 is cut. S: 0.5 after 6, 0.25 after 7.
        let lengths = durations(&[(6, false), (6, false), (6, false), (6, true), (7, false), (10, true)]);
        assert_eq!(survival(&lengths), [(6, 0.5), (7, 0.25)]);
        assert_eq!(kaplan_meier_median(&lengths), Some(6));
        // 6 * 1 + 1 * 0.5 + 3 * 0.25.
        assert!((restricted_mean(&lengths, 10).unwrap() - 7.25).abs() < 1e-12);
        assert_eq!(restricted_mean(&lengths, 11), None);
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(kaplan_meier_median(&durations(&[(5, false), (9, true), (9, true)])), None);
        assert_eq!(kaplan_meier_median(&[]), None);
        assert_eq!(restricted_mean(&[], 5), None);
        assert_eq!(restricted_mean(&durations(&[(3, false), (5, true)]), 5), Some(4.0));
    }

    proptest! {
        #[test]
        fn without_cuts_below_the_limit_it_is_the_plain_mean(lengths in prop::collection::vec(0_usize..60, 1..30), limit in 1_usize..50) {
            let cut: Vec<Duration> =
                lengths.iter().map(|length| Duration { length: (*length).min(limit), censored: *length >= limit }).collect();
            let mean = cut.iter().map(|duration| duration.length).sum::<usize>() as f64 / cut.len() as f64;
            prop_assert!((restricted_mean(&cut, limit).unwrap() - mean).abs() < 1e-9);
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let median = sorted[(sorted.len() - 1) / 2];
            prop_assert_eq!(kaplan_meier_median(&cut), (median < limit).then_some(median));
        }
    }
}
