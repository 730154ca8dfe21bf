//! The difference of a model from one control, and what it says about a claim.

use serde::Serialize;

use aloud_measure::metric_record::{ConfidenceInterval, IntervalMethod};
use aloud_measure::statistics::Bootstrap;

/// Coverage of the interval that has to be above no difference for a claim to be supported.
const STRICT_LEVEL: f64 = 0.99;

/// A difference with its interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairedDifference {
    /// Model less control.
    pub difference: f64,
    /// 95 % interval, items drawn with both models.
    pub ci: Option<ConfidenceInterval>,
}

/// The difference of the model from one control.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrast {
    /// Key of the control.
    pub control: String,
    /// Number of items that both have.
    pub n: usize,
    /// Model less control, in the unit of the metric.
    pub difference: f64,
    /// 95 % interval of the difference, paired by item.
    pub ci: Option<ConfidenceInterval>,
    /// 99 % interval.
    pub ci_99: Option<ConfidenceInterval>,
    /// Two-sided p of no difference, by the bootstrap; 1 if the difference is against the claim.
    pub p: f64,
    /// Whether the verdict rests on it; false where the control is none, or another one has its place.
    pub decides: bool,
    /// The difference without the adjustment for length, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unadjusted: Option<PairedDifference>,
}

/// What a contrast, or a condition, says about the claim that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as claimed.
    Holds,
    /// It is not.
    Fails,
    /// Too few items to say.
    Open,
}

/// Which differences a hypothesis claims.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Claim {
    /// 1 for more than the control, -1 for less.
    pub(super) sign: f64,
    /// The smallest difference that counts, in the unit of the metric.
    pub(super) smallest: f64,
}

impl Contrast {
    /// From the difference on `n` items and its draws.
    pub(super) fn new(
        control: &str,
        n: usize,
        difference: f64,
        draws: &[f64],
        claim: Claim,
        (bootstrap, method): (&Bootstrap, IntervalMethod),
    ) -> Self {
        // A draw without any difference speaks for none.
        let against = draws.iter().filter(|draw| claim.sign * **draw <= 0.0).count();
        let one_sided = (against + 1) as f64 / (draws.len() + 1) as f64;
        let interval =
            |level: f64| Some(Bootstrap { level, ..*bootstrap }.interval_of_draws(draws.iter().copied())?.by(method));
        Self {
            control: control.to_owned(),
            n,
            difference,
            ci: interval(0.95),
            ci_99: interval(STRICT_LEVEL),
            p: (2.0 * one_sided).min(1.0),
            decides: true,
            unadjusted: None,
        }
    }

    /// What it says by itself: as claimed if the 99 % interval has no difference outside and the difference is large enough to count, not
    /// so if the whole 95 % interval is of differences that are too small.
    pub(super) fn standing(&self, claim: Claim) -> Standing {
        let ends = |interval: &ConfidenceInterval| {
            let ends = [claim.sign * interval.lo, claim.sign * interval.hi];
            [ends[0].min(ends[1]), ends[0].max(ends[1])]
        };
        let (Some(ci), Some(strict)) = (self.ci.as_ref().map(ends), self.ci_99.as_ref().map(ends)) else {
            return Standing::Open;
        };
        if strict[0] > 0.0 && claim.sign * self.difference >= claim.smallest {
            Standing::Holds
        } else if ci[1] < claim.smallest {
            Standing::Fails
        } else {
            Standing::Open
        }
    }

    /// In words: difference, interval and number of items.
    pub fn words(&self) -> String {
        format!("{} against {} ({} items)", estimate_words(self.difference, self.ci.as_ref()), self.control, self.n)
    }
}

/// A difference with its interval: `+0.120 (0.080 to 0.160)`.
pub(super) fn estimate_words(difference: f64, ci: Option<&ConfidenceInterval>) -> String {
    let interval = ci.map_or_else(|| "no interval".to_owned(), |ci| format!("{:.3} to {:.3}", ci.lo, ci.hi));
    format!("{difference:+.3} ({interval})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RISES: Claim = Claim { sign: 1.0, smallest: 0.05 };

    fn contrast(difference: f64, draws: &[f64], claim: Claim) -> Contrast {
        let bootstrap = Bootstrap { n_draws: draws.len(), ..Bootstrap::default() };
        Contrast::new("base", 200, difference, draws, claim, (&bootstrap, IntervalMethod::PairedClusterBootstrap))
    }

    #[test]
    fn p_by_hand() {
        let draws: Vec<f64> = (0..99).map(|draw| f64::from(draw) - 1.5).collect();
        // Two of 99 draws are not above 0.
        let found = contrast(1.0, &draws, RISES);
        assert!((found.p - 0.06).abs() < 1e-12, "{found:?}");
        assert_eq!(contrast(1.0, &draws, Claim { sign: -1.0, ..RISES }).p, 1.0);
        // A model that never differs from its control supports nothing.
        let same = contrast(0.0, &[0.0; 99], RISES);
        assert_eq!((same.p, same.standing(RISES)), (1.0, Standing::Fails));
    }

    #[test]
    fn what_intervals_say() {
        // Draws evenly around a difference.
        let around = |difference: f64, half: f64| -> Vec<f64> {
            (-50..=50).map(|step| difference + half * f64::from(step) / 50.0).collect()
        };
        let of = |difference: f64, half: f64| contrast(difference, &around(difference, half), RISES).standing(RISES);
        assert_eq!(of(0.2, 0.1), Standing::Holds);
        // Surely above 0, but the difference does not count.
        assert_eq!(of(0.04, 0.03), Standing::Open);
        assert_eq!(of(0.02, 0.015), Standing::Fails);
        // Large enough, and not surely above 0.
        assert_eq!(of(0.06, 0.08), Standing::Open);
        assert_eq!(of(-0.2, 0.1), Standing::Fails);
        let falls = Claim { sign: -1.0, smallest: 0.25 };
        assert_eq!(contrast(-0.4, &around(-0.4, 0.2), falls).standing(falls), Standing::Holds);
        assert_eq!(contrast(0.1, &around(0.1, 0.3), falls).standing(falls), Standing::Fails);
        assert_eq!(contrast(0.1, &around(0.1, 0.4), falls).standing(falls), Standing::Open);
        let without = Contrast { ci: None, ..contrast(0.2, &around(0.2, 0.1), RISES) };
        assert_eq!(without.standing(RISES), Standing::Open);
    }
}
