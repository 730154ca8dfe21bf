//! The recipe of stage 2: every setting of reinforcement learning over (exit depth, token), with its default.

use aloud_method::returns::{DepthPenalty, ReturnSettings};
use serde::{Deserialize, Serialize};

use crate::optimizer::{Decay, OptimizerSettings, Schedule};
use crate::recipe::{LearningRates, check_at_least_one, check_range, check_seed};
use crate::settings::{Settings, SettingsError};
use crate::stage2::collapse::CollapseRule;

/// Settings of a reinforcement run (arXiv 2603.21376, stage 2). One TOML file holds them all. What is trained (adapters or
/// all weights), candidates and head input are those of the stage-1 checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReinforceRecipe {
    /// Seed of everything random: prompts, exits, tokens.
    pub seed: u64,
    /// How responses are drawn.
    pub rollouts: RolloutSettings,
    /// What a response is worth.
    pub reward: RewardSettings,
    /// Learning rates at the end of the warm-up.
    pub learning_rate: LearningRates,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Length of the run and course of the learning rate.
    pub schedule: Schedule,
    /// When a run that has gone wrong ends.
    pub stop: CollapseRule,
    /// What is written when.
    pub run: ReinforceRun,
}

/// How responses are drawn. The distribution that is sampled is the one that is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSettings {
    /// Prompts of an optimiser step.
    pub prompts_per_step: usize,
    /// Rollouts of each prompt, compared with each other; at least 2.
    pub group_size: usize,
    /// Most tokens of a response; longer ones are cut, and their task reward is 0.
    pub max_new_tokens: usize,
    /// Divides the logits of tokens; above 0.
    pub temperature: f32,
    /// `on`, or `off`: every token runs at full depth, and the exit heads neither decide nor learn.
    pub exits: RolloutExits,
    /// Added to every exit logit; not used with `exits = "off"`.
    pub exit_offset: f32,
    /// Must be 1: a cut changes its support with the parameters, and the gradient would be wrong.
    pub top_p: f32,
    /// Must be 0, for the same reason.
    pub top_k: usize,
    /// Responses decoded together; changes speed and memory, never results.
    pub max_sequences: usize,
    /// Most packed rows (prompt and response tokens) of one teacher-forced pass. Memory grows with it.
    pub rows_per_pass: usize,
}

/// Whether responses are drawn with exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutExits {
    /// The action is exit depth and token.
    #[default]
    On,
    /// The action is the token alone, at full depth: what the same training does to a model without exits, the control
    /// `same_training` of evaluations.
    Off,
}

/// Which policy the KL penalty looks back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlReference {
    /// The base model at full depth: `k1 = log p_exit(y) - log p_base(y)`, the token term only.
    #[default]
    Base,
    /// The stage-1 policy at the same depths: `k1 = log P(d, y) - log P_ref(d, y)`, exits included.
    Stage1,
}

/// What a response is worth: `R = task - depth_penalty D - token_cost T - kl_coefficient sum_t k1_t`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSettings {
    /// What a response at full depth loses.
    pub depth_penalty: f64,
    /// `mean`: `D = mean_t d_t / L`; `max`: that of the deepest step, which easy tokens cannot dilute.
    pub depth_penalty_form: DepthPenalty,
    /// What each response token costs.
    pub token_cost: f64,
    /// What a nat of KL, summed over the response, costs.
    pub kl_coefficient: f64,
    /// `base` or `stage1`.
    pub kl_reference: KlReference,
    /// Takes depths of earlier steps out of a step's advantage: less noise, the same expected gradient.
    pub variance_reduction: bool,
}

/// What is written when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReinforceRun {
    /// Optimiser steps between checkpoints; 0: at the end only.
    pub checkpoint_every: u64,
    /// Optimiser steps between files of sample rollouts; 0: none.
    pub samples_every: u64,
    /// Rollouts in such a file.
    pub n_samples: usize,
    /// Optimiser steps between measurements of the KL if `reward.kl_coefficient = 0` (otherwise it is always measured); 0:
    /// never.
    pub measure_kl_every: u64,
    /// Largest difference of `log P` (nats) between rollout and update that is taken for rounding.
    pub ratio_tolerance: f64,
}

