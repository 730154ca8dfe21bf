//! From the evidence on the hypotheses to their verdicts.

use serde::Serialize;

use super::contrast::{Claim, Contrast, Standing, estimate_words};
use super::controls::Controls;
use super::subject::Measured;
use aloud_measure::metric_record::{ConfidenceInterval, Tier};
use aloud_measure::statistics::holm_adjusted;

/// Level of the tests.
const ALPHA: f64 = 0.05;

/// Hypotheses that were fixed beforehand. Holm's correction is over all of them, whether they were tested or not.
const N_HYPOTHESES: usize = 5;

/// Least items that a contrast is decided on: half of the tier `standard`, what an evaluation keeps at least when it leaves items
/// out. The share of false support is calibrated from here on.
pub(super) const MIN_ITEMS: usize = 100;

/// What can be said about a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It could not be tested: a gate failed, a control is none, a condition is not met, or too little was evaluated for any verdict.
    NotTestable,
    /// Every contrast is as claimed, corrected for the number of hypotheses.
    Supported,
    /// One contrast is as claimed by itself, and another is not.
    Mixed,
    /// Some contrast is surely not as claimed.
    NotSupported,
    /// Too few items to say.
    Undecided,
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotTestable => "not testable",
            Self::Supported => "supported",
            Self::Mixed => "mixed",
            Self::NotSupported => "not supported",
            Self::Undecided => "undecided",
        }
    }
}

/// A part of a claim beside its contrasts: a difference whose interval has to be above a bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condition {
    /// What the difference is of.
    pub words: &'static str,
    /// Number of items.
    pub n: usize,
    /// The difference.
    pub difference: f64,
    /// Its 95 % interval.
    pub ci: Option<ConfidenceInterval>,
    /// What the interval has to be above.
    pub bound: f64,
}

impl Condition {
    fn standing(&self) -> Standing {
        match &self.ci {
            Some(ci) if ci.lo > self.bound => Standing::Holds,
            Some(ci) if ci.hi < self.bound => Standing::Fails,
            _ => Standing::Open,
        }
    }

    /// In words, with its interval.
    pub fn sentence(&self) -> String {
        let estimate = estimate_words(self.difference, self.ci.as_ref());
        format!("{}: {estimate}, to be above {:.2} ({} items)", self.words, self.bound, self.n)
    }
}

/// A hypothesis and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestedHypothesis {
    /// Its name, `H1` to `H5`.
    pub name: &'static str,
    /// What it claims.
    pub claim: &'static str,
    /// The metric that it is tested by.
    pub metric: &'static str,
    /// The smallest difference that counts, in the unit of the metric.
    pub smallest_effect: f64,
    /// The contrasts that there are, also those that decide nothing.
    pub contrasts: Vec<Contrast>,
    /// What is claimed beside the contrasts.
    pub condition: Option<Condition>,
    /// The largest p of the contrasts that decide; none if it could not be tested.
    pub p: Option<f64>,
    /// The same, corrected for all five hypotheses.
    pub p_holm: Option<f64>,
    /// What can be said.
    pub verdict: Verdict,
    /// Why it could not be tested, or is not supported.
    pub reason: Option<String>,
}

/// What a hypothesis is decided by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Evidence {
    pub(super) name: &'static str,
    pub(super) claim_words: &'static str,
    pub(super) metric: &'static str,
    pub(super) claim: Claim,
    pub(super) contrasts: Vec<Contrast>,
    pub(super) condition: Option<Condition>,
    /// Why it cannot be tested.
    pub(super) obstacles: Vec<String>,
}

impl Evidence {
    fn deciding(&self) -> impl Iterator<Item = &Contrast> {
        self.contrasts.iter().filter(|contrast| contrast.decides)
    }

    /// The largest p of the contrasts that decide.
    fn p(&self) -> Option<f64> {
        self.obstacles.is_empty().then(|| self.deciding().map(|contrast| contrast.p).fold(0.0, f64::max))
    }

    /// What each part says, with its words.
    fn parts(&self) -> Vec<(Standing, String)> {
        let contrasts = self.deciding().map(|contrast| (contrast.standing(self.claim), contrast.words()));
        contrasts.chain(self.condition.iter().map(|condition| (condition.standing(), condition.sentence()))).collect()
    }

