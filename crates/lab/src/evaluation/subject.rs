//! The model of an evaluation and its controls (as the metric cards name them), and how each decides its depths.

use aloud_session::error::{Context as _, SessionError};
use std::fmt;
use std::sync::Arc;

use aloud_engine::decode::complete::{Completion, complete};
use aloud_engine::decode::exits::{ExitDecider, Exits};
use aloud_engine::decode::request::Request;
use aloud_kernels::cpu::Cpu;
use aloud_measure::metric_record::{DepthPolicy, Dial};
use aloud_measure::metrics::controls::static_depth_of_equal_mean;
use aloud_measure::run_files::NoiseControl;
use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::hazard::{COMPAT_CUT, sigmoid_f64};
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::PretrainedModel;

use super::deciders::{Oracle, RandomMatched};
use super::limits;
use super::training::{Target, Training};
use aloud_session::loaded_model::{BaseModel, LoadedModel};

/// The model, or a control of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelKey {
    /// The base model at full depth.
    Base,
    /// The trained model with its own exits.
    Exits,
    /// The trained model with exits off.
    ExitsOff,
    /// The base model; every token's depth drawn from the trained model's depth histogram.
    BaseRandomDepths,
    /// The base model; all tokens stop at one depth, the nearest to the trained model's mean depth.
    BaseOneDepth,
    /// The base model; depths drawn from the teacher's targets, of the trained model's mean depth.
    BaseTargetDepths,
    /// The base model at full depth with noise in its weights, as accurate as the trained model.
    BaseNoise,
    /// The model of the same recipe and steps without a price of depth and without exits (--same-training).
    SameTraining,
}

