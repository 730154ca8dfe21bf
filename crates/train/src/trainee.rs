//! What is being trained: a decoder with adapters and exit heads, and the optimiser that moves them.

use std::collections::BTreeMap;

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::backend::Backend;
use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::{self, BaseIdentity, Checkpoint, TrainingState};
use aloud_model::decoder::{Decoder, Gradients, ParameterGroup, Policy, Trained};
use aloud_model::exit_heads::ExitHeads;
use aloud_model::load::PretrainedModel;
use aloud_model::lora::{Lora, LoraPair};
use aloud_model::weights::ModelWeights;
use safetensors::Dtype;

use crate::optimizer::{AdamW, OptimizerError, OptimizerSettings, StepRates, clip_gradients};
use crate::recipe::LoraSettings;

/// A model in training.
pub struct Trainee<B: Backend> {
    /// The model: the frozen weights that adapters are added to, or weights that are trained themselves.
    pub decoder: Decoder<B>,
    /// Adapters, if those are trained, and exit heads.
    pub policy: Policy<B>,
    /// What gets gradients beside the heads.
    pub trained: Trained,
    optimizer: AdamW,
}

impl<B: Backend> std::fmt::Debug for Trainee<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainee").field("trained", &self.trained).finish_non_exhaustive()
    }
}

/// A checkpoint that a model cannot be trained on from.
#[derive(Debug, thiserror::Error)]
pub enum TraineeError {
    /// One of its weights is not there, or of another shape.
    #[error(
        "tensor `{name}` of the checkpoint: expected the shape {expected:?}, found {}",
        found.as_ref().map_or("no such tensor".to_owned(), |found| format!("{found:?}"))
    )]
    Weight {
        /// The tensor.
        name: String,
        /// Shape of the model's parameter.
        expected: Vec<usize>,
        /// Shape of the tensor, `None` if there is none.
        found: Option<Vec<usize>>,
    },
    /// One of its weights is not made of floats.
    #[error("tensor `{0}` of the checkpoint is not made of floats")]
    NotFloats(String),
    /// The state of its optimiser does not belong to these parameters.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

impl<B: Backend> Trainee<B> {
    /// A model with heads and, if those are trained, new adapters (`seed` gives their first values).
    pub fn new(
        backend: &B,
        model: &PretrainedModel,
        trained: Trained,
        lora: &LoraSettings,
        heads: ExitHeads,
        optimizer: OptimizerSettings,
        seed: u64,
    ) -> Self {
        let lora = (trained == Trained::Adapters).then(|| initial_lora(model, lora, seed));
        let policy = Policy::new(backend, lora.as_ref(), heads);
        Self { decoder: trained_decoder(backend, model, trained), policy, trained, optimizer: AdamW::new(optimizer) }
    }

    /// The model of a checkpoint that was trained for this base model, with a new optimiser. What the checkpoint has, is
    /// trained on: its adapters, or all its weights.
    ///
    /// # Errors
    /// If it has all weights, and one of them is missing or of another shape.
    pub fn from_checkpoint(
        backend: &B,
        model: &PretrainedModel,
        checkpoint: &Checkpoint,
        optimizer: OptimizerSettings,
    ) -> Result<Self, TraineeError> {
        let (trained, lora, weights) = match &checkpoint.trained {
            checkpoint::Trained::Lora(lora) => (Trained::Adapters, Some(lora), None),
            checkpoint::Trained::Full(weights) => (Trained::Full, None, Some(weights)),
            checkpoint::Trained::Merged => (Trained::Adapters, None, None),
            checkpoint::Trained::Exits => (Trained::Exits, None, None),
        };
        let mut decoder = trained_decoder(backend, model, trained);
        if let Some(weights) = weights {
            check_weights(&model.weights, weights)?;
            decoder.update_parameters(&mut |name, values| {
                if let Some(saved) = weights.get(name).and_then(Tensor::to_f32) {
                    values.copy_from_slice(&saved);
                }
            });
        }
        let policy = Policy::new(backend, lora, checkpoint.exit_heads.clone())
            .with_translators(checkpoint.exit_translators.as_ref())
            .with_propagation(checkpoint.exit_propagation.as_ref());
        Ok(Self { decoder, policy, trained, optimizer: AdamW::new(optimizer) })
    }

    /// Takes over a saved state of the optimiser, which must belong to these parameters.
    pub(crate) fn restore_optimizer(
        &mut self,
        state: TrainingState,
        settings: OptimizerSettings,
    ) -> Result<(), OptimizerError> {
        let mut parameters: Vec<(String, usize)> = Vec::new();
        visit(&mut self.decoder, &mut self.policy, self.trained, &mut |name, _, values| {
            parameters.push((name.to_owned(), values.len()));
        });
        self.optimizer = AdamW::from_state(settings, state.optimizer, &parameters)?;
        Ok(())
    }

    /// One step of the optimiser; returns the norm of all gradients together before it was clipped to `clip_norm` (0: not
    /// clipped). No parameter is changed if a gradient is not finite.
    pub(crate) fn update(
        &mut self,
        gradients: Gradients<B>,
        clip_norm: f64,
        rates: StepRates,
    ) -> Result<f64, OptimizerError> {
        let mut gradients = gradients.into_host();
        let mut named: Vec<(&str, &mut [f32])> =
            gradients.iter_mut().map(|(name, values)| (name.as_str(), values.as_mut_slice())).collect();
        let norm = clip_gradients(&mut named, clip_norm)?;
        let Self { decoder, policy, trained, optimizer } = self;
        let mut failed = None;
        visit(decoder, policy, *trained, &mut |name, group, values| {
            let rate = match group {
                ParameterGroup::Trunk => rates.trunk,
                ParameterGroup::Maps => rates.maps,
                ParameterGroup::Heads => rates.heads,
            };
            if let Some(gradient) = gradients.get(name)
                && let Err(error) = optimizer.step(name, rate, decays(name), values, gradient)
            {
                failed.get_or_insert(error);
            }
        });
        failed.map_or(Ok(norm), Err)
    }

