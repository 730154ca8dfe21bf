//! Stage 2: reinforcement learning over (exit depth, token) with leave-one-out baselines (RLOO, arXiv 2402.14740; the joint
//! action is that of arXiv 2603.21376), strictly on-policy, with exact resume.
//!
//! A step draws `G` rollouts of each of its prompts from the policy as it is, has them rewarded, turns rewards, depths and
//! KL into advantages within each group ([`aloud_method::returns`]), and takes one step of the optimiser on
//! `-(1/N) sum_i sum_t A_{i,t} log P_{i,t}`: the ratio of policies is 1 by construction, and a gate checks it.

use std::path::PathBuf;
use std::time::Instant;

use aloud_engine::decode::request::RequestError;
use aloud_kernels::backend::Backend;
use aloud_method::returns::{RlooError, RolloutOutcome, k1, rollout_return, step_advantages};
use aloud_model::checkpoint::files::{self, FileError};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint};
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};
use aloud_model::load::PretrainedModel;

use crate::ancestry::Ancestry;
use crate::metrics::mean;
use crate::run_directory::{ResumePoint, RunDirectory};
use crate::stage2::joint_likelihood::{LikelihoodGradient, SampledDistribution, StepLikelihood, joint_likelihood};
use crate::stage2::metrics::{ReinforceMetrics, RolloutBatch};
use crate::stage2::recipe::{KlReference, ReinforceRecipe, RolloutExits};
use crate::stage2::rollouts::{Rollout, RolloutPlan, draw_rollouts};
use crate::stage2::samples::sample_text;
use crate::stage2::task::{RolloutTask, TaskPrompt};
use crate::trainee::Trainee;
use crate::training::{Course, Progress, Stage, StepGradient, Training, TrainingError, Update, resumed_trainee};
use aloud_engine::read::reading::{RecordedSequence, group_by_rows};

/// Why a reinforcement run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReinforceError {
    /// The task has no prompts, or no rewards.
    #[error(
        "step {step}: {problem}; steps up to the last checkpoint are kept, and the same command goes on from there"
    )]
    Task {
        /// Optimiser step, from 1.
        step: u64,
        /// What is wrong.
        problem: String,
    },
    /// A prompt does not fit the model.
    #[error("step {step}, prompt `{id}`: {source}")]
    Request {
        /// Optimiser step, from 1.
        step: u64,
        /// The prompt.
        id: String,
        /// What is wrong.
        source: RequestError,
    },
    /// The stage-1 checkpoint was made for another model.
    #[error(
        "the checkpoint was trained for the base model `{found}` (SHA-256 {found_sha256}), the model loaded has \
         {expected_sha256}: load `{found}`, or distill again on this model"
    )]
    OtherBase {
        /// Source of the model that it was trained for.
        found: String,
        /// Hash of the model that it was trained for.
        found_sha256: String,
        /// Hash of the model that is loaded.
        expected_sha256: String,
    },
    /// A rollout does not fit the model.
    #[error("step {step}: {source}")]
    Batch {
        /// Optimiser step, from 1.
        step: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// A group has no advantages.
    #[error("step {step}, prompt `{id}`: {source}; the last checkpoint is intact")]
    Advantages {
        /// Optimiser step, from 1.
        step: u64,
        /// The prompt.
        id: String,
        /// What is wrong.
        source: RlooError,
    },
    /// Rollout and update are not the same policy.
    #[error(
        "step {step}: log P of a step differs by {difference:.1e} nats between rollout and update, more than rounding \
         (`run.ratio_tolerance` is {tolerance:.1e}): the update would not be on-policy"
    )]
    Ratio {
        /// Optimiser step, from 1.
        step: u64,
        /// Largest difference.
        difference: f64,
        /// Largest allowed.
        tolerance: f64,
    },
}

impl From<ReinforceError> for TrainingError<ReinforceError> {
    fn from(error: ReinforceError) -> Self {
        Self::Stage(error)
    }
}

