//! When a control is one: as accurate as the model, on the items that are evaluated, and better than guessing.

use serde::Serialize;

use super::contrast::PairedDifference;
use super::subject::Measured;
use aloud_base::random::Domain;
use aloud_measure::metric_record::{ConfidenceInterval, IntervalMethod};
use aloud_measure::statistics::{Bootstrap, Resamples, wilson_interval};

/// How far a control may be from the model in accuracy: the whole interval of the difference has to be inside.
const MARGIN: f64 = 0.05;

/// Least accuracy of a model and of its control.
const MIN_ACCURACY: f64 = 0.2;

/// Accuracy that exits may cost against the base for hypotheses to be about the model.
const MAX_LOSS: f64 = 0.02;

/// Keys of all controls that a verdict looks at; `same_training` stands in for `exits_off`.
pub const VERDICT_CONTROLS: [&str; 4] = [BASE, NOISE, OFF, SAME_TRAINING];

pub(super) const BASE: &str = "base";
pub(super) const NOISE: &str = "base_noise";
pub(super) const OFF: &str = "exits_off";
pub(super) const SAME_TRAINING: &str = "same_training";

/// Whether a control is one, and why not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlCheck {
    /// Key of the control.
    pub control: String,
    /// Whether contrasts with it may decide.
    pub is_one: bool,
    /// Why it is none.
    pub reason: Option<String>,
    /// Number of items that the model and the control both answered.
    pub n: usize,
    /// Strict accuracy of the model and of the control on them.
    pub accuracy: Option<[f64; 2]>,
    /// Model less control.
    pub accuracy_difference: Option<PairedDifference>,
    /// Accuracy of a blind guess, if it is known.
    pub chance: Option<f64>,
}

/// Whether a control is one, from what share of the answers to each item is right: `[model, control]`. `chance` is the accuracy of a
/// blind guess.
///
/// It is one if the 95 % interval of the paired difference (cluster bootstrap over items) is inside of ±5 points, and both accuracies are at
/// least 20 % and surely (Wilson's interval) above chance.
pub fn control_check(control: &str, pairs: &[[f64; 2]], chance: Option<f64>, bootstrap: &Bootstrap) -> ControlCheck {
    let check = measured(control, pairs, chance, bootstrap);
    let reason = fault(&check);
    ControlCheck { is_one: reason.is_none(), reason, ..check }
}

/// The figures of a check, without a judgement.
fn measured(control: &str, pairs: &[[f64; 2]], chance: Option<f64>, bootstrap: &Bootstrap) -> ControlCheck {
    let n = pairs.len();
    let mean = |of: &dyn Fn(&[f64; 2]) -> f64| pairs.iter().map(of).sum::<f64>() / n as f64;
    let accuracy_difference = (n >= 2).then(|| {
        let differences: Vec<[f64; 1]> = pairs.iter().map(|[model, control]| [model - control]).collect();
        let draws = Resamples::within(bootstrap, Domain::RESAMPLE, &[n]).sums(0, &differences);
        let bootstrap = Bootstrap { level: 0.95, ..*bootstrap };
        let ci = bootstrap.interval_of_draws(draws.into_iter().map(|[sum]| sum / n as f64));
        PairedDifference {
            difference: mean(&|[model, control]| model - control),
            ci: ci.map(|ci| ci.by(IntervalMethod::PairedClusterBootstrap)),
        }
    });
    ControlCheck {
        control: control.to_owned(),
        is_one: true,
        reason: None,
        n,
        accuracy: (n > 0).then(|| [mean(&|pair| pair[0]), mean(&|pair| pair[1])]),
        accuracy_difference,
        chance,
    }
}

