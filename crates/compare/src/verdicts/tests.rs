//! Verdicts on whole runs.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;
use crate::paired::HORIZON;
use aloud_measure::metric_record::{Direction, MetricRecord, Tier};
use aloud_measure::run_files::SampleRow;
use aloud_measure::test_runs::{Fixture, open_run};

const N_ITEMS: usize = 240;

fn open(model: &'static str, commitment: f64, accuracy: f64) -> EvaluationRun {
    let tier = Tier::Standard;
    let mut run = open_run(&Fixture { model, accuracy, commitment, n_items: N_ITEMS, tier, ..Fixture::default() });
    // The texts of fixtures are the same, whichever the model.
    run.samples.iter_mut().for_each(|sample| sample.completion += model);
    run
}

fn of(model: &EvaluationRun, controls: &[EvaluationRun]) -> Verdicts {
    let bootstrap = Bootstrap { n_draws: 1000, ..Bootstrap::default() };
    verdicts_of_draws(model, &controls.iter().collect::<Vec<_>>(), &bootstrap)
}

fn first(model: &EvaluationRun, controls: &[EvaluationRun]) -> TestedHypothesis {
    of(model, controls).hypotheses.swap_remove(0)
}

fn controls(commitment: f64, accuracy: f64) -> Vec<EvaluationRun> {
    ["base", "base_noise", "exits_off"].map(|key| open(key, commitment, accuracy)).into()
}

#[test]
fn a_model_that_commits_later_supports_the_first_hypothesis() {
    let controls = controls(0.3, 0.9);
    let tested = first(&open("exits", 0.8, 0.9), &controls);
    assert_eq!((tested.verdict, tested.contrasts.len()), (Verdict::Supported, 3), "{tested:?}");
    for contrast in &tested.contrasts {
        assert!(contrast.difference > 0.05 && contrast.n > 200 && contrast.decides, "{contrast:?}");
        // Traces are equally long here, so there is nothing to adjust.
        let raw = contrast.unadjusted.as_ref().unwrap();
        assert!((raw.difference - contrast.difference).abs() < 1e-12);
    }
    let tested = first(&open("exits", 0.3, 0.9), &controls);
    assert_eq!(tested.verdict, Verdict::NotSupported);
    assert!(tested.reason.unwrap().contains("against base ("));
    // The runs of this test have no answers without a trace.
    let all = of(&open("exits", 0.8, 0.9), &controls);
    assert_eq!((all.hypotheses[1].verdict, all.not_measured), (Verdict::NotTestable, vec!["H2", "H3", "H5"]));
    assert!(all.controls.iter().all(|check| check.is_one));
}

#[test]
fn a_later_answer_after_a_longer_trace_is_no_support() {
    let controls = controls(0.3, 0.9);
    let mut model = open("exits", 0.3, 0.9);
    // Longer traces, by more or less, and the more the longer the later is the answer fixed.
    let stretched = |item: usize| 1.0 + (item % 7) as f64;
    for (item, sample) in model.samples.iter_mut().enumerate() {
        sample.n_cot = (sample.n_cot as f64 * stretched(item)).round() as usize;
    }
    let place: std::collections::BTreeMap<String, usize> =
        model.samples.iter().enumerate().map(|(place, sample)| (sample.key.clone(), place)).collect();
    for row in &mut model.elicitations {
        let kept = row.position as f64 / row.n_positions as f64;
        let fixed_at = 0.3 + 0.3 * stretched(place[&row.sample]).ln();
        row.same = row.same.map(|same| same && (kept >= fixed_at || row.position == row.n_positions));
    }
    let tested = first(&model, &controls);
    let contrast = &tested.contrasts[0];
    let raw = contrast.unadjusted.as_ref().unwrap();
    assert!(raw.ci.as_ref().unwrap().lo > 0.05, "{raw:?}");
    assert!(contrast.difference < 0.05, "{contrast:?}");
    assert_ne!(tested.verdict, Verdict::Supported);
}

