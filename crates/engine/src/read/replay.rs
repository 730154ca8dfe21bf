//! The teacher-forced reading of a recorded response: what each step's depth and token were worth.

use aloud_kernels::backend::Backend;
use aloud_method::exit_offset::ExitOffset;
use aloud_method::hazard::hazard;
use aloud_method::joint_action::{Decision, log_joint};
use aloud_model::decoder::{BatchError, Decoder, Policy};

use super::reading::{PackedSteps, Reading, RecordedSequence, StepDecision};
use crate::exit_reading::ExitReading;

/// One response token under the joint action (exit depth, token) of arXiv 2603.21376.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayedToken {
    /// The candidates that the step reached; none for token 0.
    pub exits: Vec<ExitReading>,
    /// `log p(token)` at the step's depth, nats.
    pub log_probability: f32,
    /// `log P = sum log(1 - q) over reached candidates not taken + [exited] log q + log p(token)`, nats.
    pub log_joint: f32,
}

/// Reads a response of `tokens` whose step `t` ran to depth `depths[t]` (blocks), in one teacher-forced pass.
///
/// # Errors
/// If a token or a position does not exist in the model.
///
/// # Panics
/// If the prompt is empty or there is not one depth a token.
pub fn replay<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    prompt: &[u32],
    tokens: &[u32],
    depths: &[usize],
    offset: &ExitOffset,
    temperature: f32,
) -> Result<Vec<ReplayedToken>, BatchError> {
    assert!(!prompt.is_empty() && tokens.len() == depths.len(), "a prompt, and one depth a token");
    let steps = PackedSteps::new(decoder, &[RecordedSequence { prompt, response: tokens, depths }])?;
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let offsets = offset.of_steps(tokens);
    let candidates = &policy.heads.candidates;
    let reading = Reading::new(decoder, Some(policy), candidates, &steps, false);
    let mut exits: Vec<Vec<ExitReading>> = vec![Vec::new(); tokens.len()];
    for (c, &depth) in candidates.iter().enumerate() {
        for StepDecision { token, decision: Decision { logit, exited }, .. } in reading.exit_decisions(c, 0.0) {
            exits[token].push(ExitReading { depth, logit, hazard: hazard(logit, offsets[token]), exited });
        }
    }
    let temperature = if temperature > 0.0 { temperature } else { 1.0 };
    let readings = decoder.backend().token_log_probs(reading.readout(), tokens, temperature);
    Ok(exits
        .into_iter()
        .zip(readings)
        .zip(offsets)
        .map(|((exits, reading), offset)| ReplayedToken {
            log_joint: log_joint(exits.iter().map(|exit| exit.decision(offset)), reading.log_probability),
            log_probability: reading.log_probability,
            exits,
        })
        .collect())
}
