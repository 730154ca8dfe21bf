//! `aloud eval`: accuracy, style and depth on held-out items; with `--output`, an evaluation run with its controls.

use std::path::{Path, PathBuf};

use aloud_base::numerics::Numerics;
use aloud_lab::evaluation::judging::{JudgedFolder, judge_folders};
use aloud_lab::evaluation::quick::evaluate_once;
use aloud_lab::evaluation::run::{Evaluation, evaluate};
use aloud_lab::evaluation::run_settings::RunSettings;
use aloud_lab::evaluation::subject::{ModelKey, Models};
use aloud_lab::evaluation::task_choice::TaskChoice;
use aloud_lab::serial_evaluation::evaluate_held_out;
use aloud_measure::earlier_names::model_name;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::source::ModelSource;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::model_choice::ModelChoice;
use aloud_session::task_text::TaskText;
use aloud_text::text_codec::TextCodec;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::generation::ExitArgs;
use crate::arguments::judge::JudgeArgs;
use crate::arguments::model::PositionalModelArgs;
use crate::arguments::task::TaskArgs;
use crate::commands::eval_text::{all_of_it, answers_of};
use crate::context::{Context, print, print_result};

#[derive(Args, Debug)]
#[command(
    after_help = "Items of the serial tasks are answered twice, with greedy tokens: once with <t> forced (the model thinks \
                        aloud) and once with <a> forced (it answers at once). With --output an evaluation run is written: \
                        responses, tokens with their depths, elicited answers and metrics, one folder a model. What an \
                        interrupted run has written is not done again."
)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: PositionalModelArgs,
    /// Folder of the evaluation run
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Controls that are evaluated beside the model, separated by commas; all for every one of them
    #[arg(
        long,
        value_name = "CONTROLS",
        value_delimiter = ',',
        requires = "output",
        help = "Controls that are evaluated beside the model, separated by commas, or all [default: base]"
    )]
    controls: Vec<ControlArg>,
    /// Model of the same recipe of stage 2 and as many steps, trained with rollouts.exits=off and reward.depth_penalty=0: the control
    /// of a model that depends on its exits
    #[arg(long, value_name = "DIR", requires = "output")]
    same_training: Option<PathBuf>,
    #[command(flatten)]
    asked: TaskArgs,
    #[command(flatten)]
    exits: ExitArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    /// Print every metric of every model, and the verdicts with their contrasts
    #[arg(long, requires = "output", conflicts_with = "json")]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

/// A control, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlArg {
    All,
    One(ModelKey),
}

impl std::str::FromStr for ControlArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "all" {
            return Ok(Self::All);
        }
        // Names of earlier versions are understood.
        let control = ModelKey::CONTROLS.into_iter().find(|key| key.name() == model_name(name));
        control.map(Self::One).ok_or_else(|| {
            let names: Vec<&str> = ModelKey::CONTROLS.iter().map(|key| key.name()).collect();
            format!("expected all, or some of {} (same_training comes with --same-training DIR)", names.join(", "))
        })
    }
}

/// What `--json` prints: the model, and what was found.
#[derive(Serialize)]
struct Output<'a, Report> {
    model: String,
    model_sha256: &'a str,
    checkpoint: Option<String>,
    numerics: &'a Numerics,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a, Report> Output<'a, Report> {
    fn of(models: &'a Models, report: &'a Report) -> Self {
        let model = &models.trained;
        Self {
            model: model.source.to_string(),
            model_sha256: &model.identity.sha256,
            checkpoint: model.checkpoint.as_ref().map(|path| path.display().to_string()),
            numerics: &model.numerics,
            report,
        }
    }
}