type Result<T> = std::result::Result<T, TrainingError<ReinforceError>>;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Reinforced {
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// Optimiser steps done.
    pub steps: u64,
    /// What collapsed, if the run was ended early for that.
    pub collapse: Option<String>,
}

/// What the KL is measured against.
enum Reference<B: Backend> {
    /// The base model at full depth.
    Base(Box<Decoder<B>>),
    /// The stage-1 policy.
    Stage1(Box<Trainee<B>>),
}

/// Advantages of each step of each rollout, what is trained, and where the gradient of the loss goes.
type UnderAdvantages<'a, B> = (&'a [Vec<f64>], Trained, &'a mut Gradients<B>);

/// What a reinforcement run learns, and how.
pub struct Reinforce<'a, B: Backend> {
    recipe: ReinforceRecipe,
    task: &'a mut dyn RolloutTask,
    base: BaseIdentity,
    model: PretrainedModel,
    reference: Reference<B>,
    history: Vec<ReinforceMetrics>,
    /// What has collapsed.
    collapse: Option<String>,
    ancestry: Ancestry,
}

/// A reinforcement run in progress, which ends early if something collapses.
pub type Reinforcement<'a, B> = Training<B, Reinforce<'a, B>>;

impl<'a, B: Backend> Reinforcement<'a, B> {
    /// Prepares a run that goes on from a stage-1 checkpoint, or goes on with one from its own last checkpoint.
    ///
    /// # Errors
    /// If model, checkpoints and run do not belong together.
    pub fn new(
        backend: &B,
        model: PretrainedModel,
        stage1: &Checkpoint,
        recipe: ReinforceRecipe,
        task: &'a mut dyn RolloutTask,
        run: RunDirectory,
        resume: Option<&ResumePoint>,
    ) -> Result<Self> {
        if !stage1.base.sha256.eq_ignore_ascii_case(&model.identity.sha256) {
            let (found, found_sha256) = (stage1.base.source.clone(), stage1.base.sha256.clone());
            let expected_sha256 = model.identity.sha256;
            return Err(ReinforceError::OtherBase { found, found_sha256, expected_sha256 }.into());
        }
        let optimizer = recipe.optimizer;
        let (trainee, history) = match resume {
            None => (Trainee::from_checkpoint(backend, &model, stage1, optimizer)?, Vec::new()),
            Some(point) => {
                let trainee = resumed_trainee(backend, &model, &stage1.base.sha256, optimizer, point)?;
                (trainee, RunDirectory::read_metrics(run.path())?)
            }
        };
        let reference = match recipe.reward.kl_reference {
            KlReference::Base => Reference::Base(Box::new(Decoder::new(backend, &model.config, &model.weights))),
            KlReference::Stage1 => {
                Reference::Stage1(Box::new(Trainee::from_checkpoint(backend, &model, stage1, optimizer)?))
            }
        };
        let course = Course {
            schedule: recipe.schedule,
            rates: recipe.learning_rate.of(trainee.trained),
            clip_norm: recipe.optimizer.clip_norm,
            checkpoint_every: recipe.run.checkpoint_every,
        };
        // A run that was stopped for a collapse and is started again stays stopped.
        let collapse = recipe.stop.verdict(&history);
        let (base, ancestry) = (stage1.base.clone(), Ancestry::of(stage1));
        let stage = Reinforce { recipe, task, base, model, reference, history, collapse, ancestry };
        Ok(Self { stage, trainee, course, run, step: resume.map_or(0, |point| point.step) })
    }
}

