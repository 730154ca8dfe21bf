//! `aloud eval`: accuracy, style and depth on held-out items of the serial tasks.

use aloud_eval::{Align, Table};
use aloud_model::source::ModelSource;
use aloud_tasks::SerialTask;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::context::{Context, print};
use crate::generation::ExitArgs;
use crate::loaded_model::ModelArgs;
use crate::serial_data::check_symbols;
use crate::serial_evaluation::{SerialReport, SerialSettings, evaluate_serial};

/// Arguments of `aloud eval`.
#[derive(Args, Debug)]
#[command(
    after_help = "Every item is answered twice, with greedy tokens: once with <t> forced (the model thinks aloud) and \
                        once with <a> forced (it answers at once)."
)]
pub(crate) struct EvalArgs {
    /// A directory, hf:ORG/NAME, tiny-reasoner (built in), a checkpoint, or a training run (its latest checkpoint)
    #[arg(value_name = "MODEL")]
    model: ModelSource,
    /// Base model of the checkpoint, if it is not where it was at training
    #[arg(long, value_name = "MODEL")]
    base: Option<ModelSource>,
    /// What is asked; serial is all three tasks in turn
    #[arg(long, value_enum, default_value = "serial")]
    task: TaskArg,
    /// Number of held-out items
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Seed of the items and of the exits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    exits: ExitArgs,
    /// Most sequences decoded together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Most tokens of a response
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which serial tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TaskArg {
    /// All of the following
    Serial,
    /// Operations on a digit
    Chain,
    /// Rearrangements of five objects
    Perm,
    /// Assignments in shuffled order
    Vars,
}

impl TaskArg {
    fn task(self) -> Option<SerialTask> {
        match self {
            Self::Serial => None,
            Self::Chain => Some(SerialTask::Chain),
            Self::Perm => Some(SerialTask::Perm),
            Self::Vars => Some(SerialTask::Vars),
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    model: String,
    model_sha256: &'a str,
    checkpoint: Option<String>,
    #[serde(flatten)]
    report: &'a SerialReport,
}

/// Runs the command.
pub(crate) fn run(arguments: &EvalArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    let model = ModelArgs::of(&arguments.model, arguments.base.as_ref()).load(&cpu, context)?;
    let codec = model.text_codec()?;
    check_symbols(&codec.tokenizer)?;
    let exits = arguments.exits.resolve(&model, &codec)?;
    let settings = SerialSettings {
        task: arguments.task.task(),
        n: arguments.n as usize,
        seed: arguments.seed,
        max_sequences: arguments.batch.into(),
        max_new_tokens: arguments.max_new_tokens as usize,
    };
    let mut progress = context.progress("evaluating", "responses", Some(2 * u64::from(arguments.n)));
    let report =
        evaluate_serial(&model.decoder, model.policy.as_ref(), &exits, &settings, &mut || progress.advance(1))?;
    drop(progress);
    if arguments.json {
        let output = Output {
            model: model.source.to_string(),
            model_sha256: &model.identity.sha256,
            checkpoint: model.checkpoint.as_ref().map(|path| path.display().to_string()),
            report: &report,
        };
        return Ok(print(&format!("{}\n", serde_json::to_string(&output)?))?);
    }
    Ok(print(&text(&report))?)
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
