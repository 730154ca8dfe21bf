//! What a step learns from: rollouts, the gradient of the leave-one-out estimator, and the KL.

use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::cpu::Cpu;
use aloud_method::returns::leave_one_out_advantages;
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_train::optimizer::global_norm;
use aloud_train::stage2::joint_likelihood::{LikelihoodGradient, SampledDistribution, joint_likelihood};
use aloud_train::stage2::reinforce::ReinforceError;
use aloud_train::stage2::rollouts::{Rollout, RolloutPlan, draw_rollouts};
use aloud_train::training::TrainingError;

use super::toy::{BOTH, END, Fresh, Toy, load, model, parameters, reading, reinforce, stage1, toy_prompts, trainee};

/// The first update is the estimator of the method, computed here from the recorded rollouts.
#[test]
fn the_gradient_is_that_of_the_leave_one_out_estimator() {
    let distribution = SampledDistribution { temperature: 0.8, exit_offset: Some(0.2) };
    for trained in BOTH {
        let overrides = ["schedule.steps=1", "rollouts.temperature=0.8", "rollouts.exit_offset=0.2"];
        let mut task = Toy::good();
        let run = Fresh::run(trained, &overrides, &mut task);
        let metrics = &run.metrics;
        let (rollouts, rewards) = task.last();
        assert_eq!((rollouts.len(), metrics[0].rollouts), (16, 16));

        let prompts = toy_prompts(0, 4);
        let trainee = trainee(&stage1(trained));
        let sequences: Vec<RecordedSequence<'_>> = rollouts
            .iter()
            .map(|rollout| RecordedSequence {
                prompt: &prompts[rollout.prompt].token_ids,
                response: &rollout.token_ids,
                depths: &rollout.depths,
            })
            .collect();
        let advantages: Vec<f64> =
            rewards.chunks(4).flat_map(|group| leave_one_out_advantages(group).unwrap()).collect();
        assert!(advantages.iter().any(|advantage| *advantage > 0.1));
        let d_joint: Vec<Vec<f32>> = (rollouts.iter().zip(&advantages))
            .map(|(rollout, advantage)| vec![(-advantage / 16.0) as f32; rollout.depths.len()])
            .collect();
        let mut gradients = Gradients::new(trainee.decoder.backend());
        let gradient = LikelihoodGradient { d_joint: &d_joint, trained: trainee.trained, gradients: &mut gradients };
        joint_likelihood(&trainee.decoder, Some(&trainee.policy), &sequences, distribution, Some(gradient)).unwrap();
        let gradients = gradients.into_host();
        let norm = global_norm(gradients.iter().map(|(name, values)| (name.as_str(), &values[..]))).unwrap();
        let found = metrics[0].gradient_norm;
        assert!((found - norm).abs() < 1e-3 * norm, "{found}, expected {norm}");
        assert!((metrics[0].advantage_rms.powi(2) * 16.0 - advantages.iter().map(|a| a * a).sum::<f64>()).abs() < 1e-9);

        // Adam's first step is the learning rate against the gradient's sign, wherever the gradient is not tiny.
        let (before, after) = (parameters(&stage1(trained)), run.parameters());
        let mut n = 0;
        for (name, gradient) in &gradients {
            let rate = match (name.starts_with("head."), trained) {
                (true, _) => 2e-2,
                (false, Trained::Adapters) => 5e-3,
                (false, Trained::Full) => 3e-3,
                (false, Trained::Exits) => 0.0,
            };
            for ((gradient, before), after) in gradient.iter().zip(&before[name]).zip(&after[name]) {
                if gradient.abs() > 1e-4 {
                    let step = (after - before) / gradient.signum();
                    assert!((step + rate).abs() < 0.01 * rate, "{name}: {step}");
                    n += 1;
                }
            }
        }
        assert!(n > 100, "only {n} entries compared");
    }
}

