//! Stage 2: reinforcement learning over (exit depth, token) with leave-one-out baselines (RLOO, arXiv 2402.14740; the joint
//! action is that of arXiv 2603.21376), strictly on-policy, with exact resume.
//!
//! A step draws `G` rollouts of each of its prompts from the policy as it is, has them rewarded, turns rewards, depths and
//! KL into advantages within each group ([`crate::rloo`]), and takes one step of the optimiser on
//! `-(1/N) sum_i sum_t A_{i,t} log P_{i,t}`: the ratio of policies is 1 by construction, and a gate checks it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use aloud_engine::decode::request::RequestError;
use aloud_kernels::Backend;
use aloud_model::checkpoint::files::{self, FileError};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, CheckpointError, KeyValuePolicy, TrainingState};
use aloud_model::decoder::{BatchError, Decoder, Gradients};
use aloud_model::load::PretrainedModel;
use serde::{Deserialize, Serialize};

use crate::ancestry::{Ancestry, StageItems};
use crate::collapse::StepVitals;
use crate::joint_likelihood::{
    LikelihoodGradient, RecordedSequence, SampledDistribution, StepLikelihood, joint_likelihood,
};
use crate::metrics::peak_memory_bytes;
use crate::optimizer::{OptimizerError, Schedule};
use crate::plan::pack;
use crate::recipe::TrainedWeights;
use crate::reinforce_recipe::{KlReference, ReinforceRecipe, RolloutExits};
use crate::rloo::{RlooError, RolloutOutcome, rollout_return, step_advantages};
use crate::rollout_samples::SampleGroups;
use crate::rollouts::{Rollout, RolloutPlan, draw_rollouts};
use crate::run_directory::{ResumePoint, RunDirectory, RunError};
use crate::trainee::{StepRates, Trainee, TraineeError};

/// A prompt to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPrompt {
    /// Name of the item, for messages.
    pub id: String,
    /// The prompt's tokens, at least one.
    pub token_ids: Vec<u32>,
}

/// What is learned: prompts, and what responses to them are worth.
pub trait RolloutTask {
    /// The prompts of optimiser step `step` (from 0), `n` of them: always the same ones.
    ///
    /// # Errors
    /// If there are none; the text says why.
    fn prompts(&mut self, step: u64, n: usize) -> Result<Vec<TaskPrompt>, String>;

    /// The items of the first `steps` steps of `n` prompts each, with their keys.
    ///
    /// # Errors
    /// If they are not known; the text says why.
    fn trained_on(&mut self, _steps: u64, _n: usize) -> StageItems {
        Err("the task does not say what its items are".to_owned())
    }

    /// Task rewards of rollouts of the prompts that were given last; those that were cut are not asked for.
    ///
    /// # Errors
    /// If they cannot be had; the text says why.
    fn rewards(&mut self, rollouts: &[&Rollout]) -> Result<Vec<f64>, String>;

    /// Further means over rollouts, by name, for the metrics.
    fn measures(&self, rollouts: &[Rollout], rewards: &[f64]) -> BTreeMap<String, f64>;

    /// What may keep these rollouts from a reward, in words for people; asked where no prompt's rewards differ.
    fn reward_hint(&self, _rollouts: &[Rollout]) -> Option<String> {
        None
    }

    /// Tokens that end a response.
    fn stop_tokens(&self) -> &[u32];

    /// Tokens as text, for people.
    fn text(&self, token_ids: &[u32]) -> String;
}

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
    /// Gradients or optimiser state are unusable.
    #[error("step {step}: {source}")]
    Optimizer {
        /// Optimiser step, from 1.
        step: u64,
        /// What is wrong.
        source: OptimizerError,
    },
    /// A checkpoint to start or go on from does not fit the model.
    #[error(transparent)]
    Trainee(#[from] TraineeError),
    /// The run directory cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint to go on from has no training state.
    #[error("checkpoint `{}` has no training state of step {step}; start a new run directory", path.display())]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// The step it should be of.
        step: u64,
    },
}

