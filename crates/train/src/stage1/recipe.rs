//! The recipe of stage 1: every setting of a distillation, with its default.

use aloud_kernels::backend::KlDirection;
use aloud_method::candidates::Candidates;
use aloud_method::exit_objective::ExitObjective;
use aloud_method::targets::TargetPolicy;
use aloud_model::decoder::Trained;
use aloud_model::exit_heads::HeadInput;
use aloud_model::exit_translators::ExitReadout;
use aloud_model::lora::Projection;
use serde::{Deserialize, Serialize};

use crate::optimizer::{Decay, OptimizerSettings, Schedule};
use crate::recipe::{LearningRates, LoraSettings, check_at_least_one, check_range, check_seed};
use crate::settings::{Settings, SettingsError};

/// Settings of a distillation (arXiv 2603.21376, stage 1). One TOML file holds them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillRecipe {
    /// Seed of everything random: depths, order of the traces, held-out traces, first values of the adapters.
    pub seed: u64,
    /// Depths at which a token may stop: `"every 5"` or a list. They must be among those of the traces.
    pub candidates: Candidates,
    /// What exit heads read: `rms` (the residual over its root mean square) or `raw`.
    pub head_input: HeadInput,
    /// How residuals at candidates are read out: `none` (as they are), `lowrank` or `block` (through translators, which are fitted
    /// first and then held).
    pub exit_readout: ExitReadout,
    /// Rank of the maps that are added to keys and values of frozen residuals in every block; 0: none.
    pub propagation_rank: usize,
    /// What is trained beside the exit heads: `lora`, `full`, or `exits` (nothing: the base model stays as it is).
    pub trained: Trained,
    /// Share of the traces that is never trained on, for evaluation; 0 for none.
    pub held_out: f64,
    /// The fit of exit translators, where there are any.
    pub translators: TranslatorSettings,
    /// What exit heads are trained on: `cross_entropy` (to the target distribution) or `expected_cost` (what stopping is expected
    /// to cost at `price`; the token loss then draws its depths from the heads themselves, which are held).
    pub exit_objective: ExitObjective,
    /// Price of the full depth, nats, for `exit_objective = "expected_cost"`. Higher: earlier exits.
    pub price: f64,
    /// The training of exit heads before the rest.
    pub exit_heads: HeadSettings,
    /// Target exit distribution.
    pub target: TargetSettings,
    /// The loss.
    pub loss: LossSettings,
    /// Low-rank adapters, used if `trained = "lora"`.
    pub lora: LoraSettings,
    /// Learning rates at the end of the warm-up.
    pub learning_rate: LearningRates,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Length of the run and course of the learning rate.
    pub schedule: ScheduleSettings,
    /// How samples are grouped.
    pub batch: BatchSettings,
    /// What is written when.
    pub run: RunSettings,
}

/// How translators are fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslatorSettings {
    /// Rank of low-rank maps.
    pub rank: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Response tokens of a step, at every candidate.
    pub tokens_per_step: usize,
    /// Learning rate of the fit at the end of the warm-up.
    pub learning_rate: f64,
    /// Whether they are held in the joint steps; otherwise they are trained on, at the rate of adapters.
    pub held: bool,
    /// Direction of the KL between the final distribution and what is read at the candidate: `forward` (covers all that the model
    /// might say) or `reverse`.
    #[serde(with = "DirectionName")]
    pub kl_direction: KlDirection,
}

/// How exit heads are trained before the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSettings {
    /// Optimiser steps towards the target distribution; 0: the heads begin with constant hazards.
    pub cross_entropy_steps: u64,
    /// Optimiser steps on the expected cost, used if `exit_objective = "expected_cost"`.
    pub expected_cost_steps: u64,
    /// Response tokens of a step, at least; whole traces are taken.
    pub tokens_per_step: usize,
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
}

/// Target exit distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// How fast target hazards fall with the lens KL, per nat. Smaller: earlier exits, more damage to the text.
    pub kl_factor: f64,
    /// `exact`, or `compat` (hazards below 0.1 become 0, as in earlier implementations).
    pub policy: TargetPolicy,
}

/// Names of the directions of the token term.
#[derive(Serialize, Deserialize)]
#[serde(remote = "KlDirection", rename_all = "lowercase")]
enum DirectionName {
    Reverse,
    Forward,
}

