//! The model of an evaluation and its controls (as the metric cards name them), and how each decides its depths.

use std::collections::BTreeMap;
use std::fmt;

use aloud_engine::{Exits, uniform};
use aloud_eval::{DepthPolicy, Dial};
use aloud_kernels::Cpu;
use aloud_model::checkpoint::Checkpoint;
use aloud_model::decoder::{Decoder, Policy};
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
}

impl ModelKey {
    /// All controls of a trained model.
    pub(crate) const CONTROLS: [Self; 4] = [Self::Base, Self::EeOff, Self::BaseRandmatch, Self::Static];

    /// Its name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Ee => "ee",
            Self::EeOff => "ee_off",
            Self::BaseRandmatch => "base_randmatch",
            Self::Static => "static",
        }
    }

    /// Whether it is the base model that runs.
    pub(crate) fn is_base(self) -> bool {
        matches!(self, Self::Base | Self::BaseRandmatch | Self::Static)
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
}

impl Models {
    /// A trained model together with its base model.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub(crate) fn new(trained: LoadedModel, base: BaseModel, cpu: &Cpu) -> anyhow::Result<Self> {
        let adapter_sha256 = trained.checkpoint.as_deref().map(Checkpoint::digest).transpose()?;
        let decoder = |base: BaseModel| Decoder::new(cpu, &base.pretrained.config, &base.pretrained.weights);
        let base = adapter_sha256.is_some().then(|| decoder(base));
        Ok(Self { trained, base, adapter_sha256 })
    }

    /// The key of what is evaluated.
    pub(crate) fn main_key(&self) -> ModelKey {
        if self.trained.policy.is_some() { ModelKey::Ee } else { ModelKey::Base }
    }

    /// The base model at full depth, which reads texts for metrics.
    pub(crate) fn base(&self) -> &Decoder<Cpu> {
        self.base.as_ref().unwrap_or(&self.trained.decoder)
    }

    /// A model ready to be asked. `exits` are those of the trained model. Controls of equal mean depth need `histogram`: how
    /// many tokens of the trained model stopped at each depth (blocks).
    ///
    /// # Errors
    /// If the model was not trained, or did nothing to be matched.
    pub(crate) fn subject(
        &self,
        key: ModelKey,
        exits: &Exits,
        histogram: &BTreeMap<usize, usize>,
    ) -> anyhow::Result<Subject<'_>> {
        let n_blocks = self.trained.n_blocks();
        let (decoder, policy) = if key.is_base() {
            (self.base(), None)
        } else {
            let policy = self.trained.policy.as_ref();
            (&self.trained.decoder, Some(policy.with_context(|| format!("{key}: nothing was trained on this model"))?))
        };
        let mut candidates = self.trained.head_depths().map(<[usize]>::to_vec).unwrap_or_default();
        let nothing = || format!("{key}: the trained model has no token to match");
        let depths = match key {
            ModelKey::Base | ModelKey::EeOff => Depths::Engine(Exits::Off),
            ModelKey::Ee => Depths::Engine(exits.clone()),
            ModelKey::BaseRandmatch => Depths::Drawn(Histogram::new(histogram).with_context(nothing)?),
            ModelKey::Static => {
                let mean = Histogram::new(histogram).with_context(nothing)?.mean();
                Depths::Engine(Exits::Fixed((mean.round() as usize).clamp(1, n_blocks)))
            }
        };
        if let Depths::Engine(Exits::Fixed(depth)) = depths
            && depth < n_blocks
            && !candidates.contains(&depth)
        {
            candidates.push(depth);
            candidates.sort_unstable();
        }
        Ok(Subject { key, decoder, policy, depths, candidates })
    }
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
}

/// How depths are decided.
enum Depths {
    /// By the engine.
    Engine(Exits),
    /// Each for itself from a histogram, whatever the token.
    Drawn(Histogram),
}

/// Head number of draws from a histogram: beyond those of exit heads, and not that of the token.
const HISTOGRAM_DRAW: u32 = u32::MAX - 1;

impl Subject<'_> {
    /// The exits of a response of up to `n` tokens.
    pub(crate) fn exits(&self, seed: u64, sequence: u64, n: usize) -> Exits {
        match &self.depths {
            Depths::Engine(exits) => exits.clone(),
            Depths::Drawn(histogram) => {
                let depth = |step: usize| match step {
                    0 => self.decoder.n_blocks(),
                    step => histogram.depth(uniform(seed, sequence, step as u64, HISTOGRAM_DRAW)),
                };
                Exits::Recorded((0..n).map(depth).collect())
            }
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
            Depths::Engine(Exits::Fixed(depth)) => (DepthPolicy::Static, None, Some(*depth)),
            Depths::Drawn(_) => (DepthPolicy::RandomMatched, None, None),
        };
        Dial { offset, policy, static_depth, ..Dial::default() }
    }
}

/// Depths (blocks) with how often each occurs, at least once one of them.
struct Histogram {
    /// Depth, and how many are up to it.
    cumulative: Vec<(usize, usize)>,
    n: usize,
}

impl Histogram {
    fn new(counts: &BTreeMap<usize, usize>) -> Option<Self> {
        let mut n = 0;
        let up_to = |(depth, count): (&usize, &usize)| {
            n += count;
            (*depth, n)
        };
        let cumulative = counts.iter().map(up_to).collect();
        (n > 0).then_some(Self { cumulative, n })
    }

    /// The depth at a place in `[0, 1)` of all of them in order.
    fn depth(&self, place: f64) -> usize {
        let place = (place * self.n as f64) as usize;
        let found = self.cumulative.iter().find(|(_, up_to)| place < *up_to).or(self.cumulative.last());
        found.map_or(1, |(depth, _)| *depth)
    }

    fn mean(&self) -> f64 {
        let mut before = 0;
        let mut sum = 0;
        for (depth, up_to) in &self.cumulative {
            sum += depth * (up_to - before);
            before = *up_to;
        }
        sum as f64 / self.n as f64
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn histograms_are_drawn_as_they_are() {
        let histogram = Histogram::new(&[(2, 3), (4, 0), (12, 1)].into()).unwrap();
        assert_eq!(histogram.mean(), 18.0 / 4.0);
        let depths: Vec<usize> = (0..4).map(|quarter| histogram.depth(f64::from(quarter) / 4.0)).collect();
        assert_eq!(depths, [2, 2, 2, 12]);
        assert_eq!(histogram.depth(0.999_999), 12);
        assert!(Histogram::new(&[(3, 0)].into()).is_none() && Histogram::new(&BTreeMap::new()).is_none());
    }
}
