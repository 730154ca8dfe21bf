//! Pretraining: a small model from random weights, all parameters, cross-entropy of the responses, with exact resume. Every
//! checkpoint is a model directory of its own.

use std::path::{Path, PathBuf};
use std::time::Instant;

use aloud_kernels::Backend;
use aloud_model::checkpoint::files::{self, FileError};
use aloud_model::checkpoint::{CheckpointError, TrainingState, write_folder};
use aloud_model::config::ModelConfig;
use aloud_model::decoder::{BatchError, Gradients};
use aloud_model::error::ModelError;
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::{ModelIdentity, PretrainedModel, load};
use aloud_model::source::ResolvedSource;
use aloud_model::weights::{SavedFormat, save_safetensors};
use serde::{Deserialize, Serialize};

use crate::initial_weights::initial_weights;
use crate::joint_likelihood::{LikelihoodGradient, RecordedSequence, SampledDistribution, joint_likelihood};
use crate::optimizer::{OptimizerError, Schedule};
use crate::pretrain_recipe::PretrainRecipe;
use crate::random::{Purpose, uniform};
use crate::recipe::{LoraSettings, TrainedWeights};
use crate::run_directory::{ResumePoint, RunDirectory, RunError};
use crate::trainee::{StepRates, Trainee};

/// A prompt and the response to be learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PretrainExample {
    /// Prompt and response.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt, at least 1.
    pub prompt_len: usize,
}

/// Where examples come from.
pub trait PretrainSource {
    /// Example `index` of a difficulty from 1 on: always the same.
    ///
    /// # Errors
    /// If there is no such example; the text says why.
    fn example(&self, index: u64, level: usize) -> Result<PretrainExample, String>;
    /// Size of the vocabulary.
    fn vocab_size(&self) -> usize;
    /// The token that ends a response.
    fn end_token(&self) -> u32;
    /// Files that make a model of this vocabulary complete, by name: tokenizer, model card.
    fn companion_files(&self) -> Vec<(String, Vec<u8>)>;
}

/// Why a pretraining cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// An example cannot be made, or does not fit the model.
    #[error("example {index} of level {level}: {problem}")]
    Example {
        /// Its number.
        index: u64,
        /// Its difficulty.
        level: usize,
        /// Why not.
        problem: String,
    },
    /// The examples of a step cannot be run.
    #[error("step {step}: {source}")]
    Batch {
        /// Optimiser step.
        step: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// The model to begin with is another one than the recipe describes.
    #[error(
        "the model to begin with is not the one of the recipe's `model`: it is {found:?}, the recipe's {expected:?}"
    )]
    Shape {
        /// What it is.
        found: Box<ModelConfig>,
        /// What the recipe says.
        expected: Box<ModelConfig>,
    },
    /// The loss is not a number.
    #[error("the loss is {loss} at step {step}: lower `learning_rate`; the last checkpoint is intact")]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Optimiser step.
        step: u64,
    },
    /// Gradients or optimiser state are unusable.
    #[error("step {step}: {source}")]
    Optimizer {
        /// Optimiser step.
        step: u64,
        /// What is wrong.
        source: OptimizerError,
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
    /// A checkpoint's model cannot be written or read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The checkpoint to go on from has no training state.
    #[error("checkpoint `{}` has no training state of step {step}; start a new run directory", path.display())]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// The step it should be of.
        step: u64,
    },
}

/// Metrics of one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainMetrics {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Cross-entropy, nats per response token.
    pub loss: f64,
    /// Examples of the step.
    pub examples: u64,
    /// Prompt and response tokens of the step.
    pub tokens: u64,
    /// Hardest level drawn.
    pub level: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Prompt and response tokens per second of wall time.
    pub tokens_per_second: f64,
}

/// A pretraining in progress.
pub struct Pretraining<'a, B: Backend> {
    recipe: PretrainRecipe,
    source: &'a dyn PretrainSource,
    model: PretrainedModel,
    trainee: Trainee<B>,
    schedule: Schedule,
    run: RunDirectory,
    step: u64,
}

impl<B: Backend> std::fmt::Debug for Pretraining<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretraining").field("step", &self.step).finish_non_exhaustive()
    }
}

/// Examples are numbered by step and place in the step: no example is trained on twice.
const EXAMPLES_PER_STEP: u64 = 1 << 20;