    /// A checkpoint of what was trained on `model`, which `base` names: without an exit offset, settings, lineage and metrics.
    pub fn to_checkpoint(&self, model: &PretrainedModel, base: BaseIdentity) -> Checkpoint {
        Checkpoint {
            base,
            n_blocks: model.config.n_layers,
            hidden_size: model.config.hidden_size,
            start_adapter: model.weights.start_adapter.clone(),
            trained: self.trained_weights(),
            exit_heads: self.policy.heads.clone(),
            exit_translators: self.policy.translators(),
            exit_propagation: self.policy.propagation(),
            exit_offset: None,
            training: serde_json::Value::Null,
            lineage: None,
            trained_items: None,
            metrics: serde_json::Value::Null,
        }
    }

    /// The trained weights as a checkpoint holds them.
    fn trained_weights(&self) -> checkpoint::Trained {
        match self.trained {
            Trained::Adapters => {
                let none = || Lora { rank: 1, alpha: 1.0, pairs: BTreeMap::new() };
                checkpoint::Trained::Lora(self.policy.lora().unwrap_or_else(none))
            }
            Trained::Exits => checkpoint::Trained::Exits,
            Trained::Full => {
                let weights = self.decoder.export();
                let named = weights.parameters().into_iter();
                let tensors = named.filter_map(|(name, parameter)| {
                    Some((name, Tensor::from_f32(&parameter.shape(), &parameter.values())?))
                });
                checkpoint::Trained::Full(tensors.collect())
            }
        }
    }

    /// What the optimiser needs to go on, with `step` optimiser steps done.
    pub fn training_state(&self, step: u64) -> TrainingState {
        TrainingState { optimizer: self.optimizer.state(), state: serde_json::json!({ "step": step }) }
    }
}

/// Every trained parameter.
fn visit<B: Backend>(
    decoder: &mut Decoder<B>,
    policy: &mut Policy<B>,
    trained: Trained,
    f: &mut dyn FnMut(&str, ParameterGroup, &mut [f32]),
) {
    policy.update_parameters(f);
    if trained == Trained::Full {
        decoder.update_parameters(&mut |name, values| f(name, ParameterGroup::Trunk, values));
    }
}

/// Whether weight decay applies to a parameter: to the matrices of the blocks and to adapters. Gains, biases, exit heads and the
/// tables of tokens (embedding and unembedding, which may be one) are left alone.
fn decays(name: &str) -> bool {
    [".lora_a", ".lora_b", "_proj.weight"].iter().any(|ending| name.ends_with(ending))
}

/// Checks that there is a tensor for every parameter of a model.
fn check_weights(model: &ModelWeights, saved: &BTreeMap<String, Tensor>) -> Result<(), TraineeError> {
    for (name, parameter) in model.parameters() {
        let expected = parameter.shape();
        let tensor = saved.get(&name);
        match tensor.filter(|tensor| tensor.shape() == expected) {
            None => {
                let found = tensor.map(|tensor| tensor.shape().to_vec());
                return Err(TraineeError::Weight { name, expected, found });
            }
            Some(tensor) if !matches!(tensor.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F16) => {
                return Err(TraineeError::NotFloats(name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The decoder whose parameters are used: the frozen ones, or f32 copies to train.
fn trained_decoder<B: Backend>(backend: &B, model: &PretrainedModel, trained: Trained) -> Decoder<B> {
    match trained {
        Trained::Adapters | Trained::Exits => Decoder::new(backend, &model.config, &model.weights),
        Trained::Full => Decoder::widened(backend, &model.config, &model.weights),
    }
}

/// Adapters as PEFT starts them: `A` uniform in `+-1/sqrt(in)` (Kaiming with `a = sqrt(5)`), `B` zero.
fn initial_lora(model: &PretrainedModel, settings: &LoraSettings, seed: u64) -> Lora {
    let rank = settings.rank;
    let mut pairs = BTreeMap::new();
    for (block, layer) in model.weights.layers.iter().enumerate() {
        for projection in &settings.targets {
            let weight = &layer.projection(*projection).weight;
            let bound = 1.0 / (weight.columns() as f64).sqrt();
            let number = (block * 7 + *projection as usize) as u64;
            let mut random = KeyedRandom::new(seed, Domain::ADAPTER_INIT, [number, 0]);
            let a = (0..rank * weight.columns())
                .map(|i| ((2.0 * random.uniform_at(i as u64, 0) - 1.0) * bound) as f32)
                .collect();
            let matrix = |rows, columns, values| Matrix::from_f32(rows, columns, values);
            // The lengths are those of the shapes, by construction.
            if let (Ok(a), Ok(b)) =
                (matrix(rank, weight.columns(), a), matrix(weight.rows(), rank, vec![0.0; weight.rows() * rank]))
            {
                pairs.insert((block, *projection), LoraPair { a, b });
            }
        }
    }
    Lora { rank, alpha: settings.alpha, pairs }
}
