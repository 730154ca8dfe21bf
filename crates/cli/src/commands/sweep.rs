//! `aloud sweep`: an evaluation at every value of a dial, with the models trained where they are not given.

use std::path::PathBuf;

use aloud_lab::sweep::points::{PointCheckpoint, SweptDial, sweep_points};
use aloud_lab::sweep::row::SweepRow;
use aloud_lab::sweep::{Sweep, run_sweep};
use aloud_model::source::ModelSource;
use aloud_report::table::{Align, Table};
use aloud_session::model_choice::ModelChoice;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::arguments::judge::JudgeArgs;
use crate::arguments::task::TaskArgs;
use crate::context::{Context, print};
use crate::error::UsageError;

/// Arguments of `aloud sweep`.
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
    /// A whole sweep by name
    #[arg(long, value_enum, conflicts_with_all = ["dial", "values"])]
    preset: Option<Preset>,
    /// The dial that is turned
    #[arg(long, value_enum, required_unless_present = "preset")]
    dial: Option<DialArg>,
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
    fn model_choice(&self) -> Result<ModelChoice, UsageError> {
        let model = self.model.as_ref().or(self.named.as_ref());
        let model = model.ok_or_else(|| UsageError::new("name the model of the sweep"))?;
        Ok(ModelChoice::of(model, self.base.as_ref()))
    }
}

/// The dial that is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum DialArg {
    /// Added to the exit logits of one trained model
    Offset,
    /// Factor of the lens KL in the targets of stage 1; a model for every value
    KlFactor,
    /// Price of depth in stage 2; a model for every value
    DepthPenalty,
}

impl From<DialArg> for SweptDial {
    fn from(dial: DialArg) -> Self {
        match dial {
            DialArg::Offset => Self::Offset,
            DialArg::KlFactor => Self::KlFactor,
            DialArg::DepthPenalty => Self::DepthPenalty,
        }
    }
}

/// A whole sweep by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// The headline table of the method's authors: kl_factor 0.25 to 4 and the base, 50 problems
    SourceTable,
}

/// Values and problems of the source table.
const SOURCE_FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
const SOURCE_PROBLEMS: u32 = 50;

/// What the method's authors report (arXiv 2603.21376 and its post): DeepSeek-R1-Distill-Qwen-1.5B on GSM8K, GPT-5 as the judge.
const SOURCE_FIGURES: [SourceFigures; 6] = [
    SourceFigures { kl_factor: Some(0.25), coherence: 1.1, exits: Some([59.0, 22.4]) },
    SourceFigures { kl_factor: Some(0.5), coherence: 5.5, exits: Some([49.0, 8.1]) },
    SourceFigures { kl_factor: Some(1.0), coherence: 7.5, exits: Some([47.0, 6.4]) },
    SourceFigures { kl_factor: Some(2.0), coherence: 8.4, exits: Some([43.0, 5.3]) },
    SourceFigures { kl_factor: Some(4.0), coherence: 8.5, exits: Some([37.0, 4.6]) },
    SourceFigures { kl_factor: None, coherence: 8.9, exits: None },
];

/// Figures of one model of the authors.
struct SourceFigures {
    /// None for the base.
    kl_factor: Option<f64>,
    coherence: f64,
    /// Exit rate and average layer savings, per cent.
    exits: Option<[f64; 2]>,
}

/// Runs the command.
pub(crate) fn run(arguments: &SweepArgs, context: &Context) -> anyhow::Result<()> {
    let (dial, values) = match (arguments.preset, arguments.dial) {
        (Some(Preset::SourceTable), _) => (SweptDial::KlFactor, SOURCE_FACTORS.to_vec()),
        (None, Some(dial)) => (dial.into(), arguments.values.clone()),
        (None, None) => return Err(UsageError::new("name a dial with --dial, or a --preset").into()),
    };
    let points = sweep_points(&values, &arguments.checkpoint).map_err(UsageError::new)?;
    if dial == SweptDial::Offset && points.iter().any(|point| point.checkpoint.is_some()) {
        return Err(UsageError::new("--dial offset turns the dial of one model: --checkpoint has no meaning").into());
    }
    let mut task = arguments.asked.choice();
    if arguments.preset.is_some() {
        task.n = task.n.or(Some(SOURCE_PROBLEMS));
        // The table has no use for them.
        task.elicited = task.elicited.or(Some(0));
    }
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
    let with_source = arguments.preset.is_some();
    if arguments.json {
        let rows = rows.iter().map(|row| row.to_json(dial)).collect::<Result<Vec<Value>, _>>()?;
        return Ok(print(&format!("{}\n", json!({ "rows": rows })))?);
    }
    Ok(print(&format!("{}written to {}\n", text(&rows, dial, with_source), arguments.output.display()))?)
}

