//! `aloud distill`: stage 1, exit heads and adapters from recorded traces.

use std::path::PathBuf;

use aloud_model::source::ModelSource;
use aloud_train::recipe::DistillRecipe;
use aloud_train::settings;
use aloud_train::traces::TraceReader;
use anyhow::Context as _;
use clap::Args;

use crate::context::{Context, print};
use crate::error::UsageError;
use crate::loaded_model::BaseModel;
use crate::stage1::distil;

/// Arguments of `aloud distill`.
#[derive(Args, Debug)]
pub(crate) struct DistillArgs {
    /// Traces, as `aloud trace` records them
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// A recipe (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, such as target.kl_factor=0.5; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The base model, if it is not where it was when the traces were recorded
    #[arg(long, short, value_name = "MODEL")]
    model: Option<ModelSource>,
    /// The run: configuration, metrics, checkpoints. An interrupted run goes on from its last checkpoint
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &DistillArgs, context: &Context) -> anyhow::Result<()> {
    let recipe: DistillRecipe = settings::resolve(arguments.recipe.as_deref(), &arguments.overrides)
        .map_err(|error| UsageError::new(error.to_string()))?;
    let source = if let Some(model) = &arguments.model {
        model.clone()
    } else {
        let recorded = TraceReader::open(&arguments.traces)?.header().base_model.source.clone();
        recorded.parse().with_context(|| format!("the traces name base model `{recorded}`: name it with --model"))?
    };
    let cpu = context.cpu();
    let base = BaseModel::load(&source, &cpu, context)?;
    let distilled =
        distil(base.pretrained, base.identity, &cpu, &recipe, &arguments.traces, &arguments.output, context)?;
    if arguments.json {
        return Ok(print(&format!("{}\n", serde_json::to_string(&distilled)?))?);
    }
    print(&distilled.table())?;
    Ok(print(&format!("\ncheckpoint: {}\n", distilled.checkpoint.display()))?)
}