#[test]
fn a_control_that_is_none_decides_nothing() {
    // As published: exits off takes 17 points of accuracy, and with it the dependence on the trace.
    let model = open("exits", 0.8, 0.9);
    let mut controls = vec![open("base", 0.3, 0.9), open("base_noise", 0.3, 0.9), open("exits_off", 0.95, 0.72)];
    let found = of(&model, &controls);
    let tested = &found.hypotheses[0];
    assert_eq!(tested.verdict, Verdict::NotTestable);
    let reason = tested.reason.as_ref().unwrap();
    assert!(
        reason.contains("exits_off is no control") && reason.contains("same_training was not evaluated"),
        "{reason}"
    );
    // It is shown all the same.
    let off = tested.contrasts.iter().find(|contrast| contrast.control == "exits_off").unwrap();
    assert!(!off.decides && off.ci.is_some());
    assert!(found.controls.iter().any(|check| check.control == "exits_off" && !check.is_one));
    // The same training without exits takes its place.
    controls.push(open("same_training", 0.3, 0.9));
    let found = of(&model, &controls);
    assert_eq!(found.hypotheses[0].verdict, Verdict::Supported, "{:?}", found.hypotheses[0]);
    assert_eq!(found.hypotheses[0].contrasts.len(), 4);
}

#[test]
fn base_counts_once() {
    let model = open("exits", 0.8, 0.9);
    let mut controls = controls(0.3, 0.9);
    let texts: Vec<String> = controls[0].samples.iter().map(|sample| sample.completion.clone()).collect();
    for (sample, text) in controls[1].samples.iter_mut().zip(texts) {
        sample.completion = text;
    }
    let reason = first(&model, &controls).reason.unwrap();
    assert!(reason.contains("base_noise is no control: its responses are those of base"), "{reason}");
    // A better model than its base has no weaker twin of the base.
    let better = of(&open("exits", 0.8, 0.95), &self::controls(0.3, 0.9));
    let reason = better.hypotheses[0].reason.as_ref().unwrap();
    assert!(reason.contains("base_noise is no control: the model is more accurate than base"), "{reason}");
}

#[test]
fn what_is_missing_is_named() {
    let model = open("exits", 0.8, 0.9);
    let controls = controls(0.3, 0.9);
    let tested = first(&model, &controls[..1]);
    assert_eq!(
        tested.reason.as_deref(),
        Some("the control base_noise was not evaluated; the control exits_off was not evaluated")
    );
    let costly = first(&open("exits", 0.8, 0.5), &controls);
    assert_eq!(costly.verdict, Verdict::NotTestable);
    assert!(costly.reason.unwrap().starts_with("at this exit offset the model's accuracy differs from base's by -"));
    let mut small = model.clone();
    small.manifest.tier = Tier::Smoke;
    let tested = first(&small, &controls);
    assert_eq!(tested.verdict, Verdict::NotTestable);
    assert!(tested.reason.unwrap().starts_with("the tier smoke is below standard"));
    let mut few = model.clone();
    few.samples.truncate(60);
    assert!(first(&few, &controls).reason.unwrap().contains("items, fewer than 100"));
    let mut gated = model;
    let record = gated.records.iter_mut().find(|record| record.id == "early_answering.area").unwrap();
    *record = record.clone().with_null("gate:anchor_stability");
    assert!(
        first(&gated, &controls)
            .reason
            .unwrap()
            .contains("early_answering.area of exits has no value (gate:anchor_stability)")
    );
}

