//! The training loop of every stage: steps, learning rates, the optimiser, the log, checkpoints, and going on after an
//! interruption. What a stage does beside it, its [`Stage`] says.

use std::path::PathBuf;
use std::time::Instant;

use aloud_kernels::backend::Backend;
use aloud_model::checkpoint::files::FileError;
use aloud_model::checkpoint::{Checkpoint, CheckpointError, TrainingState};
use aloud_model::decoder::Gradients;
use aloud_model::error::ModelError;
use aloud_model::load::PretrainedModel;
use serde::Serialize;

use crate::optimizer::{OptimizerError, OptimizerSettings, Schedule, StepRates};
use crate::run_directory::{ResumePoint, RunDirectory, RunError};
use crate::settings::SettingsError;
use crate::trainee::{Trainee, TraineeError};

/// What one stage of training does at each step of the loop, and what its checkpoints hold.
pub trait Stage<B: Backend> {
    /// A line of `metrics.jsonl`: an object with the `step` that it belongs to.
    type Metrics: Serialize;
    /// What is remembered of a step's batch for the log.
    type Batch;
    /// What a whole run comes to.
    type Outcome;
    /// What can go wrong in this stage alone.
    type Error;
    /// What to do about a loss that is not a number.
    const LOSS_ADVICE: &'static str;

    /// Takes the batch of `step` (steps done before it) and computes the gradient of its loss: always the same for the same
    /// trainee.
    ///
    /// # Errors
    /// If the batch cannot be had or run.
    fn gradient(
        &mut self,
        trainee: &Trainee<B>,
        step: u64,
    ) -> Result<StepGradient<B, Self::Batch>, TrainingError<Self::Error>>;

    /// What the log says of a step, after the parameters were updated.
    ///
    /// # Errors
    /// If something that is due at this step cannot be measured or written.
    fn log(
        &mut self,
        batch: Self::Batch,
        update: &Update,
        progress: &Progress<'_, B>,
    ) -> Result<Self::Metrics, TrainingError<Self::Error>>;

    /// Whether the run ends here, before its last step.
    fn has_stopped(&self) -> bool {
        false
    }

    /// Writes the checkpoint of a step to [`Progress::checkpoint`], whole or not at all, with [`Progress::state`] in it.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save(&mut self, metrics: &Self::Metrics, progress: &Progress<'_, B>) -> Result<(), TrainingError<Self::Error>>;

    /// What the run that has ended comes to.
    ///
    /// # Errors
    /// If something that belongs to it cannot be measured.
    fn outcome(&mut self, progress: &Progress<'_, B>) -> Result<Self::Outcome, TrainingError<Self::Error>>;
}

/// The gradient of one optimiser step.
#[derive(Debug)]
pub struct StepGradient<B: Backend, T> {
    /// The gradients.
    pub gradients: Gradients<B>,
    /// The loss, where there is one to watch.
    pub loss: Option<f64>,
    /// What the log needs of the batch.
    pub batch: T,
}

/// What an update of the parameters was.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Learning rates of this step.
    pub rates: StepRates,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Seconds of batch, gradient and update.
    pub seconds: f64,
}

/// How far a run is.
#[derive(Debug)]
pub struct Progress<'a, B: Backend> {
    /// The model as it is now.
    pub trainee: &'a Trainee<B>,
    /// The run's directory.
    pub run: &'a RunDirectory,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub n_steps: u64,
}

impl<B: Backend> Progress<'_, B> {
    /// Whether what happens after every `every` steps happens now: at the end always, with 0 there alone.
    pub fn is_due(&self, every: u64) -> bool {
        self.step == self.n_steps || (every > 0 && self.step.is_multiple_of(every))
    }

    /// Where the checkpoint of this step belongs.
    pub fn checkpoint(&self) -> PathBuf {
        self.run.checkpoint_path(self.step)
    }

    /// What a checkpoint of this step needs for the run to go on from it.
    pub fn state(&self) -> TrainingState {
        self.trainee.training_state(self.step)
    }
}

/// Why a run cannot start or go on; `E` is what can go wrong in its stage alone.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError<E> {
    /// Something of this stage.
    #[error(transparent)]
    Stage(E),
    /// The recipe does not fit the model.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The loss is not a number.
    #[error("the loss is {loss} at step {step}: {advice}; the last checkpoint is intact")]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Optimiser step, from 1.
        step: u64,
        /// What to do about it.
        advice: &'static str,
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
    /// The checkpoint to go on from has no training state, or one of another step.
    #[error("checkpoint `{}` has no training state of step {step}; start a new run directory", path.display())]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// The step it should be of.
        step: u64,
    },
    /// The run directory cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A model cannot be written or read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The part of a recipe that the loop follows.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Number of steps, and course of the learning rates.
    pub schedule: Schedule,
    /// Learning rates at the end of the warm-up.
    pub rates: StepRates,
    /// Largest norm of all gradients together; 0 for no clipping.
    pub clip_norm: f64,
    /// Optimiser steps between checkpoints; 0: at the end only.
    pub checkpoint_every: u64,
}

