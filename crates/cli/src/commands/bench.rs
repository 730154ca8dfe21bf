//! `aloud bench`: speed and memory of the program's main work, comparable with other programs.

use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Instant;

use aloud_kernels::cpu::Activations;
use aloud_lab::limits::Speeds;
use aloud_lab::measured_rows::{Document, Measured, read_peer, table};
use aloud_lab::workloads::{ROWS, Row, Workload};
use aloud_model::source::ModelSource;
use anyhow::{Context as _, bail};
use clap::Args;

use crate::arguments::activations::ActivationArgs;
use crate::context::{Context, print, print_result};
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::loaded_model::{BaseModel, resolve};
use aloud_session::numerics::activations_name;

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// A directory, a GGUF file, hf:ORG/NAME, pypi:PACKAGE or tiny-reasoner (built in)
    #[arg(long, short, value_name = "MODEL")]
    model: ModelSource,
    /// Measure this row alone, in this process [default: every row, each in a process of its own]
    #[arg(long, value_name = "ROW")]
    only: Option<String>,
    /// Timed runs a row, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    #[command(flatten)]
    activations: ActivationArgs,
    /// JSON lines of another program with the same row names; ratios are printed
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

pub(crate) fn run(arguments: &BenchArgs, context: &Context) -> anyhow::Result<()> {
    let peer = arguments.compare.as_deref().map(read_peer).transpose()?;
    let rows = match &arguments.only {
        Some(name) => {
            let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
                let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                SessionError::usage(format!("--only {name}: the rows are {}", names.join(", ")))
            })?;
            vec![measure(row, arguments, context)?]
        }
        None => measure_all(arguments, context)?,
    };
    print(&table(&rows, peer.as_deref()))?;
    print_result(true, &Document { rows }, String::new)
}

fn measure(row: &'static Row, arguments: &BenchArgs, context: &Context) -> anyhow::Result<Measured> {
    let activations = activations(row, arguments);
    let cpu = context.cpu().with_activations(activations);
    let base = BaseModel::load(&arguments.model, context)?;
    let mut workload = Workload::new(row, &cpu, &base.pretrained)?;
    drop(base);
    workload.run()?;
    let mut seconds = Vec::new();
    for _ in 0..arguments.repeats {
        let start = Instant::now();
        workload.run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(Measured::new(row, seconds, cpu.n_threads()))
}

fn activations(row: &Row, arguments: &BenchArgs) -> Activations {
    if row.trains() { Activations::F32 } else { arguments.activations.given().unwrap_or(Activations::Q8) }
}

/// Every row in a process of its own, so that memory is that of the row.
fn measure_all(arguments: &BenchArgs, context: &Context) -> anyhow::Result<Vec<Measured>> {
    resolve(&arguments.model, context)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut progress = context.progress("measuring", "rows", Some(ROWS.len() as u64));
    let mut rows = Vec::new();
    for row in &ROWS {
        progress.message(row.name.to_owned());
        let mut process = Process::new(&program);
        process.args(["bench", "--quiet", "--only", row.name, "--model", &arguments.model.to_string()]);
        process.args(["--repeats", &arguments.repeats.to_string()]);
        process.args(["--activations", activations_name(activations(row, arguments))]);
        process.args(["--threads", &context.cpu().n_threads().to_string()]);
        let output = process.output().with_context(|| format!("cannot run row {}", row.name))?;
        if !output.status.success() {
            bail!("row {}: {}", row.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let document: Document =
            serde_json::from_str(last).with_context(|| format!("row {}: unexpected output", row.name))?;
        rows.extend(document.rows);
        progress.advance(1);
    }
    drop(progress);
    let base = BaseModel::load(&arguments.model, context)?;
    let speeds = Speeds::measure(&context.cpu(), &base.pretrained);
    context.say(&speeds.to_string());
    for (measured, row) in rows.iter_mut().zip(&ROWS) {
        measured.limit_s = Some(speeds.limit(row, &base.pretrained, activations(row, arguments))?);
    }
    Ok(rows)
}