pub(crate) fn run(arguments: &EvalArgs, context: &Context) -> anyhow::Result<()> {
    let activations = arguments.activations.of_measurements();
    let cpu = context.cpu();
    let asked = arguments.asked.choice();
    asked.largest()?;
    if arguments.judge.is_named() && arguments.output.is_none() {
        return Err(SessionError::usage("--judge-url: name a folder for the evaluation with --output").into());
    }
    let (model, base) = arguments.model.choice().load_with_base(&cpu, activations, context)?;
    let codec = model.text_codec()?;
    TaskText::new(asked.task.as_ref(), &codec)?;
    let exits = arguments.exits.choice().resolve(&model, &codec)?;
    // Its controls take activations as the model does.
    let cpu = model.decoder.backend().clone();
    let mut models = Models::new(model, base, &cpu)?;
    if let Some(path) = &arguments.same_training {
        let source = models.trained.source.clone();
        let control =
            ModelChoice::of(&ModelSource::Path(path.clone()), Some(&source)).load(&cpu, activations, context)?;
        models = models.with_same_training(control)?;
    }
    if let Some(output) = &arguments.output {
        full(arguments, &asked, output, exits, &codec, &models, context)
    } else if asked.task.has_exact_steps() {
        let report = evaluate_held_out(&models, &codec, &exits, &asked, context)?;
        print_result(arguments.json, &Output::of(&models, &report), || report.text())
    } else {
        let report = evaluate_once(&models, &codec, &exits, &asked, context)?;
        print_result(arguments.json, &Output::of(&models, &report), || report.text())
    }
}

/// An evaluation run.
fn full(
    arguments: &EvalArgs,
    task: &TaskChoice,
    output: &Path,
    exits: ExitPolicy,
    codec: &TextCodec,
    models: &Models,
    context: &Context,
) -> anyhow::Result<()> {
    let judge = arguments.judge.open(output, task.seed)?;
    let controls = controls(arguments, models, context)?;
    let settings = RunSettings { task, output: output.to_owned(), base_folder: None, exits, controls };
    let Evaluation { mut records, asked } =
        evaluate(models, codec, models.trained.decoder.backend(), &settings, context)?;
    if let Some(judge) = judge {
        let folder = |key: ModelKey| JudgedFolder { name: key.name().to_owned(), path: settings.folder(key) };
        let folders: Vec<JudgedFolder> = settings.models(models.main_key()).into_iter().map(folder).collect();
        records = judge_folders(&judge, output, &folders, &asked, context)?.concat();
    }
    if arguments.json {
        let report = json!({ "output": output.display().to_string(), "metrics": records });
        return print_result(true, &Output::of(models, &report), String::new);
    }
    let text = if arguments.all { all_of_it(&records, output)? } else { answers_of(output)? };
    Ok(print(&text)?)
}

/// The controls that are evaluated beside the model. Those that have to be tuned need training items: named, they are refused where
/// there are none, and of all they are left out.
fn controls(arguments: &EvalArgs, models: &Models, context: &Context) -> Result<Vec<ModelKey>, SessionError> {
    let task = arguments.asked.choice().task;
    let has_training_items = !task.has_one_part();
    let mut controls = match arguments.controls.as_slice() {
        [] if models.main_key() == ModelKey::Base => Vec::new(),
        [] => vec![ModelKey::Base],
        named if named.contains(&ControlArg::All) => {
            let (kept, tuned): (Vec<ModelKey>, Vec<ModelKey>) =
                ModelKey::CONTROLS.into_iter().partition(|key| has_training_items || !key.is_tuned());
            for key in tuned {
                context.say(&format!(
                    "{key} is left out: {task} is one file, so there are no training items to tune it on"
                ));
            }
            kept
        }
        named => {
            let key = |control: &ControlArg| match control {
                ControlArg::One(key) => Some(*key),
                ControlArg::All => None,
            };
            let keys: Vec<ModelKey> = named.iter().filter_map(key).collect();
            if let Some(key) = keys.iter().find(|key| key.is_tuned() && !has_training_items) {
                return Err(SessionError::usage(format!(
                    "--controls {key}: {task} is one file, so there are no training items to tune it on: name a folder with \
                     train.jsonl and test.jsonl, or leave the control out"
                )));
            }
            keys
        }
    };
    controls.extend(models.has_same_training().then_some(ModelKey::SameTraining));
    Ok(controls)
}