/// A run in progress.
pub struct Training<B: Backend, S: Stage<B>> {
    pub(crate) stage: S,
    pub(crate) trainee: Trainee<B>,
    pub(crate) course: Course,
    pub(crate) run: RunDirectory,
    pub(crate) step: u64,
}

impl<B: Backend, S: Stage<B>> std::fmt::Debug for Training<B, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training").field("step", &self.step).field("course", &self.course).finish_non_exhaustive()
    }
}

impl<B: Backend, S: Stage<B>> Training<B, S> {
    /// Optimiser steps of the whole run.
    pub fn n_steps(&self) -> u64 {
        self.course.schedule.steps
    }

    /// Optimiser steps done.
    pub fn n_done(&self) -> u64 {
        self.step
    }

    /// The model as it is now.
    pub fn trainee(&self) -> &Trainee<B> {
        &self.trainee
    }

    /// Runs to the end, or until the stage says that it has stopped; the checkpoint of the last step is always written.
    ///
    /// # Errors
    /// If a batch, a loss or a gradient is unusable, or something cannot be written; the last checkpoint stays intact.
    pub fn run(&mut self, on_step: &mut dyn FnMut(&S::Metrics)) -> Result<S::Outcome, TrainingError<S::Error>> {
        while self.step < self.n_steps() && !self.stage.has_stopped() {
            let metrics = self.train_step()?;
            self.run.append_metrics(&metrics)?;
            let every = self.course.checkpoint_every;
            let (stage, progress) = self.parts();
            if progress.is_due(every) || stage.has_stopped() {
                stage.save(&metrics, &progress)?;
                progress.run.mark_latest(progress.step)?;
            }
            on_step(&metrics);
        }
        let (stage, progress) = self.parts();
        stage.outcome(&progress)
    }

    /// One optimiser step.
    fn train_step(&mut self) -> Result<S::Metrics, TrainingError<S::Error>> {
        let start = Instant::now();
        let step = self.step + 1;
        let StepGradient { gradients, loss, batch } = self.stage.gradient(&self.trainee, self.step)?;
        if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
            return Err(TrainingError::NotFinite { loss, step, advice: S::LOSS_ADVICE });
        }
        let factor = self.course.schedule.factor(self.step);
        let StepRates { trunk, maps, heads } = self.course.rates;
        let rates = StepRates { trunk: factor * trunk, maps: factor * maps, heads: factor * heads };
        let gradient_norm = self
            .trainee
            .update(gradients, self.course.clip_norm, rates)
            .map_err(|source| TrainingError::Optimizer { step, source })?;
        self.step = step;
        let update = Update { rates, gradient_norm, seconds: start.elapsed().as_secs_f64() };
        let (stage, progress) = self.parts();
        stage.log(batch, &update, &progress)
    }

    pub(crate) fn parts(&mut self) -> (&mut S, Progress<'_, B>) {
        let Self { stage, trainee, course, run, step } = self;
        (stage, Progress { trainee, run, step: *step, n_steps: course.schedule.steps })
    }
}

/// The state of training that the checkpoint of `point` was saved with.
pub(crate) fn saved_state<E>(point: &ResumePoint) -> Result<TrainingState, TrainingError<E>> {
    let step_of = |state: &TrainingState| state.state.get("step").and_then(serde_json::Value::as_u64);
    TrainingState::read(&point.checkpoint)?
        .filter(|state| step_of(state) == Some(point.step))
        .ok_or_else(|| TrainingError::Resume { path: point.checkpoint.clone(), step: point.step })
}

/// The trainee as it was at the checkpoint of `point`, which must be one of the base model with this hash.
pub(crate) fn resumed_trainee<B: Backend, E>(
    backend: &B,
    model: &PretrainedModel,
    base_sha256: &str,
    optimizer: OptimizerSettings,
    point: &ResumePoint,
) -> Result<Trainee<B>, TrainingError<E>> {
    let checkpoint = Checkpoint::load(&point.checkpoint, Some(base_sha256))?;
    let mut trainee = Trainee::from_checkpoint(backend, model, &checkpoint, optimizer)?;
    let state = saved_state(point)?;
    // Before its first step an optimiser has no state.
    if point.step > 0 {
        trainee.restore_optimizer(state, optimizer).map_err(TraineeError::from)?;
    }
    Ok(trainee)
}
