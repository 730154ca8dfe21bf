//! Exit heads: at each candidate depth a scalar readout `z_d = w_d . u(x_d) + b_d` of the residual (arXiv 2603.21376).

use aloud_method::hazard::first_bias;
use serde::{Deserialize, Serialize};

/// What an exit head reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadInput {
    /// The residual divided by its root mean square, without gain (raw residuals have large outlier channels).
    #[default]
    Rms,
    /// The residual itself.
    Raw,
}

/// The exit heads of a model, one per candidate depth.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitHeads {
    /// Candidate depths: blocks already applied, strictly increasing, each in `1..L`.
    pub candidates: Vec<usize>,
    /// What the heads read.
    pub input: HeadInput,
    /// `w_d`, one vector of hidden size per candidate.
    pub weights: Vec<Vec<f32>>,
    /// `b_d`, one number per candidate.
    pub biases: Vec<f32>,
}

impl ExitHeads {
    /// Heads that read nothing yet: `w = 0`, `b_d = logit(mean_target_hazard_d)`, hazards clamped to 1e-4..1-1e-4.
    pub fn new(candidates: Vec<usize>, input: HeadInput, hidden_size: usize, mean_target_hazards: &[f32]) -> Self {
        let biases = mean_target_hazards.iter().copied().map(first_bias).collect();
        let weights = vec![vec![0.0; hidden_size]; candidates.len()];
        Self { candidates, input, weights, biases }
    }
}
