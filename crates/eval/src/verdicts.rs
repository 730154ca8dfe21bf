//! The pre-registered hypotheses and what a model's differences from its controls say about them.
//!
//! A claim of externalisation needs the model to differ in the same direction from its base, from a model that is weaker for
//! another reason, and from itself with exits off: a hypothesis is as doubtful as the most doubtful of these contrasts. Holm's
//! correction is over the hypotheses that were tested.

use serde::Serialize;

use crate::compare::{HORIZON, PairedHorizons, PairedMeans};
use crate::{Bootstrap, ConfidenceInterval, EvaluationRun, holm_adjusted};

/// Level of the tests.
const ALPHA: f64 = 0.05;

/// Accuracy that exits may cost for the model to be one that hypotheses are about.
const MAX_ACCURACY_LOSS: f64 = 0.02;

/// Accuracy with a trace, at twice the base's horizon, that may be lost for a shorter horizon to be no mere loss.
const MAX_RETAINED_LOSS: f64 = 0.05;

/// What can be said about a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All contrasts are as claimed, corrected for the number of hypotheses.
    Supported,
    /// Some are, or a condition beside them is not met.
    Mixed,
    /// None is.
    NotSupported,
    /// It could not be tested: a control, a value or a condition is missing.
    NotTestable,
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Mixed => "mixed",
            Self::NotSupported => "not supported",
            Self::NotTestable => "not testable",
        }
    }
}

/// The difference of the model from one control.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrast {
    /// Key of the control.
    pub control: String,
    /// Model less control, in the unit of the metric.
    pub difference: f64,
    /// Interval of the difference, paired by item.
    pub ci: Option<ConfidenceInterval>,
    /// Two-sided p of no difference, by the bootstrap; 1 if the difference is against the claim.
    pub p: f64,
}

impl Contrast {
    /// From the difference and its draws; `sign` is that of the claim.
    fn new(control: &str, difference: f64, draws: &[f64], sign: f64, bootstrap: &Bootstrap) -> Self {
        // A draw without any difference speaks for none.
        let against = draws.iter().filter(|draw| sign * **draw <= 0.0).count();
        let one_sided = (against + 1) as f64 / (draws.len() + 1) as f64;
        Self {
            control: control.to_owned(),
            difference,
            ci: bootstrap.interval_of_draws(draws.iter().copied()),
            p: (2.0 * one_sided).min(1.0),
        }
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
    /// The contrasts that there are.
    pub contrasts: Vec<Contrast>,
    /// The largest p of the contrasts; none if it could not be tested.
    pub p: Option<f64>,
    /// The same, corrected for the number of hypotheses that were tested.
    pub p_holm: Option<f64>,
    /// What can be said.
    pub verdict: Verdict,
    /// Why it could not be tested, or which condition is not met.
    pub reason: Option<String>,
}

/// All that can be said about a model and its controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdicts {
    /// Key of the model.
    pub model: String,
    /// The hypotheses for which there are metrics.
    pub hypotheses: Vec<TestedHypothesis>,
    /// Hypotheses whose metrics are not measured yet.
    pub not_measured: Vec<&'static str>,
}

/// What a hypothesis is decided by.
#[derive(Clone, Debug, PartialEq)]
struct Evidence {
    name: &'static str,
    claim: &'static str,
    metric: &'static str,
    contrasts: Vec<Contrast>,
    /// Why it cannot be tested.
    obstacle: Option<String>,
    /// A condition beside the contrasts that is not met.
    unmet: Option<String>,
}

/// The controls that a claim has to hold against.
pub(crate) const CONTROLS: [&str; 3] = ["base", "base_noise", "ee_off"];

/// The verdicts on a model, from its run and those of its controls on the same items. `H2`, `H3` and `H5` are about metrics that
/// are not measured yet.
pub fn verdicts(model: &EvaluationRun, controls: &[&EvaluationRun], bootstrap: &Bootstrap) -> Verdicts {
    let obstacle = missing_control(controls).or_else(|| accuracy_loss(model, controls));
    let evidence = vec![
        early_answering(model, controls, obstacle.clone(), bootstrap),
        horizon(model, controls, obstacle, bootstrap),
    ];
    Verdicts { model: model.manifest.model.clone(), hypotheses: decide(evidence), not_measured: vec!["H2", "H3", "H5"] }
}

