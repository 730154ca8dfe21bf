//! A tiny random model, a stage-1 checkpoint of it and toy tasks, for tests of whole reinforcement runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aloud_engine::read::replay::{ReplayedToken, replay};
use aloud_kernels::cpu::Cpu;
use aloud_model::checkpoint::{self, Checkpoint};
use aloud_model::decoder::{Decoder, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::{ModelIdentity, PretrainedModel};
use aloud_model::lora::Projection;
use aloud_train::optimizer::OptimizerSettings;
use aloud_train::pretrain::initial_weights::initial_weights;
use aloud_train::pretrain::recipe::ModelShape;
use aloud_train::recipe::LoraSettings;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::metrics::ReinforceMetrics;
use aloud_train::stage2::recipe::ReinforceRecipe;
use aloud_train::stage2::reinforce::{ReinforceError, Reinforced, Reinforcement};
use aloud_train::stage2::rollouts::Rollout;
use aloud_train::stage2::task::{RolloutTask, TaskPrompt};
use aloud_train::trainee::Trainee;
use aloud_train::training::TrainingError;

use crate::fixtures::{self, Named, base_of, run_config};

pub(crate) const BOTH: [Trained; 2] = [Trained::Adapters, Trained::Full];

pub(crate) const VOCABULARY: u32 = 16;
/// Ends a response.
pub(crate) const END: u32 = 0;
/// The token that tasks reward.
const GOOD: u32 = 5;

/// Four blocks with random weights.
pub(crate) fn model(seed: u64) -> PretrainedModel {
    let shape =
        ModelShape { n_blocks: 4, hidden_size: 32, intermediate_size: 48, n_heads: 4, n_kv_heads: 2, context: 32 };
    let config = shape.config(VOCABULARY as usize, END);
    let weights = initial_weights(&config, seed);
    let parameters = weights.parameter_count();
    let identity = ModelIdentity { source: "random".into(), sha256: format!("{seed:064x}"), parameters };
    PretrainedModel { config, weights, identity }
}

/// A stage-1 checkpoint for a model: adapters that do something, or all weights, moved away from the base either way.
pub(crate) fn stage1_of(model: &PretrainedModel, trained: Trained) -> Checkpoint {
    let lora = LoraSettings { rank: 4, alpha: 8.0, targets: Projection::ALL.to_vec() };
    let hidden_size = model.config.hidden_size;
    let mut heads = ExitHeads::new(vec![1, 2, 3], HeadInput::Rms, hidden_size, &[0.2, 0.3, 0.4]);
    for (depth, weight) in heads.weights.iter_mut().enumerate() {
        *weight = (0..hidden_size).map(|i| ((i * 7 + depth * 3) % 5) as f32 * 0.1 - 0.2).collect();
    }
    let mut trainee = Trainee::new(&Cpu::new(2), model, trained, &lora, heads, OptimizerSettings::default(), 3);
    let moved = |values: &mut [f32]| {
        for (i, value) in values.iter_mut().enumerate() {
            *value += 0.05 * ((i * 37 % 11) as f32 - 5.0) / 5.0;
        }
    };
    match trained {
        Trained::Adapters => trainee.policy.update_parameters(&mut |name, _, values| {
            if name.ends_with("lora_b") {
                moved(values);
            }
        }),
        Trained::Full => trainee.decoder.update_parameters(&mut |_, values| moved(values)),
        Trained::Exits => {}
    }
    trainee.to_checkpoint(model, base_of(model))
}

/// The checkpoint that runs start from.
pub(crate) fn stage1(trained: Trained) -> Checkpoint {
    stage1_of(&model(1), trained)
}

/// The model of a checkpoint.
pub(crate) fn trainee(checkpoint: &Checkpoint) -> Trainee<Cpu> {
    Trainee::from_checkpoint(&Cpu::new(2), &model(1), checkpoint, OptimizerSettings::default()).unwrap()
}

/// Every trained parameter of a checkpoint.
pub(crate) fn parameters(checkpoint: &Checkpoint) -> Named {
    let mut trainee = trainee(checkpoint);
    let mut all = BTreeMap::new();
    trainee.policy.update_parameters(&mut |name, _, values| {
        all.insert(name.to_owned(), values.to_vec());
    });
    if matches!(checkpoint.trained, checkpoint::Trained::Full(_)) {
        trainee.decoder.update_parameters(&mut |name, values| {
            all.insert(name.to_owned(), values.to_vec());
        });
    }
    all
}

/// The reading of a rollout by the engine.
pub(crate) fn reading(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    rollout: &Rollout,
    step: u64,
    depths: &[usize],
) -> Vec<ReplayedToken> {
    let prompt = &toy_prompts(step, 4)[rollout.prompt].token_ids;
    replay(decoder, policy, prompt, &rollout.token_ids, depths, &0.2.into(), 0.8).unwrap()
}

/// What the toy task does with a batch of finished rollouts.
pub(crate) type Judge = Box<dyn Fn(u64, &[&Rollout]) -> Result<Vec<f64>, String>>;

/// What the prompts of a step are.
pub(crate) type Prompts = fn(u64) -> Result<Vec<TaskPrompt>, String>;

/// A task of short random prompts.
pub(crate) struct Toy {
    pub(crate) judge: Judge,
    pub(crate) stop_tokens: Vec<u32>,
    /// The step of the last prompts, from 1.
    pub(crate) step: u64,
    /// Calls of `rewards`.
    pub(crate) n_judged: usize,
    /// Other prompts of a step (from 0) than [`toy_prompts`].
    pub(crate) prompts: Option<Prompts>,
    /// What it says of rewards that do not differ.
    pub(crate) hint: Option<&'static str>,
    /// All rollouts of the last step, with their rewards.
    pub(crate) last: RefCell<(Vec<Rollout>, Vec<f64>)>,
}

impl Toy {
    pub(crate) fn new(judge: Judge) -> Self {
        Self {
            judge,
            stop_tokens: vec![END],
            step: 0,
            n_judged: 0,
            prompts: None,
            hint: None,
            last: RefCell::default(),
        }
    }

    /// Rewards what is in a response, whatever its step.
    pub(crate) fn rewarding(reward: fn(&Rollout) -> f64) -> Self {
        Self::new(Box::new(move |_, rollouts| Ok(rollouts.iter().map(|rollout| reward(rollout)).collect())))
    }

    /// Rewards responses with [`GOOD`] in them.
    pub(crate) fn good() -> Self {
        Self::rewarding(says_good)
    }

    /// As [`Self::rewarding`], until no reward can be had in the middle of step 5.
    pub(crate) fn asleep_at_5(reward: fn(&Rollout) -> f64) -> Self {
        Self::new(Box::new(move |step, rollouts| match step {
            5 => Err("the judge is asleep".to_owned()),
            _ => Ok(rollouts.iter().map(|rollout| reward(rollout)).collect()),
        }))
    }

    /// Every response is worth the same, cut or not.
    pub(crate) fn indifferent() -> Self {
        Self::rewarding(|_| 0.0)
    }

    pub(crate) fn last(&self) -> (Vec<Rollout>, Vec<f64>) {
        self.last.borrow().clone()
    }
}

pub(crate) fn says_good(rollout: &Rollout) -> f64 {
    f64::from(u8::from(rollout.token_ids.contains(&GOOD)))
}

pub(crate) fn toy_prompts(step: u64, n: usize) -> Vec<TaskPrompt> {
    let token = |i: u64, j: u64| ((step * 5 + i * 3 + j * 7) % u64::from(VOCABULARY - 1)) as u32 + 1;
    (0..n as u64)
        .map(|i| TaskPrompt { id: format!("{step}-{i}"), token_ids: (0..2 + i % 3).map(|j| token(i, j)).collect() })
        .collect()
}

impl RolloutTask for Toy {
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String> {
        self.step = step + 1;
        self.prompts.map_or_else(|| Ok(toy_prompts(step, n)), |prompts| prompts(step))
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

pub(crate) fn recipe(overrides: &[&str]) -> ReinforceRecipe {
    let of_file = [
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
    fixtures::recipe(&of_file, overrides)
}

pub(crate) type Error = TrainingError<ReinforceError>;

/// Starts a run, or goes on with it.
pub(crate) fn start<'a>(
    path: &Path,
    stage1: &Checkpoint,
    recipe: &ReinforceRecipe,
    task: &'a mut dyn RolloutTask,
) -> Result<Reinforcement<'a, Cpu>, Error> {
    let model = model(1);
    let config = run_config("reinforce", recipe.seed, base_of(&model), recipe);
    let (run, resume) = RunDirectory::create_or_resume(path, &config).unwrap();
    Reinforcement::new(&Cpu::new(2), model, stage1, recipe.clone(), task, run, resume.as_ref())
}

/// A whole run, with the metrics of the steps that this call took.
pub(crate) fn reinforce(
    path: &Path,
    trained: Trained,
    overrides: &[&str],
    task: &mut Toy,
) -> Result<(Reinforced, Vec<ReinforceMetrics>), Error> {
    let mut metrics = Vec::new();
    let mut reinforcement = start(path, &stage1(trained), &recipe(overrides), task)?;
    let end = reinforcement.run(&mut |step| metrics.push(step.clone()))?;
    Ok((end, metrics))
}

/// A whole run in a directory of its own.
pub(crate) struct Fresh {
    pub(crate) _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) end: Reinforced,
    pub(crate) metrics: Vec<ReinforceMetrics>,
}

impl Fresh {
    pub(crate) fn run(trained: Trained, overrides: &[&str], task: &mut Toy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let (end, metrics) = reinforce(&path, trained, overrides, task).unwrap();
        Self { _folder: folder, path, end, metrics }
    }

    pub(crate) fn parameters(&self) -> Named {
        parameters(&load(&self.end.checkpoint))
    }
}

/// Reads a checkpoint of the model.
pub(crate) fn load(path: &Path) -> Checkpoint {
    Checkpoint::load(path, Some(&model(1).identity.sha256)).unwrap()
}

/// Means of the first three and the last ten steps.
pub(crate) fn course(metrics: &[ReinforceMetrics], value: impl Fn(&ReinforceMetrics) -> f64) -> (f64, f64) {
    let mean = |metrics: &[ReinforceMetrics]| metrics.iter().map(&value).sum::<f64>() / metrics.len() as f64;
    (mean(&metrics[..3]), mean(&metrics[metrics.len() - 10..]))
}
