//! The model of an evaluation and its controls (as the metric cards name them), and how each decides its depths.

use std::fmt;

use aloud_engine::{ExitOffset, ExitRule, Exits, OracleExits};
use aloud_eval::{DepthPolicy, Dial, RandomMatched, hazard_of_logit, static_depth_of_equal_mean};
use aloud_kernels::Cpu;
use aloud_model::checkpoint::Checkpoint;
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::PretrainedModel;
use anyhow::Context as _;
use clap::ValueEnum;

use crate::loaded_model::{BaseModel, LoadedModel};

/// The model, or a control of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ModelKey {
    /// The base model at full depth
    Base,
    /// The trained model with its own exits
    Ee,
    /// The trained model with exits off
    EeOff,
    /// The base model; every token's depth drawn from the trained model's depth histogram
    BaseRandmatch,
    /// The base model; all tokens stop at one depth, the nearest to the trained model's mean depth
    Static,
    /// The base model; depths drawn from the teacher's targets, of the trained model's mean depth
    BaseOracle,
    /// The base model at full depth with noise in its weights, as accurate as the trained model
    BaseNoise,
}

impl ModelKey {
    /// All controls of a trained model.
    pub(crate) const CONTROLS: [Self; 6] =
        [Self::Base, Self::EeOff, Self::BaseRandmatch, Self::Static, Self::BaseOracle, Self::BaseNoise];

    /// Its name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Ee => "ee",
            Self::EeOff => "ee_off",
            Self::BaseRandmatch => "base_randmatch",
            Self::Static => "static",
            Self::BaseOracle => "base_oracle",
            Self::BaseNoise => "base_noise",
        }
    }

    /// Whether it is made equal to the model on items that are not evaluated.
    pub(crate) fn is_tuned(self) -> bool {
        matches!(self, Self::BaseOracle | Self::BaseNoise)
    }

    /// Whether it is the base model that runs.
    pub(crate) fn is_base(self) -> bool {
        !matches!(self, Self::Ee | Self::EeOff)
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The trained model and its base model.
#[derive(Debug)]
pub(crate) struct Models {
    /// What is evaluated; the base model itself if nothing was trained.
    pub(crate) trained: LoadedModel,
    /// The base model, if something was trained on it.
    base: Option<Decoder<Cpu>>,
    /// Name of what was trained (SHA-256 of the checkpoint), if something was.
    pub(crate) adapter_sha256: Option<String>,
    /// Factor of the targets that it was trained for, as its checkpoint says.
    pub(crate) kl_factor: Option<f64>,
    /// Price of depth that it was trained with, as its checkpoint says.
    pub(crate) depth_penalty: Option<f64>,
    /// The weights of the base model, to be disturbed.
    pub(crate) pretrained: PretrainedModel,
}

impl Models {
    /// A trained model together with its base model.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub(crate) fn new(trained: LoadedModel, base: BaseModel, cpu: &Cpu) -> anyhow::Result<Self> {
        let adapter_sha256 = trained.checkpoint.as_deref().map(Checkpoint::digest).transpose()?;
        let training = match &trained.checkpoint {
            Some(path) => Checkpoint::load(path, None)?.training,
            None => serde_json::Value::Null,
        };
        let pretrained = base.pretrained;
        let base = adapter_sha256.is_some().then(|| Decoder::new(cpu, &pretrained.config, &pretrained.weights));
        let number = |key: &str| training.pointer(key).and_then(serde_json::Value::as_f64);
        let (kl_factor, depth_penalty) = (number("/target/kl_factor"), number("/reward/depth_penalty"));
        Ok(Self { trained, base, adapter_sha256, kl_factor, depth_penalty, pretrained })
    }

    /// The key of what is evaluated.
    pub(crate) fn main_key(&self) -> ModelKey {
        if self.trained.policy.is_some() { ModelKey::Ee } else { ModelKey::Base }
    }

    /// The base model at full depth, which reads texts for metrics.
    pub(crate) fn base(&self) -> &Decoder<Cpu> {
        self.base.as_ref().unwrap_or(&self.trained.decoder)
    }

    /// A model ready to be asked. `exits` are those of the trained model. Controls need `matched`: what they are made
    /// equal to.
    ///
    /// # Errors
    /// If the model was not trained, or did nothing to be matched.
    pub(crate) fn subject<'a>(
        &'a self,
        key: ModelKey,
        exits: &Exits,
        matched: &'a Matched,
    ) -> anyhow::Result<Subject<'a>> {
        let n_blocks = self.trained.n_blocks();
        let (decoder, policy) = if key == ModelKey::BaseNoise {
            (&matched.noisy.as_ref().with_context(|| format!("{key}: no noise was found that matches"))?.0, None)
        } else if key.is_base() {
            (self.base(), None)
        } else {
            let policy = self.trained.policy.as_ref();
            (&self.trained.decoder, Some(policy.with_context(|| format!("{key}: nothing was trained on this model"))?))
        };
        let mut candidates = self.trained.head_depths().map(<[usize]>::to_vec).unwrap_or_default();
        let nothing = || format!("{key}: the trained model has no token to match");
        let depths = match key {
            ModelKey::Base | ModelKey::EeOff | ModelKey::BaseNoise => Depths::Engine(Exits::Off),
            ModelKey::Ee => Depths::Engine(exits.clone()),
            ModelKey::BaseRandmatch => Depths::Drawn(RandomMatched::new(matched.depths.iter().copied(), n_blocks)),
            ModelKey::Static => {
                let depth = static_depth_of_equal_mean(matched.depths.iter().copied()).with_context(nothing)?;
                Depths::Engine(Exits::Fixed(depth.clamp(1, n_blocks)))
            }
            ModelKey::BaseOracle => {
                let kl_factor = matched.oracle_factor.with_context(nothing)?;
                Depths::Engine(Exits::Oracle(OracleExits { candidates: candidates.clone(), kl_factor }))
            }
        };
        if let Depths::Engine(Exits::Fixed(depth)) = depths
            && depth < n_blocks
            && !candidates.contains(&depth)
        {
            candidates.push(depth);
            candidates.sort_unstable();
        }
        let trained_dials = if key.is_base() { (None, None) } else { (self.kl_factor, self.depth_penalty) };
        let noise = matched.noisy.as_ref().filter(|_| key == ModelKey::BaseNoise).map(|(_, strength)| *strength);
        Ok(Subject { key, decoder, policy, depths, candidates, trained_dials, noise })
    }
}

