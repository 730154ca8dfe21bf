//! The log-probability of recorded steps under the joint action (exit depth, token), and its gradient: teacher-forced at the
//! recorded depths, only the work those depths need.
//!
//! `log P = sum_{reached d, not taken} log(1 - q_d) + [exited] log q_exit + log p_exit(token)` (arXiv 2603.21376). Prompt
//! tokens have no term. Response token 0 is emitted by the step that consumes the last prompt token, which runs at full depth:
//! it has a token term and no exit term.

use aloud_kernels::{Backend, Readout};
use aloud_method::hazard::{sigmoid, softplus};
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use crate::packed_steps::PackedSteps;
pub use crate::packed_steps::RecordedSequence;

/// The distribution that was sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledDistribution {
    /// Divides the logits of tokens; above 0.
    pub temperature: f32,
    /// Added to every exit logit; `None`: exits were off, every step ran at full depth, and the action is the token alone.
    pub exit_offset: Option<f32>,
}

impl Default for SampledDistribution {
    fn default() -> Self {
        Self { temperature: 1.0, exit_offset: Some(0.0) }
    }
}

/// What a step was worth, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepLikelihood {
    /// `log p(token)` at the step's depth.
    pub token: f32,
    /// Exit part of `log P`.
    pub exit: f32,
    /// Entropy of the token's distribution.
    pub token_entropy: f32,
    /// Entropy of the decision at each candidate that the step reached, in order.
    pub exit_entropies: Vec<f32>,
}

impl StepLikelihood {
    /// `log P` of exit depth and token.
    pub fn joint(&self) -> f32 {
        self.exit + self.token
    }
}

/// Where gradients go, and of what.
#[derive(Debug)]
pub struct LikelihoodGradient<'a, B: Backend> {
    /// Derivative of the loss by `log P` of each step: `[sequence][response token]`.
    pub d_joint: &'a [Vec<f32>],
    /// What gets gradients besides the heads.
    pub trained: Trained,
    /// Gradients of the loss are added here.
    pub gradients: &'a mut Gradients<B>,
}

/// Reads recorded responses, `[sequence][response token]`, and with `gradient` adds the gradient of
/// `sum d_joint * log P`. Without a policy, without heads or with exits off, steps have no exit part; the heads' gradients are
/// then 0.
///
/// # Errors
/// If a token or a position does not exist in the model.
pub fn joint_likelihood<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    sequences: &[RecordedSequence<'_>],
    distribution: SampledDistribution,
    gradient: Option<LikelihoodGradient<'_, B>>,
) -> Result<Vec<Vec<StepLikelihood>>, BatchError> {
    let backend = decoder.backend();
    let config = decoder.config();
    let heads: &[usize] = policy.map_or(&[], |policy| &policy.heads.candidates);
    let (candidates, offset) = distribution.exit_offset.map_or((&heads[..0], 0.0), |offset| (heads, offset));

    let packed = PackedSteps::new(decoder, sequences)?;
    let PackedSteps { batch, depths, response_rows, tokens, .. } = &packed;
    let mut steps: Vec<Vec<StepLikelihood>> =
        sequences.iter().map(|sequence| vec![StepLikelihood::default(); sequence.depths.len()]).collect();
    if batch.n_rows() == 0 {
        return Ok(steps);
    }
    let forward = decoder.forward(policy, batch, depths, candidates, gradient.is_some());

    // Token part.
    let residual = backend.gather_rows(&forward.residual, response_rows);
    let hidden = decoder.final_norm(&residual);
    let readout = || Readout { hidden: &hidden, weight: decoder.unembedding() };
    let readings = backend.token_log_probs(readout(), tokens, distribution.temperature);
    for (&(s, t), reading) in packed.steps.iter().zip(&readings) {
        steps[s][t].token = reading.log_probability;
        steps[s][t].token_entropy = reading.entropy;
    }
    let mut gradient = gradient;
    let mut d_residual = None;
    if let Some(LikelihoodGradient { d_joint, trained, gradients }) = &mut gradient {
        let d_token: Vec<f32> = packed.steps.iter().map(|&(s, t)| d_joint[s][t]).collect();
        let d_unembedding = decoder.unembedding_gradient(*trained, gradients);
        let d_hidden =
            backend.token_log_probs_backward(readout(), tokens, distribution.temperature, &d_token, d_unembedding);
        let d_response = decoder.final_norm_backward(&residual, &d_hidden, *trained, gradients);
        let mut d_rows = backend.zeros(batch.n_rows(), config.hidden_size);
        backend.scatter_add_rows(&mut d_rows, Some(response_rows), &d_response);
        d_residual = Some(d_rows);
    }

    // Exit part, at the candidates that each step reached.
    let mut d_at_candidates = Vec::with_capacity(candidates.len());
    for (c, candidate) in candidates.iter().enumerate() {
        let Some(policy) = policy else { continue };
        let at_candidate = &forward.at_candidates[c];
        let logits = policy.exit_logits(c, at_candidate, config.rms_norm_eps);
        let mut d_logits = vec![0.0; logits.len()];
        for ((row, logit), d) in forward.reached[c].iter().zip(&logits).zip(&mut d_logits) {
            let Some((s, t)) = packed.exiting_step[*row as usize] else { continue };
            let z = logit + offset;
            let hazard = sigmoid(z);
            let exits = depths[*row as usize] == *candidate;
            steps[s][t].exit -= if exits { softplus(-z) } else { softplus(z) };
            steps[s][t].exit_entropies.push(hazard * softplus(-z) + (1.0 - hazard) * softplus(z));
            if let Some(gradient) = &gradient {
                *d = gradient.d_joint[s][t] * (if exits { 1.0 } else { 0.0 } - hazard);
            }
        }
        let Some(LikelihoodGradient { gradients, .. }) = &mut gradient else { continue };
        let mut d_weight = vec![0.0; config.hidden_size];
        let mut d_bias = 0.0;
        let mut d_x = backend.zeros(logits.len(), config.hidden_size);
        let eps = policy.head_eps(config.rms_norm_eps);
        let weight = &policy.heads.weights[c];
        backend.exit_head_backward(at_candidate, weight, eps, &d_logits, Some(&mut d_x), &mut d_weight, &mut d_bias);
        gradients.add_head(*candidate, &d_weight, d_bias);
        d_at_candidates.push(Some(d_x));
    }
    if let Some(LikelihoodGradient { gradients, .. }) = &mut gradient {
        // Heads that decided nothing: their optimiser takes part in every step all the same.
        for candidate in &heads[candidates.len()..] {
            gradients.add_head(*candidate, &vec![0.0; config.hidden_size], 0.0);
        }
    }

    if let (Some(LikelihoodGradient { trained, gradients, .. }), Some(d_residual)) = (gradient, d_residual) {
        decoder.backward(policy, forward, candidates, d_residual, &d_at_candidates, trained, gradients);
    }
    Ok(steps)
}