    /// The verdict, and what it rests on where that is not support.
    fn judge(&self, p_holm: f64) -> (Verdict, Option<String>) {
        let parts = self.parts();
        let named = |wanted: Standing| {
            let words: Vec<&str> =
                parts.iter().filter(|(standing, _)| *standing == wanted).map(|(_, words)| words.as_str()).collect();
            (!words.is_empty()).then(|| words.join("; "))
        };
        let one_holds = self.deciding().any(|contrast| contrast.standing(self.claim) == Standing::Holds);
        if parts.iter().all(|(standing, _)| *standing == Standing::Holds) && p_holm <= ALPHA {
            return (Verdict::Supported, None);
        }
        match named(Standing::Fails) {
            Some(failing) if one_holds => (Verdict::Mixed, Some(failing)),
            Some(failing) => (Verdict::NotSupported, Some(failing)),
            None => {
                let open = named(Standing::Open).unwrap_or_else(|| format!("p is {p_holm:.3} after correction"));
                (Verdict::Undecided, Some(format!("too few items to say: {open}")))
            }
        }
    }
}

/// Why a tier gives no verdicts.
pub(super) fn below_standard(tier: Tier) -> Option<String> {
    let name = match tier {
        Tier::Toy => "toy",
        Tier::Smoke => "smoke",
        Tier::Standard | Tier::Full => return None,
    };
    Some(format!("the tier {name} is below standard: too few items for any verdict"))
}