impl<B: Backend> Stage<B> for Reinforce<'_, B> {
    type Metrics = ReinforceMetrics;
    type Batch = RolloutBatch;
    type Outcome = Reinforced;
    type Error = ReinforceError;
    /// The loss is no measure of anything; advantages and ratios that are not finite are errors of their own.
    const LOSS_ADVICE: &'static str = "lower the learning rates";

    fn gradient(&mut self, trainee: &Trainee<B>, step: u64) -> Result<StepGradient<B, RolloutBatch>> {
        let task_error = |problem| ReinforceError::Task { step: step + 1, problem };
        let start = Instant::now();
        let prompts = self.prompts(step).map_err(task_error)?;
        let rollouts = self.draw(trainee, &prompts, step)?;
        let mut measured = ReinforceMetrics { rollout_seconds: start.elapsed().as_secs_f64(), ..Default::default() };

        let start = Instant::now();
        let rewards = self.rewards(&rollouts).map_err(task_error)?;
        measured.reward_seconds = start.elapsed().as_secs_f64();

        let step = step + 1;
        let start = Instant::now();
        let every = self.recipe.run.measure_kl_every;
        let measures_kl = self.recipe.reward.kl_coefficient > 0.0 || (every > 0 && step.is_multiple_of(every));
        let kl = if measures_kl { Some(self.kl(&prompts, &rollouts, step)?) } else { None };
        measured.reference_seconds = start.elapsed().as_secs_f64();

        let update_start = Instant::now();
        let advantages;
        (measured.mean_return, advantages) = self.advantages(&prompts, &rollouts, &rewards, kl.as_deref(), step)?;
        let Trainee { decoder, policy, .. } = trainee;
        let mut gradients = Gradients::new(decoder.backend());
        let gradient = Some((&advantages[..], trainee.trained, &mut gradients));
        let likelihoods = self.read(decoder, Some(policy), &prompts, &rollouts, step, gradient)?;
        let difference = largest_difference(&rollouts, &likelihoods);
        let tolerance = self.recipe.run.ratio_tolerance;
        if difference.is_nan() || difference > tolerance {
            return Err(ReinforceError::Ratio { step, difference, tolerance }.into());
        }
        measured.ratio_difference = difference;
        let group_size = self.recipe.rollouts.group_size;
        let batch = RolloutBatch {
            prompts,
            group_size,
            rollouts,
            rewards,
            kl,
            advantages,
            likelihoods,
            measured,
            update_start,
        };
        Ok(StepGradient { gradients, loss: None, batch })
    }

    fn log(&mut self, batch: RolloutBatch, update: &Update, progress: &Progress<'_, B>) -> Result<ReinforceMetrics> {
        let update_seconds = batch.update_start.elapsed().as_secs_f64();
        let step = progress.step;
        let every = self.recipe.run.samples_every;
        if every > 0 && (step == 1 || step.is_multiple_of(every)) {
            let text = sample_text(&batch, step, self.recipe.run.n_samples, &|token_ids| self.task.text(token_ids));
            let folder = progress.run.path().join("samples");
            std::fs::create_dir_all(&folder).map_err(FileError::io("create", &folder))?;
            files::write_atomic(&folder.join(format!("step-{step:06}.md")), text.as_bytes())?;
        }
        let n_candidates = progress.trainee.policy.heads.candidates.len();
        let kl_coefficient = self.recipe.reward.kl_coefficient;
        let mut metrics = ReinforceMetrics::new(&batch, self.model.config.n_layers, n_candidates, kl_coefficient);
        metrics.step = step;
        metrics.gradient_norm = update.gradient_norm;
        metrics.learning_rate = update.rates.trunk;
        metrics.learning_rate_heads = update.rates.heads;
        metrics.update_seconds = update_seconds;
        metrics.measures = self.task.measures(&batch.rollouts, &batch.rewards);
        if metrics.groups_with_spread == 0.0 {
            metrics.reward_hint = self.task.reward_hint(&batch.rollouts);
        }
        self.history.push(metrics.clone());
        metrics.warning = self.recipe.stop.warning(&self.history);
        self.collapse = self.recipe.stop.verdict(&self.history);
        Ok(metrics)
    }

    fn has_stopped(&self) -> bool {
        self.collapse.is_some()
    }

    fn save(&mut self, metrics: &ReinforceMetrics, progress: &Progress<'_, B>) -> Result<()> {
        let items = self.task.trained_on(progress.step, self.recipe.rollouts.prompts_per_step);
        let (lineage, trained_items) = self.ancestry.then(progress.run.config(), items);
        let checkpoint = Checkpoint {
            exit_offset: self.distribution().exit_offset.filter(|offset| *offset != 0.0),
            training: serde_json::to_value(&self.recipe).unwrap_or_default(),
            lineage: Some(lineage),
            trained_items,
            metrics: serde_json::json!({ "step": metrics }),
            ..progress.trainee.to_checkpoint(&self.model, self.base.clone())
        };
        Ok(checkpoint.save(&progress.checkpoint(), Some(&progress.state()))?)
    }

    fn outcome(&mut self, progress: &Progress<'_, B>) -> Result<Reinforced> {
        Ok(Reinforced { checkpoint: progress.checkpoint(), steps: progress.step, collapse: self.collapse.clone() })
    }
}

