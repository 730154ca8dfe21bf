//! Rollouts: responses drawn from the policy, with everything that was random about them.

use aloud_engine::decode::batching::{Engine, Event, Flow, Limits};
use aloud_engine::decode::request::{FinishReason, Forced, Prefix, Request, RequestError};
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::Backend;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::joint_action::log_joint;
use aloud_model::decoder::{Decoder, Policy};

use crate::joint_likelihood::SampledDistribution;

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
            prefix: Prefix::default(),
            max_new_tokens: plan.max_new_tokens,
            sampling: Sampling { temperature, top_p: 1.0, top_k: 0 },
            exits: exit_offset.map_or(ExitPolicy::Off, |offset| ExitPolicy::Sampled { offset: offset.into() }).into(),
            stop_tokens: plan.stop_tokens.to_vec(),
            seed: plan.seed,
            sequence: plan.first_sequence + number as u64,
            forced: Forced::None,
        })
        .collect();
    for (number, request) in requests.iter().enumerate().step_by(plan.group_size.max(1)) {
        request.validate(decoder, true).map_err(|error| (number / plan.group_size, error))?;
    }
    let mut rollouts: Vec<Rollout> =
        (0..requests.len()).map(|number| Rollout { prompt: number / plan.group_size, ..Rollout::default() }).collect();
    let limits = Limits { max_sequences: plan.max_sequences, max_prompt_rows: 2048 };
    Engine::new(decoder, Some(policy), limits)
        .run(&requests, &mut |event| {
            match event {
                Event::Token { request, token } => {
                    let rollout = &mut rollouts[request];
                    rollout.token_ids.push(token.id);
                    rollout.depths.push(token.depth);
                    rollout.token_log_probabilities.push(token.log_probability);
                    rollout.log_joint.push(log_joint(
                        token.exits.iter().map(|exit| exit.decision(exit_offset.unwrap_or_default())),
                        token.log_probability,
                    ));
                }
                Event::Finished { request, reason } => {
                    rollouts[request].is_truncated = reason == FinishReason::Length;
                }
            }
            Flow::Continue
        })
        .map_err(|error| (0, error))?;
    Ok(rollouts)
}