impl ModelKey {
    /// All controls that follow from a trained model and its base.
    pub const CONTROLS: [Self; 6] = [
        Self::Base,
        Self::ExitsOff,
        Self::BaseRandomDepths,
        Self::BaseOneDepth,
        Self::BaseTargetDepths,
        Self::BaseNoise,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Exits => "exits",
            Self::ExitsOff => "exits_off",
            Self::BaseRandomDepths => "base_random_depths",
            Self::BaseOneDepth => "base_one_depth",
            Self::BaseTargetDepths => "base_target_depths",
            Self::BaseNoise => "base_noise",
            Self::SameTraining => "same_training",
        }
    }

    /// Whether it is made equal to the model on items that are not evaluated.
    pub fn is_tuned(self) -> bool {
        matches!(self, Self::BaseTargetDepths | Self::BaseNoise)
    }

    /// Whether it is the base model that runs.
    pub(crate) fn is_base(self) -> bool {
        !matches!(self, Self::Exits | Self::ExitsOff | Self::SameTraining)
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The trained model and its base model.
#[derive(Debug)]
pub struct Models {
    /// What is evaluated; the base model itself if nothing was trained.
    pub trained: LoadedModel,
    /// The base model, if something was trained on it.
    base: Option<Decoder<Cpu>>,
    /// What the checkpoint says of its training, if something was trained.
    pub(crate) training: Option<Training>,
    /// The model of the same recipe and steps without a price of depth and without exits, if it is to be a control.
    same_training: Option<(LoadedModel, Training)>,
    /// The weights of the base model, to be disturbed.
    pub(crate) pretrained: PretrainedModel,
}

impl Models {
    /// A trained model together with its base model.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub fn new(trained: LoadedModel, base: BaseModel, cpu: &Cpu) -> Result<Self, SessionError> {
        let training = trained.checkpoint.as_deref().map(Training::read).transpose()?;
        let pretrained = base.pretrained;
        let base = training.is_some().then(|| Decoder::new(cpu, &pretrained.config, &pretrained.weights));
        Ok(Self { trained, base, training, same_training: None, pretrained })
    }

    /// Adds the model that takes the place of exits switched off where a model depends on its exits.
    ///
    /// # Errors
    /// If it is not of the same training: the first field that differs (a usage error).
    pub fn with_same_training(self, control: LoadedModel) -> Result<Self, SessionError> {
        let error = |reason: String| SessionError::usage(format!("--same-training: {reason}"));
        let nothing = |model: &str| error(format!("nothing was trained on {model}"));
        let model = self.training.as_ref().ok_or_else(|| nothing(&self.trained.source.to_string()))?;
        let path = control.checkpoint.as_deref().ok_or_else(|| nothing(&control.source.to_string()))?;
        let training = Training::read(path)?;
        if control.identity.sha256 != self.trained.identity.sha256 {
            return Err(error(format!("{} was trained on another base model", training.source)));
        }
        model.check_same_training(&training).map_err(error)?;
        Ok(Self { same_training: Some((control, training)), ..self })
    }

    /// What the checkpoints of the model and of its control of the same training say.
    pub(crate) fn trainings(&self) -> impl Iterator<Item = &Training> {
        self.training.iter().chain(self.same_training.as_ref().map(|(_, training)| training))
    }

    /// Whether there is a control of the same training.
    pub fn has_same_training(&self) -> bool {
        self.same_training.is_some()
    }

    /// The key of what is evaluated.
    pub fn main_key(&self) -> ModelKey {
        if self.trained.policy.is_some() { ModelKey::Exits } else { ModelKey::Base }
    }

    /// The base model at full depth, which reads texts for metrics.
    pub(crate) fn base(&self) -> &Decoder<Cpu> {
        self.base.as_ref().unwrap_or(&self.trained.decoder)
    }

    /// A model ready to be asked. `exits` are those of the trained model. Controls need `matched`: what they are made
    /// equal to.
    pub(crate) fn subject<'a>(
        &'a self,
        key: ModelKey,
        exits: &ExitPolicy,
        matched: &'a Matched,
    ) -> Result<Subject<'a>, SessionError> {
        let n_blocks = self.trained.n_blocks();
        let (decoder, policy) = match key {
            ModelKey::BaseNoise => {
                let noisy = matched.noisy.as_ref().and_then(|noisy| noisy.decoder.as_ref());
                (noisy.with_context(|| format!("{key}: no noise was found that matches"))?, None)
            }
            ModelKey::SameTraining => {
                let (model, _) = self.same_training.as_ref().with_context(|| format!("{key}: name it"))?;
                (&model.decoder, model.policy.as_ref())
            }
            ModelKey::Exits | ModelKey::ExitsOff => {
                let policy = self.trained.policy.as_ref();
                (
                    &self.trained.decoder,
                    Some(policy.with_context(|| format!("{key}: nothing was trained on this model"))?),
                )
            }
            ModelKey::Base | ModelKey::BaseRandomDepths | ModelKey::BaseOneDepth | ModelKey::BaseTargetDepths => {
                (self.base(), None)
            }
        };
        let mut candidates = self.trained.head_depths().map(<[usize]>::to_vec).unwrap_or_default();
        let nothing = || format!("{key}: the trained model has no token to match");
        let mut decider: Option<Arc<dyn ExitDecider>> = None;
        let exits = match key {
            ModelKey::Base | ModelKey::ExitsOff | ModelKey::BaseNoise | ModelKey::SameTraining => ExitPolicy::Off,
            ModelKey::Exits => exits.clone(),
            ModelKey::BaseRandomDepths => {
                decider = Some(Arc::new(RandomMatched::new(matched.depths.iter().copied(), n_blocks)));
                ExitPolicy::RandomMatched
            }
            ModelKey::BaseOneDepth => {
                let depth = static_depth_of_equal_mean(matched.depths.iter().copied()).with_context(nothing)?;
                ExitPolicy::Fixed { depth: depth.clamp(1, n_blocks) }
            }
            ModelKey::BaseTargetDepths => {
                let kl_factor = matched.oracle_factor.with_context(nothing)?;
                decider = Some(Arc::new(Oracle { candidates: candidates.clone(), kl_factor }));
                ExitPolicy::Oracle { kl_factor }
            }
        };
        if let ExitPolicy::Fixed { depth } = exits
            && depth < n_blocks
            && !candidates.contains(&depth)
        {
            candidates.push(depth);
            candidates.sort_unstable();
        }
        let training = match (key, &self.same_training) {
            (ModelKey::SameTraining, Some((_, training))) => Some(training),
            _ if key.is_base() => None,
            _ => self.training.as_ref(),
        };
        let noise = matched.noisy.as_ref().filter(|_| key == ModelKey::BaseNoise).map(|noisy| noisy.noise.clone());
        Ok(Subject { key, decoder, policy, exits, decider, candidates, training, noise })
    }
}

/// The base model with noise in its weights.
#[derive(Debug)]
pub(crate) struct NoisyModel {
    /// Strength 0 says that there is no such model: the trained one is more accurate than the base.
    pub(crate) noise: NoiseControl,
    /// The model, if there is one.
    pub(crate) decoder: Option<Decoder<Cpu>>,
    /// Whether both are equally accurate on the tuning items, as far as these can tell: the interval of the difference is within
    /// [`EQUAL_ACCURACY`](super::matching::EQUAL_ACCURACY).
    pub(crate) is_equal: bool,
}

