//! `aloud eval`: accuracy, style and depth on held-out items; with `--output`, an evaluation run with its controls.

use std::path::PathBuf;
use std::sync::Mutex;

use aloud_kernels::cpu::Cpu;
use aloud_measure::earlier_names::model_name;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::source::ModelSource;
use aloud_report::table::{Align, Table};
use aloud_session::error::SessionError;
use aloud_tasks::item::Split;
use aloud_tasks::serial::SerialTask;
use aloud_text::text_codec::TextCodec;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::generation::ExitArgs;
use crate::arguments::judge::JudgeArgs;
use crate::arguments::model::PositionalModelArgs;
use crate::arguments::task::TaskArgs;
use crate::commands::eval_text::{all_of_it, answers_of};
use crate::context::{Context, print};
use crate::error::UsageError;
use aloud_lab::evaluation::judging::{JudgedFolder, judge_folders, judged_tasks};
use aloud_lab::evaluation::leave_out::{TrainedOn, check_enough_left};
use aloud_lab::evaluation::quick::evaluate_once;
use aloud_lab::evaluation::run::evaluate;
use aloud_lab::evaluation::run_settings::{AskedItems, RunSettings};
use aloud_lab::evaluation::subject::{Matched, ModelKey, Models};
use aloud_lab::serial_evaluation::{SerialReport, SerialSettings, answer_serial, held_out_items};
use aloud_session::host::Host;
use aloud_session::model_choice::ModelChoice;
use aloud_session::task_text::TaskText;

/// Arguments of `aloud eval`.
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

/// Number of items without `--tier` and `--output`.
const DEFAULT_ITEMS: usize = 2000;

/// Questions of a task in words without `--tier`, `--n` and `--output`.
const DEFAULT_QUESTIONS: u32 = 400;

/// What `--json` prints of a quick evaluation.
#[derive(Serialize)]
struct Output<'a, Report> {
    model: String,
    model_sha256: &'a str,
    checkpoint: Option<String>,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints a quick evaluation as one JSON object.
fn print_json<Report: Serialize>(models: &Models, report: &Report) -> anyhow::Result<()> {
    let model = &models.trained;
    let output = Output {
        model: model.source.to_string(),
        model_sha256: &model.identity.sha256,
        checkpoint: model.checkpoint.as_ref().map(|path| path.display().to_string()),
        report,
    };
    Ok(print(&format!("{}\n", serde_json::to_string(&output)?))?)
}

/// Runs the command.
pub(crate) fn run(arguments: &EvalArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    arguments.asked.choice().largest()?;
    let task = arguments.asked.task.as_ref();
    if arguments.judge.is_named() && arguments.output.is_none() {
        return Err(UsageError::new("--judge-url: name a folder for the evaluation with --output").into());
    }
    let (model, base) = arguments.model.choice().load_with_base(&cpu, context)?;
    let codec = model.text_codec()?;
    TaskText::new(task, &codec)?;
    let exits = arguments.exits.choice().resolve(&model, &codec)?;
    let mut models = Models::new(model, base, &cpu)?;
    if let Some(path) = &arguments.same_training {
        let source = models.trained.source.clone();
        let control = ModelChoice::of(&ModelSource::Path(path.clone()), Some(&source)).load(&cpu, context)?;
        models = models.with_same_training(control)?;
    }
    match &arguments.output {
        Some(output) => full(arguments, output, exits, &codec, &models, &cpu, context),
        None if task.has_exact_steps() => {
            quick(arguments, task.short_name().parse().ok(), &exits, &codec, &models, context)
        }
        None => quick_words(arguments, &exits, &codec, &models, context),
    }
}

