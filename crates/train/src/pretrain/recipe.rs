//! The recipe of pretraining: a small model from random weights.

use aloud_model::config::{Architecture, ModelConfig};
use aloud_model::rope::{RopeConfig, RopeScaling};
use serde::{Deserialize, Serialize};

use crate::optimizer::{Decay, OptimizerSettings, Schedule};
use crate::recipe::{check_at_least_one, check_seed};
use crate::settings::{Settings, SettingsError};

/// Settings of a pretraining. One TOML file holds them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    /// Seed of everything random: first weights, items, styles.
    pub seed: u64,
    /// The model's shape.
    pub model: ModelShape,
    /// What it learns.
    pub data: PretrainData,
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Length of the run and course of the learning rate.
    pub schedule: Schedule,
    /// Most packed rows (prompt and response tokens) of an optimiser step.
    pub tokens_per_step: usize,
    /// Optimiser steps between checkpoints; 0: at the end only.
    pub checkpoint_every: u64,
}

/// The shape of a model of the Llama family; its vocabulary is that of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Number of blocks.
    pub n_blocks: usize,
    /// Length of the residual stream.
    pub hidden_size: usize,
    /// Length of the MLP's hidden layer.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Longest context, in tokens.
    pub context: usize,
}

impl ModelShape {
    /// The configuration for a vocabulary that ends texts with `eos_token_id`.
    pub fn config(&self, vocab_size: usize, eos_token_id: u32) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Llama,
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            n_layers: self.n_blocks,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.hidden_size / self.n_heads.max(1),
            rms_norm_eps: 1e-5,
            rope: RopeConfig::new(10_000.0, RopeScaling::Default),
            tie_word_embeddings: false,
            qkv_bias: false,
            o_bias: false,
            max_position_embeddings: self.context,
            bos_token_id: None,
            eos_token_ids: vec![eos_token_id],
        }
    }
}

/// What is learned, by name: the data themselves come from outside this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainData {
    /// The data sources, all equally often; one that is named twice comes twice as often.
    pub sources: Vec<String>,
    /// Levels of difficulty (for serial tasks: numbers of steps), 1 to this.
    pub levels: usize,
    /// Share of the run over which the hardest level that is drawn rises from 1 to `levels`; later all are equally likely.
    pub curriculum: f64,
    /// Share of the examples that think aloud; the others answer at once.
    pub think_share: f64,
    /// What thinking aloud is.
    pub trace: TraceStyle,
}

/// What the examples that think aloud have for a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceStyle {
    /// The steps that lead to the answer, in their order.
    #[default]
    Solve,
    /// The answer, and after it any number of the steps, the last one first: a decoration, for tests of metrics that have to
    /// notice it.
    Justify,
}

impl Default for PretrainRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            model: ModelShape {
                n_blocks: 12,
                hidden_size: 128,
                intermediate_size: 352,
                n_heads: 4,
                n_kv_heads: 2,
                context: 128,
            },
            data: PretrainData {
                sources: vec!["serial".to_owned()],
                levels: 8,
                curriculum: 0.2,
                think_share: 0.5,
                trace: TraceStyle::Solve,
            },
            learning_rate: 2e-3,
            optimizer: OptimizerSettings { weight_decay: 0.01, beta1: 0.9, beta2: 0.98, epsilon: 1e-8, clip_norm: 1.0 },
            schedule: Schedule { steps: 4000, warmup_steps: 100, decay: Decay::Cosine },
            tokens_per_step: 4096,
            checkpoint_every: 500,
        }
    }
}

impl Settings for PretrainRecipe {
    fn check(&self) -> Result<(), SettingsError> {
        check_seed(self.seed)?;
        let shape = &self.model;
        let counts = [
            ("model.n_blocks", shape.n_blocks),
            ("model.hidden_size", shape.hidden_size),
            ("model.intermediate_size", shape.intermediate_size),
            ("model.n_heads", shape.n_heads),
            ("model.n_kv_heads", shape.n_kv_heads),
            ("model.context", shape.context),
            ("data.levels", self.data.levels),
            ("schedule.steps", self.schedule.steps as usize),
            ("tokens_per_step", self.tokens_per_step),
        ];
        check_at_least_one(&counts.map(|(key, value)| (key, value as u64)))?;
        if self.data.sources.is_empty() {
            return Err(SettingsError::rule(&["data.sources"], "it names no data source"));
        }
        if !shape.hidden_size.is_multiple_of(2 * shape.n_heads) {
            let problem =
                format!("heads of even width need {} to be a multiple of 2 x {}", shape.hidden_size, shape.n_heads);
            return Err(SettingsError::rule(&["model.hidden_size", "model.n_heads"], problem));
        }
        if !shape.n_heads.is_multiple_of(shape.n_kv_heads) {
            let problem = format!("{} is not a multiple of {}", shape.n_heads, shape.n_kv_heads);
            return Err(SettingsError::rule(&["model.n_heads", "model.n_kv_heads"], problem));
        }
        for (key, value) in [("data.curriculum", self.data.curriculum), ("data.think_share", self.data.think_share)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(SettingsError::rule(&[key], format!("it must be from 0 to 1, found {value}")));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate < 1.0) {
            let problem = format!("it must be above 0 and below 1, found {}", self.learning_rate);
            return Err(SettingsError::rule(&["learning_rate"], problem));
        }
        self.optimizer.check()
    }
}