/// Metrics of one optimiser step. Depth figures are over response tokens after each response's first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReinforceMetrics {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Rollouts.
    pub rollouts: u64,
    /// Response tokens.
    pub tokens: u64,
    /// Mean task reward.
    pub task_reward: f64,
    /// Mean return: task reward less penalties.
    pub mean_return: f64,
    /// Average layer savings, `mean_t (1 - d_t / L)` over all tokens of the step.
    pub average_layer_savings: f64,
    /// Share of tokens that stopped before full depth.
    pub exit_rate: f64,
    /// Mean over responses of the deepest step, blocks.
    pub deepest_step: f64,
    /// Mean response length, tokens.
    pub response_tokens: f64,
    /// Share of responses that were cut.
    pub truncated: f64,
    /// Share of prompts whose rollouts differ in task reward: only these teach tokens anything by it.
    pub groups_with_spread: f64,
    /// Without any such prompt: what may keep responses from a reward, as the task says.
    pub reward_hint: Option<String>,
    /// Mean `sum_t k1_t`, nats per response; `None` if it was not measured.
    pub kl_per_response: Option<f64>,
    /// The same sums over all response tokens, nats per token.
    pub kl_per_token: Option<f64>,
    /// What the KL costs a token, in units of the task reward: `kl_coefficient * kl_per_token`.
    pub kl_cost_per_token: Option<f64>,
    /// Mean entropy of the tokens' distributions, nats per token.
    pub token_entropy: f64,
    /// Mean entropy of the exit decision at each candidate, nats, over the steps that reached it; 0 if none did.
    pub exit_entropies: Vec<f64>,
    /// Largest difference of `log P` of a step between rollout and update, nats.
    pub ratio_difference: f64,
    /// Root mean square of advantages over rollouts.
    pub advantage_rms: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of adapters or weights.
    pub learning_rate: f64,
    /// Learning rate of the exit heads.
    pub learning_rate_heads: f64,
    /// Further means that the task gives.
    pub measures: BTreeMap<String, f64>,
    /// Seconds of drawing rollouts.
    pub rollout_seconds: f64,
    /// Seconds of rewarding them.
    pub reward_seconds: f64,
    /// Seconds of measuring the KL.
    pub reference_seconds: f64,
    /// Seconds of forward, backward and optimiser.
    pub update_seconds: f64,
    /// Response tokens per second of drawing rollouts.
    pub rollout_tokens_per_second: f64,
    /// Largest memory of the process so far, in bytes, where the operating system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What looks wrong but does not end the run yet.
    pub warning: Option<String>,
}

impl ReinforceMetrics {
    /// Seconds of the whole step.
    pub fn seconds(&self) -> f64 {
        self.rollout_seconds + self.reward_seconds + self.reference_seconds + self.update_seconds
    }

    fn vitals(&self) -> StepVitals {
        StepVitals {
            task_reward: self.task_reward,
            token_entropy: self.token_entropy,
            kl_per_token: self.kl_per_token,
            groups_with_spread: self.groups_with_spread,
            truncated: self.truncated,
            reward_hint: self.reward_hint.clone(),
        }
    }
}

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
    Base(Decoder<B>),
    /// The stage-1 policy.
    Stage1(Trainee<B>),
}

/// A reinforcement run in progress.
pub struct Reinforcement<'a, B: Backend> {
    recipe: ReinforceRecipe,
    task: &'a mut dyn RolloutTask,
    base: BaseIdentity,
    model: PretrainedModel,
    trainee: Trainee<B>,
    trained: TrainedWeights,
    reference: Reference<B>,
    schedule: Schedule,
    run: RunDirectory,
    step: u64,
    history: Vec<StepVitals>,
    ancestry: Ancestry,
}

