//! Targets of stage 1: from the teacher's lens KLs to hazards, distributions and drawn depths (arXiv 2603.21376, stage 1,
//! calibration by self-distillation).
//!
//! The lens KL of a response token at candidate `d` is `K_d = KL(p_L || p_d)` in nats: the teacher's final distribution
//! against what its final norm and unembedding read at depth `d`. Everything here is f64.

use serde::{Deserialize, Serialize};

use crate::candidates::outcome;
use crate::exit_distribution::{draw_depth, exit_distribution};
use crate::hazard::cut;
use crate::savings::savings_of_distribution;

/// Target hazard of one token at one candidate: `q*_d = 2 (1 - sigmoid(kl_factor K_d)) = 1 - tanh(kl_factor K_d / 2)`.
///
/// `kl` is the lens KL in nats; rounding can make it slightly negative, so it is clamped at 0. The result is in `0..=1`: 1 at
/// `K = 0`, falling with `K` and with `kl_factor`. A KL that is not a number stays one: it is no decision. Traces with one are
/// refused, by trace and token, where they are written and where they are read.
pub fn target_hazard(kl: f64, kl_factor: f64) -> f64 {
    // Not `max`, which would turn a number that is none into 0.
    let kl = if kl < 0.0 { 0.0 } else { kl };
    // 2 e^-x / (1 + e^-x): neither overflows nor loses the small hazards, as 1 - tanh would.
    let small = (-kl_factor * kl).exp();
    2.0 * small / (1.0 + small)
}

/// How hazards follow from lens KLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetPolicy {
    /// [`target_hazard`] as it is: every exit keeps its probability, however small.
    #[default]
    Exact,
    /// Hazards below 0.1 become 0, as in the published code. The policy that is sampled then differs from the formula: for
    /// comparisons only.
    Compat,
}

impl TargetPolicy {
    /// `q*_d` of a lens KL (nats) under this policy.
    pub fn hazard(self, kl: f64, kl_factor: f64) -> f64 {
        let hazard = target_hazard(kl, kl_factor);
        match self {
            Self::Exact => hazard,
            Self::Compat => cut(hazard),
        }
    }
}

/// The rule that turns lens KLs into targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// Candidate depths, strictly increasing.
    pub candidates: Vec<usize>,
    /// Number of blocks `L`.
    pub n_blocks: usize,
    /// How fast hazards fall with the lens KL, per nat. Small: earlier exits.
    pub kl_factor: f64,
    /// How hazards follow.
    pub policy: TargetPolicy,
}

impl Targets {
    /// Target hazards `q*` of one token from its lens KLs.
    ///
    /// # Shapes
    /// `lens_kl`: `[n_candidates]`, nats; result: `[n_candidates]`.
    pub fn hazards(&self, lens_kl: &[f32]) -> Vec<f64> {
        lens_kl.iter().map(|kl| self.policy.hazard(f64::from(*kl), self.kl_factor)).collect()
    }

    /// Draws a depth from `pi*` for every response token of a trace; that of token 0 is `L`. `uniform(token, candidate number)`
    /// gives numbers in `[0, 1)`.
    ///
    /// # Shapes
    /// `lens_kl`: `[response_len, n_candidates]`, row-major, nats; result: `[response_len]`, the depth of the step that
    /// emits each token.
    pub fn draw_depths(&self, lens_kl: &[f32], mut uniform: impl FnMut(usize, usize) -> f64) -> Vec<usize> {
        self.rows(lens_kl)
            .enumerate()
            .map(|(token, row)| match token {
                0 => self.n_blocks,
                _ => draw_depth(&self.hazards(row), &self.candidates, self.n_blocks, |i| uniform(token, i)),
            })
            .collect()
    }

    fn rows<'a>(&self, lens_kl: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        lens_kl.chunks_exact(self.candidates.len().max(1))
    }
}

/// Sums over the tokens of many traces, for the heads' first biases and for reports. Token 0 never counts.
#[derive(Clone, Debug)]
pub struct TargetStatistics {
    targets: Targets,
    n_tokens: u64,
    hazard_sums: Vec<f64>,
    probability_sums: Vec<f64>,
    draws: Vec<u64>,
}

impl TargetStatistics {
    /// Statistics over no tokens yet.
    pub fn new(targets: Targets) -> Self {
        let n_candidates = targets.candidates.len();
        Self {
            targets,
            n_tokens: 0,
            hazard_sums: vec![0.0; n_candidates],
            probability_sums: vec![0.0; n_candidates + 1],
            draws: vec![0; n_candidates + 1],
        }
    }

    /// Adds the tokens `t >= 1` of a trace, and draws `n_draws` depths for each of them.
    /// `uniform(draw, token, candidate number)` gives numbers in `[0, 1)`.
    ///
    /// # Shapes
    /// `lens_kl`: `[response_len, n_candidates]`, row-major, nats.
    pub fn add_trace(&mut self, lens_kl: &[f32], n_draws: usize, mut uniform: impl FnMut(usize, usize, usize) -> f64) {
        let targets = &self.targets;
        for (token, row) in targets.rows(lens_kl).enumerate().skip(1) {
            let hazards = targets.hazards(row);
            self.n_tokens += 1;
            for (sum, hazard) in self.hazard_sums.iter_mut().zip(&hazards) {
                *sum += hazard;
            }
            for (sum, probability) in self.probability_sums.iter_mut().zip(exit_distribution(&hazards)) {
                *sum += probability;
            }
            for draw in 0..n_draws {
                let depth = draw_depth(&hazards, &targets.candidates, targets.n_blocks, |i| uniform(draw, token, i));
                if let Some(count) = self.draws.get_mut(outcome(depth, &targets.candidates)) {
                    *count += 1;
                }
            }
        }
    }

    /// Tokens counted.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Mean target hazard per candidate, over all counted tokens whether they would reach it or not: the first biases of
    /// the exit heads are their logits. 0 before any token.
    pub fn mean_hazards(&self) -> Vec<f64> {
        self.hazard_sums.iter().map(|sum| sum / self.n_tokens.max(1) as f64).collect()
    }

    /// Mean of `pi*`: the candidates in order, then full depth.
    pub fn mean_distribution(&self) -> Vec<f64> {
        self.probability_sums.iter().map(|sum| sum / self.n_tokens.max(1) as f64).collect()
    }

    /// Expected share of tokens that exit before full depth, `sum_{d < L} pi*_d`.
    pub fn expected_exit_rate(&self) -> f64 {
        self.mean_distribution().iter().take(self.targets.candidates.len()).sum()
    }

    /// Expected average layer savings, `sum_d pi*_d (1 - d / L)`.
    pub fn expected_layer_savings(&self) -> f64 {
        savings_of_distribution(&self.mean_distribution(), &self.targets.candidates, self.targets.n_blocks)
    }

    /// Histogram of the drawn depths: the candidates in order, then full depth.
    pub fn histogram(&self) -> &[u64] {
        &self.draws
    }
}