/// Why a control is none.
fn fault(check: &ControlCheck) -> Option<String> {
    let (Some([of_model, of_control]), Some((difference, ci))) = (check.accuracy, check.interval()) else {
        return Some(format!("{} items were answered by both it and the model", check.n));
    };
    let n = check.n;
    let shares = || format!("{} against {} of the model, {n} items", percent(of_control), percent(of_model));
    if of_model.min(of_control) < MIN_ACCURACY {
        return Some(format!("accuracy below {} says nothing about weakness ({})", percent(MIN_ACCURACY), shares()));
    }
    let Some(chance) = check.chance else {
        return Some("the accuracy of a blind guess was not recorded: evaluate again with this version".to_owned());
    };
    let surely_above = |accuracy: f64| {
        let n_right = (accuracy * n as f64).round() as usize;
        wilson_interval(n_right, n).is_some_and(|[low, _]| low > chance)
    };
    if !surely_above(of_model) || !surely_above(of_control) {
        return Some(format!("accuracy is not above that of guessing, {} ({})", percent(chance), shares()));
    }
    (ci.lo < -MARGIN || ci.hi > MARGIN).then(|| {
        let (points, side) = (100.0 * difference.abs(), if difference > 0.0 { "below" } else { "above" });
        format!(
            "its accuracy is {points:.1} points {side} the model's ({}), and the 95 % interval of the difference, {:.1} to {:.1}, is not inside \
             of ±{:.0} points",
            shares(),
            100.0 * ci.lo,
            100.0 * ci.hi,
            100.0 * MARGIN
        )
    })
}