impl<B: Backend> std::fmt::Debug for Reinforcement<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reinforcement").field("step", &self.step).finish_non_exhaustive()
    }
}

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
    ) -> Result<Self, ReinforceError> {
        if !stage1.base.sha256.eq_ignore_ascii_case(&model.identity.sha256) {
            return Err(ReinforceError::OtherBase {
                found: stage1.base.source.clone(),
                found_sha256: stage1.base.sha256.clone(),
                expected_sha256: model.identity.sha256,
            });
        }
        let optimizer = recipe.optimizer.adamw();
        let (trainee, step) = match resume {
            None => (Trainee::from_checkpoint(backend, &model, stage1, optimizer)?, 0),
            Some(point) => {
                let checkpoint = Checkpoint::load(&point.checkpoint, Some(&stage1.base.sha256))?;
                let state = Checkpoint::load_training_state(&point.checkpoint)?
                    .filter(|state| state_step(state) == Some(point.step))
                    .ok_or_else(|| ReinforceError::Resume { path: point.checkpoint.clone(), step: point.step })?;
                (Trainee::resumed(backend, &model, &checkpoint, state, optimizer)?, point.step)
            }
        };
        let history = if step > 0 {
            let metrics = RunDirectory::read_metrics::<ReinforceMetrics>(run.path())?;
            metrics.iter().map(ReinforceMetrics::vitals).collect()
        } else {
            Vec::new()
        };
        let reference = match recipe.reward.kl_reference {
            KlReference::Base => Reference::Base(Decoder::new(backend, &model.config, &model.weights)),
            KlReference::Stage1 => Reference::Stage1(Trainee::from_checkpoint(backend, &model, stage1, optimizer)?),
        };
        let trained = match stage1.trained {
            aloud_model::checkpoint::Trained::Lora(_) => TrainedWeights::Lora,
            aloud_model::checkpoint::Trained::Full(_) => TrainedWeights::Full,
        };
        let (base, schedule) = (stage1.base.clone(), recipe.schedule.schedule());
        let ancestry = Ancestry::of(stage1);
        Ok(Self { recipe, task, base, model, trainee, trained, reference, schedule, run, step, history, ancestry })
    }

    /// Optimiser steps of the whole run.
    pub fn n_steps(&self) -> u64 {
        self.recipe.schedule.steps
    }

    /// Optimiser steps done.
    pub fn n_done(&self) -> u64 {
        self.step
    }

    /// The model as it is now.
    pub fn trainee(&self) -> &Trainee<B> {
        &self.trainee
    }

    /// Runs to the end, or until something collapses.
    ///
    /// # Errors
    /// If a reward, a prompt or a gradient is unusable, or something cannot be written; the last checkpoint stays intact.
    pub fn run(&mut self, on_step: &mut dyn FnMut(&ReinforceMetrics)) -> Result<Reinforced, ReinforceError> {
        // A run that was stopped for a collapse and is started again stays stopped.
        let mut collapse = self.recipe.stop.verdict(&self.history);
        while self.step < self.n_steps() && collapse.is_none() {
            let mut metrics = self.train_step()?;
            self.history.push(metrics.vitals());
            metrics.warning = self.recipe.stop.warning(&self.history);
            collapse = self.recipe.stop.verdict(&self.history);
            self.run.append_metrics(&metrics)?;
            let every = self.recipe.run.checkpoint_every;
            let due = every > 0 && self.step.is_multiple_of(every);
            if due || self.step == self.n_steps() || collapse.is_some() {
                self.save(&metrics)?;
            }
            on_step(&metrics);
        }
        Ok(Reinforced { checkpoint: self.run.checkpoint_path(self.step), steps: self.step, collapse })
    }

    /// One optimiser step.
    fn train_step(&mut self) -> Result<ReinforceMetrics, ReinforceError> {
        let step = self.step + 1;
        let n_blocks = self.model.config.n_layers;
        let settings = self.recipe.rollouts.clone();
        let task_error = |problem| ReinforceError::Task { step, problem };

        let start = Instant::now();
        let prompts = self.task.prompts(self.step, settings.prompts_per_step).map_err(task_error)?;
        if prompts.len() != settings.prompts_per_step {
            let (found, asked) = (prompts.len(), settings.prompts_per_step);
            return Err(task_error(format!("{found} prompts where {asked} were asked for")));
        }
        let prompt_ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.token_ids.clone()).collect();
        let n_rollouts = prompts.len() * settings.group_size;
        let plan = RolloutPlan {
            prompts: &prompt_ids,
            group_size: settings.group_size,
            max_new_tokens: settings.max_new_tokens,
            distribution: self.distribution(),
            stop_tokens: self.task.stop_tokens(),
            seed: self.recipe.seed,
            first_sequence: self.step * n_rollouts as u64,
            max_sequences: settings.max_sequences,
        };
        let rollouts = draw_rollouts(&self.trainee.decoder, &self.trainee.policy, &plan)
            .map_err(|(prompt, source)| ReinforceError::Request { step, id: prompts[prompt].id.clone(), source })?;
        let rollout_seconds = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let rewards = self.rewards(&rollouts).map_err(task_error)?;
        let reward_seconds = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let every = self.recipe.run.measure_kl_every;
        let measures_kl = self.recipe.reward.kl_coefficient > 0.0 || (every > 0 && step.is_multiple_of(every));
        let kl = if measures_kl { Some(self.kl(&prompt_ids, &rollouts, step)?) } else { None };
        let reference_seconds = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let returns = self.recipe.reward.returns(n_blocks);
        let outcomes: Vec<RolloutOutcome<'_>> = rollouts
            .iter()
            .enumerate()
            .map(|(i, rollout)| RolloutOutcome {
                task_reward: rewards[i],
                depths: &rollout.depths,
                kl: kl.as_ref().map_or(0.0, |kl| kl[i]),
            })
            .collect();
        let mut advantages: Vec<Vec<f64>> = Vec::with_capacity(rollouts.len());
        for (group, prompt) in outcomes.chunks(settings.group_size).zip(&prompts) {
            let id = || prompt.id.clone();
            let group = step_advantages(group, &returns).map_err(|source| ReinforceError::Advantages {
                step,
                id: id(),
                source,
            })?;
            advantages.extend(group);
        }
        let mean_return = mean(outcomes.iter().map(|outcome| rollout_return(outcome, &returns)));
        let (steps, gradients) = self.likelihood_gradient(&prompt_ids, &rollouts, &advantages, step)?;
        let ratio_difference = largest_difference(&rollouts, &steps);
        let tolerance = self.recipe.run.ratio_tolerance;
        if ratio_difference.is_nan() || ratio_difference > tolerance {
            return Err(ReinforceError::Ratio { step, difference: ratio_difference, tolerance });
        }
        let factor = self.schedule.factor(self.step);
        let rates = StepRates {
            trunk: factor * self.recipe.learning_rate.trunk(self.trained),
            heads: factor * self.recipe.learning_rate.heads,
        };
        let gradient_norm = self
            .trainee
            .update(gradients, self.recipe.optimizer.clip_norm, rates)
            .map_err(|source| ReinforceError::Optimizer { step, source })?;
        let update_seconds = start.elapsed().as_secs_f64();

        self.step = step;
        let every = self.recipe.run.samples_every;
        if every > 0 && (step == 1 || step.is_multiple_of(every)) {
            let groups = SampleGroups {
                prompts: &prompts,
                rollouts: &rollouts,
                rewards: &rewards,
                advantages: &advantages,
                group_size: settings.group_size,
            };
            let text = groups.text(step, self.recipe.run.n_samples, &|token_ids| self.task.text(token_ids));
            let folder = self.run.path().join("samples");
            std::fs::create_dir_all(&folder).map_err(FileError::io("create", &folder))?;
            files::write_atomic(&folder.join(format!("step-{step:06}.md")), text.as_bytes())?;
        }
        let counted = || rollouts.iter().flat_map(|rollout| rollout.depths.iter().skip(1));
        let n_tokens: usize = rollouts.iter().map(|rollout| rollout.token_ids.len()).sum();
        let deepest = rollouts.iter().filter_map(|rollout| rollout.depths.iter().skip(1).max());
        let differ = |group: &[f64]| f64::from(u8::from(group.iter().any(|reward| *reward != group[0])));
        let groups_with_spread = mean(rewards.chunks(settings.group_size).map(differ));
        let kl: Option<f64> = kl.map(|kl| kl.into_iter().sum());
        let kl_per_token = kl.map(|kl| kl / n_tokens.max(1) as f64);
        Ok(ReinforceMetrics {
            step,
            rollouts: rollouts.len() as u64,
            tokens: n_tokens as u64,
            task_reward: mean(rewards.iter().copied()),
            mean_return,
            average_layer_savings: mean(counted().map(|depth| 1.0 - *depth as f64 / n_blocks as f64)),
            exit_rate: mean(counted().map(|depth| f64::from(u8::from(*depth < n_blocks)))),
            deepest_step: mean(deepest.map(|depth| *depth as f64)),
            response_tokens: n_tokens as f64 / rollouts.len().max(1) as f64,
            truncated: mean(rollouts.iter().map(|rollout| f64::from(u8::from(rollout.is_truncated)))),
            groups_with_spread,
            reward_hint: if groups_with_spread == 0.0 { self.task.reward_hint(&rollouts) } else { None },
            kl_per_response: kl.map(|kl| kl / rollouts.len().max(1) as f64),
            kl_per_token,
            kl_cost_per_token: kl_per_token.map(|kl| self.recipe.reward.kl_coefficient * kl),
            token_entropy: mean(steps.iter().flatten().map(|step| f64::from(step.token_entropy))),
            exit_entropies: (0..self.trainee.policy.heads.candidates.len())
                .map(|c| {
                    let reached = steps.iter().flatten().filter_map(|step| step.exit_entropies.get(c));
                    mean(reached.map(|entropy| f64::from(*entropy)))
                })
                .collect(),
            ratio_difference,
            advantage_rms: mean(advantages.iter().filter_map(|steps| steps.first()).map(|a| a * a)).sqrt(),
            gradient_norm,
            learning_rate: rates.trunk,
            learning_rate_heads: rates.heads,
            measures: self.task.measures(&rollouts, &rewards),
            rollout_seconds,
            reward_seconds,
            reference_seconds,
            update_seconds,
            rollout_tokens_per_second: n_tokens as f64 / rollout_seconds.max(1e-9),
            peak_memory_bytes: peak_memory_bytes(),
            warning: None,
        })
    }

    fn distribution(&self) -> SampledDistribution {
        let settings = &self.recipe.rollouts;
        let exit_offset = (settings.exits == RolloutExits::On).then_some(settings.exit_offset);
        SampledDistribution { temperature: settings.temperature, exit_offset }
    }

    /// Task rewards: what the task says of responses that ended by themselves, 0 for those that were cut.
    fn rewards(&mut self, rollouts: &[Rollout]) -> Result<Vec<f64>, String> {
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
    fn kl(&self, prompts: &[Vec<u32>], rollouts: &[Rollout], step: u64) -> Result<Vec<f64>, ReinforceError> {
        let n_blocks = self.model.config.n_layers;
        let full_depth: Vec<Rollout>;
        let (decoder, policy, read) = match &self.reference {
            Reference::Stage1(reference) => (&reference.decoder, Some(&reference.policy), rollouts),
            Reference::Base(decoder) => {
                let at_full_depth =
                    |rollout: &Rollout| Rollout { depths: vec![n_blocks; rollout.depths.len()], ..rollout.clone() };
                full_depth = rollouts.iter().map(at_full_depth).collect();
                (decoder, None, &full_depth[..])
            }
        };
        let distribution = self.distribution();
        let mut kl = vec![0.0; rollouts.len()];
        for pass in self.passes(prompts, read) {
            let sequences: Vec<RecordedSequence<'_>> = pass.sequences(read);
            let steps = decoder
                .backend()
                .run(|| joint_likelihood(decoder, policy, &sequences, distribution, None))
                .map_err(|source| ReinforceError::Batch { step, source })?;
            for (&i, reference) in pass.members.iter().zip(&steps) {
                let own = match &self.reference {
                    Reference::Base(_) => &rollouts[i].token_log_probabilities,
                    Reference::Stage1(_) => &rollouts[i].log_joint,
                };
                kl[i] = own.iter().zip(reference).map(|(own, step)| f64::from(*own) - f64::from(step.joint())).sum();
            }
        }
        Ok(kl)
    }

    /// Reads the rollouts as the update sees them, and the gradient of the loss.
    fn likelihood_gradient(
        &self,
        prompts: &[Vec<u32>],
        rollouts: &[Rollout],
        advantages: &[Vec<f64>],
        step: u64,
    ) -> Result<(Vec<Vec<StepLikelihood>>, Gradients<B>), ReinforceError> {
        let Trainee { decoder, policy, .. } = &self.trainee;
        let mut gradients = Gradients::new(decoder.backend());
        let mut all = vec![Vec::new(); rollouts.len()];
        let distribution = self.distribution();
        let per_rollout = -1.0 / rollouts.len().max(1) as f64;
        for pass in self.passes(prompts, rollouts) {
            let sequences = pass.sequences(rollouts);
            let d_joint: Vec<Vec<f32>> = pass
                .members
                .iter()
                .map(|&i| advantages[i].iter().map(|advantage| (per_rollout * advantage) as f32).collect())
                .collect();
            let gradient =
                LikelihoodGradient { d_joint: &d_joint, trained: self.trainee.trained(), gradients: &mut gradients };
            let steps = decoder
                .backend()
                .run(|| joint_likelihood(decoder, Some(policy), &sequences, distribution, Some(gradient)))
                .map_err(|source| ReinforceError::Batch { step, source })?;
            for (&i, steps) in pass.members.iter().zip(steps) {
                all[i] = steps;
            }
        }
        Ok((all, gradients))
    }

    /// Groups rollouts into passes of at most `rows_per_pass` rows; rollouts of one prompt share its rows.
    fn passes(&self, prompts: &[Vec<u32>], rollouts: &[Rollout]) -> Vec<Pass> {
        let rows = |i: usize| {
            let shares_prompt = i > 0 && rollouts[i - 1].prompt == rollouts[i].prompt;
            let prompt_rows = if shares_prompt { 0 } else { prompts[rollouts[i].prompt].len() };
            prompt_rows + rollouts[i].token_ids.len() - 1
        };
        let pass = |members: Vec<usize>| {
            let token_ids = |&i: &usize| [&prompts[rollouts[i].prompt][..], &rollouts[i].token_ids].concat();
            let prompt_len = |&i: &usize| prompts[rollouts[i].prompt].len();
            Pass {
                token_ids: members.iter().map(token_ids).collect(),
                prompt_lens: members.iter().map(prompt_len).collect(),
                members,
            }
        };
        pack(0..rollouts.len(), rows, self.recipe.rollouts.rows_per_pass).into_iter().map(pass).collect()
    }

    /// Writes a checkpoint of the state after the last step and makes it the one to go on from.
    fn save(&mut self, metrics: &ReinforceMetrics) -> Result<(), ReinforceError> {
        let items = self.task.trained_on(self.step, self.recipe.rollouts.prompts_per_step);
        let (lineage, trained_items) = self.ancestry.then(self.run.config(), items);
        let checkpoint = Checkpoint {
            base: self.base.clone(),
            n_blocks: self.model.config.n_layers,
            hidden_size: self.model.config.hidden_size,
            start_adapter: self.model.weights.start_adapter.clone(),
            trained: self.trainee.to_checkpoint(&self.model.weights),
            exit_heads: self.trainee.policy.heads.clone(),
            key_value: KeyValuePolicy::FrozenResidual,
            exit_offset: self.distribution().exit_offset.filter(|offset| *offset != 0.0),
            training: serde_json::to_value(&self.recipe).unwrap_or_default(),
            lineage: Some(lineage),
            trained_items,
            metrics: serde_json::json!({ "step": metrics }),
        };
        let state = self.trainee.training_state(self.step);
        checkpoint.save(&self.run.checkpoint_path(self.step), Some(&state))?;
        Ok(self.run.mark_latest(self.step)?)
    }
}

