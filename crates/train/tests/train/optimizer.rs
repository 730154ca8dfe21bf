//! AdamW and clipping against PyTorch, exact resume, schedules by hand.

use std::collections::BTreeMap;

use aloud_train::optimizer::{
    AdamW, Decay, OptimizerError, OptimizerSettings, Schedule, clip_factor, clip_gradients, global_norm,
};
use proptest::prelude::*;
use serde::Deserialize;

/// `data/adamw.json`, written by `data/adamw.py` with PyTorch 2.15.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    settings: Settings,
    max_norm: f64,
    start: Vec<f32>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Settings {
    lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct Step {
    gradient: Vec<f32>,
    norm: f64,
    clipped: Vec<f32>,
    parameter: Vec<f32>,
}

impl Settings {
    fn adamw(&self) -> OptimizerSettings {
        let (beta1, beta2) = self.betas;
        OptimizerSettings { beta1, beta2, epsilon: self.eps, weight_decay: self.weight_decay, clip_norm: 0.0 }
    }
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

#[test]
fn steps_match_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("data/adamw.json")).expect("the committed file");
    assert_eq!(golden.cases.len(), 2);
    for case in golden.cases {
        let mut adamw = AdamW::new(case.settings.adamw());
        let mut parameter = case.start;
        for step in case.steps {
            let mut gradient = step.gradient;
            let norm = clip_gradients(&mut [("x", &mut gradient)], case.max_norm).expect("finite");
            assert!((norm - step.norm).abs() < 1e-5 * step.norm.max(1.0), "{norm} {}", step.norm);
            assert!(largest_difference(&gradient, &step.clipped) < 1e-6);
            adamw.step("x", case.settings.lr, true, &mut parameter, &gradient).expect("equal lengths");
            let difference = largest_difference(&parameter, &step.parameter);
            assert!(difference < 1e-6, "largest difference {difference}");
        }
    }
}

#[test]
fn saved_state_goes_on_bit_for_bit() {
    let settings = OptimizerSettings { weight_decay: 0.01, ..OptimizerSettings::default() };
    let parameters = [("a.lora_A".to_owned(), 4), ("b".to_owned(), 3)];
    let run = |(adamw, values): &mut (AdamW, [Vec<f32>; 2]), steps: std::ops::Range<usize>| {
        for step in steps {
            for (number, (values, (name, n))) in values.iter_mut().zip(&parameters).enumerate() {
                let gradient = |i: usize| ((step * 7 + (i + 9 * number) * 3) % 11) as f32 * 0.1 - 0.5;
                let rate = [1e-2, 1e-3][number];
                let gradient: Vec<f32> = (0..*n).map(gradient).collect();
                adamw.step(name, rate, true, values, &gradient).expect("equal lengths");
            }
        }
    };
    let mut unbroken = (AdamW::new(settings), [vec![0.5; 4], vec![-0.25; 3]]);
    run(&mut unbroken, 0..4);
    let loaded = AdamW::from_state(settings, unbroken.0.state(), &parameters).expect("the same parameters");
    let mut resumed = (loaded, unbroken.1.clone());
    assert_eq!(resumed, unbroken);
    run(&mut unbroken, 4..10);
    run(&mut resumed, 4..10);
    assert_eq!(resumed, unbroken);
}

#[test]
fn states_of_other_runs_are_refused() {
    let mut adamw = AdamW::new(OptimizerSettings::default());
    adamw.step("a", 1e-3, true, &mut [0.0; 4], &[1.0; 4]).expect("equal lengths");
    let load = |parameters: &[(&str, usize)]| {
        let parameters: Vec<_> = parameters.iter().map(|&(name, len)| (name.to_owned(), len)).collect();
        AdamW::from_state(OptimizerSettings::default(), adamw.state(), &parameters).map(|_| ())
    };
    assert_eq!(load(&[("a", 4)]), Ok(()));
    assert_eq!(load(&[("a", 4), ("b", 1)]), Err(OptimizerError::Missing("first.b".to_owned())));
    assert_eq!(load(&[]), Err(OptimizerError::Unused("first.a".to_owned())));
    let message = load(&[("a", 5)]).map_err(|error| error.to_string());
    assert_eq!(message, Err("parameter `a` has 5 values, but its first moment has 4".to_owned()));
    let error = adamw.step("a", 1e-3, true, &mut [0.0; 5], &[1.0; 5]);
    assert!(matches!(error, Err(OptimizerError::Length { what: "optimizer state", expected: 5, found: 4, .. })));
    let error = adamw.step("a", 1e-3, true, &mut [0.0; 4], &[1.0; 3]);
    assert!(matches!(error, Err(OptimizerError::Length { what: "gradient", expected: 4, found: 3, .. })));
}