#[test]
fn batching_changes_no_rollout() {
    let trainee = trainee(&stage1(Trained::Adapters));
    let prompts: Vec<Vec<u32>> = toy_prompts(0, 4).into_iter().map(|prompt| prompt.token_ids).collect();
    let plan = |first_sequence, max_sequences| RolloutPlan {
        prompts: &prompts,
        group_size: 3,
        max_new_tokens: 8,
        distribution: SampledDistribution::default(),
        stop_tokens: &[END],
        seed: 9,
        first_sequence,
        max_sequences,
    };
    let draw = |plan| draw_rollouts(&trainee.decoder, &trainee.policy, &plan).unwrap();
    let rollouts = draw(plan(0, 128));
    assert_eq!(rollouts.iter().map(|rollout| rollout.prompt).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    assert_eq!(draw(plan(0, 5)), rollouts);
    assert_ne!(draw(plan(12, 128)), rollouts, "later rollouts are others");
    assert!(rollouts.iter().any(|rollout| rollout.is_truncated) && rollouts.iter().any(|r| !r.is_truncated));
    for rollout in &rollouts {
        let n = rollout.token_ids.len();
        assert_eq!((rollout.depths.len(), rollout.log_joint.len(), rollout.token_log_probabilities.len()), (n, n, n));
        assert_eq!(rollout.depths[0], 4);
        assert_eq!(rollout.is_truncated, *rollout.token_ids.last().unwrap() != END);
        assert!(rollout.is_truncated == (n == 8) || !rollout.is_truncated);
    }
}

/// The control of evaluations: the same training without exits.
#[test]
fn without_exits_the_action_is_the_token_alone() {
    let off = ["rollouts.exits=off", "rollouts.exit_offset=0.2", "rollouts.temperature=0.8", "schedule.steps=1"];
    for trained in BOTH {
        let mut task = Toy::rewarding(|rollout| rollout.token_ids.len() as f64);
        let run = Fresh::run(trained, &off, &mut task);
        let (rollouts, _) = task.last();
        let start = trainee(&stage1(trained));
        for rollout in &rollouts {
            assert!(rollout.depths.iter().all(|depth| *depth == 4), "{:?}", rollout.depths);
            assert_eq!(rollout.log_joint, rollout.token_log_probabilities, "token terms only");
            let read = reading(&start.decoder, &start.policy, rollout, 0, &rollout.depths);
            for (drawn, read) in rollout.log_joint.iter().zip(&read) {
                assert!((drawn - read.log_probability).abs() < 1e-5);
            }
            assert!(read[1..].iter().all(|step| step.log_joint < step.log_probability - 1e-3), "the heads would count");
        }
        let step = &run.metrics[0];
        assert!(step.gradient_norm > 0.0 && step.ratio_difference <= 1e-5, "{step:?}");
        assert_eq!((step.average_layer_savings, step.exit_rate), (0.0, 0.0));
        assert_eq!(step.exit_entropies, [0.0; 3]);

        // The text is learned, the heads stay as they were.
        let (before, after) = (parameters(&stage1(trained)), run.parameters());
        for (name, before) in &before {
            assert_eq!(after[name] == *before, name.starts_with("head."), "{trained:?}: {name}");
        }
        let checkpoint = load(&run.end.checkpoint);
        assert_eq!((checkpoint.exit_offset, &checkpoint.training["rollouts"]["exits"]), (None, &"off".into()));
    }
}

/// Neither temperature nor offset is the neutral one; a checkpoint after every step.
const KL_RUN: [&str; 5] = [
    "schedule.steps=2",
    "rollouts.temperature=0.8",
    "rollouts.exit_offset=0.2",
    "reward.kl_coefficient=0.25",
    "run.checkpoint_every=1",
];

#[test]
fn kl_to_the_base_is_the_token_term_at_full_depth() {
    let (cpu, model) = (Cpu::new(2), model(1));
    for trained in BOTH {
        let overrides = [&KL_RUN[1..], &["schedule.steps=1", "reward.kl_reference=base"]].concat();
        let mut task = Toy::good();
        let metrics = Fresh::run(trained, &overrides, &mut task).metrics;
        let (rollouts, _) = task.last();

        let trainee = trainee(&stage1(trained));
        let base = Decoder::new(&cpu, &model.config, &model.weights);
        let no_heads = Policy::new(&cpu, None, ExitHeads::new(Vec::new(), HeadInput::Rms, 32, &[]));
        let k1 = |rollout: &Rollout| -> f64 {
            let own = reading(&trainee.decoder, &trainee.policy, rollout, 0, &rollout.depths);
            let full = vec![4; rollout.depths.len()];
            let of_base = reading(&base, &no_heads, rollout, 0, &full);
            own.iter().zip(&of_base).map(|(a, b)| f64::from(a.log_probability) - f64::from(b.log_probability)).sum()
        };
        let expected = rollouts.iter().map(k1).sum::<f64>() / 16.0;
        let found = metrics[0].kl_per_response.unwrap();
        assert!(expected.abs() > 0.05, "a test of nothing: {expected}");
        assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
        // Per token: of the same sums over all tokens, and not a mean of means.
        let (per_token, tokens) = (metrics[0].kl_per_token.unwrap(), metrics[0].tokens as f64);
        assert!((per_token * tokens - found * 16.0).abs() < 1e-9, "{per_token}");
        assert!((metrics[0].kl_cost_per_token.unwrap() - 0.25 * per_token).abs() < 1e-12);
        let penalised = metrics[0].task_reward - 0.25 * found;
        assert!((metrics[0].mean_return - penalised).abs() < 1e-9, "{} {penalised}", metrics[0].mean_return);
    }
}

#[test]
fn kl_to_stage_1_counts_exits_and_begins_at_zero() {
    for trained in BOTH {
        let overrides = [&KL_RUN[..], &["reward.kl_reference=stage1"]].concat();
        let mut task = Toy::good();
        let run = Fresh::run(trained, &overrides, &mut task);
        let (metrics, at_first) = (&run.metrics, run.metrics[0].kl_per_response.unwrap());
        assert!(at_first.abs() < 1e-4 * metrics[0].response_tokens, "{at_first}");

        // The rollouts of step 2 come from the checkpoint after step 1.
        let (rollouts, _) = task.last();
        let (own, reference) = (trainee(&load(&run.path.join("checkpoints/step-000001"))), trainee(&stage1(trained)));
        let k1 = |rollout: &Rollout| -> f64 {
            let own = reading(&own.decoder, &own.policy, rollout, 1, &rollout.depths);
            let reference = reading(&reference.decoder, &reference.policy, rollout, 1, &rollout.depths);
            own.iter().zip(&reference).map(|(a, b)| f64::from(a.log_joint) - f64::from(b.log_joint)).sum()
        };
        let expected = rollouts.iter().map(k1).sum::<f64>() / 16.0;
        let found = metrics[1].kl_per_response.unwrap();
        assert!(expected.abs() > 5e-3, "a test of nothing: {expected}");
        assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
    }
}

#[test]
fn kl_without_a_cost_is_measured_now_and_then() {
    let measured = |every: &str| {
        let overrides = ["schedule.steps=4", &format!("run.measure_kl_every={every}")];
        let run = Fresh::run(Trained::Adapters, &overrides, &mut Toy::good());
        (run.metrics.iter().map(|step| step.kl_per_response.is_some()).collect::<Vec<_>>(), run.parameters())
    };
    let (sometimes, parameters) = measured("2");
    let (never, without) = measured("0");
    assert_eq!((sometimes, never), (vec![false, true, false, true], vec![false; 4]));
    assert_eq!(parameters, without, "looking changes nothing");
}

#[test]
fn a_difference_beyond_the_tolerance_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Toy::good();
    // Rollout and update add up in other orders: they differ by rounding, which this leaves no room for.
    let error = reinforce(&folder.path().join("run"), Trained::Adapters, &["run.ratio_tolerance=1e-12"], &mut task)
        .unwrap_err();
    let TrainingError::Stage(ReinforceError::Ratio { step: 1, difference, tolerance }) = error else {
        panic!("{error}")
    };
    assert!(difference > tolerance && difference < 1e-4, "{difference}");
    assert!(error.to_string().contains("`run.ratio_tolerance` is 1.0e-12"), "{error}");
}
