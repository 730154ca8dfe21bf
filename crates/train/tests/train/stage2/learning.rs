//! Whole runs learn what they are rewarded for, and nothing else.

use aloud_model::decoder::Trained;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::metrics::ReinforceMetrics;

use super::toy::{BOTH, Fresh, Toy, course, parameters, reinforce, says_good, stage1};
use crate::fixtures::timeless;

#[test]
fn a_rewarded_token_is_said_more_often() {
    for trained in BOTH {
        let overrides = ["schedule.steps=40", "rollouts.group_size=8", "run.checkpoint_every=0"];
        let Fresh { path: run, end, metrics, _folder } = Fresh::run(trained, &overrides, &mut Toy::good());
        assert_eq!((end.steps, end.collapse, metrics.len()), (40, None, 40));
        let (before, after) = course(&metrics, |step| step.task_reward);
        assert!(before < 0.4 && after > before + 0.5, "{trained:?}: from {before} to {after}");
        let worst = metrics.iter().map(|step| step.ratio_difference).fold(0.0, f64::max);
        assert!(worst > 0.0 && worst <= 1e-4, "{worst}: rounding and nothing else");
        // At the end only, as asked.
        assert!(end.checkpoint.ends_with("step-000040") && !run.join("checkpoints/step-000025").exists());
        assert_eq!(RunDirectory::latest(&run).unwrap().unwrap().step, 40);
        let sample = std::fs::read_to_string(run.join("samples/step-000001.md")).unwrap();
        assert!(sample.contains("## 0-0") && sample.contains("best: reward ") && sample.contains("depths: [4"));
        let mut samples: Vec<_> =
            std::fs::read_dir(run.join("samples")).unwrap().map(|f| f.unwrap().file_name()).collect();
        samples.sort();
        assert_eq!(samples, ["step-000001.md", "step-000025.md"]);
    }
}

#[test]
fn a_depth_penalty_makes_responses_shallower() {
    let run = |form: &str, reduction: &str| {
        let overrides = [
            "schedule.steps=40",
            "rollouts.group_size=8",
            "reward.depth_penalty=1",
            "stop.reward_spread=false",
            &format!("reward.depth_penalty_form={form}"),
            &format!("reward.variance_reduction={reduction}"),
            "learning_rate.heads=5e-2",
        ];
        Fresh::run(Trained::Adapters, &overrides, &mut Toy::indifferent()).metrics
    };
    for reduction in ["true", "false"] {
        let metrics = run("mean", reduction);
        let (before, after) = course(&metrics, |step| step.average_layer_savings);
        assert!(after > before + 0.1, "average layer savings with reduction {reduction}: from {before} to {after}");
    }
    let metrics = run("max", "true");
    let (before, after) = course(&metrics, |step| step.deepest_step);
    assert!(after < before - 0.5, "deepest step: from {before} to {after}");
}

#[test]
fn a_token_cost_makes_responses_shorter() {
    let overrides = ["schedule.steps=40", "rollouts.group_size=8", "reward.token_cost=0.1", "stop.reward_spread=false"];
    let metrics = Fresh::run(Trained::Full, &overrides, &mut Toy::indifferent()).metrics;
    let (before, after) = course(&metrics, |step| step.response_tokens);
    assert!(after < before - 2.0, "tokens a response: from {before} to {after}");
    let (cut_before, cut_after) = course(&metrics, |step| step.truncated);
    assert!(cut_before > 0.2 && cut_after < 0.5 * cut_before, "share cut: from {cut_before} to {cut_after}");
}

#[test]
fn equal_rewards_teach_nothing() {
    for trained in BOTH {
        let run = Fresh::run(trained, &["schedule.steps=2"], &mut Toy::indifferent());
        let metrics = &run.metrics;
        assert!(metrics.iter().all(|step| step.gradient_norm == 0.0 && step.advantage_rms == 0.0), "{metrics:?}");
        assert_eq!(run.parameters(), parameters(&stage1(trained)));
    }
}

#[test]
fn weight_decay_shrinks_the_matrices_of_blocks_and_adapters_alone() {
    for trained in BOTH {
        // Gradients are 0, so that decay is all that moves a parameter.
        let overrides = ["schedule.steps=1", "optimizer.weight_decay=10"];
        let run = Fresh::run(trained, &overrides, &mut Toy::indifferent());
        let (before, after) = (parameters(&stage1(trained)), run.parameters());
        let keep = match trained {
            Trained::Adapters => 1.0 - 10.0 * 5e-3,
            Trained::Full => 1.0 - 10.0 * 3e-3,
            Trained::Exits => 1.0,
        };
        let (mut n_decayed, mut n_kept) = (0, 0);
        for (name, before) in &before {
            // Named one by one: a gain, a bias, a table of tokens or an exit head is none of these.
            let is_matrix = name.contains(".self_attn.") || name.contains(".mlp.");
            let is_vector = name.contains("norm") || name.contains("bias");
            let decays = is_matrix && !is_vector;
            let expected: Vec<f32> = before.iter().map(|value| if decays { value * keep } else { *value }).collect();
            assert!(after[name] == expected, "{trained:?}: {name}");
            if decays { n_decayed += 1 } else { n_kept += 1 }
        }
        // Four blocks of seven matrices, or of two factors each; three heads with weight and bias, and in the model itself two
        // norms a block, the last norm and both tables of tokens.
        let expected = if trained == Trained::Adapters { (56, 6) } else { (28, 6 + 8 + 3) };
        assert_eq!((n_decayed, n_kept), expected, "{trained:?}");
    }
}

#[test]
fn a_run_without_exits_learns_and_resumes() {
    let off = ["rollouts.exits=off", "reward.kl_coefficient=0.001", "reward.kl_reference=stage1", "schedule.steps=20"];
    for trained in BOTH {
        let unbroken = Fresh::run(trained, &off, &mut Toy::good());
        let metrics = &unbroken.metrics;
        let (before, after) = course(metrics, |step| step.task_reward);
        assert!(after > before + 0.2, "{trained:?}: from {before} to {after}");
        let kl = |step: &ReinforceMetrics| step.kl_per_response.unwrap();
        assert!(kl(&metrics[0]).abs() < 1e-3 && kl(&metrics[19]) > 0.1, "of the policy that the run began with");

        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("broken");
        reinforce(&broken, trained, &off, &mut Toy::asleep_at_5(says_good)).unwrap_err();
        let (resumed, steps) = reinforce(&broken, trained, &off, &mut Toy::good()).unwrap();
        assert_eq!(steps[0].step, 4);
        assert_eq!(timeless(&unbroken.path), timeless(&broken));
        assert!(unbroken.parameters() == parameters(&super::toy::load(&resumed.checkpoint)));
    }
}
