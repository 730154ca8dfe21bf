//! Pretraining: a small model from random weights, all parameters, cross-entropy of the responses, with exact resume. Every
//! checkpoint is a model directory of its own.

use std::path::{Path, PathBuf};

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::backend::Backend;
use aloud_model::checkpoint::{files, write_folder};
use aloud_model::config::ModelConfig;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::{ModelIdentity, PretrainedModel, load};
use aloud_model::source::ResolvedSource;
use aloud_model::weights::{SavedFormat, save_safetensors};
use serde::{Deserialize, Serialize};

use crate::optimizer::StepRates;
use crate::pretrain::initial_weights::initial_weights;
use crate::pretrain::recipe::PretrainRecipe;
use crate::recipe::LoraSettings;
use crate::run_directory::{ResumePoint, RunDirectory};
use crate::stage2::joint_likelihood::{LikelihoodGradient, SampledDistribution, joint_likelihood};
use crate::trainee::{Trainee, TraineeError};
use crate::training::{Course, Progress, Stage, StepGradient, Training, TrainingError, Update, saved_state};
use aloud_engine::read::reading::RecordedSequence;

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
}

impl From<PretrainError> for TrainingError<PretrainError> {
    fn from(error: PretrainError) -> Self {
        Self::Stage(error)
    }
}

type Result<T, E = TrainingError<PretrainError>> = std::result::Result<T, E>;

/// Metrics of one optimiser step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// Examples are numbered by step and place in the step: no example is trained on twice.
const EXAMPLES_PER_STEP: u64 = 1 << 20;

/// What a pretraining learns, and from what.
pub struct Pretrain<'a> {
    recipe: PretrainRecipe,
    source: &'a dyn PretrainSource,
    model: PretrainedModel,
}

/// A pretraining in progress. Its outcome is the last checkpoint, a model directory.
pub type Pretraining<'a, B> = Training<B, Pretrain<'a>>;

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
    ) -> Result<Self> {
        let config = recipe.model.config(source.vocab_size(), source.end_token());
        let model = if let Some(point) = resume {
            load(&ResolvedSource::Directory(point.checkpoint.clone()))?
        } else if let Some(start) = start {
            start
        } else {
            let weights = initial_weights(&config, recipe.seed);
            let parameters = weights.parameter_count();
            let identity = ModelIdentity { source: "random weights".to_owned(), sha256: String::new(), parameters };
            PretrainedModel { config: config.clone(), weights, identity }
        };
        if model.config != config {
            return Err(PretrainError::Shape { found: Box::new(model.config), expected: Box::new(config) }.into());
        }
        let no_heads = ExitHeads::new(Vec::new(), HeadInput::Rms, recipe.model.hidden_size, &[]);
        let optimizer = recipe.optimizer;
        let no_lora = LoraSettings { rank: 1, alpha: 1.0, targets: Vec::new() };
        let mut trainee = Trainee::new(backend, &model, Trained::Full, &no_lora, no_heads, optimizer, recipe.seed);
        if let Some(point) = resume {
            trainee.restore_optimizer(saved_state(point)?, optimizer).map_err(TraineeError::from)?;
        }
        let course = Course {
            schedule: recipe.schedule,
            rates: StepRates { trunk: recipe.learning_rate, maps: 0.0, heads: 0.0 },
            clip_norm: recipe.optimizer.clip_norm,
            checkpoint_every: recipe.checkpoint_every,
        };
        let stage = Pretrain { recipe, source, model };
        Ok(Self { stage, trainee, course, run, step: resume.map_or(0, |point| point.step) })
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        self.stage.model.identity.parameters
    }

    /// Writes the model as it is now to a directory of its own: configuration, weights in bf16, companions.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn export(&self, directory: &Path) -> Result<()> {
        write_folder(directory, |folder| self.stage.write_model(&self.trainee.decoder, folder, SavedFormat::Bf16))
    }
}

