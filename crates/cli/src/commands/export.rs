//! `aloud export`: runs and models in the formats of other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aloud_base::durable_file;
use aloud_kernels::dtype::DType;
use aloud_measure::evaluation_run::open_runs;
use aloud_report::inspect::inspect_logs;
use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::arguments::model::ModelArgs;
use crate::arguments::{Choice, one_of};
use crate::context::{Context, print, print_result};
use aloud_session::difference::Difference;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::merge::{MergeSettings, merge};

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// Evaluation runs as logs of Inspect, one file a run and task; `inspect view --log-dir DIR` shows them
    Inspect(ExportFiles),
    /// A model with its adapters folded into the weights, as a model of its own that needs no adapters
    Merged(MergedArgs),
    /// Gone: says how TensorBoard reads a training run
    #[command(hide = true)]
    Tensorboard(Gone),
}

#[derive(Args, Debug)]
struct ExportFiles {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder of the files
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

/// Formats of matrices.
const FORMATS: [Choice<DType>; 6] = [
    ("f32", "32-bit floats", DType::F32),
    ("f16", "16-bit floats", DType::F16),
    ("bf16", "The upper halves of 32-bit floats", DType::Bf16),
    ("q8_0", "Blocks of 8 bits, as GGUF", DType::Q8_0),
    ("q4_0", "Blocks of 4 bits, as GGUF", DType::Q4_0),
    ("q4_1", "Blocks of 4 bits with a minimum, as GGUF", DType::Q4_1),
];

#[derive(Args, Debug)]
#[command(
    after_help = "The folder is a model for this program, with the checkpoint's exits: aloud generate --model DIR. Plain floats are \
                  written as transformers reads them, 8 and 4 bits as GGUF, which needs a GGUF file as base. Without --dtype only \
                  adapted matrices are written anew; another format than the base's is given to all. The KL in nats, and the \
                  decisions of exit heads that differ, are measured over a text, and written to merge.json."
)]
struct MergedArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the model; must not be there
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Format of the matrices [default: the one that most of the base's have]
    #[arg(long, value_name = "DTYPE", value_parser = one_of(&FORMATS))]
    dtype: Option<DType>,
    /// Text over which the merged model is compared with the unmerged one [default: a built-in one]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of earlier versions, whatever they are.
#[derive(Args, Debug)]
struct Gone {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    _arguments: Vec<String>,
}

pub(crate) fn run(arguments: &ExportArgs, context: &Context) -> anyhow::Result<()> {
    match &arguments.format {
        Format::Inspect(files) => export_inspect(files, context),
        Format::Merged(arguments) => export_merged(arguments, context),
        Format::Tensorboard(_) => Err(SessionError::usage(
            "export tensorboard: this program writes no event files any more; docs/guide.md (Report, compare, export) has a \
             script of a dozen lines that gives the metrics.jsonl of a training run to TensorBoard",
        )
        .into()),
    }
}

fn export_inspect(files: &ExportFiles, context: &Context) -> anyhow::Result<()> {
    let set = open_runs(&files.runs)?;
    for left_out in &set.left_out {
        context.say(&format!("left out: {}: {}", left_out.folder.display(), left_out.reason));
    }
    fs::create_dir_all(&files.output).with_context(|| format!("cannot create {}", files.output.display()))?;
    for run in &set.runs {
        for log in inspect_logs(run, seconds_of(&run.folder.join("manifest.json"))?) {
            let path = files.output.join(log.file_name);
            durable_file::write(&path, &serde_json::to_vec_pretty(&log.log)?)?;
            print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(())
}

fn export_merged(arguments: &MergedArgs, context: &Context) -> anyhow::Result<()> {
    let MergedArgs { model, output, dtype, text, json } = arguments;
    let settings = MergeSettings { output: output.clone(), dtype: *dtype, text: text.clone() };
    let report = merge(&model.choice(), &settings, context)?;
    print_result(*json, &report, || {
        let Difference { text, tokens, kl_mean, kl_largest, exit_decisions, exit_decisions_changed, .. } =
            &report.difference;
        let exits = match exit_decisions {
            0 => String::new(),
            all => format!("exit decisions that differ: {exit_decisions_changed} of {all}\n"),
        };
        format!(
            "{}: {}, {}, {} parameters changed\nKL(unmerged || merged) over {tokens} tokens ({text}): mean {kl_mean:.3e} nats, \
             largest {kl_largest:.3e} nats\n{exits}",
            output.display(),
            report.dtype,
            report.container,
            report.changed_parameters
        )
    })
}

/// When a file was last written, in seconds since 1970: the same file gives the same export.
fn seconds_of(path: &Path) -> anyhow::Result<u64> {
    let written = fs::metadata(path).and_then(|data| data.modified());
    let written: SystemTime = written.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(written.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
