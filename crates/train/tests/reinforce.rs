//! Stage 2 end to end on tiny random models and toy tasks: it learns what it is rewarded for, resumes exactly, measures
//! what it says, and refuses what it cannot use.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aloud_engine::read::replay::{ReplayedToken, replay};
use aloud_kernels::Cpu;
use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, Lineage, Stage, TrainedItems};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, KeyValuePolicy, Trained};
use aloud_model::decoder::{Decoder, Gradients, Policy};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::{ModelIdentity, PretrainedModel};
use aloud_model::lora::Projection;
use aloud_train::initial_weights::initial_weights;
use aloud_train::joint_likelihood::{LikelihoodGradient, RecordedSequence, SampledDistribution, joint_likelihood};
use aloud_train::optimizer::{AdamWSettings, global_norm};
use aloud_train::pretrain_recipe::ModelShape;
use aloud_train::recipe::{LoraSettings, TrainedWeights};
use aloud_train::reinforce::{ReinforceError, ReinforceMetrics, Reinforced, Reinforcement, RolloutTask, TaskPrompt};
use aloud_train::reinforce_recipe::ReinforceRecipe;
use aloud_train::rloo::leave_one_out_advantages;
use aloud_train::rollouts::{Rollout, RolloutPlan, draw_rollouts};
use aloud_train::run_directory::{FORMAT_VERSION, ResumePoint, RunConfig, RunDirectory};
use aloud_train::settings;
use aloud_train::trainee::Trainee;

const VOCABULARY: u32 = 16;
/// Ends a response.
const END: u32 = 0;
/// The token that tasks reward.
const GOOD: u32 = 5;

/// Four blocks with random weights.
fn model(seed: u64) -> PretrainedModel {
    let shape =
        ModelShape { n_blocks: 4, hidden_size: 32, intermediate_size: 48, n_heads: 4, n_kv_heads: 2, context: 32 };
    let config = shape.config(VOCABULARY as usize, END);
    let weights = initial_weights(&config, seed);
    let parameters = weights.parameter_count();
    let identity = ModelIdentity { source: "random".into(), sha256: format!("{seed:064x}"), parameters };
    PretrainedModel { config, weights, identity }
}

fn base_of(model: &PretrainedModel) -> BaseIdentity {
    BaseIdentity { source: model.identity.source.clone(), sha256: model.identity.sha256.clone() }
}

/// A stage-1 checkpoint for a model: adapters that do something, or all weights, moved away from the base either way.
fn stage1(model: &PretrainedModel, trained: TrainedWeights) -> Checkpoint {
    let lora = LoraSettings { rank: 4, alpha: 8.0, targets: Projection::ALL.to_vec() };
    let hidden_size = model.config.hidden_size;
    let mut heads = ExitHeads::new(vec![1, 2, 3], HeadInput::Rms, hidden_size, &[0.2, 0.3, 0.4]);
    for (depth, weight) in heads.weights.iter_mut().enumerate() {
        *weight = (0..hidden_size).map(|i| ((i * 7 + depth * 3) % 5) as f32 * 0.1 - 0.2).collect();
    }
    let mut trainee = Trainee::new(&Cpu::new(2), model, trained, &lora, heads, AdamWSettings::default(), 3);
    let moved = |values: &mut [f32]| {
        for (i, value) in values.iter_mut().enumerate() {
            *value += 0.05 * ((i * 37 % 11) as f32 - 5.0) / 5.0;
        }
    };
    match trained {
        TrainedWeights::Lora => trainee.policy.update_parameters(&mut |name, _, values| {
            if name.ends_with("lora_b") {
                moved(values);
            }
        }),
        TrainedWeights::Full => trainee.decoder.update_parameters(&mut |_, values| moved(values)),
    }
    Checkpoint {
        base: base_of(model),
        n_blocks: model.config.n_layers,
        hidden_size,
        start_adapter: model.weights.start_adapter.clone(),
        trained: trainee.to_checkpoint(&model.weights),
        exit_heads: trainee.policy.heads.clone(),
        key_value: KeyValuePolicy::FrozenResidual,
        exit_offset: None,
        training: serde_json::json!({}),
        lineage: None,
        trained_items: None,
        metrics: serde_json::json!({}),
    }
}

/// What the toy task does with a batch of finished rollouts.
type Judge = Box<dyn Fn(u64, &[&Rollout]) -> Result<Vec<f64>, String>>;

/// A task of short random prompts.
struct Toy {
    judge: Judge,
    stop_tokens: Vec<u32>,
    /// The step of the last prompts, from 1.
    step: u64,
    /// Calls of `rewards`.
    n_judged: usize,
    /// What it says of rewards that do not differ.
    hint: Option<&'static str>,
    /// All rollouts of the last step, with their rewards.
    last: RefCell<(Vec<Rollout>, Vec<f64>)>,
}