impl ControlCheck {
    fn interval(&self) -> Option<(f64, &ConfidenceInterval)> {
        let difference = self.accuracy_difference.as_ref()?;
        Some((difference.difference, difference.ci.as_ref()?))
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The controls of a model.
pub(super) struct Controls {
    /// All that were evaluated.
    pub(super) checks: Vec<ControlCheck>,
    /// Keys of those that decide.
    pub(super) deciding: Vec<&'static str>,
    /// Why nothing can be decided: controls that are missing or none, or the model's accuracy.
    pub(super) obstacles: Vec<String>,
}

impl Controls {
    /// Looks at the controls of a model in a task, or in all of them together.
    pub(super) fn of(model: &Measured<'_>, controls: &[Measured<'_>], task: &str, bootstrap: &Bootstrap) -> Self {
        let find = |key: &str| controls.iter().find(|run| run.key() == key);
        let chance = model.chance(task);
        let pairs = |control: &Measured<'_>| model.accuracies_beside(control, task);
        let base = find(BASE).map(|base| measured(BASE, &pairs(base), chance, bootstrap));
        let noise = find(NOISE).map(|noise| {
            let reason = match &base {
                Some(base) if is_worse(base) => Some(nothing_weaker(base)),
                _ if find(BASE).is_some_and(|base| base.answers_as(noise, task)) => {
                    Some("its responses are those of base: the same control would count twice".to_owned())
                }
                _ => None,
            };
            let check = control_check(NOISE, &pairs(noise), chance, bootstrap);
            if reason.is_some() { ControlCheck { is_one: false, reason, ..check } } else { check }
        });
        let checked = |key: &str| find(key).map(|run| control_check(key, &pairs(run), chance, bootstrap));
        let checks = [base, noise, checked(OFF), checked(SAME_TRAINING)].into_iter().flatten().collect();
        Self::choose(checks)
    }

    /// Which of the checked controls decide, and what is in the way.
    fn choose(checks: Vec<ControlCheck>) -> Self {
        let find = |key: &str| checks.iter().find(|check| check.control == key);
        let missing = |key: &str| format!("the control {key} was not evaluated");
        let is_none = |check: &ControlCheck| {
            format!("{} is no control: {}", check.control, check.reason.as_deref().unwrap_or_default())
        };
        let (mut deciding, mut obstacles) = (Vec::new(), Vec::new());
        match find(BASE) {
            None => obstacles.push(missing(BASE)),
            Some(base) => {
                deciding.push(BASE);
                obstacles.extend(too_costly(base));
            }
        }
        match find(NOISE) {
            None => obstacles.push(match find(BASE) {
                Some(base) if is_worse(base) => format!("{NOISE} does not exist: {}", nothing_weaker(base)),
                _ => missing(NOISE),
            }),
            Some(noise) if noise.is_one => deciding.push(NOISE),
            Some(noise) => obstacles.push(is_none(noise)),
        }
        match (find(OFF), find(SAME_TRAINING)) {
            (None, _) => obstacles.push(missing(OFF)),
            (Some(off), _) if off.is_one => deciding.push(OFF),
            (Some(_), Some(same)) if same.is_one => deciding.push(SAME_TRAINING),
            (Some(off), Some(same)) => obstacles.extend([is_none(off), is_none(same)]),
            (Some(off), None) => obstacles.extend([
                is_none(off),
                format!(
                    "{SAME_TRAINING} was not evaluated (--same-training DIR; a model of stage 1 alone has none, because without \
                     exits its training changes nothing)"
                ),
            ]),
        }
        Self { checks, deciding, obstacles }
    }
}

fn is_worse(base: &ControlCheck) -> bool {
    base.accuracy.is_some_and(|[of_model, of_base]| of_model > of_base)
}

/// That no noise makes the base as accurate as a model that is more accurate.
fn nothing_weaker(base: &ControlCheck) -> String {
    let [of_model, of_base] = base.accuracy.unwrap_or_default();
    format!(
        "the model is more accurate than base ({} against {}, {} items), and noise makes base no better",
        percent(of_model),
        percent(of_base),
        base.n
    )
}

/// Why the exits cost too much accuracy for hypotheses to be about the model.
fn too_costly(base: &ControlCheck) -> Option<String> {
    let Some((difference, ci)) = base.interval() else {
        return Some("the accuracies of the model and of base are not known on the same items".to_owned());
    };
    (difference < -MAX_LOSS || ci.lo <= -MARGIN).then(|| {
        format!(
            "at this exit offset the model's accuracy differs from base's by {:+.1} points (95 % interval {:.1} to {:.1}, {} items): \
             hypotheses are tested where it loses at most {:.0} points and the interval is above -{:.0} points; take a lower offset, \
             or more items",
            100.0 * difference,
            100.0 * ci.lo,
            100.0 * ci.hi,
            base.n,
            100.0 * MAX_LOSS,
            100.0 * MARGIN
        )
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Items of which the model has the first so many right, the control so many, of which so many are not right of the model.
    fn pairs(n: usize, of_model: usize, of_control: usize, only_control: usize) -> Vec<[f64; 2]> {
        let right = |is: bool| f64::from(u8::from(is));
        let shared = of_control - only_control;
        (0..n)
            .map(|item| {
                [right(item < of_model), right(item < shared || (of_model..of_model + only_control).contains(&item))]
            })
            .collect()
    }

    fn check(pairs: &[[f64; 2]], chance: Option<f64>) -> ControlCheck {
        control_check("base_noise", pairs, chance, &Bootstrap::default())
    }

    fn reason(pairs: &[[f64; 2]], chance: Option<f64>) -> String {
        check(pairs, chance).reason.unwrap()
    }

    #[test]
    fn a_control_is_as_accurate_on_the_evaluated_items() {
        // 850 pairs, a gap of 2 points, 18 % of the pairs discordant.
        let found = check(&pairs(850, 700, 683, 68), Some(0.1));
        assert!(found.is_one, "{found:?}");
        assert_eq!(found.n, 850);
        // The same on 100 items cannot be told, in either direction.
        assert!(reason(&pairs(100, 80, 78, 9), Some(0.1)).contains("is not inside of ±5 points"));
        assert!(
            reason(&pairs(600, 595, 491, 3), Some(0.1))
                .contains("17.3 points below the model's (81.8 % against 99.2 %")
        );
        assert!(reason(&pairs(600, 400, 500, 110), Some(0.1)).contains("points above the model's"));
    }

    #[test]
    fn two_models_that_answer_nothing_are_not_equally_good() {
        assert!(reason(&pairs(400, 0, 0, 0), Some(0.0)).contains("accuracy below 20.0 %"));
        assert!(reason(&pairs(400, 60, 60, 0), Some(0.0)).contains("accuracy below 20.0 %"));
        assert!(reason(&pairs(400, 210, 210, 0), Some(0.5)).contains("not above that of guessing, 50.0 %"));
        assert!(check(&pairs(400, 230, 230, 0), Some(0.5)).is_one);
        assert!(reason(&pairs(400, 300, 300, 0), None).contains("was not recorded"));
        assert!(reason(&[], Some(0.0)).contains("0 items"));
    }

    fn named(control: &str, pairs: &[[f64; 2]]) -> ControlCheck {
        control_check(control, pairs, Some(0.1), &Bootstrap::default())
    }

    fn base(pairs: &[[f64; 2]]) -> ControlCheck {
        measured(BASE, pairs, Some(0.1), &Bootstrap::default())
    }

    #[test]
    fn another_training_stands_in_for_exits_off() {
        let (equal, weaker) = (pairs(600, 540, 540, 0), pairs(600, 540, 440, 0));
        let with =
            |rest: Vec<ControlCheck>| Controls::choose([vec![base(&equal), named(NOISE, &equal)], rest].concat());
        assert_eq!(with(vec![named(OFF, &equal)]).deciding, [BASE, NOISE, OFF]);
        // Exits off decides where it can, even if there is another.
        assert_eq!(with(vec![named(OFF, &equal), named(SAME_TRAINING, &equal)]).deciding, [BASE, NOISE, OFF]);
        let replaced = with(vec![named(OFF, &weaker), named(SAME_TRAINING, &equal)]);
        assert_eq!((replaced.deciding.as_slice(), replaced.obstacles.len()), (&[BASE, NOISE, SAME_TRAINING][..], 0));
        let none = with(vec![named(OFF, &weaker)]);
        assert_eq!(none.deciding, [BASE, NOISE]);
        assert!(
            none.obstacles[0].starts_with("exits_off is no control: its accuracy is 16.7 points below"),
            "{:?}",
            none.obstacles
        );
        assert!(none.obstacles[1].starts_with("same_training was not evaluated"));
        let both = with(vec![named(OFF, &weaker), named(SAME_TRAINING, &weaker)]);
        assert!(both.obstacles[1].starts_with("same_training is no control"), "{:?}", both.obstacles);
        assert_eq!(with(Vec::new()).obstacles, ["the control exits_off was not evaluated"]);
    }

    #[test]
    fn what_exits_may_cost() {
        let obstacles = |pairs: &[[f64; 2]]| {
            let equal = self::pairs(600, 540, 540, 0);
            Controls::choose(vec![base(pairs), named(NOISE, &equal), named(OFF, &equal)]).obstacles
        };
        assert!(obstacles(&pairs(600, 534, 540, 0)).is_empty());
        let costly = obstacles(&pairs(600, 510, 540, 0));
        assert!(
            costly[0].starts_with("at this exit offset the model's accuracy differs from base's by -5.0 points"),
            "{costly:?}"
        );
        // One point, but it may be more than 5: too few items.
        assert!(obstacles(&pairs(100, 80, 81, 8))[0].contains("is above -5 points"));
    }

    #[test]
    fn noise_that_would_have_to_improve_the_base_does_not_exist() {
        let better = base(&pairs(600, 595, 580, 0));
        let found = Controls::choose(vec![better, named(OFF, &pairs(600, 595, 595, 0))]);
        assert!(
            found.obstacles[0]
                .starts_with("base_noise does not exist: the model is more accurate than base (99.2 % against 96.7 %")
        );
    }
}
