//! One row of logits as unnormalised probabilities, summed in runs: what drawing a token and its log-probability need.

#![allow(unsafe_code, reason = "`multiversion` calls functions compiled for other instructions")]

use crate::cpu::simd::{exp, largest, sums};
use crate::cpu::simd_level::multiversion;

/// Logits of a run.
pub const RUN: usize = 256;

/// `exp((logit - largest) / temperature)` of a row of logits, summed.
#[derive(Clone, Debug)]
pub struct SoftmaxWeights {
    /// The largest logit.
    pub largest: f32,
    /// `1 / temperature`.
    scale: f32,
    /// Sums of [`RUN`] weights each, in their order; the last one may be of fewer.
    pub runs: Vec<f32>,
    /// Their sum.
    pub total: f64,
}

impl SoftmaxWeights {
    /// The weights of a row at a temperature above 0.
    ///
    /// # Errors
    /// The first index at which a logit is not finite.
    pub fn new(logits: &[f32], temperature: f32) -> Result<Self, usize> {
        if !all_finite(logits) {
            return Err(logits.iter().position(|logit| !logit.is_finite()).unwrap_or(0));
        }
        let (largest, scale) = (largest_of(logits), 1.0 / temperature);
        let mut runs = vec![0.0; logits.len().div_ceil(RUN)];
        sum_runs(logits, largest, scale, &mut runs);
        let total = runs.iter().map(|sum| f64::from(*sum)).sum();
        Ok(Self { largest, scale, runs, total })
    }

    /// The weight of a logit.
    pub fn weight(&self, logit: f32) -> f64 {
        f64::from(exp((logit - self.largest) * self.scale))
    }

    /// Log-probability (nats) of a logit among weights that sum to `total`.
    pub fn log_probability(&self, logit: f32, total: f64) -> f32 {
        (f64::from((logit - self.largest) * self.scale) - total.ln()) as f32
    }
}

multiversion! {
    fn all_finite(logits: &[f32]) -> bool {
        // A product with 0 is 0, or not a number.
        sums::<32>(logits, |logit| logit * 0.0).iter().sum::<f32>() == 0.0
    }
}

multiversion! {
    fn largest_of(logits: &[f32]) -> f32 {
        largest::<32>(logits)
    }
}

multiversion! {
    fn sum_runs(logits: &[f32], largest: f32, scale: f32, runs: &mut [f32]) {
        for (run, logits) in runs.iter_mut().zip(logits.chunks(RUN)) {
            *run = sums::<32>(logits, |logit| exp((logit - largest) * scale)).iter().sum();
        }
    }
}