impl<'a, B: Backend> Pretraining<'a, B> {
    /// Prepares a run from random weights or from those of the model `start`, or goes on with one from its last checkpoint.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or a model does not have the recipe's shape.
    pub fn new(
        backend: &B,
        recipe: PretrainRecipe,
        source: &'a dyn PretrainSource,
        start: Option<PretrainedModel>,
        run: RunDirectory,
        resume: Option<&ResumePoint>,
    ) -> Result<Self, PretrainError> {
        let config = recipe.model.config(source.vocab_size(), source.end_token());
        let model = if let Some(point) = resume {
            backend.run(|| load(&ResolvedSource::Directory(point.checkpoint.clone())))?
        } else if let Some(start) = start {
            start
        } else {
            let weights = initial_weights(&config, recipe.seed);
            let parameters = weights.parameter_count();
            let identity = ModelIdentity { source: "random weights".to_owned(), sha256: String::new(), parameters };
            PretrainedModel { config: config.clone(), weights, identity }
        };
        if model.config != config {
            return Err(PretrainError::Shape { found: Box::new(model.config), expected: Box::new(config) });
        }
        let no_heads = ExitHeads::new(Vec::new(), HeadInput::Rms, recipe.model.hidden_size, &[]);
        let optimizer = recipe.optimizer.adamw();
        let no_lora = LoraSettings { rank: 1, alpha: 1.0, targets: Vec::new() };
        let mut trainee =
            Trainee::new(backend, &model, TrainedWeights::Full, &no_lora, no_heads, optimizer, recipe.seed);
        if let Some(point) = resume {
            let state = TrainingState::read(&point.checkpoint)?;
            let state = state
                .filter(|state| state.state.get("step").and_then(serde_json::Value::as_u64) == Some(point.step))
                .ok_or_else(|| PretrainError::Resume { path: point.checkpoint.clone(), step: point.step })?;
            trainee
                .restore_optimizer(state, optimizer)
                .map_err(|source| PretrainError::Optimizer { step: point.step, source })?;
        }
        let schedule = recipe.schedule.schedule();
        let step = resume.map_or(0, |point| point.step);
        Ok(Self { recipe, source, model, trainee, schedule, run, step })
    }

    /// Optimiser steps of the whole run.
    pub fn n_steps(&self) -> u64 {
        self.recipe.schedule.steps
    }

    /// Optimiser steps done.
    pub fn n_done(&self) -> u64 {
        self.step
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        self.model.identity.parameters
    }

    /// Runs to the end; returns the last checkpoint, a model directory.
    ///
    /// # Errors
    /// If the loss is not finite or something cannot be written; the last checkpoint stays intact.
    pub fn run(&mut self, on_step: &mut dyn FnMut(&PretrainMetrics)) -> Result<PathBuf, PretrainError> {
        while self.step < self.n_steps() {
            let metrics = self.train_step()?;
            self.run.append_metrics(&metrics)?;
            let every = self.recipe.checkpoint_every;
            if self.step == self.n_steps() || (every > 0 && self.step.is_multiple_of(every)) {
                self.save_checkpoint()?;
            }
            on_step(&metrics);
        }
        Ok(self.run.checkpoint_path(self.step))
    }