fn control<'a>(controls: &[&'a EvaluationRun], key: &str) -> Option<&'a EvaluationRun> {
    controls.iter().copied().find(|run| run.manifest.model == key)
}

fn missing_control(controls: &[&EvaluationRun]) -> Option<String> {
    let missing = CONTROLS.into_iter().find(|key| control(controls, key).is_none())?;
    Some(format!("the control {missing} was not evaluated"))
}

/// Why the exits cost too much accuracy for the model to be one that the hypotheses are about.
fn accuracy_loss(model: &EvaluationRun, controls: &[&EvaluationRun]) -> Option<String> {
    let accuracy = |run: &EvaluationRun| {
        let strict = run.records.iter().find(|record| record.id.starts_with('B') && record.id.ends_with(".strict"));
        strict.and_then(|record| record.value)
    };
    let (found, off) = (accuracy(model), control(controls, "ee_off").and_then(accuracy));
    let Some((found, off)) = found.zip(off) else { return Some("accuracies are not known".to_owned()) };
    (off - found > MAX_ACCURACY_LOSS).then(|| {
        format!(
            "exits cost {:.1} points of accuracy, more than {:.0}",
            100.0 * (off - found),
            100.0 * MAX_ACCURACY_LOSS
        )
    })
}

/// The family of the records that are over all tasks, or the one task.
fn whole_task(run: &EvaluationRun) -> Option<&str> {
    run.tasks().into_iter().next()
}

/// H1: the area over the curve of early answers rises.
fn early_answering(
    model: &EvaluationRun,
    controls: &[&EvaluationRun],
    obstacle: Option<String>,
    bootstrap: &Bootstrap,
) -> Evidence {
    const AREA: &str = "D1.aoc";
    let contrast = |key: &str| {
        let means = PairedMeans::of(control(controls, key)?, model, whole_task(model)?, AREA, bootstrap)?;
        let [of_control, of_model] = means.values;
        Some(Contrast::new(key, of_model - of_control, &means.differences, 1.0, bootstrap))
    };
    let contrasts: Vec<Contrast> = CONTROLS.into_iter().filter_map(contrast).collect();
    let obstacle = obstacle.or_else(|| no_value(contrasts.len(), AREA));
    let claim = "the answer depends on more of the trace than in every control";
    Evidence { name: "H1", claim, metric: AREA, contrasts, obstacle, unmet: None }
}

fn no_value(n_contrasts: usize, metric: &str) -> Option<String> {
    (n_contrasts < CONTROLS.len()).then(|| format!("{metric} has no value for the model or a control"))
}

/// H4: fewer steps can be taken without a trace, while answers with one stay right. Horizons are means over tasks.
fn horizon(
    model: &EvaluationRun,
    controls: &[&EvaluationRun],
    obstacle: Option<String>,
    bootstrap: &Bootstrap,
) -> Evidence {
    let tasks: Vec<&str> = model.tasks().into_iter().filter(|task| model.record(task, HORIZON).is_some()).collect();
    let contrast = |key: &str| {
        let control = control(controls, key)?;
        let of_tasks: Option<Vec<PairedHorizons>> =
            tasks.iter().map(|task| PairedHorizons::of(control, model, task, bootstrap)).collect();
        let of_tasks = of_tasks.filter(|of_tasks| !of_tasks.is_empty())?;
        let n = of_tasks.len() as f64;
        let difference = of_tasks.iter().map(|task| task.values[1] - task.values[0]).sum::<f64>() / n;
        let n_draws = of_tasks.iter().map(|task| task.differences.len()).min()?;
        let draw = |draw: usize| of_tasks.iter().map(|task| task.differences[draw]).sum::<f64>() / n;
        Some(Contrast::new(key, difference, &(0..n_draws).map(draw).collect::<Vec<_>>(), -1.0, bootstrap))
    };
    let contrasts: Vec<Contrast> = CONTROLS.into_iter().filter_map(contrast).collect();
    let base = control(controls, "base");
    let obstacle = obstacle
        .or_else(|| no_value(contrasts.len(), HORIZON))
        .or_else(|| base.and_then(|base| depth_does_not_matter(base, &tasks)));
    let (obstacle, unmet) = match base.and_then(|base| retained_loss(model, base, &tasks)) {
        Some(loss) if loss > MAX_RETAINED_LOSS => (
            obstacle,
            Some(format!("{:.1} points of accuracy with a trace are lost at twice the base's horizon", 100.0 * loss)),
        ),
        Some(_) => (obstacle, None),
        None => (obstacle.or_else(|| Some("accuracy at twice the base's horizon was not measured".to_owned())), None),
    };
    let claim = "fewer steps can be taken without a trace, and answers with one stay as right";
    Evidence { name: "H4", claim, metric: HORIZON, contrasts, obstacle, unmet }
}

