//! `aloud pretrain`: a tiny reasoner from random weights, on the built-in serial tasks.

use std::path::PathBuf;

use aloud_model::checkpoint::BaseIdentity;
use aloud_tasks::{DataSource, MAX_SERIAL_STEPS, SerialSource};
use aloud_train::pretrain::Pretraining;
use aloud_train::pretrain_recipe::PretrainRecipe;
use aloud_train::run_directory::RunDirectory;
use aloud_train::settings;
use clap::Args;
use serde_json::json;

use crate::context::{Context, print};
use crate::error::UsageError;
use crate::run_config::run_config;
use crate::serial_data::SerialExamples;

/// Arguments of `aloud pretrain`.
#[derive(Args, Debug)]
pub(crate) struct PretrainArgs {
    /// A recipe (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, such as schedule.steps=100; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run: configuration, metrics, checkpoints, and at the end the model. An interrupted run goes on
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &PretrainArgs, context: &Context) -> anyhow::Result<()> {
    let recipe: PretrainRecipe = settings::resolve(arguments.recipe.as_deref(), &arguments.overrides)
        .map_err(|error| UsageError::new(error.to_string()))?;
    let Ok(DataSource::Serial(source)) = recipe.data.source.parse() else {
        let message = format!("`data.source` is `{}`: expected serial, chain, perm or vars", recipe.data.source);
        return Err(UsageError::new(message).into());
    };
    if source.steps != SerialSource::ALL.steps {
        let message = format!("`data.source` is `{}`: numbers of steps are `data.levels`", recipe.data.source);
        return Err(UsageError::new(message).into());
    }
    if recipe.data.levels > MAX_SERIAL_STEPS {
        let message = format!("`data.levels` is {}: items have up to {MAX_SERIAL_STEPS} steps", recipe.data.levels);
        return Err(UsageError::new(message).into());
    }
    let examples = SerialExamples { source, seed: recipe.seed, think_share: recipe.data.think_share };
    let base = BaseIdentity { source: "random weights".to_owned(), sha256: String::new() };
    let config = run_config("pretrain", recipe.seed, base, [], &recipe)?;
    let (run, resume) = RunDirectory::create_or_resume(&arguments.output, &config)?;
    let cpu = context.cpu();
    let mut pretraining = Pretraining::new(&cpu, recipe, &examples, run, resume.as_ref())?;
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
    if arguments.json {
        let result = json!({ "model": model, "parameters": parameters, "steps": steps, "loss": loss });
        return Ok(print(&format!("{result}\n"))?);
    }
    Ok(print(&format!("{parameters} parameters, {steps} steps\nmodel: {}\n", model.display()))?)
}