impl Toy {
    fn new(judge: Judge) -> Self {
        Self { judge, stop_tokens: vec![END], step: 0, n_judged: 0, hint: None, last: RefCell::default() }
    }

    /// Rewards what is in a response, whatever its step.
    fn rewarding(reward: fn(&Rollout) -> f64) -> Self {
        Self::new(Box::new(move |_, rollouts| Ok(rollouts.iter().map(|rollout| reward(rollout)).collect())))
    }

    /// Every response is worth the same, cut or not.
    fn indifferent() -> Self {
        Self::rewarding(|_| 0.0)
    }

    fn last(&self) -> (Vec<Rollout>, Vec<f64>) {
        self.last.borrow().clone()
    }
}

fn toy_prompts(step: u64, n: usize) -> Vec<TaskPrompt> {
    let token = |i: u64, j: u64| ((step * 5 + i * 3 + j * 7) % u64::from(VOCABULARY - 1)) as u32 + 1;
    (0..n as u64)
        .map(|i| TaskPrompt { id: format!("{step}-{i}"), token_ids: (0..2 + i % 3).map(|j| token(i, j)).collect() })
        .collect()
}

impl RolloutTask for Toy {
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String> {
        self.step = step + 1;
        Ok(toy_prompts(step, n))
    }

    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String> {
        self.n_judged += 1;
        (self.judge)(self.step, rollouts)
    }

    fn measures(&self, rollouts: &[Rollout], rewards: &[f64]) -> BTreeMap<String, f64> {
        *self.last.borrow_mut() = (rollouts.to_vec(), rewards.to_vec());
        BTreeMap::from([("prompts".to_owned(), 1.0 + rollouts.last().map_or(0.0, |rollout| rollout.prompt as f64))])
    }

    fn reward_hint(&self, _: &[Rollout]) -> Option<String> {
        self.hint.map(str::to_owned)
    }

    fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    fn text(&self, token_ids: &[u32]) -> String {
        format!("{token_ids:?}")
    }
}

fn recipe(overrides: &[&str]) -> ReinforceRecipe {
    let mut all = vec![
        "rollouts.prompts_per_step=4",
        "rollouts.group_size=4",
        "rollouts.max_new_tokens=8",
        "rollouts.rows_per_pass=60",
        "reward.depth_penalty=0",
        "learning_rate.adapters=5e-3",
        "learning_rate.weights=3e-3",
        "learning_rate.heads=2e-2",
        "schedule.steps=6",
        "schedule.warmup_steps=0",
        "run.checkpoint_every=3",
        "run.ratio_tolerance=1e-4",
    ];
    all.extend(overrides);
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    settings::resolve(None, &all).unwrap()
}

fn open(path: &Path, model: &PretrainedModel, recipe: &ReinforceRecipe) -> (RunDirectory, Option<ResumePoint>) {
    let config = RunConfig {
        format_version: FORMAT_VERSION,
        command: "reinforce".into(),
        version: "test".into(),
        git_revision: None,
        seed: recipe.seed,
        base_model: base_of(model),
        inputs: BTreeMap::new(),
        digests: None,
        recipe: toml::Table::try_from(recipe).unwrap(),
    };
    RunDirectory::create_or_resume(path, &config).unwrap()
}

/// Starts a run, or goes on with it.
fn start<'a>(
    path: &Path,
    stage1: &Checkpoint,
    recipe: &ReinforceRecipe,
    task: &'a mut dyn RolloutTask,
) -> Result<Reinforcement<'a, Cpu>, ReinforceError> {
    let model = model(1);
    let (run, resume) = open(path, &model, recipe);
    Reinforcement::new(&Cpu::new(2), model, stage1, recipe.clone(), task, run, resume.as_ref())
}

/// A whole run, with the metrics of the steps that this call took.
fn reinforce(
    path: &Path,
    trained: TrainedWeights,
    overrides: &[&str],
    task: &mut Toy,
) -> Result<(Reinforced, Vec<ReinforceMetrics>), ReinforceError> {
    let recipe = recipe(overrides);
    let mut metrics = Vec::new();
    let end = start(path, &stage1(&model(1), trained), &recipe, task)?.run(&mut |step| metrics.push(step.clone()))?;
    Ok((end, metrics))
}

fn mean(metrics: &[ReinforceMetrics], value: impl Fn(&ReinforceMetrics) -> f64) -> f64 {
    metrics.iter().map(value).sum::<f64>() / metrics.len() as f64
}

/// Means of the first three and the last ten steps.
fn course(metrics: &[ReinforceMetrics], value: impl Fn(&ReinforceMetrics) -> f64) -> (f64, f64) {
    (mean(&metrics[..3], &value), mean(&metrics[metrics.len() - 10..], &value))
}

