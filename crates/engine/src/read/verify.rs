//! Parity: the stepwise engine against the teacher-forced pass, on the same tokens and depths.

use aloud_kernels::backend::{Backend, Readout};
use aloud_kernels::rows::Rows;
use aloud_method::exit_offset::ExitOffset;
use aloud_method::joint_action::log_joint;
use aloud_model::decoder::{Decoder, Policy};

use super::reading::{PackedSteps, RecordedSequence};
use super::replay::replay;
use crate::decode::arena::Arena;
use crate::decode::exits::Exits;
use crate::decode::request::{Forced, Request, RequestError};
use crate::decode::sampling::{Sampling, log_probability_of};
use crate::decode::stepping::step;
use crate::decode::work::Work;
use crate::exit_reading::ExitReading;

/// Largest absolute differences between the two ways, over all steps of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ParityReport {
    /// Response tokens compared.
    pub n_tokens: usize,
    /// Of logits.
    pub logits: f32,
    /// Of exit logits at reached candidates.
    pub exit_logits: f32,
    /// Of keys and values, at the positions and blocks where the engine had to compute them.
    pub keys_values: f32,
    /// Of the joint log-probability (nats) of a step.
    pub log_joint: f32,
    /// Keys and values, of one position and block, that the engine never had to compute.
    pub n_keys_values_skipped: usize,
    /// The same, computed.
    pub n_keys_values_computed: usize,
}

impl ParityReport {
    /// The larger of each difference, and the sums of the counts.
    pub fn merge(&mut self, other: &Self) {
        self.n_tokens += other.n_tokens;
        self.logits = self.logits.max(other.logits);
        self.exit_logits = self.exit_logits.max(other.exit_logits);
        self.keys_values = self.keys_values.max(other.keys_values);
        self.log_joint = self.log_joint.max(other.log_joint);
        self.n_keys_values_skipped += other.n_keys_values_skipped;
        self.n_keys_values_computed += other.n_keys_values_computed;
    }
}

/// Infinite if the lengths differ or anything is not a number: that is no parity.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, |largest: f32, d| if d.is_nan() { f32::INFINITY } else { largest.max(d) });
    if a.len() == b.len() { largest } else { f32::INFINITY }
}

/// Replays a response of `tokens` whose step `t` ran to depth `depths[t]` both ways and compares them.
///
/// # Errors
/// If the record does not fit the model.
pub fn verify<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    prompt: &[u32],
    tokens: &[u32],
    depths: &[usize],
    offset: &ExitOffset,
    temperature: f32,
) -> Result<ParityReport, RequestError> {
    let request = Request {
        prompt: prompt.to_vec(),
        max_new_tokens: tokens.len(),
        sampling: Sampling { temperature, ..Sampling::default() },
        exits: Exits::recorded(depths.to_vec()),
        forced: Forced::Whole(tokens.to_vec()),
        ..Request::default()
    };
    request.validate(decoder, true)?;
    if tokens.is_empty() {
        return Ok(ParityReport::default());
    }
    let too_long = |_| RequestError::PromptTooLong {
        prompt: prompt.len() + tokens.len(),
        context: decoder.config().max_position_embeddings,
    };
    let backend = decoder.backend();
    let config = decoder.config();
    let mut report = ParityReport { n_tokens: tokens.len(), ..ParityReport::default() };

    // Teacher-forced.
    let replayed = replay(decoder, policy, prompt, tokens, depths, offset, temperature).map_err(too_long)?;
    let offsets = offset.of_steps(tokens);
    let first = prompt.len() - 1;
    let recorded = RecordedSequence { prompt, response: tokens, depths };
    let PackedSteps { batch, depths: row_depths, .. } = PackedSteps::new(decoder, &[recorded]).map_err(too_long)?;
    let forward = decoder.forward(Some(policy), &batch, &row_depths, &[], true);
    let hidden = decoder.read_out(Some(policy), &forward.residual, &row_depths);

    // Stepwise.
    let mut arena = Arena::new(backend, config.n_layers, config.key_value_size(), config.hidden_size);
    for (t, &token) in tokens.iter().enumerate() {
        let input = if t == 0 { prompt.to_vec() } else { vec![tokens[t - 1]] };
        let full_depth = vec![decoder.n_blocks(); input.len()];
        let depths = (t == 0).then_some(full_depth.as_slice());
        let mut work =
            [Work { arena: &mut arena, request: &request, tokens: &input, depths, step: t, offset: offsets[t] }];
        let (mut results, stepwise) = step(decoder, Some(policy), &mut work);
        let row = backend.gather_rows(&hidden, &[(first + t) as u32]);
        let logits = |hidden: &B::Rows| -> Rows { backend.logits(Readout { hidden, weight: decoder.unembedding() }) };
        let (stepwise, forced) = (logits(&stepwise), logits(&row));
        report.logits = report.logits.max(largest_difference(stepwise.values(), forced.values()));
        let Some(result) = results.pop() else { continue };
        let exit_logits = |exits: &[ExitReading]| exits.iter().map(|exit| exit.logit).collect::<Vec<_>>();
        let difference = largest_difference(&exit_logits(&result.exits), &exit_logits(&replayed[t].exits));
        report.exit_logits = report.exit_logits.max(difference);
        // Logits that are not finite are no parity.
        let log_probability = log_probability_of(stepwise.values(), token, temperature).unwrap_or(f32::NAN);
        let joint = log_joint(result.exits.iter().map(|exit| exit.decision(offsets[t])), log_probability);
        report.log_joint = report.log_joint.max(largest_difference(&[joint], &[replayed[t].log_joint]));
    }
    for block in 0..decoder.n_blocks() {
        let filled = arena.filled(block);
        report.n_keys_values_computed += filled;
        report.n_keys_values_skipped += batch.n_rows() - filled;
        let Some((keys, values)) = forward.keys_values(block) else { continue };
        let stepwise = arena.key_values(block);
        for (a, b) in [(stepwise.keys, keys), (stepwise.values, values)] {
            let n = filled * config.key_value_size();
            let (a, b) = (backend.download(a), backend.download(b));
            let difference = largest_difference(&a.values()[..n], &b.values()[..n]);
            report.keys_values = report.keys_values.max(difference);
        }
    }
    Ok(report)
}