/// Accuracy, style and depth on serial items; nothing is written.
fn quick(
    arguments: &EvalArgs,
    task: Option<SerialTask>,
    exits: &ExitPolicy,
    codec: &TextCodec,
    models: &Models,
    context: &Context,
) -> anyhow::Result<()> {
    let asked = &arguments.asked.choice();
    let n = match (asked.n, asked.tier) {
        (Some(n), _) => n as usize,
        (None, Some(_)) => asked.family(Split::Test, codec, &models.trained.decoder)?.items().len(),
        (None, None) => DEFAULT_ITEMS,
    };
    let model = &models.trained;
    let settings = SerialSettings {
        task,
        n,
        seed: asked.seed,
        max_sequences: asked.batch.into(),
        max_new_tokens: asked.max_new_tokens(),
    };
    let trained_on = TrainedOn::of(models, context);
    let mut items = held_out_items(&settings)?;
    items.retain(|item| !trained_on.has(&item.prompt()));
    check_enough_left(n - items.len(), n, context)?;
    let n = items.len();
    let mut progress = context.progress("evaluating", "responses", Some(2 * n as u64));
    let report =
        answer_serial(&model.decoder, model.policy.as_ref(), exits, &settings, &items, &mut || progress.advance(1))?;
    drop(progress);
    if arguments.json {
        return print_json(models, &report);
    }
    Ok(print(&text(&report))?)
}

/// Accuracy and depth on a task in words; nothing is written.
fn quick_words(
    arguments: &EvalArgs,
    exits: &ExitPolicy,
    codec: &TextCodec,
    models: &Models,
    context: &Context,
) -> anyhow::Result<()> {
    let mut asked = arguments.asked.choice();
    if asked.tier.is_none() {
        asked.n = asked.n.or(Some(DEFAULT_QUESTIONS));
    }
    let mut family = asked.family(Split::Test, codec, &models.trained.decoder)?;
    TrainedOn::of(models, context).leave_out(&mut family, context)?;
    let matched = Matched::default();
    let subject = models.subject(models.main_key(), exits, &matched)?;
    let progress = Mutex::new(context.progress("evaluating", "responses", Some(family.items().len() as u64)));
    let on_done = || {
        if let Ok(mut progress) = progress.lock() {
            progress.advance(1);
        }
    };
    let report = evaluate_once(&family, &subject, asked.seed, asked.batch.into(), &on_done)?;
    drop(progress);
    if arguments.json { print_json(models, &report) } else { Ok(print(&report.text())?) }
}

/// An evaluation run.
fn full(
    arguments: &EvalArgs,
    output: &std::path::Path,
    exits: ExitPolicy,
    codec: &TextCodec,
    models: &Models,
    cpu: &Cpu,
    context: &Context,
) -> anyhow::Result<()> {
    let asked = &arguments.asked.choice();
    let judge = arguments.judge.open(output, asked.seed)?;
    let controls = controls(arguments, models, context)?;
    let has_verdicts = controls.contains(&ModelKey::BaseNoise)
        && [ModelKey::ExitsOff, ModelKey::SameTraining].iter().any(|key| controls.contains(key));
    let trained_on = TrainedOn::of(models, context);
    let settings = RunSettings {
        output: output.to_owned(),
        base_folder: None,
        tier: asked.tier(),
        exits,
        controls,
        seed: asked.seed,
        max_sequences: asked.batch.into(),
        n_elicited: asked.n_elicited(),
        accuracy: asked.accuracy_items(has_verdicts),
        trained_items: trained_on.description(),
    };
    let decoder = &models.trained.decoder;
    // Items that are not evaluated, for controls that have to be tuned.
    let is_tuned = settings.controls.iter().any(|key| key.is_tuned());
    let tuning = is_tuned.then(|| asked.tuning_family(codec, decoder)).transpose()?;
    let mut family = asked.family(Split::Test, codec, decoder)?;
    let left_out = trained_on.leave_out(&mut family, context)?;
    let further = |n: usize| {
        let mut family = asked.further_family(n, codec, decoder)?;
        trained_on.leave_out(&mut family, context)?;
        Ok::<_, SessionError>(family)
    };
    let items = AskedItems {
        family: &family,
        tuning: tuning.as_ref(),
        further: &further,
        split: asked.split_name(),
        trained_on: left_out,
    };
    let mut records = evaluate(models, codec, cpu, &items, &settings, context)?;
    if let Some(judge) = judge {
        let folder = |key: ModelKey| JudgedFolder { name: key.name().to_owned(), path: settings.folder(key) };
        let folders: Vec<JudgedFolder> = settings.models(models.main_key()).into_iter().map(folder).collect();
        let tasks = judged_tasks(&family);
        records = judge_folders(&judge, output, &folders, family.name(), &tasks, context)?.concat();
    }
    if arguments.json {
        let model = &models.trained;
        let object = json!({
            "model": model.source.to_string(),
            "model_sha256": model.identity.sha256,
            "checkpoint": model.checkpoint.as_ref().map(|path| path.display().to_string()),
            "output": output.display().to_string(),
            "metrics": records,
        });
        return Ok(print(&format!("{}\n", serde_json::to_string::<Value>(&object)?))?);
    }
    let text = if arguments.all { all_of_it(&records, output)? } else { answers_of(output)? };
    Ok(print(&text)?)
}