/// The loss: `mean_t KL + exit_weight * mean_t (-log pi(sampled depth_t))`, nats per response token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSettings {
    /// Depth patterns drawn for each trace each time it is used.
    pub exit_samples: u32,
    /// Weight of the exit term.
    pub exit_weight: f64,
    /// Direction of the token term: `reverse` (avoids what the teacher would not say) or `forward` (covers all that it might).
    #[serde(with = "DirectionName")]
    pub kl_direction: KlDirection,
    /// Whether the exit term trains the heads alone and leaves the trunk untouched.
    pub detach_heads: bool,
}

/// Length of the run and course of the learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Times that every training trace is used.
    pub epochs: u32,
    /// Optimiser steps after which the run ends, even inside an epoch; 0 for no limit.
    pub max_steps: u64,
    /// Warm-up in optimiser steps; 0: take `warmup_fraction`.
    pub warmup_steps: u64,
    /// Warm-up as a share of the run, used if `warmup_steps = 0`.
    pub warmup_fraction: f64,
    /// After the warm-up: `constant`, `linear` or `cosine`.
    pub decay: Decay,
}

impl ScheduleSettings {
    /// The schedule of a run whose epochs have `n_planned_steps` optimiser steps together.
    pub fn schedule(&self, n_planned_steps: u64) -> Schedule {
        let total_steps = if self.max_steps > 0 { n_planned_steps.min(self.max_steps) } else { n_planned_steps };
        let warmup_steps = match self.warmup_steps {
            0 => (total_steps as f64 * self.warmup_fraction).ceil() as u64,
            steps => steps,
        };
        Schedule { steps: total_steps, warmup_steps, decay: self.decay }
    }
}

/// How samples are grouped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Most packed rows (prompt and response tokens of all samples together) that are computed at once; a longer sample
    /// is computed alone. Memory grows with it.
    pub tokens_per_step: usize,
    /// How many such packs make one optimiser step: it takes whole traces while they fit.
    pub accumulation: u32,
}

/// What is written when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// Optimiser steps between checkpoints; 0: at the end only.
    pub checkpoint_every: u64,
    /// Optimiser steps between evaluations on the held-out traces; 0: at the end only.
    pub evaluate_every: u64,
}

impl Default for TranslatorSettings {
    fn default() -> Self {
        Self {
            rank: 64,
            steps: 200,
            tokens_per_step: 128,
            learning_rate: 1e-3,
            held: true,
            kl_direction: KlDirection::Forward,
        }
    }
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self { cross_entropy_steps: 0, expected_cost_steps: 200, tokens_per_step: 512, learning_rate: 3e-3 }
    }
}

impl Default for DistillRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            candidates: Candidates::default(),
            head_input: HeadInput::Rms,
            exit_readout: ExitReadout::None,
            propagation_rank: 0,
            trained: Trained::Adapters,
            held_out: 0.05,
            exit_objective: ExitObjective::CrossEntropy,
            price: 1.0,
            exit_heads: HeadSettings::default(),
            translators: TranslatorSettings::default(),
            target: TargetSettings { kl_factor: 1.0, policy: TargetPolicy::Exact },
            loss: LossSettings {
                exit_samples: 4,
                exit_weight: 1.0,
                kl_direction: KlDirection::Reverse,
                detach_heads: false,
            },
            lora: LoraSettings {
                rank: 8,
                alpha: 16.0,
                targets: vec![Projection::QProj, Projection::KProj, Projection::VProj, Projection::OProj],
            },
            learning_rate: LearningRates::default(),
            optimizer: OptimizerSettings::default(),
            schedule: ScheduleSettings {
                epochs: 1,
                max_steps: 0,
                warmup_steps: 0,
                warmup_fraction: 0.05,
                decay: Decay::Cosine,
            },
            batch: BatchSettings { tokens_per_step: 2048, accumulation: 1 },
            run: RunSettings { checkpoint_every: 100, evaluate_every: 50 },
        }
    }
}

