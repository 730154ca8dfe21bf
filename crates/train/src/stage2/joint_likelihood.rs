//! The log-probability of recorded steps under the joint action (exit depth, token), and its gradient: teacher-forced at the
//! recorded depths, only the work those depths need.
//!
//! `log P = sum_{reached d, not taken} log(1 - q_d) + [exited] log q_exit + log p_exit(token)` (arXiv 2603.21376). Prompt
//! tokens have no term. Response token 0 is emitted by the step that consumes the last prompt token, which runs at full depth:
//! it has a token term and no exit term.

use aloud_kernels::backend::Backend;
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};

use aloud_engine::read::reading::{PackedSteps, Reading, RecordedSequence, StepDecision, Trains};

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
    let heads: &[usize] = policy.map_or(&[], |policy| &policy.heads.candidates);
    let (candidates, offset) = distribution.exit_offset.map_or((&heads[..0], 0.0), |offset| (heads, offset));
    let mut likelihoods: Vec<Vec<StepLikelihood>> =
        sequences.iter().map(|sequence| vec![StepLikelihood::default(); sequence.depths.len()]).collect();
    let steps = PackedSteps::new(decoder, sequences)?;
    if steps.tokens.is_empty() {
        return Ok(likelihoods);
    }
    let reading = Reading::new(decoder, policy, candidates, &steps, gradient.is_some());

    let (backend, tokens) = (decoder.backend(), &steps.tokens);
    let readings = backend.token_log_probs(reading.readout(), tokens, distribution.temperature);
    for (&(s, t), reading) in steps.steps.iter().zip(&readings) {
        likelihoods[s][t].token = reading.log_probability;
        likelihoods[s][t].token_entropy = reading.entropy;
    }
    let decisions: Vec<_> = (0..candidates.len()).map(|c| reading.exit_decisions(c, offset)).collect();
    for StepDecision { sequence, token, decision } in decisions.iter().flatten() {
        let likelihood = &mut likelihoods[*sequence][*token];
        likelihood.exit += decision.log_probability();
        likelihood.exit_entropies.push(decision.entropy());
    }

    if let Some(LikelihoodGradient { d_joint, trained, gradients }) = gradient {
        let d_token: Vec<f32> = steps.steps.iter().map(|&(s, t)| d_joint[s][t]).collect();
        let d_unembedding = decoder.unembedding_gradient(trained, gradients);
        let temperature = distribution.temperature;
        let d_hidden =
            backend.token_log_probs_backward(reading.readout(), tokens, temperature, &d_token, d_unembedding);
        let d_decision = |StepDecision { sequence, token, decision }: &StepDecision| {
            d_joint[*sequence][*token] * decision.gradient()
        };
        let d_decisions: Vec<Vec<f32>> =
            decisions.iter().map(|decisions| decisions.iter().map(d_decision).collect()).collect();
        reading.backward(&d_hidden, &d_decisions, Trains { weights: trained, detach_heads: false }, gradients);
        // Heads that decided nothing: their optimiser takes part in every step all the same.
        for candidate in &heads[candidates.len()..] {
            gradients.add_head(*candidate, &vec![0.0; decoder.config().hidden_size], 0.0);
        }
    }
    Ok(likelihoods)
}