/// The table for people.
fn text(rows: &[SweepRow], dial: SweptDial, with_source: bool) -> String {
    let has_judge = rows.iter().any(|row| row.quality.get("coherence").is_some_and(Value::is_number));
    let mut columns = vec![
        (dial.name(), Align::Right),
        ("exit rate", Align::Right),
        ("ALS", Align::Right),
        ("target ALS", Align::Right),
        ("accuracy", Align::Right),
        ("GFLOP per right answer", Align::Right),
        (if has_judge { "coherence (judge)" } else { "repetition (stand-in)" }, Align::Right),
        (if has_judge { "overall (judge)" } else { "perplexity (stand-in)" }, Align::Right),
    ];
    if with_source {
        columns.extend([("| authors': coherence", Align::Right), ("exit rate", Align::Right), ("ALS", Align::Right)]);
    }
    let mut table = Table::new(columns);
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    for row in rows {
        let quality = |name: &str| {
            row.quality.get(name).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"))
        };
        let (first, second) =
            if has_judge { ("coherence", "overall") } else { ("proxy_repeated_4", "proxy_perplexity") };
        let mut cells = vec![
            row.value.map_or_else(|| "base".to_owned(), |value| value.to_string()),
            percent(row.early_exit_rate),
            percent(row.average_layer_savings),
            percent(row.target_als),
            percent(row.accuracy),
            row.cost_per_correct.map_or_else(|| "-".to_owned(), |flops| format!("{:.3}", flops / 1e9)),
            quality(first),
            quality(second),
        ];
        if with_source && let Some(figures) = SOURCE_FIGURES.iter().find(|figures| figures.kl_factor == row.value) {
            cells.push(figures.coherence.to_string());
            cells.extend(figures.exits.iter().flatten().map(|number| format!("{number} %")));
        }
        table.row(cells);
    }
    let mut notes = judge_notes(rows);
    if !has_judge {
        notes += "The stand-ins are surface statistics; they do not measure coherence or correctness.\n";
    }
    if with_source {
        notes += "The authors' figures are of another model: DeepSeek-R1-Distill-Qwen-1.5B on GSM8K, with GPT-5 as the judge.\n";
    }
    format!("{table}\n{notes}")
}

/// Who judged, and what could not be used.
fn judge_notes(rows: &[SweepRow]) -> String {
    let Some(judge) = rows.iter().find_map(|row| row.judged.as_ref()).map(|(judge, _)| judge) else {
        return "No judge was run. ".to_owned();
    };
    let of_row = |row: &SweepRow| {
        let (_, reason) = row.judged.as_ref()?;
        let value = row.value.map_or_else(|| "base".to_owned(), |value| value.to_string());
        Some(format!("{value}: no judged quality ({}).\n", reason.as_ref()?))
    };
    let missing: String = rows.iter().filter_map(of_row).collect();
    format!("Judge: {judge}; coherence is out of 10, overall out of 40.\n{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_table_has_a_figure_for_every_factor() {
        for factor in SOURCE_FACTORS.into_iter().map(Some).chain([None]) {
            assert!(SOURCE_FIGURES.iter().any(|figures| figures.kl_factor == factor), "{factor:?}");
        }
    }

    #[test]
    fn without_a_judge_the_table_says_so() {
        let rows = [SweepRow::new(Some(0.5), &[]), SweepRow::new(None, &[])];
        assert!(text(&rows, SweptDial::KlFactor, true).contains("No judge was run"));
    }
}