    /// Writes the model as it is now to a directory of its own: configuration, weights in bf16, companions.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn export(&self, directory: &Path) -> Result<(), PretrainError> {
        write_folder(directory, |folder| self.write_model(folder, SavedFormat::Bf16))
    }

    fn train_step(&mut self) -> Result<PretrainMetrics, PretrainError> {
        let start = Instant::now();
        let level = self.hardest_level();
        let first = self.step * EXAMPLES_PER_STEP;
        let examples = self.examples(first, level)?;
        let sequences: Vec<RecordedSequence<'_>> = examples
            .iter()
            .map(|(example, depths)| RecordedSequence {
                token_ids: &example.token_ids,
                prompt_len: example.prompt_len,
                depths,
            })
            .collect();
        let n_response_tokens: usize = sequences.iter().map(|sequence| sequence.depths.len()).sum();
        let d_token = -1.0 / n_response_tokens.max(1) as f32;
        let d_joint: Vec<Vec<f32>> = sequences.iter().map(|sequence| vec![d_token; sequence.depths.len()]).collect();
        let decoder = &self.trainee.decoder;
        let mut gradients = Gradients::new(decoder.backend());
        let gradient =
            LikelihoodGradient { d_joint: &d_joint, trained: self.trainee.trained(), gradients: &mut gradients };
        let steps = decoder
            .backend()
            .run(|| joint_likelihood(decoder, None, &sequences, SampledDistribution::default(), Some(gradient)))
            .map_err(|source| PretrainError::Batch { step: self.step + 1, source })?;
        let log_likelihood: f64 = steps.iter().flatten().map(|step| f64::from(step.token)).sum();
        let loss = -log_likelihood / n_response_tokens.max(1) as f64;
        let step = self.step + 1;
        if !loss.is_finite() {
            return Err(PretrainError::NotFinite { loss, step });
        }
        let learning_rate = self.recipe.learning_rate * self.schedule.factor(self.step);
        let rates = StepRates { trunk: learning_rate, heads: 0.0 };
        let gradient_norm = self
            .trainee
            .update(gradients, self.recipe.optimizer.clip_norm, rates)
            .map_err(|source| PretrainError::Optimizer { step, source })?;
        self.step = step;
        let tokens: usize = examples.iter().map(|(example, _)| example.token_ids.len()).sum();
        Ok(PretrainMetrics {
            step,
            loss,
            examples: examples.len() as u64,
            tokens: tokens as u64,
            level,
            learning_rate,
            gradient_norm,
            tokens_per_second: tokens as f64 / start.elapsed().as_secs_f64(),
        })
    }

    /// The hardest level that this step may draw.
    fn hardest_level(&self) -> usize {
        let levels = self.recipe.data.levels;
        let risen = (self.step + 1) as f64 / (self.n_steps() as f64 * self.recipe.data.curriculum).max(1.0);
        ((risen * levels as f64).ceil() as usize).clamp(1, levels)
    }

    /// The examples of a step, each with its depths (full ones): as many as fit.
    fn examples(&self, first: u64, hardest: usize) -> Result<Vec<(PretrainExample, Vec<usize>)>, PretrainError> {
        let mut examples = Vec::new();
        let mut n_tokens = 0;
        for index in first..first + EXAMPLES_PER_STEP {
            let draw = uniform(self.recipe.seed, Purpose::PretrainLevel, index, 0, 0, 0, 0);
            let level = 1 + (draw * hardest as f64) as usize;
            let example = (self.source.example(index, level))
                .and_then(|example| check_example(&example, &self.model.config).map(|()| example))
                .map_err(|problem| PretrainError::Example { index, level, problem })?;
            n_tokens += example.token_ids.len();
            if n_tokens > self.recipe.tokens_per_step && !examples.is_empty() {
                break;
            }
            let depths = vec![self.model.config.n_layers; example.token_ids.len() - example.prompt_len];
            examples.push((example, depths));
        }
        Ok(examples)
    }

    fn save_checkpoint(&self) -> Result<(), PretrainError> {
        let path = self.run.checkpoint_path(self.step);
        write_folder(&path, |folder| {
            self.write_model(folder, SavedFormat::F32)?;
            Ok::<_, PretrainError>(self.trainee.training_state(self.step).write(folder)?)
        })?;
        Ok(self.run.mark_latest(self.step)?)
    }

    fn write_model(&self, folder: &Path, format: SavedFormat) -> Result<(), PretrainError> {
        let weights = self.trainee.decoder.export(&self.model.weights);
        save_safetensors(&weights, &folder.join("model.safetensors"), format)?;
        files::write_json(&folder.join("config.json"), &self.model.config.to_json())?;
        for (name, bytes) in self.source.companion_files() {
            files::write_synced(&folder.join(name), &bytes)?;
        }
        Ok(())
    }
}

/// Says why a model cannot learn an example, if it cannot.
fn check_example(example: &PretrainExample, config: &ModelConfig) -> Result<(), String> {
    let PretrainExample { token_ids, prompt_len } = example;
    let n = token_ids.len();
    if *prompt_len == 0 || *prompt_len >= n {
        return Err(format!("a prompt of {prompt_len} tokens of {n}: prompt and response need at least one each"));
    }
    if let Some(id) = token_ids.iter().find(|id| **id as usize >= config.vocab_size) {
        return Err(format!("token id {id} is not below the model's vocabulary of {}", config.vocab_size));
    }
    // The last token is learned, but not consumed.
    let context = config.max_position_embeddings;
    if n - 1 > context {
        return Err(format!(
            "{} tokens before the last exceed the model's context of {context}; raise `model.context`",
            n - 1
        ));
    }
    Ok(())
}