/// The contrasts with the controls, and what is in the way of a verdict; `of` gives a contrast, or says why there is none.
pub(super) fn contrasts(
    controls: &[Measured<'_>],
    chosen: &Controls,
    of: impl Fn(&Measured<'_>) -> Result<Contrast, String>,
) -> (Vec<Contrast>, Vec<String>) {
    let (mut contrasts, mut obstacles) = (Vec::new(), chosen.obstacles.clone());
    for control in controls {
        let decides = chosen.deciding.contains(&control.key());
        match of(control) {
            Ok(contrast) => contrasts.push(Contrast { decides, ..contrast }),
            Err(reason) if decides => obstacles.push(reason),
            Err(_) => {}
        }
    }
    obstacles.extend(too_few_items(&contrasts));
    (contrasts, obstacles)
}

/// Why contrasts of so many items decide nothing.
fn too_few_items(contrasts: &[Contrast]) -> Option<String> {
    let few = contrasts.iter().find(|contrast| contrast.decides && contrast.n < MIN_ITEMS)?;
    Some(format!("the contrast with {} is of {} items, fewer than {MIN_ITEMS}", few.control, few.n))
}

/// Verdicts from the evidence; hypotheses without evidence count in the correction all the same.
pub(super) fn decide(evidence: Vec<Evidence>) -> Vec<TestedHypothesis> {
    let mut p_values: Vec<f64> = evidence.iter().map(|evidence| evidence.p().unwrap_or(1.0)).collect();
    p_values.resize(p_values.len().max(N_HYPOTHESES), 1.0);
    let corrected = holm_adjusted(&p_values);
    let decided = evidence.into_iter().zip(corrected).map(|(evidence, p_holm)| {
        let p = evidence.p();
        let (verdict, reason) = match p {
            None => (Verdict::NotTestable, Some(evidence.obstacles.join("; "))),
            Some(_) => evidence.judge(p_holm),
        };
        TestedHypothesis {
            name: evidence.name,
            claim: evidence.claim_words,
            metric: evidence.metric,
            smallest_effect: evidence.claim.smallest,
            contrasts: evidence.contrasts,
            condition: evidence.condition,
            p,
            p_holm: p.map(|_| p_holm),
            verdict,
            reason,
        }
    });
    decided.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::metric_record::IntervalMethod;

    const CLAIM: Claim = Claim { sign: 1.0, smallest: 0.05 };

    fn interval(level: f64, lo: f64, hi: f64) -> ConfidenceInterval {
        let method = IntervalMethod::PairedClusterBootstrap;
        ConfidenceInterval { level, lo, hi, method, b: None, cluster: None, seed: None }
    }

    fn contrast(control: &str, difference: f64, half: f64, p: f64) -> Contrast {
        Contrast {
            control: control.to_owned(),
            n: 200,
            difference,
            ci: Some(interval(0.95, difference - half, difference + half)),
            ci_99: Some(interval(0.99, difference - 1.3 * half, difference + 1.3 * half)),
            p,
            decides: true,
            unadjusted: None,
        }
    }

    fn evidence(contrasts: Vec<Contrast>) -> Evidence {
        Evidence {
            name: "H1",
            claim_words: "",
            metric: "early_answering.area",
            claim: CLAIM,
            contrasts,
            condition: None,
            obstacles: Vec::new(),
        }
    }

    fn of(evidence: Evidence) -> TestedHypothesis {
        decide(vec![evidence]).swap_remove(0)
    }

    const CLEAR: [f64; 3] = [0.2, 0.05, 0.001];
    const NONE: [f64; 3] = [0.0, 0.03, 0.9];
    const OPEN: [f64; 3] = [0.04, 0.05, 0.1];

    fn three(each: [[f64; 3]; 3]) -> Evidence {
        let controls = ["base", "base_noise", "exits_off"];
        evidence(controls.iter().zip(each).map(|(control, [d, half, p])| contrast(control, d, half, p)).collect())
    }

    #[test]
    fn verdicts_in_their_order() {
        let verdict = |each| of(three(each)).verdict;
        assert_eq!(verdict([CLEAR, CLEAR, CLEAR]), Verdict::Supported);
        assert_eq!(verdict([CLEAR, CLEAR, NONE]), Verdict::Mixed);
        assert_eq!(verdict([CLEAR, CLEAR, OPEN]), Verdict::Undecided);
        assert_eq!(verdict([OPEN, OPEN, NONE]), Verdict::NotSupported);
        assert_eq!(verdict([NONE, NONE, NONE]), Verdict::NotSupported);
        // Too small to say is not "not so".
        assert_eq!(verdict([OPEN, OPEN, OPEN]), Verdict::Undecided);
        let gated = Evidence { obstacles: vec!["no control".to_owned()], ..three([CLEAR; 3]) };
        let found = of(gated);
        assert_eq!((found.verdict, found.p, found.reason.as_deref()), (Verdict::NotTestable, None, Some("no control")));
        // The contrasts are shown.
        assert_eq!(found.contrasts.len(), 3);
    }

    #[test]
    fn what_decides_nothing_decides_nothing() {
        let mut contrasts = three([CLEAR, CLEAR, CLEAR]).contrasts;
        contrasts.push(Contrast { decides: false, ..contrast("exits_off", -0.3, 0.02, 1.0) });
        let found = of(evidence(contrasts));
        assert_eq!((found.verdict, found.p), (Verdict::Supported, Some(0.001)));
    }

    #[test]
    fn the_correction_is_over_five_hypotheses_whichever_were_tested() {
        // 0.02 alone would be enough.
        let found = of(three([[0.2, 0.05, 0.02]; 3]));
        assert_eq!((found.p_holm, found.verdict), (Some(0.1), Verdict::Undecided));
        let two = decide(vec![three([[0.2, 0.05, 0.02]; 3]), three([CLEAR; 3])]);
        assert!((two[0].p_holm.unwrap() - 0.08).abs() < 1e-12 && (two[1].p_holm.unwrap() - 0.005).abs() < 1e-12);
        // What cannot be tested counts too.
        let untested = Evidence { obstacles: vec![String::new()], ..three([CLEAR; 3]) };
        assert_eq!(decide(vec![three([[0.2, 0.05, 0.02]; 3]), untested])[0].p_holm, Some(0.1));
    }

    #[test]
    fn a_condition_is_judged_by_its_interval() {
        let with = |difference: f64, half: f64| {
            let ci = Some(interval(0.95, difference - half, difference + half));
            let condition = Condition { words: "accuracy", n: 150, difference, ci, bound: -0.05 };
            of(Evidence { condition: Some(condition), ..three([CLEAR; 3]) })
        };
        assert_eq!(with(-0.01, 0.03).verdict, Verdict::Supported);
        // Within 5 points, but who knows.
        let open = with(-0.03, 0.04);
        assert_eq!(open.verdict, Verdict::Undecided);
        assert!(open.reason.unwrap().contains("accuracy: -0.030 (-0.070 to 0.010), to be above -0.05 (150 items)"));
        assert_eq!(with(-0.2, 0.05).verdict, Verdict::Mixed);
    }

    #[test]
    fn small_tiers_and_few_items_give_no_verdict() {
        assert!(below_standard(Tier::Smoke).unwrap().contains("smoke") && below_standard(Tier::Toy).is_some());
        assert_eq!((below_standard(Tier::Standard), below_standard(Tier::Full)), (None, None));
        let few = Contrast { n: 99, ..contrast("base", 0.2, 0.05, 0.001) };
        assert!(too_few_items(std::slice::from_ref(&few)).unwrap().contains("99 items, fewer than 100"));
        assert_eq!(too_few_items(&[Contrast { decides: false, ..few }]), None);
    }
}