/// Every trained parameter of the checkpoint at `path`.
fn parameters(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let model = model(1);
    let checkpoint = Checkpoint::load(path, Some(&model.identity.sha256)).unwrap();
    parameters_of(&checkpoint, &model)
}

fn parameters_of(checkpoint: &Checkpoint, model: &PretrainedModel) -> BTreeMap<String, Vec<f32>> {
    let mut trainee = Trainee::from_checkpoint(&Cpu::new(2), model, checkpoint, AdamWSettings::default()).unwrap();
    let mut all = BTreeMap::new();
    trainee.policy.update_parameters(&mut |name, _, values| {
        all.insert(name.to_owned(), values.to_vec());
    });
    if matches!(checkpoint.trained, aloud_model::checkpoint::Trained::Full(_)) {
        trainee.decoder.update_parameters(&mut |name, values| {
            all.insert(name.to_owned(), values.to_vec());
        });
    }
    all
}

/// The metrics of a run without times and memory, which no two runs share.
fn timeless(path: &Path) -> Vec<serde_json::Value> {
    let mut metrics = RunDirectory::read_metrics::<serde_json::Value>(path).unwrap();
    for step in &mut metrics {
        let step = step.as_object_mut().unwrap();
        step.retain(|key, _| {
            !key.ends_with("_seconds") && key != "rollout_tokens_per_second" && key != "peak_memory_bytes"
        });
        assert!(step.len() > 15, "{step:?}");
    }
    metrics
}

fn says_good(rollout: &Rollout) -> f64 {
    f64::from(u8::from(rollout.token_ids.contains(&GOOD)))
}

#[test]
fn a_rewarded_token_is_said_more_often() {
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let overrides = ["schedule.steps=40", "rollouts.group_size=8", "run.checkpoint_every=0"];
        let mut task = Toy::rewarding(says_good);
        let (end, metrics) = reinforce(&run, trained, &overrides, &mut task).unwrap();
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
        let folder = tempfile::tempdir().unwrap();
        let overrides = [
            "schedule.steps=40",
            "rollouts.group_size=8",
            "reward.depth_penalty=1",
            "stop.reward_spread=false",
            &format!("reward.depth_penalty_form={form}"),
            &format!("reward.variance_reduction={reduction}"),
            "learning_rate.heads=5e-2",
        ];
        let mut task = Toy::indifferent();
        reinforce(&folder.path().join("run"), TrainedWeights::Lora, &overrides, &mut task).unwrap().1
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
    let folder = tempfile::tempdir().unwrap();
    let overrides = ["schedule.steps=40", "rollouts.group_size=8", "reward.token_cost=0.1", "stop.reward_spread=false"];
    let mut task = Toy::indifferent();
    let (_, metrics) = reinforce(&folder.path().join("run"), TrainedWeights::Full, &overrides, &mut task).unwrap();
    let (before, after) = course(&metrics, |step| step.response_tokens);
    assert!(after < before - 2.0, "tokens a response: from {before} to {after}");
    let (cut_before, cut_after) = course(&metrics, |step| step.truncated);
    assert!(cut_before > 0.2 && cut_after < 0.5 * cut_before, "share cut: from {cut_before} to {cut_after}");
}

#[test]
fn a_resumed_run_equals_an_unbroken_one() {
    let kl = ["reward.kl_coefficient=0.05", "reward.kl_reference=stage1", "reward.depth_penalty=0.3"];
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
        let (unbroken, _) = reinforce(&whole, trained, &kl, &mut Toy::rewarding(says_good)).unwrap();

        // Rewards cannot be had in the middle of step 5, two steps after a checkpoint.
        let mut fails = Toy::new(Box::new(|step, rollouts| {
            if step == 5 {
                return Err("the judge is asleep".to_owned());
            }
            Ok(rollouts.iter().map(|rollout| says_good(rollout)).collect())
        }));
        let error = reinforce(&broken, trained, &kl, &mut fails).unwrap_err();
        assert!(matches!(&error, ReinforceError::Task { step: 5, .. }), "{error}");
        let message = error.to_string();
        assert!(message.starts_with("step 5: the judge is asleep; "), "{message}");
        assert!(message.contains("steps up to the last checkpoint are kept"), "{message}");
        assert_eq!(timeless(&broken).len(), 4, "four steps were done");
        assert_eq!(RunDirectory::latest(&broken).unwrap().unwrap().step, 3);

        let (resumed, steps) = reinforce(&broken, trained, &kl, &mut Toy::rewarding(says_good)).unwrap();
        assert_eq!(steps.iter().map(|step| step.step).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(timeless(&whole), timeless(&broken));
        let (expected, found) = (parameters(&unbroken.checkpoint), parameters(&resumed.checkpoint));
        assert_eq!(expected.len(), found.len());
        for (name, expected) in &expected {
            assert!(found[name] == *expected, "{trained:?}: {name} differs");
        }
        let moved = parameters_of(&stage1(&model(1), trained), &model(1));
        assert!(moved.iter().all(|(name, start)| expected[name] != *start), "everything was trained");
        let state = |path: &Path| Checkpoint::load_training_state(path).unwrap().unwrap();
        assert!(state(&unbroken.checkpoint) == state(&resumed.checkpoint));

        // A finished run is done: going on with it takes no step and changes nothing.
        let (again, steps) = reinforce(&broken, trained, &kl, &mut Toy::rewarding(says_good)).unwrap();
        assert_eq!((again, steps.len()), (resumed, 0));
        assert_eq!(timeless(&whole), timeless(&broken));
    }
}