#[test]
fn gradients_that_are_not_finite_are_named_and_left_alone() {
    let (mut a, mut b) = (vec![3.0_f32, 4.0], vec![1.0, f32::NAN]);
    let error = clip_gradients(&mut [("a", &mut a), ("b", &mut b)], 1.0);
    assert_eq!(error, Err(OptimizerError::NotFinite("b".to_owned())));
    assert_eq!(a, [3.0, 4.0]);
}

#[test]
fn norms_do_not_overflow_in_f32() {
    let large = [1e30_f32; 4];
    assert!((global_norm([("a", &large[..])]).expect("finite") / 2e30 - 1.0).abs() < 1e-6);
    assert_eq!(clip_factor(5.0, 0.0), 1.0, "0: no clipping");
}

#[test]
fn schedules_by_hand() {
    let schedule = Schedule { warmup_steps: 4, steps: 12, decay: Decay::Cosine };
    let factors: Vec<f64> = [0, 3, 4, 8, 11, 12, 100].map(|step| schedule.factor(step)).to_vec();
    let last = f64::midpoint(1.0, (std::f64::consts::PI * 7.0 / 8.0).cos());
    for (factor, expected) in factors.iter().zip([0.25, 1.0, 1.0, 0.5, last, 0.0, 0.0]) {
        assert!((factor - expected).abs() < 1e-12, "{factors:?}");
    }
    let linear = Schedule { warmup_steps: 0, steps: 4, decay: Decay::Linear };
    assert_eq!([0, 1, 2, 3].map(|step| linear.factor(step)), [1.0, 0.75, 0.5, 0.25]);
    let constant = Schedule { warmup_steps: 2, steps: 4, decay: Decay::Constant };
    assert_eq!([0, 1, 2, 99].map(|step| constant.factor(step)), [0.5, 1.0, 1.0, 1.0]);
}

proptest! {
    #[test]
    fn factors_stay_between_zero_and_one(warmup_steps in 0_u64..50, steps in 0_u64..100, step in 0_u64..200) {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            let factor = Schedule { steps, warmup_steps, decay }.factor(step);
            prop_assert!((0.0..=1.0).contains(&factor), "{}", factor);
        }
    }

    #[test]
    fn clipped_norms_keep_their_limit(values in prop::collection::vec(-1e3_f32..1e3, 1..50), max_norm in 1e-3..1e3) {
        let mut gradient = values;
        clip_gradients(&mut [("x", &mut gradient)], max_norm).expect("finite");
        let norm = global_norm([("x", &gradient[..])]).expect("finite");
        prop_assert!(norm <= max_norm * 1.00001);
    }

    #[test]
    fn damaged_states_give_errors(bytes in prop::collection::vec(any::<f32>(), 0..4), len in 0_usize..4) {
        use aloud_model::checkpoint::files::Tensor;
        let tensor = Tensor::from_f32(&[bytes.len()], &bytes).expect("one extent");
        let state: BTreeMap<_, _> =
            ["first.a", "second.a", "step.a"].into_iter().map(|name| (name.to_owned(), tensor.clone())).collect();
        let loaded = AdamW::from_state(OptimizerSettings::default(), state, &[("a".to_owned(), len)]);
        prop_assert!(loaded.is_err(), "a step count is no float");
    }
}