/// What controls are made equal to.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    /// Depths (blocks) of the trained model's eligible tokens.
    pub(crate) depths: Vec<usize>,
    /// The oracle's factor of equal mean depth.
    pub(crate) oracle_factor: Option<f32>,
    /// The base model with noise in its weights, of equal accuracy.
    pub(crate) noisy: Option<NoisyModel>,
}

/// A model that is asked.
pub(crate) struct Subject<'a> {
    /// Which model of the evaluation it is.
    pub(crate) key: ModelKey,
    /// Its weights.
    pub(crate) decoder: &'a Decoder<Cpu>,
    /// Its adapters and exit heads.
    pub(crate) policy: Option<&'a Policy<Cpu>>,
    /// What decides depths.
    exits: ExitPolicy,
    /// Who does, if not the model.
    decider: Option<Arc<dyn ExitDecider>>,
    /// Depths (blocks) at which tokens may stop, ascending.
    pub(crate) candidates: Vec<usize>,
    /// What the checkpoint says of its training, if something was trained.
    pub(crate) training: Option<&'a Training>,
    /// The noise in its weights, if there is some.
    pub(crate) noise: Option<NoiseControl>,
}

impl Subject<'_> {
    /// The base as the control `base_noise`, where there is no noise that would make it one.
    #[must_use]
    pub(crate) fn that_noise_would_weaken(self, noise: NoiseControl) -> Self {
        Self { key: ModelKey::BaseNoise, noise: Some(noise), ..self }
    }

    /// Its answers to requests, `max_sequences` of them decoded together. `on_done` hears of every response that is complete.
    pub(crate) fn complete(
        &self,
        max_sequences: usize,
        requests: &[Request],
        on_done: &(dyn Fn() + Sync),
    ) -> Result<Vec<Completion>, SessionError> {
        Ok(complete(self.decoder, self.policy, limits(max_sequences), requests, on_done)?)
    }

    /// What decides where its steps stop.
    pub(crate) fn exits(&self) -> Exits {
        self.decider.clone().map_or_else(|| self.exits.clone().into(), Exits::Decider)
    }

    /// What is added to exit logits, if exit heads decide.
    pub(crate) fn offset(&self) -> Option<&ExitOffset> {
        self.exits.offset()
    }

    /// Probability of a stop where a head's logit is `logit`, if exit heads decide.
    pub(crate) fn hazard(&self, logit: f32, offset: f32) -> f64 {
        let hazard = sigmoid_f64(f64::from(logit) + f64::from(offset));
        match &self.exits {
            policy @ (ExitPolicy::Threshold { .. } | ExitPolicy::Compat { .. }) => {
                policy.probability(hazard as f32).map_or(hazard, f64::from)
            }
            _ => hazard,
        }
    }

    /// The targets that its exit heads were trained for, or why they are not known.
    pub(crate) fn target(&self) -> Result<&Target, &'static str> {
        self.training.ok_or("not_trained")?.target.as_ref().map_err(|reason| *reason)
    }

    /// Whether every token runs at full depth.
    pub(crate) fn is_full_depth(&self) -> bool {
        self.exits == ExitPolicy::Off
    }

    /// The dials.
    pub(crate) fn dial(&self) -> Dial {
        let (policy, static_depth) = match &self.exits {
            ExitPolicy::Off | ExitPolicy::Recorded => (DepthPolicy::Off, None),
            ExitPolicy::Sampled { .. } => (DepthPolicy::Sampled, None),
            ExitPolicy::Threshold { .. } => (DepthPolicy::Threshold, None),
            ExitPolicy::Compat { .. } => (DepthPolicy::Compat, None),
            ExitPolicy::Fixed { depth } => (DepthPolicy::Static, Some(*depth)),
            ExitPolicy::Oracle { .. } => (DepthPolicy::Oracle, None),
            ExitPolicy::RandomMatched => (DepthPolicy::RandomMatched, None),
        };
        let kl_factor = match &self.exits {
            ExitPolicy::Oracle { kl_factor } => Some(f64::from(*kl_factor)),
            _ => self.target().ok().map(|target| target.kl_factor),
        };
        let offset = self.offset().map(|offset| f64::from(offset.think));
        let answer_offset = self.offset().and_then(|offset| Some(f64::from(offset.answer.as_ref()?.offset)));
        let depth_penalty = self.training.and_then(|training| training.depth_penalty);
        // As it was always written: the nearest f32.
        let tau = if policy == DepthPolicy::Compat { f64::from(COMPAT_CUT as f32) } else { 0.0 };
        Dial { offset, answer_offset, kl_factor, depth_penalty, policy, static_depth, tau }
    }
}
