//! Target exit distributions of stage 1: from lens KLs to hazards, distributions and drawn depths (arXiv 2603.21376).
//!
//! The lens KL of a response token at candidate `d` is `K_d = KL(p_L || p_d)` in nats: the teacher's final distribution
//! against what its final norm and unembedding read at depth `d`. Everything here is f64.

use serde::{Deserialize, Serialize};

/// How hazards follow from lens KLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetPolicy {
    /// [`target_hazard`] as it is: every exit keeps its probability, however small.
    #[default]
    Exact,
    /// Hazards below [`COMPAT_HAZARD_CUT`] become 0, as in earlier implementations. The policy that is sampled then
    /// differs from the formula: for comparisons only.
    Compat,
}

/// Smallest hazard that [`TargetPolicy::Compat`] keeps.
pub const COMPAT_HAZARD_CUT: f64 = 0.1;

/// Target hazard of one token at one candidate (arXiv 2603.21376):
/// `q* = 2 (1 - sigmoid(kl_factor K)) = 1 - tanh(kl_factor K / 2)`.
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

/// Exit distribution of hazards by stick-breaking: `pi_d = q_d prod_{e<d} (1 - q_e)`, and `pi_L = prod_e (1 - q_e)` last.
///
/// # Shapes
/// `hazards`: `[n_candidates]`; result: `[n_candidates + 1]`, sums to 1.
pub fn exit_distribution(hazards: &[f64]) -> Vec<f64> {
    let mut stick = 1.0;
    let mut distribution = Vec::with_capacity(hazards.len() + 1);
    for hazard in hazards {
        distribution.push(stick * hazard);
        stick *= 1.0 - hazard;
    }
    distribution.push(stick);
    distribution
}

/// Draws a depth: at each candidate in turn, stop if `uniform(candidate index) < hazard`; else run all `n_blocks`.
///
/// `uniform` gives numbers in `[0, 1)`; it is asked once per candidate that the token reaches.
pub fn sample_depth(
    hazards: &[f64],
    candidates: &[usize],
    n_blocks: usize,
    mut uniform: impl FnMut(usize) -> f64,
) -> usize {
    let exit = hazards.iter().zip(candidates).enumerate().find(|&(i, (&hazard, _))| uniform(i) < hazard);
    exit.map_or(n_blocks, |(_, (_, &depth))| depth)
}

/// Average layer savings of depths: `mean_t (1 - d_t / L)`; 0 for no depths.
pub fn average_layer_savings(depths: &[usize], n_blocks: usize) -> f64 {
    if depths.is_empty() || n_blocks == 0 {
        return 0.0;
    }
    let executed: f64 = depths.iter().map(|&depth| depth as f64).sum();
    1.0 - executed / (depths.len() as f64 * n_blocks as f64)
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
    /// Target hazards of one token from its lens KLs.
    ///
    /// # Shapes
    /// `lens_kl`: `[n_candidates]`, nats; result: `[n_candidates]`.
    pub fn hazards(&self, lens_kl: &[f32]) -> Vec<f64> {
        lens_kl
            .iter()
            .map(|&kl| {
                let hazard = target_hazard(f64::from(kl), self.kl_factor);
                match self.policy {
                    TargetPolicy::Compat if hazard < COMPAT_HAZARD_CUT => 0.0,
                    TargetPolicy::Exact | TargetPolicy::Compat => hazard,
                }
            })
            .collect()
    }

    /// Draws a depth for every response token of a trace. Generated token 0 is pinned to full depth: the step that emits
    /// it consumes the last prompt token. `uniform(token, candidate index)` gives numbers in `[0, 1)`.
    ///
    /// # Shapes
    /// `lens_kl`: `[response_len, n_candidates]`, row-major, nats; result: `[response_len]`, the depth of the step that
    /// emits each token.
    pub fn draw_depths(&self, lens_kl: &[f32], mut uniform: impl FnMut(usize, usize) -> f64) -> Vec<usize> {
        self.rows(lens_kl)
            .enumerate()
            .map(|(token, row)| match token {
                0 => self.n_blocks,
                _ => sample_depth(&self.hazards(row), &self.candidates, self.n_blocks, |i| uniform(token, i)),
            })
            .collect()
    }

    fn rows<'a>(&self, lens_kl: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        lens_kl.chunks_exact(self.candidates.len().max(1))
    }
}

/// Sums over the tokens of many traces, for the heads' first biases and for reports. Generated token 0 never counts.
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

    /// Adds the tokens of a trace after the first, and draws `n_draws` depths for each of them.
    /// `uniform(draw, token, candidate index)` gives numbers in `[0, 1)`.
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
                let depth = sample_depth(&hazards, &targets.candidates, targets.n_blocks, |i| uniform(draw, token, i));
                let bin = targets.candidates.binary_search(&depth).unwrap_or(targets.candidates.len());
                if let Some(count) = self.draws.get_mut(bin) {
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

    /// Mean exit distribution: the candidates in order, then full depth.
    pub fn mean_distribution(&self) -> Vec<f64> {
        self.probability_sums.iter().map(|sum| sum / self.n_tokens.max(1) as f64).collect()
    }

    /// Expected share of tokens that exit before full depth.
    pub fn expected_exit_rate(&self) -> f64 {
        self.mean_distribution().iter().take(self.targets.candidates.len()).sum()
    }

    /// Expected average layer savings: `sum_d pi_d (1 - d / L)`.
    pub fn expected_layer_savings(&self) -> f64 {
        let n_blocks = self.targets.n_blocks.max(1) as f64;
        let savings = self.targets.candidates.iter().map(|&depth| 1.0 - depth as f64 / n_blocks);
        self.mean_distribution().iter().zip(savings).map(|(probability, saved)| probability * saved).sum()
    }

    /// Histogram of the drawn depths: the candidates in order, then full depth.
    pub fn histogram(&self) -> &[u64] {
        &self.draws
    }
}
