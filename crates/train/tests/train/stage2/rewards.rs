//! Rewards and what follows from them: which can be used, what the metrics say, and when a run ends early.

use aloud_model::checkpoint::TrainingState;
use aloud_model::decoder::Trained;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::reinforce::ReinforceError;
use aloud_train::stage2::task::TaskPrompt;
use aloud_train::training::TrainingError;

use super::toy::{Fresh, Judge, Prompts, Toy, VOCABULARY, reinforce, toy_prompts};

#[test]
fn unusable_rewards_name_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, judge: Judge| {
        let overrides = ["rollouts.max_new_tokens=16"];
        reinforce(&folder.path().join(name), Trained::Adapters, &overrides, &mut Toy::new(judge)).unwrap_err()
    };
    // The last finished response of step 2 has no reward that is a number.
    let error = run(
        "nan",
        Box::new(|step, rollouts| {
            let mut rewards = vec![0.5; rollouts.len()];
            if step == 2 {
                assert_eq!(rollouts.last().unwrap().prompt, 3, "a response to the last prompt has ended");
                *rewards.last_mut().unwrap() = f64::NAN;
            }
            Ok(rewards)
        }),
    );
    assert!(
        matches!(&error, TrainingError::Stage(ReinforceError::Advantages { step: 2, id, .. }) if id == "1-3"),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.starts_with("step 2, prompt `1-3`: the task reward of rollout "), "{message}");
    assert!(message.ends_with("of the group is not a finite number; the last checkpoint is intact"), "{message}");

    let message = run("few", Box::new(|_, rollouts| Ok(vec![1.0; rollouts.len() - 1]))).to_string();
    let (few, many) = message.strip_prefix("step 1: ").unwrap().split_once(" rewards for ").unwrap();
    let many = many.split_once(" responses").unwrap().0;
    assert_eq!(few.parse::<usize>().unwrap() + 1, many.parse::<usize>().unwrap());
}

#[test]
fn cut_responses_are_worth_nothing_and_are_not_judged() {
    let mut task = Toy { stop_tokens: Vec::new(), ..Toy::rewarding(|_| 1.0) };
    let metrics = Fresh::run(Trained::Adapters, &["schedule.steps=2"], &mut task).metrics;
    assert!(metrics.iter().all(|step| (step.truncated, step.task_reward) == (1.0, 0.0)), "{metrics:?}");
    assert!(metrics.iter().all(|step| (step.response_tokens, step.tokens) == (8.0, 128)));
    assert_eq!(task.n_judged, 0);

    // Of some cut and some not, each reward goes to its own response.
    let mut task = Toy::rewarding(|rollout| rollout.token_ids.len() as f64);
    let metrics = Fresh::run(Trained::Adapters, &["schedule.steps=1"], &mut task).metrics;
    let (rollouts, rewards) = task.last();
    for (rollout, reward) in rollouts.iter().zip(&rewards) {
        assert_eq!(*reward, if rollout.is_truncated { 0.0 } else { rollout.token_ids.len() as f64 });
    }
    assert!(metrics[0].truncated > 0.0 && metrics[0].truncated < 1.0, "{}", metrics[0].truncated);
}

#[test]
fn metrics_are_those_of_the_rollouts() {
    let overrides = ["schedule.steps=1", "reward.depth_penalty=0.4", "reward.token_cost=0.01"];
    let mut task = Toy::good();
    let metrics = &Fresh::run(Trained::Full, &overrides, &mut task).metrics[0];
    let (rollouts, rewards) = task.last();
    let counted: Vec<f64> = rollouts.iter().flat_map(|rollout| &rollout.depths[1..]).map(|d| *d as f64).collect();
    let n = counted.len() as f64;
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    close(metrics.average_layer_savings, 1.0 - counted.iter().sum::<f64>() / (4.0 * n));
    close(metrics.exit_rate, counted.iter().filter(|depth| **depth < 4.0).count() as f64 / n);
    assert!(metrics.exit_rate > 0.2 && metrics.exit_rate < 1.0);
    close(metrics.task_reward, rewards.iter().sum::<f64>() / 16.0);
    let n_tokens: usize = rollouts.iter().map(|rollout| rollout.token_ids.len()).sum();
    close(metrics.response_tokens, n_tokens as f64 / 16.0);
    let differ = rewards.chunks(4).filter(|group| group.iter().any(|reward| *reward != group[0])).count();
    assert!(differ > 0 && differ < 4, "a test of nothing: {differ} of 4");
    close(metrics.groups_with_spread, differ as f64 / 4.0);
    assert_eq!((&metrics.reward_hint, &metrics.warning), (&None, &None));
    let returns = rollouts.iter().zip(&rewards).map(|(rollout, reward)| {
        let counted = &rollout.depths[1..];
        let depth = counted.iter().sum::<usize>() as f64 / (4 * counted.len().max(1)) as f64;
        let depth = if counted.is_empty() { 1.0 } else { depth };
        reward - 0.4 * depth - 0.01 * rollout.depths.len() as f64
    });
    close(metrics.mean_return, returns.sum::<f64>() / 16.0);
    let deepest: Vec<f64> =
        rollouts.iter().filter_map(|rollout| rollout.depths[1..].iter().max()).map(|depth| *depth as f64).collect();
    close(metrics.deepest_step, deepest.iter().sum::<f64>() / deepest.len() as f64);
    close(metrics.measures["prompts"], 4.0);
    assert!(metrics.token_entropy > 0.5 && metrics.token_entropy < f64::from(VOCABULARY).ln());
    assert_eq!(metrics.exit_entropies.len(), 3);
    assert!(metrics.exit_entropies.iter().all(|entropy| *entropy > 0.1 && *entropy <= 2f64.ln()));
    assert_eq!((metrics.learning_rate, metrics.learning_rate_heads), (3e-3, 2e-2));
}