/// Rollouts of one teacher-forced pass.
struct Pass {
    /// Indices of the rollouts.
    members: Vec<usize>,
    /// Prompt and response of each.
    token_ids: Vec<Vec<u32>>,
    prompt_lens: Vec<usize>,
}

impl Pass {
    fn sequences<'a>(&'a self, rollouts: &'a [Rollout]) -> Vec<RecordedSequence<'a>> {
        let parts = self.members.iter().zip(&self.token_ids).zip(&self.prompt_lens);
        parts
            .map(|((&i, token_ids), &prompt_len)| RecordedSequence {
                token_ids,
                prompt_len,
                depths: &rollouts[i].depths,
            })
            .collect()
    }
}

/// The step that a training state was saved after.
fn state_step(state: &TrainingState) -> Option<u64> {
    state.state.get("step").and_then(serde_json::Value::as_u64)
}

/// Mean of some numbers; 0 for none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_u64), |(sum, n), value| (sum + value, n + 1));
    sum / n.max(1) as f64
}

/// Largest difference of `log P` of a step between rollout and update, nats; NaN if one is.
fn largest_difference(rollouts: &[Rollout], steps: &[Vec<StepLikelihood>]) -> f64 {
    let pairs = rollouts.iter().zip(steps).flat_map(|(rollout, steps)| rollout.log_joint.iter().zip(steps));
    pairs
        .map(|(drawn, step)| f64::from((drawn - step.joint()).abs()))
        .fold(0.0, |a: f64, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}
