//! `aloud pretrain`: a tiny reasoner from random weights, on the built-in serial tasks.

use std::path::PathBuf;

use aloud_model::checkpoint::BaseIdentity;
use aloud_model::source::ModelSource;
use aloud_tasks::serial::{MAX_SERIAL_STEPS, SerialSource};
use aloud_train::pretrain::pretraining::Pretraining;
use aloud_train::pretrain::recipe::PretrainRecipe;
use aloud_train::run_directory::RunDirectory;
use aloud_train::settings;
use clap::Args;
use serde_json::json;

use crate::context::{Context, print_result};
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::loaded_model::BaseModel;
use aloud_session::numerics::of_full_training;
use aloud_session::run_config::run_config;
use aloud_session::serial_data::SerialExamples;

#[derive(Args, Debug)]
pub(crate) struct PretrainArgs {
    /// A recipe (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, such as schedule.steps=100; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Begin with the weights of this model [default: random weights]
    #[arg(long, value_name = "MODEL")]
    start: Option<ModelSource>,
    /// The run: configuration, metrics, checkpoints, and at the end the model. An interrupted run goes on
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// The serial tasks of this name, with any number of steps: those are the recipe's levels.
fn serial_source(name: &str) -> Result<SerialSource, SessionError> {
    match SerialSource::named(name) {
        Some(Ok(source)) if source.steps == SerialSource::ALL.steps => Ok(source),
        Some(Ok(_)) => {
            Err(SessionError::usage(format!("`data.sources` has `{name}`: numbers of steps are `data.levels`")))
        }
        _ => Err(SessionError::usage(format!("`data.sources` has `{name}`: expected serial, chain, perm or vars"))),
    }
}

pub(crate) fn run(arguments: &PretrainArgs, context: &Context) -> anyhow::Result<()> {
    let recipe: PretrainRecipe =
        settings::resolve(arguments.recipe.as_deref(), &arguments.overrides).map_err(SessionError::usage)?;
    let sources = recipe.data.sources.iter().map(|name| serial_source(name)).collect::<Result<Vec<_>, _>>()?;
    if recipe.data.levels > MAX_SERIAL_STEPS {
        let message = format!("`data.levels` is {}: items have up to {MAX_SERIAL_STEPS} steps", recipe.data.levels);
        return Err(SessionError::usage(message).into());
    }
    let (seed, data) = (recipe.seed, &recipe.data);
    let examples = SerialExamples { sources, seed, think_share: data.think_share, trace: data.trace };
    let cpu = context.cpu();
    let start = arguments.start.as_ref().map(|source| BaseModel::load(source, context)).transpose()?;
    let base = start.as_ref().map_or_else(
        || BaseIdentity { source: "random weights".to_owned(), sha256: String::new() },
        |start| start.identity.clone(),
    );
    let config = run_config("pretrain", recipe.seed, base, of_full_training(), [], [], &recipe)?;
    let (run, resume) = RunDirectory::create_or_resume(&arguments.output, &config)?;
    let start = start.map(|start| start.pretrained);
    let mut pretraining = Pretraining::new(&cpu, recipe, &examples, start, run, resume.as_ref())?;
    let mut progress = context.progress("pretraining", "steps", Some(pretraining.n_steps()));
    progress.set(pretraining.n_done());
    let mut loss = f64::NAN;
    pretraining.run(&mut |metrics| {
        loss = metrics.loss;
        progress.message(format!("loss {:.4}, {:.0} tokens/s", metrics.loss, metrics.tokens_per_second));
        progress.set(metrics.step);
    })?;
    let model = arguments.output.join("model");
    pretraining.export(&model)?;
    let (parameters, steps) = (pretraining.n_parameters(), pretraining.n_steps());
    let result = json!({ "model": model, "parameters": parameters, "steps": steps, "loss": loss });
    print_result(arguments.json, &result, || {
        format!("{parameters} parameters, {steps} steps\nmodel: {}\n", model.display())
    })
}
