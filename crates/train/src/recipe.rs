//! Groups of settings that the recipes of several stages have, and what is checked in all of them.

use aloud_model::decoder::Trained;
use aloud_model::lora::Projection;
use serde::{Deserialize, Serialize};

use crate::optimizer::{OptimizerSettings, StepRates};
use crate::settings::SettingsError;

/// Low-rank adapters (LoRA, arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank `r`.
    pub rank: usize,
    /// The adapters' output is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The linear layers adapted in every block.
    pub targets: Vec<Projection>,
}

/// Learning rates at the end of the warm-up, by group of parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRates {
    /// Low-rank adapters, if `trained = "lora"`, and the maps of exits that are trained.
    pub adapters: f64,
    /// All weights of the model, if `trained = "full"`.
    pub weights: f64,
    /// Exit heads.
    pub heads: f64,
}

impl Default for LearningRates {
    fn default() -> Self {
        Self { adapters: 3e-4, weights: 1e-5, heads: 1e-3 }
    }
}

impl LearningRates {
    /// The rates of a run that trains `trained` beside the heads.
    pub fn of(&self, trained: Trained) -> StepRates {
        let trunk = match trained {
            Trained::Adapters => self.adapters,
            Trained::Full => self.weights,
            Trained::Exits => 0.0,
        };
        StepRates { trunk, maps: self.adapters, heads: self.heads }
    }

    /// Checks the ranges of the keys of the group `learning_rate`.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        check_range("learning_rate.adapters", self.adapters, &(0.0..1.0))?;
        check_range("learning_rate.weights", self.weights, &(0.0..1.0))?;
        check_range("learning_rate.heads", self.heads, &(0.0..1.0))
    }
}

impl OptimizerSettings {
    /// Checks the ranges of the keys of the group `optimizer`.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        check_range("optimizer.weight_decay", self.weight_decay, &(0.0..f64::MAX))?;
        check_range("optimizer.beta1", self.beta1, &(0.0..1.0))?;
        check_range("optimizer.beta2", self.beta2, &(0.0..1.0))?;
        check_range("optimizer.epsilon", self.epsilon, &(f64::MIN_POSITIVE..1.0))?;
        check_range("optimizer.clip_norm", self.clip_norm, &(0.0..f64::MAX))
    }
}

/// An error if `value` is not in `range`.
pub(crate) fn check_range(key: &str, value: f64, range: &std::ops::Range<f64>) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    let above = if range.start > 0.0 { "above 0" } else { "at least 0" };
    let below = if range.end > 1.0 { "finite" } else { "below 1" };
    Err(SettingsError::rule(&[key], format!("it must be {above} and {below}, found {value}")))
}

/// An error if a number that must be at least 1 is 0; the values are given with their keys.
pub(crate) fn check_at_least_one(values: &[(&str, u64)]) -> Result<(), SettingsError> {
    match values.iter().find(|(_, value)| *value == 0) {
        None => Ok(()),
        Some((key, _)) => Err(SettingsError::rule(&[key], "it must be at least 1, found 0")),
    }
}

/// An error if a seed is too large: TOML integers are signed, so it could not be written down beside the results.
pub(crate) fn check_seed(seed: u64) -> Result<(), SettingsError> {
    match i64::try_from(seed) {
        Ok(_) => Ok(()),
        Err(_) => Err(SettingsError::rule(&["seed"], format!("it must be at most {}, found {seed}", i64::MAX))),
    }
}
