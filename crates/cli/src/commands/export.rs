//! `aloud export`: runs in the formats of other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aloud_base::durable_file;
use aloud_measure::evaluation_run::open_runs;
use aloud_report::inspect::inspect_logs;
use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::context::{Context, print};
use aloud_session::error::SessionError;
use aloud_session::host::Host;

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// Evaluation runs as logs of Inspect, one file a run and task; `inspect view --log-dir DIR` shows them
    Inspect(ExportFiles),
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

/// Arguments of earlier versions, whatever they are.
#[derive(Args, Debug)]
struct Gone {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    _arguments: Vec<String>,
}

pub(crate) fn run(arguments: &ExportArgs, context: &Context) -> anyhow::Result<()> {
    match &arguments.format {
        Format::Inspect(files) => export_inspect(files, context),
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

/// When a file was last written, in seconds since 1970: the same file gives the same export.
fn seconds_of(path: &Path) -> anyhow::Result<u64> {
    let written = fs::metadata(path).and_then(|data| data.modified());
    let written: SystemTime = written.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(written.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