#[test]
fn a_checkpoint_without_its_training_state_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (end, _) = reinforce(&run, TrainedWeights::Lora, &[], &mut Toy::rewarding(says_good)).unwrap();
    std::fs::remove_dir_all(end.checkpoint.join("training_state")).unwrap();
    let error = reinforce(&run, TrainedWeights::Lora, &[], &mut Toy::rewarding(says_good)).unwrap_err();
    assert!(matches!(&error, ReinforceError::Resume { step: 6, .. }), "{error}");
    assert!(error.to_string().contains("has no training state of step 6; start a new run directory"), "{error}");
}

#[test]
fn equal_rewards_teach_nothing() {
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let (end, metrics) =
            reinforce(&folder.path().join("run"), trained, &["schedule.steps=2"], &mut Toy::indifferent()).unwrap();
        assert!(metrics.iter().all(|step| step.gradient_norm == 0.0 && step.advantage_rms == 0.0), "{metrics:?}");
        assert_eq!(parameters(&end.checkpoint), parameters_of(&stage1(&model(1), trained), &model(1)));
    }
}

#[test]
fn weight_decay_shrinks_the_matrices_of_blocks_and_adapters_alone() {
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        // Gradients are 0, so that decay is all that moves a parameter.
        let overrides = ["schedule.steps=1", "optimizer.weight_decay=10"];
        let run = folder.path().join("run");
        let (end, _) = reinforce(&run, trained, &overrides, &mut Toy::indifferent()).unwrap();
        let (before, after) = (parameters_of(&stage1(&model(1), trained), &model(1)), parameters(&end.checkpoint));
        let keep = match trained {
            TrainedWeights::Lora => 1.0 - 10.0 * 5e-3,
            TrainedWeights::Full => 1.0 - 10.0 * 3e-3,
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
        let expected = if trained == TrainedWeights::Lora { (56, 6) } else { (28, 6 + 8 + 3) };
        assert_eq!((n_decayed, n_kept), expected, "{trained:?}");
    }
}

/// The control of evaluations: the same training without exits.
#[test]
fn without_exits_the_action_is_the_token_alone() {
    let off = ["rollouts.exits=off", "rollouts.exit_offset=0.2", "rollouts.temperature=0.8", "schedule.steps=1"];
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let mut task = Toy::rewarding(|rollout| rollout.token_ids.len() as f64);
        let (end, metrics) = reinforce(&folder.path().join("run"), trained, &off, &mut task).unwrap();
        let (rollouts, _) = task.last();
        let start =
            Trainee::from_checkpoint(&Cpu::new(2), &model(1), &stage1(&model(1), trained), AdamWSettings::default())
                .unwrap();
        for rollout in &rollouts {
            assert!(rollout.depths.iter().all(|depth| *depth == 4), "{:?}", rollout.depths);
            assert_eq!(rollout.log_joint, rollout.token_log_probabilities, "token terms only");
            let read = reading(&start.decoder, &start.policy, rollout, 0, &rollout.depths);
            for (drawn, read) in rollout.log_joint.iter().zip(&read) {
                assert!((drawn - read.log_probability).abs() < 1e-5);
            }
            assert!(read[1..].iter().all(|step| step.log_joint < step.log_probability - 1e-3), "the heads would count");
        }
        let step = &metrics[0];
        assert!(step.gradient_norm > 0.0 && step.ratio_difference <= 1e-5, "{step:?}");
        assert_eq!((step.average_layer_savings, step.exit_rate), (0.0, 0.0));
        assert_eq!(step.exit_entropies, [0.0; 3]);

        // The text is learned, the heads stay as they were.
        let (before, after) = (parameters_of(&stage1(&model(1), trained), &model(1)), parameters(&end.checkpoint));
        for (name, before) in &before {
            assert_eq!(after[name] == *before, name.starts_with("head."), "{trained:?}: {name}");
        }
        let checkpoint = Checkpoint::load(&end.checkpoint, None).unwrap();
        assert_eq!((checkpoint.exit_offset, &checkpoint.training["rollouts"]["exits"]), (None, &"off".into()));
    }
}

