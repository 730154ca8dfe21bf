//! `aloud export`: runs in the formats of other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aloud_base::durable_file;
use aloud_measure::evaluation_run::open_runs;
use aloud_measure::metric_record::read_metric_records;
use aloud_report::inspect::inspect_logs;
use aloud_report::tensorboard::{event_file, event_file_name, metric_scalars, read_training_scalars};
use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::context::{Context, print};
use crate::error::UsageError;
use aloud_session::host::Host;

/// Arguments of `aloud export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// Evaluation runs as logs of Inspect, one file a run and task; `inspect view --log-dir DIR` shows them
    Inspect(ExportFiles),
    /// Training runs (metrics.jsonl) and evaluation runs (metrics.json) as event files; `tensorboard --logdir DIR` shows them
    Tensorboard(ExportFiles),
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

/// Runs the command.
pub(crate) fn run(arguments: &ExportArgs, context: &Context) -> anyhow::Result<()> {
    match &arguments.format {
        Format::Inspect(files) => export_inspect(files, context),
        Format::Tensorboard(files) => export_tensorboard(files),
    }
}

fn export_inspect(files: &ExportFiles, context: &Context) -> anyhow::Result<()> {
    let set = open_runs(&files.runs)?;
    for left_out in &set.left_out {
        context.say(&format!("left out: {}: {}", left_out.folder.display(), left_out.reason));
    }
    create(&files.output)?;
    for run in &set.runs {
        let created = seconds_of(&run.folder.join("manifest.json"))?;
        for log in inspect_logs(run, created as u64) {
            let path = files.output.join(log.file_name);
            durable_file::write(&path, &serde_json::to_vec_pretty(&log.log)?)?;
            print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(())
}

/// Every run has a folder of its own, as TensorBoard wants it.
fn export_tensorboard(files: &ExportFiles) -> anyhow::Result<()> {
    for run in &files.runs {
        let (training, evaluation) = (run.join("metrics.jsonl"), run.join("metrics.json"));
        let (source, scalars) = if training.is_file() {
            (&training, read_training_scalars(&training)?)
        } else if evaluation.is_file() {
            (&evaluation, metric_scalars(&read_metric_records(&evaluation)?, 0))
        } else {
            let message = format!("{} has neither a metrics.jsonl nor a metrics.json", run.display());
            return Err(UsageError::new(message).into());
        };
        let name = run.file_name().unwrap_or(run.as_os_str());
        let folder = files.output.join(name);
        create(&folder)?;
        let start = seconds_of(source)?;
        let path = folder.join(event_file_name(start));
        durable_file::write(&path, &event_file(&scalars, start))?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// When a file was last written, in seconds since 1970: the same file gives the same export.
fn seconds_of(path: &Path) -> anyhow::Result<f64> {
    let written = fs::metadata(path).and_then(|data| data.modified());
    let written: SystemTime = written.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(written.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()))
}
