//! McNemar's exact test: whether two models differ on the same items, from those on which one of them is right.

/// Items on which two models differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discordant {
    /// Items that only the first has right (`b`).
    pub only_first: usize,
    /// Items that only the second has right (`c`).
    pub only_second: usize,
}

impl Discordant {
    /// Counts over items, given whether the first and the second model are right.
    pub fn count(items: impl IntoIterator<Item = (bool, bool)>) -> Self {
        items.into_iter().fold(Self::default(), |found, (first, second)| Self {
            only_first: found.only_first + usize::from(first && !second),
            only_second: found.only_second + usize::from(second && !first),
        })
    }
}

/// Exact two-sided p-value: the probability, if each discordant item were a fair coin, of a split at least as uneven:
/// `min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c))`. 1 for no discordant items.
pub fn mcnemar_exact(discordant: Discordant) -> f64 {
    let n = discordant.only_first + discordant.only_second;
    let fewer = discordant.only_first.min(discordant.only_second);
    // Terms as logarithms: 2^-n underflows from n = 1075 on.
    let mut log_term = n as f64 * 0.5_f64.ln();
    let mut sum = 0.0;
    for i in 0..=fewer {
        sum += log_term.exp();
        log_term += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p(only_first: usize, only_second: usize) -> f64 {
        mcnemar_exact(Discordant { only_first, only_second })
    }

    #[test]
    fn known_values() {
        assert!((p(10, 3) - 0.092_285_156_3).abs() < 1e-10);
        // 2 / 2^5, and the whole distribution.
        assert!((p(0, 5) - 0.0625).abs() < 1e-12);
        assert_eq!((p(0, 0), p(4, 4)), (1.0, 1.0));
        // z = 200 / sqrt(2000) = 4.47: 8e-6 from the normal distribution.
        assert!(p(1100, 900) > 7e-6 && p(1100, 900) < 9e-6, "{}", p(1100, 900));
    }

    #[test]
    fn counts_over_items() {
        let (first, second) = ([true, true, false, false, true], [true, false, true, false, false]);
        let counts = Discordant::count(first.into_iter().zip(second));
        assert_eq!(counts, Discordant { only_first: 2, only_second: 1 });
    }

    proptest! {
        #[test]
        fn symmetric_and_smaller_the_more_uneven(b in 0_usize..60, c in 0_usize..60) {
            prop_assert_eq!(p(b, c), p(c, b));
            prop_assert!((0.0..=1.0).contains(&p(b, c)));
            if b > c && c > 0 {
                prop_assert!(p(b + 1, c - 1) < p(b, c));
            }
        }
    }
}