#[test]
fn a_run_without_exits_learns_and_resumes() {
    let off = ["rollouts.exits=off", "reward.kl_coefficient=0.001", "reward.kl_reference=stage1", "schedule.steps=20"];
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
        let (unbroken, metrics) = reinforce(&whole, trained, &off, &mut Toy::rewarding(says_good)).unwrap();
        let (before, after) = course(&metrics, |step| step.task_reward);
        assert!(after > before + 0.2, "{trained:?}: from {before} to {after}");
        let kl = |step: &ReinforceMetrics| step.kl_per_response.unwrap();
        assert!(kl(&metrics[0]).abs() < 1e-3 && kl(&metrics[19]) > 0.1, "of the policy that the run began with");

        let mut fails = Toy::new(Box::new(|step, rollouts| match step {
            5 => Err("asleep".to_owned()),
            _ => Ok(rollouts.iter().map(|rollout| says_good(rollout)).collect()),
        }));
        reinforce(&broken, trained, &off, &mut fails).unwrap_err();
        let (resumed, steps) = reinforce(&broken, trained, &off, &mut Toy::rewarding(says_good)).unwrap();
        assert_eq!(steps[0].step, 4);
        assert_eq!(timeless(&whole), timeless(&broken));
        assert!(parameters(&unbroken.checkpoint) == parameters(&resumed.checkpoint));
    }
}

