//! What a distillation measures at every optimiser step.

use serde::{Deserialize, Serialize};

/// Metrics of one optimiser step of a distillation. Means are over response tokens of the step; depths and exits over
/// those after each response's first, which is pinned to full depth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Response tokens of the step, over all depth patterns.
    pub tokens: u64,
    /// Token KL plus weighted exit cross-entropy, nats per token.
    pub loss: f64,
    /// Mean token KL of tokens whose prescribed depth is a candidate, nats per token; `None` if there are none.
    pub token_kl_exited: Option<f64>,
    /// Mean token KL of tokens at full depth, nats per token; `None` if there are none.
    pub token_kl_full_depth: Option<f64>,
    /// Mean of `-log pi_student(prescribed depth)` over all response tokens, token 0 with its term of 0 included, nats per token.
    pub exit_cross_entropy: f64,
    /// Learning rate of the adapters, or of all weights.
    pub learning_rate: f64,
    /// Learning rate of the exit heads.
    pub learning_rate_heads: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Share of tokens prescribed to stop at each candidate.
    pub target_exits: Vec<f64>,
    /// What the student would stop at each candidate of the tokens that reach it under the prescribed depths: the sum of
    /// its hazards there, as a share of all tokens. Equals `target_exits` on average once the heads have learned them.
    pub expected_exits: Vec<f64>,
    /// Share of held-out tokens that the student stops at each candidate when depths are drawn freely from its own
    /// hazards; full depth last. `None` at steps without an evaluation: under prescribed depths, hazards beyond a token's
    /// exit do not exist.
    pub learned_exits: Option<Vec<f64>>,
    /// Average layer savings of the prescribed depths, `mean_t (1 - d_t / L)`.
    pub target_layer_savings: f64,
    /// Average layer savings of `learned_exits`.
    pub learned_layer_savings: Option<f64>,
    /// Response tokens per second of wall time.
    pub tokens_per_second: f64,
    /// Largest memory of the process so far, in bytes, where the operating system tells.
    pub peak_memory_bytes: Option<u64>,
}
