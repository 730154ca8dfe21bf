//! AdamW, gradient clipping and learning-rate schedules, over named f32 slices.

use std::collections::BTreeMap;

use aloud_model::checkpoint::files::Tensor;
use serde::{Deserialize, Serialize};

/// An optimiser step or state that does not fit its parameters.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    /// A slice has another length than the parameter.
    #[error("parameter `{name}` has {expected} values, but its {what} has {found}")]
    Length {
        /// The parameter.
        name: String,
        /// What differs: `gradient`, `first moment`, ...
        what: &'static str,
        /// Values of the parameter.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A gradient is infinite or not a number.
    #[error("the gradient of `{0}` is not finite; lower the learning rate, or look for damaged traces")]
    NotFinite(String),
    /// A saved state lacks a tensor.
    #[error("the saved optimizer state has no `{0}` for a parameter that is trained; it belongs to another run")]
    Missing(String),
    /// A saved state holds something that no parameter needs.
    #[error("the saved optimizer state holds `{0}`, which no trained parameter needs; it belongs to another run")]
    Unused(String),
    /// A saved tensor has another format than it should.
    #[error("`{tensor}` of the saved optimizer state is not {expected}")]
    Format {
        /// Name of the tensor.
        tensor: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// AdamW and clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Decoupled weight decay: a step first multiplies parameters that decay by `1 - learning_rate * weight_decay`.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Largest norm of all gradients together; 0 for no clipping. The caller's: see [`clip_gradients`].
    pub clip_norm: f64,
}

impl Default for OptimizerSettings {
    /// PyTorch's, but without weight decay: adapters begin at the base model, which is what decay would pull towards.
    fn default() -> Self {
        Self { weight_decay: 0.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: 1.0 }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Moments {
    step: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), in PyTorch's order of operations. Moments are f32,
/// one pair a parameter, made at its first step.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    settings: OptimizerSettings,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimiser that has taken no step.
    pub fn new(settings: OptimizerSettings) -> Self {
        Self { settings, moments: BTreeMap::new() }
    }

    /// Changes `parameter` along `gradient`. Its learning rate, and whether it decays, are given with each call, so groups
    /// may have their own.
    ///
    /// # Errors
    /// If the lengths differ from each other or from earlier steps of this name.
    pub fn step(
        &mut self,
        name: &str,
        learning_rate: f64,
        decays: bool,
        parameter: &mut [f32],
        gradient: &[f32],
    ) -> Result<(), OptimizerError> {
        let expected = parameter.len();
        let length = |what, found| OptimizerError::Length { name: name.to_owned(), what, expected, found };
        if gradient.len() != expected {
            return Err(length("gradient", gradient.len()));
        }
        if !self.moments.contains_key(name) {
            let moments = Moments { step: 0, first: vec![0.0; expected], second: vec![0.0; expected] };
            self.moments.insert(name.to_owned(), moments);
        }
        let Some(moments) = self.moments.get_mut(name).filter(|moments| moments.first.len() == expected) else {
            let found = self.moments.get(name).map_or(0, |moments| moments.first.len());
            return Err(length("optimizer state", found));
        };
        moments.step += 1;

        let OptimizerSettings { beta1, beta2, epsilon, weight_decay, .. } = self.settings;
        let step = moments.step as f64;
        let correction1 = 1.0 - beta1.powf(step);
        let correction2 = 1.0 - beta2.powf(step);
        let step_size = (learning_rate / correction1) as f32;
        let root_correction2 = correction2.sqrt() as f32;
        let keep = if decays { (1.0 - learning_rate * weight_decay) as f32 } else { 1.0 };
        let (beta2, new1, new2, epsilon) = (beta2 as f32, (1.0 - beta1) as f32, (1.0 - beta2) as f32, epsilon as f32);
        let state = moments.first.iter_mut().zip(&mut moments.second);
        for ((parameter, &gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(state) {
            *first += new1 * (gradient - *first);
            *second = *second * beta2 + new2 * gradient * gradient;
            let denominator = second.sqrt() / root_correction2 + epsilon;
            *parameter = *parameter * keep - step_size * (*first / denominator);
        }
        Ok(())
    }

    /// The state as named tensors: `first.NAME` and `second.NAME` (f32), `step.NAME` (one u64).
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            let n_values = moments.first.len();
            let entries = [
                ("first", Tensor::from_f32(&[n_values], &moments.first)),
                ("second", Tensor::from_f32(&[n_values], &moments.second)),
                ("step", Tensor::from_u64(&[1], &[moments.step])),
            ];
            tensors.extend(entries.into_iter().filter_map(|(what, tensor)| Some((format!("{what}.{name}"), tensor?))));
        }
        tensors
    }

    /// An optimiser that goes on from a saved state. `parameters` are the names and lengths of everything that is
    /// trained: the state must have moments for all of them and for nothing else.
    ///
    /// # Errors
    /// If a moment is missing, superfluous, of another length or of another format.
    pub fn from_state(
        settings: OptimizerSettings,
        mut state: BTreeMap<String, Tensor>,
        parameters: &[(String, usize)],
    ) -> Result<Self, OptimizerError> {
        let mut moments = BTreeMap::new();
        for (name, expected) in parameters {
            let mut take = |what: &str| {
                let tensor = format!("{what}.{name}");
                state.remove(&tensor).ok_or(OptimizerError::Missing(tensor))
            };
            let mut values = |key, what| {
                let values = take(key)?.to_f32().ok_or_else(|| OptimizerError::Format {
                    tensor: format!("{key}.{name}"),
                    expected: "a tensor of floats",
                })?;
                if values.len() != *expected {
                    let (name, expected, found) = (name.clone(), *expected, values.len());
                    return Err(OptimizerError::Length { name, what, expected, found });
                }
                Ok(values)
            };
            let first = values("first", "first moment")?;
            let second = values("second", "second moment")?;
            let Some(&[step]) = take("step")?.to_u64().as_deref() else {
                let tensor = format!("step.{name}");
                return Err(OptimizerError::Format { tensor, expected: "one unsigned integer" });
            };
            moments.insert(name.clone(), Moments { step, first, second });
        }
        match state.into_keys().next() {
            Some(tensor) => Err(OptimizerError::Unused(tensor)),
            None => Ok(Self { settings, moments }),
        }
    }
}

/// Norm of all gradients together: the square root of the sum of squares, summed in f64.
///
/// # Errors
/// If a gradient is not finite; the error names the first such parameter.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<f64, OptimizerError> {
    let mut sum = 0.0;
    for (name, gradient) in gradients {
        let squares: f64 = gradient.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        if !squares.is_finite() {
            return Err(OptimizerError::NotFinite(name.to_owned()));
        }
        sum += squares;
    }
    Ok(sum.sqrt())
}

/// Factor that gradients of this norm are multiplied by so that it becomes at most `max_norm`; 1 if it is already, or if
/// `max_norm` is 0 (no clipping). As in PyTorch: `min(1, max_norm / (norm + 1e-6))`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// Scales all gradients by [`clip_factor`] of their [`global_norm`], and returns the norm before clipping.
///
/// # Errors
/// If a gradient is not finite; nothing is scaled then.
pub fn clip_gradients(gradients: &mut [(&str, &mut [f32])], max_norm: f64) -> Result<f64, OptimizerError> {
    let norm = global_norm(gradients.iter().map(|(name, gradient)| (*name, &**gradient)))?;
    let factor = clip_factor(norm, max_norm) as f32;
    if factor < 1.0 {
        for value in gradients.iter_mut().flat_map(|(_, gradient)| gradient.iter_mut()) {
            *value *= factor;
        }
    }
    Ok(norm)
}

/// Learning rates of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRates {
    /// Of adapters, or of all weights.
    pub trunk: f64,
    /// Of translators and propagation maps.
    pub maps: f64,
    /// Of exit heads.
    pub heads: f64,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// On a straight line to 0 at the last step.
    Linear,
    /// On half a cosine to 0 at the last step.
    #[default]
    Cosine,
}

/// Length of a run in steps, and its learning rates: linear warm-up, then a decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Optimiser steps of the whole run.
    pub steps: u64,
    /// Of these, steps of the warm-up; if there are more, all are.
    pub warmup_steps: u64,
    /// After the warm-up: `constant`, `linear` or `cosine`.
    pub decay: Decay,
}

impl Schedule {
    /// Factor on the learning rate at `step`, counted from 0: `(step + 1) / warmup_steps` in the warm-up, so that the
    /// first step already learns and the last warm-up step has the full rate; then the decay, which would reach 0 at
    /// `steps`, one after the last step.
    pub fn factor(&self, step: u64) -> f64 {
        let warmup_steps = self.warmup_steps.min(self.steps);
        if step < warmup_steps {
            return (step + 1) as f64 / warmup_steps as f64;
        }
        let n_decay_steps = (self.steps - warmup_steps).max(1);
        let progress = ((step - warmup_steps) as f64 / n_decay_steps as f64).min(1.0);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * progress).cos()),
        }
    }
}