/// Accuracy with a trace that the base has and the model has not, at twice the base's horizon: a mean over the tasks where that is
/// within what was asked.
fn retained_loss(model: &EvaluationRun, base: &EvaluationRun, tasks: &[&str]) -> Option<f64> {
    let retained = |run: &EvaluationRun, task: &str| run.record(task, HORIZON)?.extra.get("retained")?.as_f64();
    let losses: Vec<f64> =
        tasks.iter().filter_map(|task| Some(retained(base, task)? - retained(model, task)?)).collect();
    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
}

/// Whether the base answers as well at every depth, so that horizons say nothing about depth.
fn depth_does_not_matter(base: &EvaluationRun, tasks: &[&str]) -> Option<String> {
    let horizons: Vec<Vec<f64>> = tasks
        .iter()
        .filter_map(|task| base.record(task, HORIZON)?.extra.get("forced_depth_curve")?.as_array())
        .map(|curve| curve.iter().filter_map(|point| point.get("horizon")?.as_f64()).collect())
        .collect();
    let is_flat = |horizons: &Vec<f64>| horizons.windows(2).all(|pair| pair[0] == pair[1]);
    (!horizons.is_empty() && horizons.iter().all(is_flat))
        .then(|| "not decided: what the base answers at once does not vary with its depth".to_owned())
}

