//! What a training run writes down before it starts.

use aloud_base::numerics::Numerics;
use aloud_model::checkpoint::BaseIdentity;
use aloud_train::run_directory::{FORMAT_VERSION, RunConfig};
use serde::Serialize;

use crate::error::{Context as _, SessionError};

/// The configuration of a run of this program: `inputs` say by name where the data came from, `digests` by the same names
/// what their content is.
///
/// # Errors
/// If the recipe cannot be written as TOML.
pub fn run_config<const N: usize>(
    command: &str,
    seed: u64,
    base_model: BaseIdentity,
    numerics: Numerics,
    inputs: [(&str, String); N],
    digests: impl IntoIterator<Item = (&'static str, String)>,
    recipe: &impl Serialize,
) -> Result<RunConfig, SessionError> {
    Ok(RunConfig {
        format_version: FORMAT_VERSION,
        command: command.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: option_env!("ALOUD_GIT_REVISION").map(str::to_owned),
        seed,
        base_model,
        numerics: Some(numerics),
        inputs: inputs.into_iter().map(|(name, input)| (name.to_owned(), input)).collect(),
        digests: Some(digests.into_iter().map(|(name, digest)| (name.to_owned(), digest)).collect()),
        recipe: toml::Table::try_from(recipe).context("the recipe cannot be written as TOML")?,
    })
}