impl Settings for DistillRecipe {
    fn check(&self) -> Result<(), SettingsError> {
        check_seed(self.seed)?;
        for (key, value, range) in [
            ("held_out", self.held_out, 0.0..1.0),
            ("target.kl_factor", self.target.kl_factor, f64::MIN_POSITIVE..f64::MAX),
            ("loss.exit_weight", self.loss.exit_weight, 0.0..f64::MAX),
            ("price", self.price, 0.0..f64::MAX),
            ("exit_heads.learning_rate", self.exit_heads.learning_rate, f64::MIN_POSITIVE..1.0),
            ("translators.learning_rate", self.translators.learning_rate, f64::MIN_POSITIVE..1.0),
            ("lora.alpha", f64::from(self.lora.alpha), f64::MIN_POSITIVE..f64::from(f32::MAX)),
            ("schedule.warmup_fraction", self.schedule.warmup_fraction, 0.0..1.0),
        ] {
            check_range(key, value, &range)?;
        }
        self.learning_rate.check()?;
        self.optimizer.check()?;
        check_at_least_one(&[
            ("loss.exit_samples", u64::from(self.loss.exit_samples)),
            ("lora.rank", self.lora.rank as u64),
            ("exit_heads.tokens_per_step", self.exit_heads.tokens_per_step as u64),
            ("translators.rank", self.translators.rank as u64),
            ("translators.steps", self.translators.steps),
            ("translators.tokens_per_step", self.translators.tokens_per_step as u64),
            ("schedule.epochs", u64::from(self.schedule.epochs)),
            ("batch.tokens_per_step", self.batch.tokens_per_step as u64),
            ("batch.accumulation", u64::from(self.batch.accumulation)),
        ])?;
        self.check_combinations()
    }
}

impl DistillRecipe {
    /// Optimiser steps of the heads on the expected cost.
    pub(crate) fn cost_steps(&self) -> u64 {
        if self.exit_objective == ExitObjective::ExpectedCost { self.exit_heads.expected_cost_steps } else { 0 }
    }

    /// Weight of the exit term in the joint steps: heads that know what stopping costs are held there.
    pub(crate) fn joint_exit_weight(&self) -> f64 {
        if self.exit_objective == ExitObjective::ExpectedCost { 0.0 } else { self.loss.exit_weight }
    }

    /// The candidates of a model of `n_blocks` blocks: strictly increasing, each in `1..n_blocks`.
    ///
    /// # Errors
    /// If there would be none, or the list is not strictly increasing or out of range.
    pub fn candidates_of(&self, n_blocks: usize) -> Result<Vec<usize>, SettingsError> {
        let depths = self.candidates.depths(n_blocks);
        depths.map_err(|error| SettingsError::rule(&["candidates"], error.to_string()))
    }

    fn check_combinations(&self) -> Result<(), SettingsError> {
        let wrong = |keys: &[&str], problem: &str| Err(SettingsError::rule(keys, problem));
        let targets = &self.lora.targets;
        if targets.iter().enumerate().any(|(i, target)| targets.iter().skip(i + 1).any(|other| other == target)) {
            return wrong(&["lora.targets"], "a layer is named twice");
        }
        if self.trained == Trained::Adapters && targets.is_empty() {
            return wrong(&["trained", "lora.targets"], "adapters are to be trained, but no layer has any");
        }
        let (trunk_key, trunk_rate) = match self.trained {
            Trained::Adapters => ("learning_rate.adapters", self.learning_rate.adapters),
            Trained::Full => ("learning_rate.weights", self.learning_rate.weights),
            Trained::Exits => ("trained", 0.0),
        };
        if trunk_rate == 0.0 && self.learning_rate.heads == 0.0 {
            return wrong(&[trunk_key, "learning_rate.heads"], "both are 0: nothing would be trained");
        }
        let trains_maps = self.propagation_rank > 0 || !self.exit_readout.is_none() && !self.translators.held;
        if self.exit_objective == ExitObjective::ExpectedCost && self.trained == Trained::Exits && !trains_maps {
            return wrong(
                &["trained", "exit_objective", "translators.held", "propagation_rank"],
                "heads on the expected cost are held in the joint steps, and so is all else: nothing would be trained there",
            );
        }
        if self.loss.exit_weight == 0.0 && self.learning_rate.heads > 0.0 {
            return wrong(
                &["loss.exit_weight", "learning_rate.heads"],
                "the exit term is off, so the heads would learn nothing; set `learning_rate.heads=0` if that is meant",
            );
        }
        let ScheduleSettings { max_steps, warmup_steps, .. } = self.schedule;
        if max_steps > 0 && warmup_steps > max_steps {
            return wrong(
                &["schedule.warmup_steps", "schedule.max_steps"],
                &format!("the warm-up of {warmup_steps} steps is longer than the run of {max_steps}"),
            );
        }
        if self.run.evaluate_every > 0 && self.held_out == 0.0 {
            return wrong(
                &["run.evaluate_every", "held_out"],
                "there are no held-out traces to evaluate on; set one to 0 or the other above it",
            );
        }
        Ok(())
    }
}