/// What controls are made equal to.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    /// Depths (blocks) of the trained model's eligible tokens.
    pub(crate) depths: Vec<usize>,
    /// The oracle's factor of equal mean depth.
    pub(crate) oracle_factor: Option<f32>,
    /// The base model with noise in its weights, of equal accuracy, and the strength of the noise.
    pub(crate) noisy: Option<(Decoder<Cpu>, f32)>,
}

/// A model that is asked.
pub(crate) struct Subject<'a> {
    pub(crate) key: ModelKey,
    pub(crate) decoder: &'a Decoder<Cpu>,
    pub(crate) policy: Option<&'a Policy<Cpu>>,
    /// How depths are decided.
    depths: Depths,
    /// Depths (blocks) at which tokens may stop, ascending.
    pub(crate) candidates: Vec<usize>,
    /// Factor of the targets and price of depth that the model was trained with.
    trained_dials: (Option<f64>, Option<f64>),
    /// Strength of the noise in its weights, if there is some.
    pub(crate) noise: Option<f32>,
}

/// How depths are decided.
enum Depths {
    /// By the engine.
    Engine(Exits),
    /// Each for itself from a histogram, whatever the token.
    Drawn(RandomMatched),
}

impl Subject<'_> {
    /// The exits of a response of up to `n` tokens.
    pub(crate) fn exits(&self, seed: u64, sequence: u64, n: usize) -> Exits {
        match &self.depths {
            Depths::Engine(exits) => exits.clone(),
            Depths::Drawn(histogram) => Exits::Recorded(histogram.depths(n, seed, sequence)),
        }
    }

    /// What is added to exit logits, if exit heads decide.
    pub(crate) fn offset(&self) -> Option<&ExitOffset> {
        match &self.depths {
            Depths::Engine(Exits::Sampled { offset } | Exits::Ruled { offset, .. }) => Some(offset),
            _ => None,
        }
    }

    /// Probability of a stop where a head's logit is `logit`, if exit heads decide.
    pub(crate) fn hazard(&self, logit: f32, offset: f32) -> f64 {
        let hazard = hazard_of_logit(f64::from(logit), f64::from(offset), 0.0);
        match &self.depths {
            Depths::Engine(Exits::Ruled { rule, .. }) => f64::from(rule.probability(hazard as f32)),
            _ => hazard,
        }
    }

    /// Whether every token runs at full depth.
    pub(crate) fn is_full_depth(&self) -> bool {
        matches!(&self.depths, Depths::Engine(Exits::Off))
    }

    /// The dials.
    pub(crate) fn dial(&self) -> Dial {
        let (policy, offset, static_depth) = match &self.depths {
            Depths::Engine(Exits::Off | Exits::Recorded(_)) => (DepthPolicy::Off, None, None),
            Depths::Engine(Exits::Sampled { offset }) => (DepthPolicy::Sampled, Some(f64::from(offset.think)), None),
            Depths::Engine(Exits::Ruled { offset, rule }) => {
                let policy = match rule {
                    ExitRule::Threshold => DepthPolicy::Threshold,
                    ExitRule::Compat => DepthPolicy::Compat,
                };
                (policy, Some(f64::from(offset.think)), None)
            }
            Depths::Engine(Exits::Fixed(depth)) => (DepthPolicy::Static, None, Some(*depth)),
            Depths::Engine(Exits::Oracle(_)) => (DepthPolicy::Oracle, None, None),
            Depths::Drawn(_) => (DepthPolicy::RandomMatched, None, None),
        };
        let kl_factor = match &self.depths {
            Depths::Engine(Exits::Oracle(oracle)) => Some(f64::from(oracle.kl_factor)),
            _ => self.trained_dials.0,
        };
        let tau = if policy == DepthPolicy::Compat { f64::from(ExitRule::COMPAT_TAU) } else { 0.0 };
        Dial { offset, kl_factor, depth_penalty: self.trained_dials.1, policy, static_depth, tau }
    }
}