#[test]
fn a_collapse_stops_the_run_at_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let overrides = ["stop.patience=2", "stop.min_token_entropy=100"];
    let (end, metrics) = reinforce(&run, Trained::Adapters, &overrides, &mut Toy::good()).unwrap();
    assert_eq!((end.steps, metrics.len()), (2, 2));
    assert!(end.collapse.unwrap().contains("`stop.min_token_entropy` is 1.0e2"));
    assert_eq!(RunDirectory::latest(&run).unwrap().unwrap().step, 2);
    assert_eq!(end.checkpoint, run.join("checkpoints/step-000002"));
    assert!(TrainingState::read(&end.checkpoint).unwrap().is_some());
    // Started again, it stays stopped.
    let (again, metrics) = reinforce(&run, Trained::Adapters, &overrides, &mut Toy::good()).unwrap();
    assert_eq!((again.steps, metrics.len(), again.collapse.is_some()), (2, 0, true));

    // The rule looks at all steps of the run, those before an interruption too.
    let run = folder.path().join("resumed");
    let overrides = ["stop.patience=5", "stop.min_token_entropy=100"];
    reinforce(&run, Trained::Adapters, &overrides, &mut Toy::asleep_at_5(|_| 0.0)).unwrap_err();
    let (end, _) = reinforce(&run, Trained::Adapters, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!(end.steps, 5);
    assert!(end.collapse.is_some());
}

#[test]
fn rewards_that_never_differ_warn_and_then_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let overrides = ["stop.patience=2", "reward.depth_penalty=0.3"];
    let mut task = Toy { hint: Some("nobody says `5`"), ..Toy::indifferent() };
    let (end, metrics) = reinforce(&run, Trained::Adapters, &overrides, &mut task).unwrap();
    assert_eq!((end.steps, metrics.len()), (4, 4), "of 6");
    assert!(metrics.iter().all(|step| step.groups_with_spread == 0.0));
    let warned: Vec<bool> = metrics.iter().map(|step| step.warning.is_some()).collect();
    assert_eq!(warned, [false, true, false, false]);
    let collapse = end.collapse.unwrap();
    for message in [metrics[1].warning.as_ref().unwrap(), &collapse] {
        assert!(
            message.contains("learn nothing from it; nobody says `5`. Look at responses in `samples`"),
            "{message}"
        );
    }
    assert_eq!(RunDirectory::latest(&run).unwrap().unwrap().step, 4, "at a checkpoint");
    // Started again, it says the same and does nothing.
    let (again, steps) = reinforce(&run, Trained::Adapters, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!((again.collapse, steps.len()), (Some(collapse), 0));

    let all = folder.path().join("all");
    let overrides = [&overrides[..], &["stop.reward_spread=false"]].concat();
    let (end, metrics) = reinforce(&all, Trained::Adapters, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!((end.steps, end.collapse), (6, None), "depth alone, as asked");
    assert!(metrics.iter().all(|step| step.warning.is_none()));
}

#[test]
fn unusable_prompts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fn replaced(step: u64, token_ids: Vec<u32>) -> Vec<TaskPrompt> {
        let mut prompts = toy_prompts(step, 4);
        if step == 1 {
            prompts[2].token_ids = token_ids;
        }
        prompts
    }
    let cases: [(&str, Prompts, &str); 5] = [
        ("empty", |step| Ok(replaced(step, Vec::new())), "step 2, prompt `1-2`: the prompt is empty"),
        ("unknown", |step| Ok(replaced(step, vec![1, 16])), "step 2, prompt `1-2`: token id 16 is not below"),
        ("long", |step| Ok(replaced(step, vec![1; 32])), "step 2, prompt `1-2`: the prompt has 32 tokens"),
        (
            "none",
            |step| if step == 1 { Err("no more items".to_owned()) } else { Ok(toy_prompts(step, 4)) },
            "step 2: no more items; ",
        ),
        // Fewer than were asked for would be other rollouts than the seed promises, and none would teach nothing.
        ("few", |step| Ok(toy_prompts(step, 3)), "step 1: 3 prompts where 4 were asked for"),
    ];
    for (name, prompts, start) in cases {
        let mut task = Toy { prompts: Some(prompts), ..Toy::good() };
        let (run, overrides) = (folder.path().join(name), ["run.checkpoint_every=1"]);
        let message = reinforce(&run, Trained::Adapters, &overrides, &mut task).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
        let kept = RunDirectory::latest(&run).unwrap().map_or(0, |point| point.step);
        assert_eq!(kept, u64::from(name != "few"), "steps before are kept");
    }
}