impl<B: Backend> Stage<B> for Pretrain<'_> {
    type Metrics = PretrainMetrics;
    /// What the gradient knows of the step; its other fields are 0.
    type Batch = PretrainMetrics;
    type Outcome = PathBuf;
    type Error = PretrainError;
    const LOSS_ADVICE: &'static str = "lower `learning_rate`";

    fn gradient(&mut self, trainee: &Trainee<B>, step: u64) -> Result<StepGradient<B, PretrainMetrics>> {
        let level = self.hardest_level(step);
        let examples = self.examples(step * EXAMPLES_PER_STEP, level)?;
        let full_depth = vec![self.model.config.n_layers; self.model.config.max_position_embeddings];
        let sequences: Vec<RecordedSequence<'_>> = examples
            .iter()
            .map(|PretrainExample { token_ids, prompt_len }| {
                RecordedSequence::new(token_ids, *prompt_len, &full_depth[..token_ids.len() - prompt_len])
            })
            .collect();
        let n_response_tokens = sequences.iter().map(|sequence| sequence.depths.len()).sum::<usize>().max(1);
        let d_token = -1.0 / n_response_tokens as f32;
        let d_joint: Vec<Vec<f32>> = sequences.iter().map(|sequence| vec![d_token; sequence.depths.len()]).collect();
        let decoder = &trainee.decoder;
        let mut gradients = Gradients::new(decoder.backend());
        let gradient = LikelihoodGradient { d_joint: &d_joint, trained: trainee.trained, gradients: &mut gradients };
        let steps = joint_likelihood(decoder, None, &sequences, SampledDistribution::default(), Some(gradient))
            .map_err(|source| PretrainError::Batch { step: step + 1, source })?;
        let log_likelihood: f64 = steps.iter().flatten().map(|step| f64::from(step.token)).sum();
        let loss = -log_likelihood / n_response_tokens as f64;
        let n_tokens: usize = examples.iter().map(|example| example.token_ids.len()).sum();
        let batch = PretrainMetrics {
            step: step + 1,
            loss,
            examples: examples.len() as u64,
            tokens: n_tokens as u64,
            level,
            ..PretrainMetrics::default()
        };
        Ok(StepGradient { gradients, loss: Some(loss), batch })
    }

    fn log(&mut self, batch: PretrainMetrics, update: &Update, _: &Progress<'_, B>) -> Result<PretrainMetrics> {
        Ok(PretrainMetrics {
            learning_rate: update.rates.trunk,
            gradient_norm: update.gradient_norm,
            tokens_per_second: batch.tokens as f64 / update.seconds,
            ..batch
        })
    }

    fn save(&mut self, _: &PretrainMetrics, progress: &Progress<'_, B>) -> Result<()> {
        write_folder(&progress.checkpoint(), |folder| {
            self.write_model(&progress.trainee.decoder, folder, SavedFormat::F32)?;
            Ok(progress.state().write(folder)?)
        })
    }

    fn outcome(&mut self, progress: &Progress<'_, B>) -> Result<PathBuf> {
        Ok(progress.checkpoint())
    }
}

impl Pretrain<'_> {
    /// The hardest level that a step may draw.
    fn hardest_level(&self, step: u64) -> usize {
        let levels = self.recipe.data.levels;
        let risen = (step + 1) as f64 / (self.recipe.schedule.steps as f64 * self.recipe.data.curriculum).max(1.0);
        ((risen * levels as f64).ceil() as usize).clamp(1, levels)
    }

    /// The examples of a step: as many as fit.
    fn examples(&self, first: u64, hardest: usize) -> Result<Vec<PretrainExample>, PretrainError> {
        let mut examples = Vec::new();
        let mut n_tokens = 0;
        for index in first..first + EXAMPLES_PER_STEP {
            let draw = KeyedRandom::new(self.recipe.seed, Domain::PRETRAIN_LEVEL, [index, 0]).uniform_at(0, 0);
            let level = 1 + (draw * hardest as f64) as usize;
            let example = (self.source.example(index, level))
                .and_then(|example| check_example(&example, &self.model.config).map(|()| example))
                .map_err(|problem| PretrainError::Example { index, level, problem })?;
            n_tokens += example.token_ids.len();
            if n_tokens > self.recipe.tokens_per_step && !examples.is_empty() {
                break;
            }
            examples.push(example);
        }
        Ok(examples)
    }

    fn write_model<B: Backend>(&self, decoder: &Decoder<B>, folder: &Path, format: SavedFormat) -> Result<()> {
        let weights = decoder.export();
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
