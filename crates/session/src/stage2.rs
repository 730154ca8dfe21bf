//! Stage 2 as `reinforce` and `demo` run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aloud_kernels::cpu::Cpu;
use aloud_model::checkpoint::{Checkpoint, Trained};
use aloud_tasks::item::Split;
use aloud_tasks::task::Task;
use aloud_text::text_codec::TextCodec;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::metrics::ReinforceMetrics;
use aloud_train::stage2::recipe::ReinforceRecipe;
use aloud_train::stage2::reinforce::{Reinforced, Reinforcement};
use serde::Serialize;

use crate::error::SessionError;
use crate::host::Host;
use crate::loaded_model::BaseModel;
use crate::numerics::{of_adapter_training, of_full_training};
use crate::prompts::{Template, content_digest};
use crate::rollout_task::{DataTask, Rewards};
use crate::run_config::run_config;

/// What a run is made of.
pub struct Stage2<'a> {
    /// The base model.
    pub base: &'a BaseModel,
    /// The checkpoint of stage 1, and where it is.
    pub stage1: (&'a Path, &'a Checkpoint),
    /// The complete recipe.
    pub recipe: &'a ReinforceRecipe,
    /// What is learned.
    pub task: Arc<dyn Task>,
    /// Number of items; `None` for all, of generators new ones every step.
    pub n: Option<usize>,
    /// How prompts are written.
    pub template: Template,
    /// The data, in words.
    pub data: String,
    /// Where the run is written.
    pub directory: &'a Path,
}

/// What a finished run came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Optimiser steps done.
    pub steps: u64,
    /// Steps that an earlier, interrupted call had done.
    pub resumed_at: u64,
    /// Where the last checkpoint is.
    pub checkpoint: PathBuf,
    /// What collapsed, if the run was ended early.
    pub collapse: Option<String>,
    /// Metrics of the last step that was taken now.
    pub last_step: Option<ReinforceMetrics>,
}

/// The recipe and its data: with the digests of the inputs, what must stay the same for a run to go on.
#[derive(Serialize)]
struct RunSettings<'a> {
    #[serde(flatten)]
    recipe: &'a ReinforceRecipe,
    data: &'a str,
}

/// Runs stage 2, or goes on with an interrupted run.
///
/// # Errors
/// If the run cannot start, go on or be written.
pub fn reinforce(stage2: Stage2<'_>, rewards: Rewards, cpu: &Cpu, host: &dyn Host) -> Result<Outcome, SessionError> {
    let Stage2 { base, stage1: (path, checkpoint), recipe, task, n, template, data, directory } = stage2;
    let codec = TextCodec::load(&base.location)?;
    codec.tokenizer.check_vocabulary(base.pretrained.config.vocab_size)?;
    let data_sha256 = content_digest(task.as_ref(), Split::Train)?;
    let ends = &base.pretrained.config.eos_token_ids;
    let mut task = DataTask::new(task, n, rewards, &codec, template, recipe.seed, ends)?;
    let settings = RunSettings { recipe, data: &data };
    let inputs = [("checkpoint", path.display().to_string()), ("data", data.clone())];
    let checkpoint_sha256 = ("checkpoint", Checkpoint::digest(path)?);
    let digests = [checkpoint_sha256].into_iter().chain(data_sha256.map(|sha256| ("data", sha256)));
    let numerics = match checkpoint.trained {
        // What was merged is not trained on: that is refused below.
        Trained::Lora(_) | Trained::Merged | Trained::Exits => of_adapter_training(&base.pretrained.weights),
        Trained::Full(_) => of_full_training(),
    };
    let config = run_config("reinforce", recipe.seed, base.identity.clone(), numerics, inputs, digests, &settings)?;
    let (run, resume) = RunDirectory::create_or_resume(directory, &config)?;
    let model = base.pretrained.clone();
    let mut reinforcement =
        Reinforcement::new(cpu, model, checkpoint, recipe.clone(), &mut task, run, resume.as_ref())?;
    let resumed_at = reinforcement.n_done();
    if resumed_at > 0 {
        host.say(&format!("going on after step {resumed_at} of {}", reinforcement.n_steps()));
    }
    let mut progress = host.progress("reinforcing", "steps", Some(reinforcement.n_steps()));
    progress.set(resumed_at);
    let mut last_step = None;
    let Reinforced { checkpoint, steps, collapse } = reinforcement.run(&mut |metrics| {
        if metrics.truncated >= 1.0 {
            let n = metrics.rollouts;
            progress.suspend(&mut || {
                host.say(&format!(
                    "warning: step {}: all {n} responses were cut by the token limit, so none can be right: raise \
                     rollouts.max_new_tokens",
                    metrics.step
                ));
            });
        }
        if let Some(warning) = &metrics.warning {
            progress.suspend(&mut || host.say(&format!("warning: step {}: {warning}", metrics.step)));
        }
        progress.set(metrics.step);
        let savings = 100.0 * metrics.average_layer_savings;
        progress.message(format!("reward {:.3}, ALS {savings:.1} %, {:.1} s", metrics.task_reward, metrics.seconds()));
        last_step = Some(metrics.clone());
    })?;
    drop(progress);
    if let Some(collapse) = &collapse {
        host.say(&format!("warning: stopped after step {steps}: {collapse}"));
    }
    Ok(Outcome { steps, resumed_at, checkpoint, collapse, last_step })
}