/// The controls that are evaluated beside the model. Those that have to be tuned need training items: named, they are refused where
/// there are none, and of all they are left out.
fn controls(arguments: &EvalArgs, models: &Models, context: &Context) -> anyhow::Result<Vec<ModelKey>> {
    let task = &arguments.asked.task;
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
            let mut controls = Vec::new();
            for key in
                named.iter().filter_map(|control| if let ControlArg::One(key) = control { Some(*key) } else { None })
            {
                if key.is_tuned() && !has_training_items {
                    return Err(UsageError::new(format!(
                        "--controls {key}: {task} is one file, so there are no training items to tune it on: name a folder with \
                         train.jsonl and test.jsonl, or leave the control out"
                    ))
                    .into());
                }
                controls.push(key);
            }
            controls
        }
    };
    controls.extend(models.has_same_training().then_some(ModelKey::SameTraining));
    Ok(controls)
}

/// The report for people.
fn text(report: &SerialReport) -> String {
    let mut table = Table::new([
        ("task", Align::Left),
        ("k", Align::Right),
        ("n", Align::Right),
        ("<t> correct", Align::Right),
        ("95 %", Align::Left),
        ("<a> correct", Align::Right),
        ("95 %", Align::Left),
        ("p(<t>)", Align::Right),
        ("tokens", Align::Right),
        ("ALS", Align::Right),
        ("deepest", Align::Right),
    ]);
    for task in &report.tasks {
        for steps in &task.steps {
            let all = &steps.all;
            table.row([
                task.task.to_string(),
                steps.k.to_string(),
                all.n.to_string(),
                percent(Some(all.accuracy)),
                interval(all.accuracy_interval),
                percent(Some(all.accuracy_direct)),
                interval(all.accuracy_direct_interval),
                percent(Some(all.think_aloud_rate)),
                format!("{:.1}", all.trace_length),
                percent(all.als),
                blocks(all.deepest_step),
            ]);
        }
    }
    let horizons: Vec<String> = (report.tasks.iter())
        .filter_map(|task| Some(format!("{} {}", task.task, task.opaque_serial_horizon?)))
        .collect();
    format!("{}\n\n{table}\nopaque serial horizon (steps): {}\n", headline(report), horizons.join(", "))
}

/// What holds for all items, in two lines.
fn headline(report: &SerialReport) -> String {
    let all = &report.all;
    format!(
        "{} items: accuracy {} ({}) thinking aloud, {} ({}) direct, {} in its own style; think-aloud rate {}\n\
         thinking aloud: average layer savings {} (direct: {}), exit rate {}, mean depth {} and deepest {} of \
         {} blocks, {:.1} tokens a response",
        all.n,
        percent(Some(all.accuracy)),
        interval(all.accuracy_interval),
        percent(Some(all.accuracy_direct)),
        interval(all.accuracy_direct_interval),
        percent(Some(all.accuracy_own_style)),
        percent(Some(all.think_aloud_rate)),
        percent(all.als),
        percent(all.als_direct),
        percent(all.exit_rate),
        blocks(all.mean_depth),
        blocks(all.deepest_step),
        report.n_blocks,
        all.trace_length,
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
}

fn blocks(depth: Option<f64>) -> String {
    depth.map_or_else(|| "-".to_owned(), |depth| format!("{depth:.1}"))
}