impl Default for ReinforceRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            rollouts: RolloutSettings {
                prompts_per_step: 16,
                group_size: 8,
                max_new_tokens: 96,
                temperature: 1.0,
                exits: RolloutExits::On,
                exit_offset: 0.0,
                top_p: 1.0,
                top_k: 0,
                max_sequences: 128,
                rows_per_pass: 2048,
            },
            reward: RewardSettings {
                depth_penalty: 0.3,
                depth_penalty_form: DepthPenalty::Mean,
                token_cost: 0.0,
                kl_coefficient: 0.0,
                kl_reference: KlReference::Base,
                variance_reduction: true,
            },
            learning_rate: LearningRates::default(),
            optimizer: OptimizerSettings::default(),
            schedule: Schedule { steps: 100, warmup_steps: 5, decay: Decay::Constant },
            stop: CollapseRule::default(),
            run: ReinforceRun {
                checkpoint_every: 25,
                samples_every: 25,
                n_samples: 4,
                measure_kl_every: 10,
                ratio_tolerance: 1e-3,
            },
        }
    }
}

impl RewardSettings {
    /// The settings of returns for a model of `n_blocks`.
    pub fn returns(&self, n_blocks: usize) -> ReturnSettings {
        ReturnSettings {
            n_blocks,
            depth_penalty: self.depth_penalty,
            depth_penalty_form: self.depth_penalty_form,
            token_cost: self.token_cost,
            kl_coefficient: self.kl_coefficient,
            variance_reduction: self.variance_reduction,
        }
    }
}

impl Settings for ReinforceRecipe {
    const RENAMED: &[(&str, &str)] =
        &[("stop.max_kl", "it was in nats per response; set `stop.max_kl_per_token`, in nats per response token")];

    fn check(&self) -> Result<(), SettingsError> {
        check_seed(self.seed)?;
        let rollouts = &self.rollouts;
        if rollouts.group_size < 2 {
            let problem = format!(
                "a rollout is compared with the others of its prompt, so it must be at least 2, found {}",
                rollouts.group_size
            );
            return Err(SettingsError::rule(&["rollouts.group_size"], problem));
        }
        if rollouts.top_p != 1.0 || rollouts.top_k > 0 {
            let problem = "tokens must be drawn from the whole distribution (top_p = 1, top_k = 0): a cut changes its \
                           support with the parameters, and the gradient would be wrong";
            return Err(SettingsError::rule(&["rollouts.top_p", "rollouts.top_k"], problem));
        }
        if rollouts.exits == RolloutExits::Off && self.reward.depth_penalty != 0.0 {
            let problem = format!(
                "without exits every response runs at full depth, and a price of depth of {} would teach nothing: set \
                 `reward.depth_penalty=0`",
                self.reward.depth_penalty
            );
            return Err(SettingsError::rule(&["rollouts.exits", "reward.depth_penalty"], problem));
        }
        check_at_least_one(&[
            ("rollouts.prompts_per_step", rollouts.prompts_per_step as u64),
            ("rollouts.max_new_tokens", rollouts.max_new_tokens as u64),
            ("rollouts.max_sequences", rollouts.max_sequences as u64),
            ("rollouts.rows_per_pass", rollouts.rows_per_pass as u64),
            ("schedule.steps", self.schedule.steps),
            ("stop.patience", self.stop.patience as u64),
        ])?;
        if !rollouts.exit_offset.is_finite() {
            let problem = format!("it must be finite, found {}", rollouts.exit_offset);
            return Err(SettingsError::rule(&["rollouts.exit_offset"], problem));
        }
        let positive = f64::MIN_POSITIVE..f64::MAX;
        let not_negative = 0.0..f64::MAX;
        for (key, value, range) in [
            ("rollouts.temperature", f64::from(rollouts.temperature), &(1e-3..1e3)),
            ("reward.depth_penalty", self.reward.depth_penalty, &not_negative),
            ("reward.token_cost", self.reward.token_cost, &not_negative),
            ("reward.kl_coefficient", self.reward.kl_coefficient, &not_negative),
            ("stop.min_token_entropy", self.stop.min_token_entropy, &not_negative),
            ("stop.max_kl_per_token", self.stop.max_kl_per_token, &not_negative),
            ("stop.min_reward_share", self.stop.min_reward_share, &(0.0..1.0)),
            ("run.ratio_tolerance", self.run.ratio_tolerance, &positive),
        ] {
            check_range(key, value, range)?;
        }
        self.learning_rate.check()?;
        self.optimizer.check()
    }
}