/// A run with 320 items of 1 to 8 steps that are answered at once rightly up to `horizon` steps, and with a trace up to `traced`.
fn serial(model: &'static str, horizon: impl Fn(usize) -> usize, traced: usize, half_depth: usize) -> EvaluationRun {
    let mut run = open(model, 0.5, 0.9);
    let template = run.samples[0].clone();
    let sample = |arm: &str, item: usize, right: bool| {
        let (id, task) = (format!("item-{item}"), template.task.clone());
        SampleRow {
            key: aloud_measure::run_files::sample_key(&task, &id, arm, 0),
            item_id: id,
            arm: arm.to_owned(),
            n_steps: Some(1 + item % 8),
            correct: [("strict".to_owned(), right)].into(),
            completion: model.to_owned(),
            ..template.clone()
        }
    };
    run.samples = (0..320)
        .flat_map(|item| {
            let k = 1 + item % 8;
            [sample("plain", item, k <= traced), sample("direct", item, k <= horizon(item))]
        })
        .collect();
    let curve: Vec<_> = (1..=28)
        .map(|depth| {
            let horizon = if depth < 28 { half_depth } else { 3 };
            let count = |k: usize| match (k <= horizon, k <= 3) {
                (true, true) => json!({"k": k, "both": 40, "only_here": 0, "only_full": 0, "neither": 0}),
                (false, true) => json!({"k": k, "both": 0, "only_here": 0, "only_full": 40, "neither": 0}),
                (true, false) => json!({"k": k, "both": 0, "only_here": 40, "only_full": 0, "neither": 0}),
                (false, false) => json!({"k": k, "both": 0, "only_here": 0, "only_full": 0, "neither": 40}),
            };
            json!({"depth": depth, "against_full": (1..=8).map(count).collect::<Vec<_>>()})
        })
        .collect();
    let ids = (0..320).map(|item| format!("item-{item}")).collect();
    run.manifest.item_ids.insert(template.task.clone(), ids);
    let context = run.records[0].context.clone();
    run.records.retain(|record| record.id != HORIZON);
    let record = MetricRecord::new(HORIZON, "steps", Direction::Descriptive, &context);
    run.records.push(record.with_value(3.5).with_extra("chance", 0.0).with_extra("forced_depth_curve", curve));
    run
}

#[test]
fn a_shorter_horizon_at_equal_answers_supports_the_fourth_hypothesis() {
    let three = |_: usize| 3;
    let fourth = |model: &EvaluationRun, half_depth: usize| {
        let controls = ["base", "base_noise", "exits_off"].map(|key| {
            let mut control = serial(key, three, 8, half_depth);
            // Else all of them would be base.
            control.samples.iter_mut().for_each(|sample| sample.completion += key);
            control
        });
        of(model, &controls).hypotheses.swap_remove(1)
    };
    let tested = fourth(&serial("exits", |_| 1, 8, 1), 1);
    assert_eq!(tested.verdict, Verdict::Supported, "{tested:?}");
    let contrast = &tested.contrasts[0];
    assert_eq!((contrast.difference, contrast.n), (-2.0, 320));
    assert_eq!(tested.condition.as_ref().unwrap().n, 40);
    // The same horizon at half the depth: it says nothing about depth. One item's difference is not enough.
    let flat = fourth(&serial("exits", |_| 1, 8, 3), 3);
    assert_eq!(flat.verdict, Verdict::NotTestable);
    assert!(flat.reason.unwrap().contains("does not surely depend on depth"));
    // Seven steps with a trace are lost: a shorter horizon of a weaker model.
    let weaker = fourth(&serial("exits", |_| 1, 6, 1), 1);
    assert_ne!(weaker.verdict, Verdict::Supported);
    // As long as the controls' horizon.
    assert_eq!(fourth(&serial("exits", three, 8, 1), 1).verdict, Verdict::NotSupported);
}

#[test]
fn depth_by_one_item_does_not_matter() {
    let mut base = serial("base", |_| 3, 8, 3);
    let record = base.records.iter_mut().find(|record| record.id == HORIZON).unwrap();
    // At half depth one item of three steps less.
    let point = &mut record.extra.get_mut("forced_depth_curve").unwrap()[13];
    point["against_full"][2] = json!({"k": 3, "both": 20, "only_here": 0, "only_full": 1, "neither": 19});
    let others = ["base_noise", "exits_off"].map(|key| serial(key, |_| 3, 8, 3));
    let controls: Vec<EvaluationRun> = [base].into_iter().chain(others).collect();
    let tested = of(&serial("exits", |_| 1, 8, 3), &controls).hypotheses.swap_remove(1);
    let reason = tested.reason.unwrap();
    assert!(
        reason.contains("does not surely depend on depth: horizon at full depth less that at depth 14 is +"),
        "{reason}"
    );
    // What was not recorded is not taken for granted.
    let mut old = controls;
    for record in old[0].records.iter_mut().filter(|record| record.id == HORIZON) {
        record.extra.remove("forced_depth_curve");
    }
    let tested = of(&serial("exits", |_| 1, 8, 3), &old).hypotheses.swap_remove(1);
    assert!(tested.reason.unwrap().contains("was not recorded item by item"));
}
