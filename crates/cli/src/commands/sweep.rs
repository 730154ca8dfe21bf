//! `aloud sweep`: an evaluation at every value of a dial, with the models trained where they are not given.

use std::path::PathBuf;

use aloud_lab::sweep::points::{PointCheckpoint, SweptDial, sweep_points};
use aloud_lab::sweep::table::sweep_table;
use aloud_lab::sweep::{Sweep, run_sweep};
use aloud_model::source::ModelSource;
use aloud_session::model_choice::ModelChoice;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::arguments::judge::JudgeArgs;
use crate::arguments::task::TaskArgs;
use crate::arguments::{Choice, one_of};
use crate::context::{Context, print_result};
use aloud_session::error::SessionError;

#[derive(Args, Debug)]
#[command(
    after_help = "Every point is a folder of --output and is not done again once it is complete. Models are trained \
                        where no --checkpoint is given: kl_factor from the base model MODEL with --recipe (a recipe of \
                        distill), depth_penalty from the stage-1 checkpoint MODEL (a recipe of reinforce)."
)]
pub(crate) struct SweepArgs {
    /// The trained model (offset), its base model (kl_factor), or a checkpoint of stage 1 (depth_penalty)
    #[arg(value_name = "MODEL", required_unless_present = "named")]
    model: Option<ModelSource>,
    /// The same as MODEL
    #[arg(long = "model", short, value_name = "MODEL", conflicts_with = "model")]
    named: Option<ModelSource>,
    /// Base model of checkpoints and PEFT adapters, if it is not where it was at training
    #[arg(long, value_name = "MODEL")]
    base: Option<ModelSource>,
    /// Has become aloud lab experiments/source-table.toml
    #[arg(long, value_enum, conflicts_with_all = ["dial", "values"])]
    preset: Option<Preset>,
    /// The dial that is turned
    #[arg(long, value_parser = one_of(&DIALS), required_unless_present = "preset")]
    dial: Option<SweptDial>,
    /// Values of the dial, separated by commas
    #[arg(long, value_name = "VALUES", value_delimiter = ',', allow_hyphen_values = true)]
    values: Vec<f64>,
    /// A model that is trained already; may be given several times
    #[arg(long, value_name = "VALUE=DIR")]
    checkpoint: Vec<PointCheckpoint>,
    /// The recipe of the models to train (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Traces for kl_factor [default: recorded into the folder of the sweep]
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Number of prompts of recorded traces
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    n_traces: u32,
    #[command(flatten)]
    asked: TaskArgs,
    /// Folder of the sweep
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Print one JSON object, in the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

impl SweepArgs {
    /// The model of the sweep, named as in every other command.
    fn model_choice(&self) -> Result<ModelChoice, SessionError> {
        let model = self.model.as_ref().or(self.named.as_ref());
        let model = model.ok_or_else(|| SessionError::usage("name the model of the sweep"))?;
        Ok(ModelChoice::of(model, self.base.as_ref()))
    }
}

/// The dials.
const DIALS: [Choice<SweptDial>; 3] = [
    ("offset", "Added to the exit logits of one trained model", SweptDial::Offset),
    ("kl_factor", "Factor of the lens KL in the targets of stage 1; a model for every value", SweptDial::KlFactor),
    ("depth_penalty", "Price of depth in stage 2; a model for every value", SweptDial::DepthPenalty),
];

/// A whole sweep by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Has become aloud lab experiments/source-table.toml
    SourceTable,
}

pub(crate) fn run(arguments: &SweepArgs, context: &Context) -> anyhow::Result<()> {
    if arguments.preset.is_some() {
        return Err(SessionError::usage(
            "--preset source-table is an experiment file now: aloud lab experiments/source-table.toml --output DIR --set task=TASK",
        )
        .into());
    }
    let dial = arguments.dial.ok_or_else(|| SessionError::usage("name a dial with --dial"))?;
    let points = sweep_points(&arguments.values, &arguments.checkpoint).map_err(SessionError::usage)?;
    if dial == SweptDial::Offset && points.iter().any(|point| point.checkpoint.is_some()) {
        return Err(
            SessionError::usage("--dial offset turns the dial of one model: --checkpoint has no meaning").into()
        );
    }
    let task = arguments.asked.choice();
    let judge = arguments.judge.open(&arguments.output, task.seed)?;
    let sweep = Sweep {
        model: arguments.model_choice()?,
        dial,
        points,
        recipe: arguments.recipe.clone(),
        overrides: arguments.overrides.clone(),
        traces: arguments.traces.clone(),
        n_traces: arguments.n_traces as usize,
        task,
        output: arguments.output.clone(),
    };
    let rows = run_sweep(&sweep, judge.as_ref(), context)?;
    let objects = rows.iter().map(|row| row.to_json(dial)).collect::<Result<Vec<Value>, _>>()?;
    let text = || format!("{}written to {}\n", sweep_table(&rows, dial), arguments.output.display());
    print_result(arguments.json, &json!({ "rows": objects }), text)
}
