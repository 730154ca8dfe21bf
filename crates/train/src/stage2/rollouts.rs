//! Rollouts: responses drawn from the policy, with everything that was random about them.

use aloud_engine::decode::batching::Limits;
use aloud_engine::decode::complete::complete;
use aloud_engine::decode::request::{FinishReason, Request, RequestError, Token};
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::backend::Backend;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::joint_action::log_joint;
use aloud_model::decoder::{Decoder, Policy};

use crate::stage2::joint_likelihood::SampledDistribution;
use aloud_engine::read::reading::RecordedSequence;

/// A response drawn from the policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Index of its prompt.
    pub prompt: usize,
    /// The response's tokens, the ending one included.
    pub token_ids: Vec<u32>,
    /// Depth (blocks) of the step that emitted each token; that of token 0 is `L`.
    pub depths: Vec<usize>,
    /// `log p(token)` of each step at its depth, nats, as it was drawn.
    pub token_log_probabilities: Vec<f32>,
    /// `log P` of exit depth and token of each step, nats, as they were drawn.
    pub log_joint: Vec<f32>,
    /// Whether the response was ended by the limit on its tokens.
    pub is_truncated: bool,
}

impl Rollout {
    /// The rollout behind its prompt, as a pass reads it.
    pub(crate) fn sequence<'a>(&'a self, prompt: &'a [u32]) -> RecordedSequence<'a> {
        RecordedSequence { prompt, response: &self.token_ids, depths: &self.depths }
    }
}

/// How rollouts are drawn.
#[derive(Clone, Debug)]
pub struct RolloutPlan<'a> {
    /// The prompts' tokens.
    pub prompts: &'a [Vec<u32>],
    /// Rollouts of each.
    pub group_size: usize,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// What is sampled.
    pub distribution: SampledDistribution,
    /// Tokens that end a response.
    pub stop_tokens: &'a [u32],
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the first rollout among those that share the seed; the others follow.
    pub first_sequence: u64,
    /// Responses decoded together.
    pub max_sequences: usize,
}

/// Draws `group_size` responses to every prompt, those of a prompt one after the other. What is drawn depends on the seed
/// and the rollouts' numbers alone.
///
/// # Errors
/// If a prompt does not fit the model; the error comes with its index.
pub fn draw_rollouts<B: Backend>(
    decoder: &Decoder<B>,
    policy: &Policy<B>,
    plan: &RolloutPlan<'_>,
) -> Result<Vec<Rollout>, (usize, RequestError)> {
    let SampledDistribution { temperature, exit_offset } = plan.distribution;
    let requests: Vec<Request> = plan
        .prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, plan.group_size))
        .enumerate()
        .map(|(number, prompt)| Request {
            prompt: prompt.clone(),
            max_new_tokens: plan.max_new_tokens,
            sampling: Sampling { temperature, top_p: 1.0, top_k: 0 },
            exits: exit_offset.map_or(ExitPolicy::Off, |offset| ExitPolicy::Sampled { offset: offset.into() }).into(),
            stop_tokens: plan.stop_tokens.to_vec(),
            seed: plan.seed,
            sequence: plan.first_sequence + number as u64,
            ..Request::default()
        })
        .collect();
    for (number, request) in requests.iter().enumerate().step_by(plan.group_size.max(1)) {
        request.validate(decoder, true).map_err(|error| (number / plan.group_size, error))?;
    }
    let limits = Limits { max_sequences: plan.max_sequences, max_prompt_rows: 2048 };
    let completions = complete(decoder, Some(policy), limits, &requests, &|| {}).map_err(|error| (0, error))?;
    let offset = exit_offset.unwrap_or_default();
    let log_joint =
        |token: &Token| log_joint(token.exits.iter().map(|exit| exit.decision(offset)), token.log_probability);
    let rollouts = completions.iter().enumerate().map(|(number, completion)| Rollout {
        prompt: number / plan.group_size,
        token_ids: completion.tokens.iter().map(|token| token.id).collect(),
        depths: completion.tokens.iter().map(|token| token.depth).collect(),
        token_log_probabilities: completion.tokens.iter().map(|token| token.log_probability).collect(),
        log_joint: completion.tokens.iter().map(log_joint).collect(),
        is_truncated: completion.reason == FinishReason::Length,
    });
    Ok(rollouts.collect())
}