impl<B: Backend> Reinforce<'_, B> {
    fn distribution(&self) -> SampledDistribution {
        let settings = &self.recipe.rollouts;
        let exit_offset = (settings.exits == RolloutExits::On).then_some(settings.exit_offset);
        SampledDistribution { temperature: settings.temperature, exit_offset }
    }

    /// The prompts of a step.
    fn prompts(&mut self, step: u64) -> std::result::Result<Vec<TaskPrompt>, String> {
        let asked = self.recipe.rollouts.prompts_per_step;
        let prompts = self.task.prompts(step, asked)?;
        if prompts.len() != asked {
            return Err(format!("{} prompts where {asked} were asked for", prompts.len()));
        }
        Ok(prompts)
    }

    /// Draws the rollouts of a step.
    fn draw(&self, trainee: &Trainee<B>, prompts: &[TaskPrompt], step: u64) -> Result<Vec<Rollout>> {
        let settings = &self.recipe.rollouts;
        let prompt_ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.token_ids.clone()).collect();
        let plan = RolloutPlan {
            prompts: &prompt_ids,
            group_size: settings.group_size,
            max_new_tokens: settings.max_new_tokens,
            distribution: self.distribution(),
            stop_tokens: self.task.stop_tokens(),
            seed: self.recipe.seed,
            first_sequence: step * (prompts.len() * settings.group_size) as u64,
            max_sequences: settings.max_sequences,
        };
        let step = step + 1;
        let error = |(prompt, source): (usize, _)| {
            ReinforceError::Request { step, id: prompts[prompt].id.clone(), source }.into()
        };
        draw_rollouts(&trainee.decoder, &trainee.policy, &plan).map_err(error)
    }

    /// Task rewards: what the task says of responses that ended by themselves, 0 for those that were cut.
    fn rewards(&mut self, rollouts: &[Rollout]) -> std::result::Result<Vec<f64>, String> {
        let finished: Vec<&Rollout> = rollouts.iter().filter(|rollout| !rollout.is_truncated).collect();
        let rewards = if finished.is_empty() { Vec::new() } else { self.task.rewards(&finished)? };
        if rewards.len() != finished.len() {
            return Err(format!("{} rewards for {} responses", rewards.len(), finished.len()));
        }
        let mut rewards = rewards.into_iter();
        let reward = |rollout: &Rollout| if rollout.is_truncated { 0.0 } else { rewards.next().unwrap_or_default() };
        Ok(rollouts.iter().map(reward).collect())
    }

    /// `sum_t k1_t` of every rollout, nats: against the base model at full depth, tokens only, or against the stage-1 policy
    /// at the same depths, exits included.
    fn kl(&self, prompts: &[TaskPrompt], rollouts: &[Rollout], step: u64) -> Result<Vec<f64>> {
        let sum_k1 = |own: &[f32], reference: &[StepLikelihood]| {
            own.iter().zip(reference).map(|(own, step)| k1(*own, step.joint())).sum()
        };
        match &self.reference {
            Reference::Stage1(trainee) => {
                let Trainee { decoder, policy, .. } = &**trainee;
                let read = self.read(decoder, Some(policy), prompts, rollouts, step, None)?;
                Ok(rollouts.iter().zip(&read).map(|(own, read)| sum_k1(&own.log_joint, read)).collect())
            }
            Reference::Base(decoder) => {
                let mut full = rollouts.to_vec();
                for rollout in &mut full {
                    rollout.depths.fill(self.model.config.n_layers);
                }
                let read = self.read(decoder, None, prompts, &full, step, None)?;
                Ok(rollouts.iter().zip(&read).map(|(own, read)| sum_k1(&own.token_log_probabilities, read)).collect())
            }
        }
    }

    /// The mean return, and the advantage of each step of each rollout.
    fn advantages(
        &self,
        prompts: &[TaskPrompt],
        rollouts: &[Rollout],
        rewards: &[f64],
        kl: Option<&[f64]>,
        step: u64,
    ) -> Result<(f64, Vec<Vec<f64>>)> {
        let settings = self.recipe.reward.returns(self.model.config.n_layers);
        let outcomes: Vec<RolloutOutcome<'_>> = rollouts
            .iter()
            .enumerate()
            .map(|(i, rollout)| RolloutOutcome {
                task_reward: rewards[i],
                depths: &rollout.depths,
                kl: kl.map_or(0.0, |kl| kl[i]),
            })
            .collect();
        let mut advantages = Vec::with_capacity(rollouts.len());
        for (group, prompt) in outcomes.chunks(self.recipe.rollouts.group_size).zip(prompts) {
            let error = |source| ReinforceError::Advantages { step, id: prompt.id.clone(), source };
            advantages.extend(step_advantages(group, &settings).map_err(error)?);
        }
        let mean_return = mean(outcomes.iter().map(|outcome| rollout_return(outcome, &settings)));
        Ok((mean_return.unwrap_or_default(), advantages))
    }

    /// Reads rollouts in passes of at most `rows_per_pass` rows; rollouts of one prompt share its rows. With `gradient`, adds
    /// the gradient of the loss under these advantages.
    fn read(
        &self,
        decoder: &Decoder<B>,
        policy: Option<&Policy<B>>,
        prompts: &[TaskPrompt],
        rollouts: &[Rollout],
        step: u64,
        mut gradient: Option<UnderAdvantages<'_, B>>,
    ) -> Result<Vec<Vec<StepLikelihood>>> {
        let prompt = |i: usize| &prompts[rollouts[i].prompt].token_ids[..];
        let rows = |i: usize| {
            let shares_prompt = i > 0 && rollouts[i - 1].prompt == rollouts[i].prompt;
            let prompt_rows = if shares_prompt { 0 } else { prompt(i).len() };
            prompt_rows + rollouts[i].token_ids.len() - 1
        };
        let per_rollout = -1.0 / rollouts.len().max(1) as f64;
        let distribution = self.distribution();
        let mut all = Vec::with_capacity(rollouts.len());
        for members in group_by_rows(0..rollouts.len(), rows, self.recipe.rollouts.rows_per_pass) {
            let sequences: Vec<RecordedSequence<'_>> =
                members.iter().map(|&i| rollouts[i].sequence(prompt(i))).collect();
            let of_step = |advantage: &f64| (per_rollout * advantage) as f32;
            let d_joint: Vec<Vec<f32>> = gradient
                .iter()
                .flat_map(|(advantages, ..)| members.iter().map(move |&i| advantages[i].iter().map(of_step).collect()))
                .collect();
            let gradient = gradient.as_mut().map(|(_, trained, gradients)| LikelihoodGradient {
                d_joint: &d_joint,
                trained: *trained,
                gradients,
            });
            let read = joint_likelihood(decoder, policy, &sequences, distribution, gradient);
            all.extend(read.map_err(|source| ReinforceError::Batch { step, source })?);
        }
        Ok(all)
    }
}

/// Largest difference of `log P` of a step between rollout and update, nats; NaN if one is.
fn largest_difference(rollouts: &[Rollout], steps: &[Vec<StepLikelihood>]) -> f64 {
    let pairs = rollouts.iter().zip(steps).flat_map(|(rollout, steps)| rollout.log_joint.iter().zip(steps));
    pairs
        .map(|(drawn, step)| f64::from((drawn - step.joint()).abs()))
        .fold(0.0, |a: f64, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}