/// The first update is the estimator of the method, computed here from the recorded rollouts.
#[test]
fn the_gradient_is_that_of_the_leave_one_out_estimator() {
    let distribution = SampledDistribution { temperature: 0.8, exit_offset: Some(0.2) };
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let overrides = ["schedule.steps=1", "rollouts.temperature=0.8", "rollouts.exit_offset=0.2"];
        let mut task = Toy::rewarding(says_good);
        let (end, metrics) = reinforce(&folder.path().join("run"), trained, &overrides, &mut task).unwrap();
        let (rollouts, rewards) = task.last();
        assert_eq!((rollouts.len(), metrics[0].rollouts), (16, 16));

        let prompts = toy_prompts(0, 4);
        let model = model(1);
        let trainee =
            Trainee::from_checkpoint(&Cpu::new(2), &model, &stage1(&model, trained), AdamWSettings::default()).unwrap();
        let token_ids: Vec<Vec<u32>> = rollouts
            .iter()
            .map(|rollout| [&prompts[rollout.prompt].token_ids[..], &rollout.token_ids].concat())
            .collect();
        let sequences: Vec<RecordedSequence<'_>> = (rollouts.iter().zip(&token_ids))
            .map(|(rollout, token_ids)| RecordedSequence {
                token_ids,
                prompt_len: prompts[rollout.prompt].token_ids.len(),
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
        let gradient = LikelihoodGradient { d_joint: &d_joint, trained: trainee.trained(), gradients: &mut gradients };
        joint_likelihood(&trainee.decoder, Some(&trainee.policy), &sequences, distribution, Some(gradient)).unwrap();
        let gradients = gradients.into_host();
        let norm = global_norm(gradients.iter().map(|(name, values)| (name.as_str(), &values[..]))).unwrap();
        let found = metrics[0].gradient_norm;
        assert!((found - norm).abs() < 1e-3 * norm, "{found}, expected {norm}");
        assert!((metrics[0].advantage_rms.powi(2) * 16.0 - advantages.iter().map(|a| a * a).sum::<f64>()).abs() < 1e-9);

        // Adam's first step is the learning rate against the gradient's sign, wherever the gradient is not tiny.
        let (before, after) = (parameters_of(&stage1(&model, trained), &model), parameters(&end.checkpoint));
        let mut n = 0;
        for (name, gradient) in &gradients {
            let rate = match (name.starts_with("head."), trained) {
                (true, _) => 2e-2,
                (false, TrainedWeights::Lora) => 5e-3,
                (false, TrainedWeights::Full) => 3e-3,
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
    let model = model(1);
    let trainee =
        Trainee::from_checkpoint(&Cpu::new(2), &model, &stage1(&model, TrainedWeights::Lora), AdamWSettings::default())
            .unwrap();
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

/// The reading of a rollout by the engine.
fn reading(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    rollout: &Rollout,
    step: u64,
    depths: &[usize],
) -> Vec<ReplayedToken> {
    let prompt = &toy_prompts(step, 4)[rollout.prompt].token_ids;
    replay(decoder, policy, prompt, &rollout.token_ids, depths, &0.2.into(), 0.8).unwrap()
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
    let model = model(1);
    let cpu = Cpu::new(2);
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let overrides = [&KL_RUN[1..], &["schedule.steps=1", "reward.kl_reference=base"]].concat();
        let mut task = Toy::rewarding(says_good);
        let (_, metrics) = reinforce(&folder.path().join("run"), trained, &overrides, &mut task).unwrap();
        let (rollouts, _) = task.last();

        let trainee =
            Trainee::from_checkpoint(&cpu, &model, &stage1(&model, trained), AdamWSettings::default()).unwrap();
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
    let model = model(1);
    let cpu = Cpu::new(2);
    for trained in [TrainedWeights::Lora, TrainedWeights::Full] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let overrides = [&KL_RUN[..], &["reward.kl_reference=stage1"]].concat();
        let mut task = Toy::rewarding(says_good);
        let (_, metrics) = reinforce(&run, trained, &overrides, &mut task).unwrap();
        let tokens_per_response = metrics[0].response_tokens;
        assert!(
            metrics[0].kl_per_response.unwrap().abs() < 1e-4 * tokens_per_response,
            "{:?}",
            metrics[0].kl_per_response
        );

        // The rollouts of step 2 come from the checkpoint after step 1.
        let (rollouts, _) = task.last();
        let first = Checkpoint::load(&run.join("checkpoints/step-000001"), None).unwrap();
        let policy = |checkpoint| Trainee::from_checkpoint(&cpu, &model, checkpoint, AdamWSettings::default()).unwrap();
        let (own, reference) = (policy(&first), policy(&stage1(&model, trained)));
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
    let folder = tempfile::tempdir().unwrap();
    let measured = |name: &str, every: &str| {
        let overrides = ["schedule.steps=4", &format!("run.measure_kl_every={every}")];
        let mut task = Toy::rewarding(says_good);
        let (end, metrics) = reinforce(&folder.path().join(name), TrainedWeights::Lora, &overrides, &mut task).unwrap();
        (metrics.iter().map(|step| step.kl_per_response.is_some()).collect::<Vec<_>>(), parameters(&end.checkpoint))
    };
    let (sometimes, parameters) = measured("sometimes", "2");
    let (never, without) = measured("never", "0");
    assert_eq!((sometimes, never), (vec![false, true, false, true], vec![false; 4]));
    assert_eq!(parameters, without, "looking changes nothing");
}

#[test]
fn a_difference_beyond_the_tolerance_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Toy::rewarding(says_good);
    // Rollout and update add up in other orders: they differ by rounding, which this leaves no room for.
    let error = reinforce(&folder.path().join("run"), TrainedWeights::Lora, &["run.ratio_tolerance=1e-12"], &mut task)
        .unwrap_err();
    let ReinforceError::Ratio { step: 1, difference, tolerance } = error else { panic!("{error}") };
    assert!(difference > tolerance && difference < 1e-4, "{difference}");
    assert!(error.to_string().contains("`run.ratio_tolerance` is 1.0e-12"), "{error}");
}

#[test]
fn unusable_rewards_name_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, judge: Judge| {
        let overrides = ["rollouts.max_new_tokens=16"];
        reinforce(&folder.path().join(name), TrainedWeights::Lora, &overrides, &mut Toy::new(judge)).unwrap_err()
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
    assert!(matches!(&error, ReinforceError::Advantages { step: 2, id, .. } if id == "1-3"), "{error}");
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
    let folder = tempfile::tempdir().unwrap();
    let mut task = Toy::rewarding(|_| 1.0);
    task.stop_tokens = Vec::new();
    let (_, metrics) =
        reinforce(&folder.path().join("run"), TrainedWeights::Lora, &["schedule.steps=2"], &mut task).unwrap();
    assert!(metrics.iter().all(|step| (step.truncated, step.task_reward) == (1.0, 0.0)), "{metrics:?}");
    assert!(metrics.iter().all(|step| (step.response_tokens, step.tokens) == (8.0, 128)));
    assert_eq!(task.n_judged, 0);

    // Of some cut and some not, each reward goes to its own response.
    let mut task = Toy::rewarding(|rollout| rollout.token_ids.len() as f64);
    let (_, metrics) =
        reinforce(&folder.path().join("some"), TrainedWeights::Lora, &["schedule.steps=1"], &mut task).unwrap();
    let (rollouts, rewards) = task.last();
    for (rollout, reward) in rollouts.iter().zip(&rewards) {
        assert_eq!(*reward, if rollout.is_truncated { 0.0 } else { rollout.token_ids.len() as f64 });
    }
    assert!(metrics[0].truncated > 0.0 && metrics[0].truncated < 1.0, "{}", metrics[0].truncated);
}

#[test]
fn metrics_are_those_of_the_rollouts() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = ["schedule.steps=1", "reward.depth_penalty=0.4", "reward.token_cost=0.01"];
    let mut task = Toy::rewarding(says_good);
    let (_, metrics) = reinforce(&folder.path().join("run"), TrainedWeights::Full, &overrides, &mut task).unwrap();
    let (rollouts, rewards) = task.last();
    let metrics = &metrics[0];
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
    let (end, metrics) = reinforce(&run, TrainedWeights::Lora, &overrides, &mut Toy::rewarding(says_good)).unwrap();
    assert_eq!((end.steps, metrics.len()), (2, 2));
    assert!(end.collapse.unwrap().contains("`stop.min_token_entropy` is 1.0e2"));
    assert_eq!(RunDirectory::latest(&run).unwrap().unwrap().step, 2);
    assert_eq!(end.checkpoint, run.join("checkpoints/step-000002"));
    assert!(Checkpoint::load_training_state(&end.checkpoint).unwrap().is_some());
    // Started again, it stays stopped.
    let (again, metrics) = reinforce(&run, TrainedWeights::Lora, &overrides, &mut Toy::rewarding(says_good)).unwrap();
    assert_eq!((again.steps, metrics.len(), again.collapse.is_some()), (2, 0, true));

    // The rule looks at all steps of the run, those before an interruption too.
    let run = folder.path().join("resumed");
    let overrides = ["stop.patience=5", "stop.min_token_entropy=100"];
    let mut fails =
        Toy::new(Box::new(
            |step, rollouts| {
                if step == 5 { Err("asleep".to_owned()) } else { Ok(vec![0.0; rollouts.len()]) }
            },
        ));
    reinforce(&run, TrainedWeights::Lora, &overrides, &mut fails).unwrap_err();
    let (end, _) = reinforce(&run, TrainedWeights::Lora, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!(end.steps, 5);
    assert!(end.collapse.is_some());
}

#[test]
fn rewards_that_never_differ_warn_and_then_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let overrides = ["stop.patience=2", "reward.depth_penalty=0.3"];
    let mut task = Toy::indifferent();
    task.hint = Some("nobody says `5`");
    let (end, metrics) = reinforce(&run, TrainedWeights::Lora, &overrides, &mut task).unwrap();
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
    let (again, steps) = reinforce(&run, TrainedWeights::Lora, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!((again.collapse, steps.len()), (Some(collapse), 0));

    let all = folder.path().join("all");
    let overrides = [&overrides[..], &["stop.reward_spread=false"]].concat();
    let (end, metrics) = reinforce(&all, TrainedWeights::Lora, &overrides, &mut Toy::indifferent()).unwrap();
    assert_eq!((end.steps, end.collapse), (6, None), "depth alone, as asked");
    assert!(metrics.iter().all(|step| step.warning.is_none()));
}

/// Prompts that a run cannot use.
struct BadPrompts(fn(u64) -> Result<Vec<TaskPrompt>, String>);

impl RolloutTask for BadPrompts {
    fn prompts(&mut self, step: u64, _: usize) -> Result<Vec<TaskPrompt>, String> {
        (self.0)(step)
    }

    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String> {
        Ok(rollouts.iter().map(|rollout| says_good(rollout)).collect())
    }

    fn measures(&self, _: &[Rollout], _: &[f64]) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn stop_tokens(&self) -> &[u32] {
        &[END]
    }

    fn text(&self, _: &[u32]) -> String {
        String::new()
    }
}

#[test]
fn unusable_prompts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, prompts: fn(u64) -> Result<Vec<TaskPrompt>, String>| {
        let mut task = BadPrompts(prompts);
        let stage1 = stage1(&model(1), TrainedWeights::Lora);
        let mut run =
            start(&folder.path().join(name), &stage1, &recipe(&["run.checkpoint_every=1"]), &mut task).unwrap();
        run.run(&mut |_| {}).unwrap_err().to_string()
    };
    fn replaced(step: u64, token_ids: Vec<u32>) -> Vec<TaskPrompt> {
        let mut prompts = toy_prompts(step, 4);
        if step == 1 {
            prompts[2].token_ids = token_ids;
        }
        prompts
    }
    let message = error("empty", |step| Ok(replaced(step, Vec::new())));
    assert!(message.starts_with("step 2, prompt `1-2`: the prompt is empty"), "{message}");
    let message = error("unknown", |step| Ok(replaced(step, vec![1, 16])));
    assert!(message.starts_with("step 2, prompt `1-2`: token id 16 is not below"), "{message}");
    let message = error("long", |step| Ok(replaced(step, vec![1; 32])));
    assert!(message.starts_with("step 2, prompt `1-2`: the prompt has 32 tokens"), "{message}");
    let message =
        error("none", |step| if step == 1 { Err("no more items".to_owned()) } else { Ok(toy_prompts(step, 4)) });
    assert!(message.starts_with("step 2: no more items; "), "{message}");
    // Fewer than were asked for would be other rollouts than the seed promises, and none would teach nothing.
    let message = error("few", |step| Ok(toy_prompts(step, 3)));
    assert!(message.starts_with("step 1: 3 prompts where 4 were asked for"), "{message}");
    assert_eq!(RunDirectory::latest(&folder.path().join("none")).unwrap().unwrap().step, 1, "step 1 is kept");
}

#[test]
fn what_was_made_for_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Toy::indifferent();
    let foreign = stage1(&model(2), TrainedWeights::Lora);
    let error = start(&folder.path().join("foreign"), &foreign, &recipe(&[]), &mut task).unwrap_err().to_string();
    assert!(error.contains(&model(1).identity.sha256) && error.contains(&model(2).identity.sha256), "{error}");

    // A run whose checkpoint was replaced by one of another model.
    let run = folder.path().join("run");
    let (end, _) = reinforce(&run, TrainedWeights::Lora, &["schedule.steps=3"], &mut task).unwrap();
    let state = Checkpoint::load_training_state(&end.checkpoint).unwrap();
    foreign.save(&end.checkpoint, state.as_ref()).unwrap();
    let error = reinforce(&run, TrainedWeights::Lora, &["schedule.steps=3"], &mut task).unwrap_err();
    assert!(matches!(&error, ReinforceError::Checkpoint(_)), "{error}");
    assert!(error.to_string().contains("was trained for the base model"), "{error}");
}

#[test]
fn stage_2_goes_on_with_the_lineage_of_stage_1() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&["schedule.steps=1"]);
    let keys = BTreeSet::from([ItemKey::of_question("one"), ItemKey::of_question("two")]);
    let items = ItemSet::new("toys".into(), "train".into(), 0, &keys, 0);
    let distill = Stage {
        command: "distill".into(),
        version: "0.1.0".into(),
        settings: serde_json::json!({"target": {"kl_factor": 30.0, "policy": "compat"}}),
        inputs: BTreeMap::new(),
        items: TrainedItems::Known(vec![items]),
    };
    let stage1 = Checkpoint {
        lineage: Some(Lineage { stages: vec![distill.clone()] }),
        trained_items: Some(keys.clone()),
        ..stage1(&model(1), TrainedWeights::Lora)
    };
    let mut task = Toy::indifferent();
    let path = folder.path().join("run");
    let end = start(&path, &stage1, &recipe, &mut task).unwrap().run(&mut |_| {}).unwrap();
    let checkpoint = Checkpoint::load(&end.checkpoint, None).unwrap();
    let stages = &checkpoint.lineage.as_ref().unwrap().stages;
    assert_eq!((stages.len(), &stages[0]), (2, &distill));
    assert_eq!(stages[1].command, "reinforce");
    assert!(stages[1].settings["rollouts"]["group_size"] == 4, "{}", stages[1].settings);
    // The toy task does not say what its items are.
    assert_eq!(checkpoint.trained_items, Some(keys));
    assert_eq!(checkpoint.history().unknown_items(), Some("the task does not say what its items are"));
    let target = checkpoint.target().unwrap();
    assert_eq!((target.kl_factor, target.policy.as_str()), (30.0, "compat"));
}

