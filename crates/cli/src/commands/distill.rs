//! `aloud distill`: stage 1, exit heads and adapters from recorded traces.

use std::path::PathBuf;

use aloud_model::source::ModelSource;
use aloud_train::settings;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::traces::TraceReader;
use anyhow::Context as _;
use clap::Args;

use crate::arguments::model::ModelArgs;
use crate::context::{Context, print_result};
use crate::distilled::distilled_tables;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::model_choice::ModelChoice;
use aloud_session::stage1::{START_ADAPTER, distil};

#[derive(Args, Debug)]
#[command(
    after_help = "Stage 1 starts from a base model, or from a PEFT adapter with its base (--model DIR --base MODEL). Without \
                        --model it is the base model that the traces name."
)]
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
    #[command(flatten)]
    model: ModelArgs,
    /// The run: configuration, metrics, checkpoints. An interrupted run goes on from its last checkpoint
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &DistillArgs, context: &Context) -> anyhow::Result<()> {
    let recipe: DistillRecipe =
        settings::resolve(arguments.recipe.as_deref(), &arguments.overrides).map_err(SessionError::usage)?;
    let model = arguments.model.choice();
    let model = if model.is_empty() { recorded_base(arguments)? } else { model };
    let cpu = context.cpu();
    let base = model.load_to_distill(context)?;
    let distilled =
        distil(base.pretrained, base.identity, &cpu, &recipe, &arguments.traces, &arguments.output, context)?;
    print_result(arguments.json, &distilled, || {
        format!("{}\ncheckpoint: {}\n", distilled_tables(&distilled), distilled.checkpoint.display())
    })
}

/// The base model that the traces name.
fn recorded_base(arguments: &DistillArgs) -> anyhow::Result<ModelChoice> {
    let reader = TraceReader::open(&arguments.traces)?;
    let header = reader.header();
    if let Some(adapter) = header.settings.get(START_ADAPTER) {
        return Err(SessionError::usage(format!(
            "{} was recorded with a start adapter (SHA-256 {}): name it with --model DIR --base {}",
            arguments.traces.display(),
            adapter.as_str().unwrap_or_default(),
            header.base_model.source
        ))
        .into());
    }
    let recorded = &header.base_model.source;
    let source: ModelSource =
        recorded.parse().with_context(|| format!("the traces name base model `{recorded}`: name it with --model"))?;
    Ok(ModelChoice::of(&source, None))
}