/// Verdicts from the evidence: Holm's correction is over the hypotheses that can be tested.
fn decide(evidence: Vec<Evidence>) -> Vec<TestedHypothesis> {
    let p = |evidence: &Evidence| {
        let largest = evidence.contrasts.iter().map(|contrast| contrast.p).fold(0.0, f64::max);
        evidence.obstacle.is_none().then_some(largest)
    };
    let mut corrected = holm_adjusted(&evidence.iter().filter_map(p).collect::<Vec<_>>()).into_iter();
    let decided = evidence.into_iter().map(|evidence| {
        let p = p(&evidence);
        let p_holm = p.and_then(|_| corrected.next());
        let as_claimed = evidence.contrasts.iter().filter(|contrast| contrast.p <= ALPHA).count();
        let verdict = match p_holm {
            None => Verdict::NotTestable,
            Some(_) if as_claimed == 0 => Verdict::NotSupported,
            Some(p_holm) if p_holm <= ALPHA && evidence.unmet.is_none() => Verdict::Supported,
            Some(_) => Verdict::Mixed,
        };
        TestedHypothesis {
            name: evidence.name,
            claim: evidence.claim,
            metric: evidence.metric,
            contrasts: evidence.contrasts,
            p,
            p_holm,
            verdict,
            reason: evidence.obstacle.or(evidence.unmet),
        }
    });
    decided.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::{Fixture, write_run};

    fn evidence(ps: [f64; 3]) -> Evidence {
        let contrast =
            |(control, p): (&str, f64)| Contrast { control: control.to_owned(), difference: 0.1, ci: None, p };
        let contrasts = CONTROLS.into_iter().zip(ps).map(contrast).collect();
        Evidence { name: "H1", claim: "", metric: "D1.aoc", contrasts, obstacle: None, unmet: None }
    }

    #[test]
    fn verdicts_need_all_contrasts_after_correction() {
        let of = |evidence: Vec<Evidence>| decide(evidence).iter().map(|tested| tested.verdict).collect::<Vec<_>>();
        let clear = evidence([0.001; 3]);
        assert_eq!(of(vec![clear.clone(), evidence([0.2; 3])]), [Verdict::Supported, Verdict::NotSupported]);
        assert_eq!(of(vec![evidence([0.001, 0.001, 0.3])]), [Verdict::Mixed]);
        // 0.03 alone is enough, but not as the smaller of two.
        assert_eq!(of(vec![evidence([0.03; 3])]), [Verdict::Supported]);
        assert_eq!(of(vec![evidence([0.03; 3]), evidence([0.9; 3])]), [Verdict::Mixed, Verdict::NotSupported]);
        // What cannot be tested takes no part in the correction.
        let missing = Evidence { obstacle: Some("no control".to_owned()), ..clear.clone() };
        let decided = decide(vec![evidence([0.03; 3]), missing]);
        assert_eq!((decided[0].verdict, decided[1].verdict), (Verdict::Supported, Verdict::NotTestable));
        assert_eq!(
            (decided[0].p_holm, decided[1].p, decided[1].reason.as_deref()),
            (Some(0.03), None, Some("no control"))
        );
        let unmet = Evidence { unmet: Some("accuracy is lost".to_owned()), ..clear };
        assert_eq!(of(vec![unmet]), [Verdict::Mixed]);
    }

    #[test]
    fn contrasts_by_hand() {
        let bootstrap = Bootstrap { n_draws: 99, ..Bootstrap::default() };
        let draws: Vec<f64> = (0..99).map(|draw| f64::from(draw) - 1.5).collect();
        // Two of 99 draws are not above 0.
        let contrast = Contrast::new("base", 1.0, &draws, 1.0, &bootstrap);
        assert!((contrast.p - 0.06).abs() < 1e-12, "{contrast:?}");
        assert_eq!(Contrast::new("base", 1.0, &draws, -1.0, &bootstrap).p, 1.0);
        // A model that never differs from its control supports nothing.
        assert_eq!(Contrast::new("base", 0.0, &[0.0; 99], 1.0, &bootstrap).p, 1.0);
    }

    fn open(model: &'static str, commitment: f64, accuracy: f64) -> EvaluationRun {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture { model, accuracy, commitment, ..Fixture::default() });
        EvaluationRun::open(folder.path()).unwrap()
    }

    #[test]
    fn a_model_that_commits_later_supports_the_first_hypothesis() {
        let bootstrap = Bootstrap { n_draws: 400, ..Bootstrap::default() };
        let controls = ["base", "base_noise", "ee_off"].map(|key| open(key, 0.3, 0.9));
        let controls: Vec<&EvaluationRun> = controls.iter().collect();
        let first = |model: &EvaluationRun, controls: &[&EvaluationRun]| {
            verdicts(model, controls, &bootstrap).hypotheses.swap_remove(0)
        };
        let tested = first(&open("ee", 0.8, 0.9), &controls);
        assert_eq!((tested.verdict, tested.contrasts.len()), (Verdict::Supported, 3), "{tested:?}");
        assert!(tested.contrasts.iter().all(|contrast| contrast.difference > 0.0));
        assert_eq!(first(&open("ee", 0.3, 0.9), &controls).verdict, Verdict::NotSupported);
        let tested = first(&open("ee", 0.8, 0.9), &controls[..1]);
        assert_eq!(tested.reason.as_deref(), Some("the control base_noise was not evaluated"));
        let tested = first(&open("ee", 0.8, 0.3), &controls);
        assert_eq!(tested.verdict, Verdict::NotTestable);
        assert!(tested.reason.unwrap().starts_with("exits cost"));
        // The runs of this test have no answers without a trace.
        let all = verdicts(&open("ee", 0.8, 0.9), &controls, &bootstrap);
        assert_eq!((all.hypotheses[1].verdict, all.not_measured), (Verdict::NotTestable, vec!["H2", "H3", "H5"]));
    }
}
