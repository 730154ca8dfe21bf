//! Rotary position embeddings (RoFormer, arXiv 2104.09864): frequencies of the rotations, with the scalings in use.

use std::f64::consts::PI;
use std::sync::{Arc, OnceLock};

use aloud_kernels::rope_table::RopeTable;
use serde::{Deserialize, Serialize};

/// Frequencies of a model's rotary position embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeConfig {
    /// Base `theta` of the geometric sequence of wavelengths.
    pub theta: f64,
    /// How the frequencies were stretched for longer contexts.
    pub scaling: RopeScaling,
    /// Made by the first decoder; those whose configurations are clones of each other share it.
    #[serde(skip)]
    table: SharedTable,
}

/// A table that is made when it is first asked for. No part of a configuration's value.
#[derive(Clone, Debug, Default)]
struct SharedTable(Arc<OnceLock<RopeTable>>);

impl PartialEq for SharedTable {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How the frequencies `theta^(-2i / head_dim)` are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies are divided by `factor` (position interpolation, arXiv 2306.15595).
    Linear {
        /// Divisor of the frequencies.
        factor: f64,
    },
    /// Changes the base, but only beyond the original context; within it, which is all this program runs, the same as
    /// [`RopeScaling::Default`].
    Dynamic {
        /// How many times longer the context may get.
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high ones kept, those between interpolated (Llama 3.1).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length of pretraining, in tokens.
        original_max_position_embeddings: f64,
    },
    /// YaRN (arXiv 2309.00071, section 3.4), which also scales the rotated queries and keys.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Context length of pretraining, in tokens.
        original_max_position_embeddings: f64,
        /// Scale of the rotated queries and keys.
        attention_factor: f64,
        /// Dimensions that turn more often than this within the original context are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this within the original context are divided by `factor`.
        beta_slow: f64,
        /// Whether the bounds between these are rounded outwards to whole dimensions.
        truncate: bool,
    },
    /// Frequency `i` is divided by the number given for it (GGUF's tensor `rope_freqs.weight`).
    Divisors {
        /// `head_dim / 2` divisors.
        divisors: Vec<f32>,
    },
}

/// YaRN's recommended scale of the rotated queries and keys, `0.1 m ln(factor) + 1` (arXiv 2309.00071, equation 22),
/// 1 for factors up to 1.
pub fn yarn_attention_factor(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

impl RopeConfig {
    /// Frequencies of this base and scaling.
    pub fn new(theta: f64, scaling: RopeScaling) -> Self {
        Self { theta, scaling, table: SharedTable::default() }
    }

    /// The rotations of positions `0..n_positions`, computed as far as they are used, and once for all clones of this
    /// configuration.
    pub fn table(&self, head_dim: usize, n_positions: usize) -> RopeTable {
        let (frequencies, scaling) = self.inverse_frequencies(head_dim);
        let new = || RopeTable::new(&frequencies, scaling, n_positions);
        let shared = self.table.0.get_or_init(new);
        // The fields are public: a clone may have been changed since.
        if shared.is_of(&frequencies, scaling, n_positions) { shared.clone() } else { new() }
    }

    /// Angle per position of each rotation, in radians, `[head_dim / 2]`, and the scale of the rotated queries and keys
    /// (1 except for YaRN).
    ///
    /// Each operation is rounded to f32, as in the reference implementation (transformers' `ROPE_INIT_FUNCTIONS`): at
    /// position 10 000 a difference in the last bit of a frequency is already 1e-3 radians.
    pub fn inverse_frequencies(&self, head_dim: usize) -> (Vec<f32>, f32) {
        let theta = self.theta as f32;
        let wavelengths: Vec<f32> = (0..head_dim / 2)
            .map(|i| {
                let exponent = (2 * i) as f32 / head_dim as f32;
                f64::from(theta).powf(f64::from(exponent)) as f32
            })
            .collect();
        let frequencies = wavelengths.iter().map(|wavelength| 1.0 / wavelength);
        match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => (frequencies.collect(), 1.0),
            RopeScaling::Linear { factor } => {
                let factor = *factor as f32;
                (frequencies.map(|frequency| frequency / factor).collect(), 1.0)
            }
            RopeScaling::Divisors { divisors } => {
                (frequencies.zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect(), 1.0)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: context,
            } => {
                let (longest_kept, shortest_divided) = (context / high_freq_factor, context / low_freq_factor);
                let (factor, band) = (*factor as f32, (high_freq_factor - low_freq_factor) as f32);
                let stretched = frequencies.map(|frequency| {
                    let wavelength = (2.0 * PI) as f32 / frequency;
                    if wavelength > shortest_divided as f32 {
                        frequency / factor
                    } else if wavelength < longest_kept as f32 {
                        frequency
                    } else {
                        let smooth = (*context as f32 / wavelength - *low_freq_factor as f32) / band;
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                });
                (stretched.collect(), 1.0)
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings: context,
                attention_factor,
                beta_fast,
                beta_slow,
                truncate,
            } => {
                // The dimension that makes so many turns within the original context.
                let dimension =
                    |turns: f64| head_dim as f64 * (context / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                low = low.max(0.0);
                high = high.min(head_dim as f64 - 1.0);
                if low == high {
                    high += 0.001;
                }
                let frequencies = wavelengths.iter().enumerate().map(|(i, wavelength)| {
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let kept = 1.0 - ramp;
                    (1.0 / (*factor as f32 * wavelength)) * (1.0 - kept) + (1.0 / wavelength) * kept
                });
                (frequencies.collect(), *attention_factor as f32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_a_table_until_they_are_changed() {
        let config = RopeConfig::new(10_000.0, RopeScaling::Default);
        let mut clone = config.clone();
        let (table, same) = (config.table(8, 100), clone.table(8, 100));
        assert!(std::ptr::eq(table.row(7).0, same.row(7).0));
        clone.theta = 500.0;
        let other = clone.table(8, 100);
        assert_eq!(other.row(7), RopeConfig::new(500.0, RopeScaling::Default).table(8, 100).row(7));
        assert_ne!(other.row(7), table.row(7));
    }
}