#[test]
fn weights_of_a_checkpoint_that_do_not_fit_are_errors() {
    let model = model(1);
    let error = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut checkpoint = stage1(&model, TrainedWeights::Full);
        if let Trained::Full(weights) = &mut checkpoint.trained {
            change(weights);
        }
        Trainee::from_checkpoint(&Cpu::new(1), &model, &checkpoint, AdamWSettings::default()).unwrap_err().to_string()
    };
    let name = "model.layers.2.mlp.up_proj.weight";
    let missing = error(&|weights| assert!(weights.remove(name).is_some()));
    assert_eq!(
        missing,
        format!("tensor `{name}` of the checkpoint: expected the shape [48, 32], found no such tensor")
    );
    let turned = error(&|weights| {
        let values = weights[name].to_f32().unwrap();
        weights.insert(name.to_owned(), Tensor::from_f32(&[32, 48], &values).unwrap());
    });
    assert_eq!(turned, format!("tensor `{name}` of the checkpoint: expected the shape [48, 32], found [32, 48]"));
    let integers = error(&|weights| {
        weights.insert(name.to_owned(), Tensor::from_u32(&[48, 32], &[0; 48 * 32]).unwrap());
    });
    assert_eq!(integers, format!("tensor `{name}` of the checkpoint is not made of floats"));
}
