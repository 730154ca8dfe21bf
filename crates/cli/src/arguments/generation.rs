//! How responses are generated, as arguments.

use aloud_engine::decode::sampling::Sampling;
use aloud_session::error::SessionError;
use aloud_session::exit_offset::OffsetChoice;
use aloud_session::generation::{ExitChoice, GenerationSettings, HeadUse};
use aloud_session::loaded_model::LoadedModel;
use aloud_session::numbers::{temperature, top_p};
use aloud_text::text_codec::TextCodec;
use clap::Args;

use crate::arguments::{Choice, one_of};

/// How responses are generated.
#[derive(Args, Clone, Debug)]
pub(crate) struct GenerationArgs {
    /// Most tokens of a response
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.7, value_parser = temperature)]
    temperature: f32,
    /// Keeps the most likely tokens that hold this share of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = top_p)]
    top_p: f32,
    /// Keeps this many most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Seed of all draws
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// A text that ends the response and is cut from it; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// When tokens stop in depth
    #[command(flatten)]
    pub(crate) exits: ExitArgs,
}

/// When tokens stop in depth.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExitArgs {
    /// Early exits [default: on with a checkpoint]
    #[arg(long, value_parser = one_of(&SWITCH), value_name = "on|off|threshold|compat")]
    exits: Option<HeadUse>,
    /// Added to every exit logit: positive exits earlier; X, or think=X,answer=Y [default: the checkpoint's, else 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    exit_offset: Option<OffsetChoice>,
    /// Text that begins the answer, where thinking and answer have an offset each
    #[arg(
        long,
        value_name = "TEXT",
        requires = "exit_offset",
        help = "Text that begins the answer, for --exit-offset think=X,answer=Y [default: the token <a> or </think>]"
    )]
    answer_marker: Option<String>,
    /// Stop every token after this many blocks
    #[arg(long, value_name = "BLOCKS", conflicts_with_all = ["exits", "exit_offset"])]
    depth: Option<usize>,
}

/// Whether and how exit heads decide.
const SWITCH: [Choice<HeadUse>; 4] = [
    ("on", "Drawn from the heads' probabilities", HeadUse::On),
    ("off", "None: full depth", HeadUse::Off),
    ("threshold", "Where the probability is at least one half", HeadUse::Threshold),
    ("compat", "Drawn, but never where the probability is below 0.1, as earlier code did", HeadUse::Compat),
];

impl GenerationArgs {
    /// The settings for this model.
    pub(crate) fn resolve(&self, model: &LoadedModel, codec: &TextCodec) -> Result<GenerationSettings, SessionError> {
        let exits = self.exits.choice().resolve(model, codec)?;
        Ok(GenerationSettings {
            sampling: Sampling { temperature: self.temperature, top_p: self.top_p, top_k: self.top_k },
            seed: self.seed,
            stop_texts: self.stop.clone(),
            ..GenerationSettings::new(model, codec, self.max_new_tokens, exits)
        })
    }
}

impl ExitArgs {
    /// What the arguments ask for.
    pub(crate) fn choice(&self) -> ExitChoice {
        let Self { exits, exit_offset, depth, .. } = *self;
        ExitChoice { exits, exit_offset, answer_marker: self.answer_marker.clone(), depth }
    }
}
