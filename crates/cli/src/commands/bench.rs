//! `aloud bench`: speed and memory of the program's main work, comparable with other programs.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Instant;

use aloud_kernels::cpu::Activations;
use aloud_kernels::dtype::DType;
use aloud_lab::limits::{MachineSpeed, limit};
use aloud_lab::machine_speed::{copy_bytes_per_second, product_operations_per_second};
use aloud_lab::words::columns;
use aloud_lab::workloads::{ROWS, Row, Workload};
use aloud_model::source::ModelSource;
use aloud_report::table::Table;
use aloud_train::metrics::peak_memory_bytes;
use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

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

/// One measured row. Seconds are of one run; tokens are those that a run handles.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    what: String,
    tokens: usize,
    median_s: f64,
    tokens_per_s: f64,
    #[serde(default)]
    min_s: f64,
    #[serde(default)]
    max_s: f64,
    #[serde(default)]
    peak_rss_gb: f64,
    /// Threads used; 0 in lines of other programs.
    #[serde(default)]
    threads: usize,
    /// Shortest time that memory or products of this machine allow; none in lines of other programs.
    #[serde(default)]
    limit_s: Option<f64>,
}

/// The last line of the output.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    rows: Vec<Measured>,
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
    seconds.sort_by(f64::total_cmp);
    let median_s = f64::midpoint(seconds[(seconds.len() - 1) / 2], seconds[seconds.len() / 2]);
    Ok(Measured {
        what: row.name.to_owned(),
        tokens: row.tokens(),
        median_s,
        tokens_per_s: row.tokens() as f64 / median_s,
        min_s: seconds[0],
        max_s: seconds[seconds.len() - 1],
        peak_rss_gb: peak_memory_bytes().unwrap_or(0) as f64 / 1e9,
        threads: cpu.n_threads(),
        limit_s: None,
    })
}

fn activations(row: &Row, arguments: &BenchArgs) -> Activations {
    if row.trains() { Activations::F32 } else { arguments.activations.given().unwrap_or(Activations::Q8) }
}

/// Gives the rows their limits, from what this machine can do now.
fn add_limits(rows: &mut [Measured], arguments: &BenchArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    let base = BaseModel::load(&arguments.model, context)?;
    let bytes_per_second = copy_bytes_per_second(&cpu);
    let dtype = base.pretrained.weights.layers.first().map_or(DType::F32, |layer| layer.linears[0].weight.dtype());
    let speed = |activations| MachineSpeed {
        bytes_per_second,
        operations_per_second: product_operations_per_second(&cpu.with_activations(activations), dtype),
    };
    let [exact, rounding] = [Activations::F32, Activations::Q8].map(speed);
    context.say(&format!(
        "this machine: {:.1} GB/s copied, {:.0} GFLOP/s of {} products in f32, {:.0} with 8-bit activations",
        bytes_per_second / 1e9,
        exact.operations_per_second / 1e9,
        dtype.name(),
        rounding.operations_per_second / 1e9
    ));
    for (measured, row) in rows.iter_mut().zip(&ROWS) {
        let activations = activations(row, arguments);
        let speed = if activations == Activations::Q8 { rounding } else { exact };
        measured.limit_s = Some(limit(row, &base.pretrained, activations, speed)?);
    }
    Ok(())
}

/// Share of the gain (speed-up - 1) that exits are allowed by the limits, of a row with exits.
fn share_of_gain(row: &Measured, rows: &[Measured]) -> Option<f64> {
    let without = ROWS.iter().find(|known| known.name == row.what)?.without_exits?;
    let without = rows.iter().find(|row| row.what == without)?;
    let allowed = without.limit_s? / row.limit_s? - 1.0;
    Some((without.median_s / row.median_s - 1.0) / allowed)
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
    add_limits(&mut rows, arguments, context)?;
    Ok(rows)
}

/// Lines of another program; lines that are not measurements are passed over.
fn read_peer(path: &Path) -> anyhow::Result<Vec<Measured>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows: Vec<Measured> = Vec::new();
    for line in std::io::BufReader::new(file).lines() {
        rows.extend(
            serde_json::from_str::<Measured>(&line.with_context(|| format!("cannot read {}", path.display()))?).ok(),
        );
    }
    if rows.is_empty() {
        bail!(
            "{} has no line such as {{\"what\": \"prefill_512\", \"tokens\": 512, \"median_s\": 1.0, ...}}",
            path.display()
        );
    }
    Ok(rows)
}

fn table(rows: &[Measured], peer: Option<&[Measured]>) -> String {
    let own = ["median s", "min", "max", "tokens/s", "peak GB", "of limit", "of allowed gain"];
    let of_peer = ["peer tokens/s", "speed ratio", "memory ratio"].into_iter().filter(|_| peer.is_some());
    let mut table = Table::new(columns(&["row"], &own.into_iter().chain(of_peer).collect::<Vec<_>>()));
    for row in rows {
        let mut cells = vec![
            row.what.clone(),
            format!("{:.3}", row.median_s),
            format!("{:.3}", row.min_s),
            format!("{:.3}", row.max_s),
            format!("{:.1}", row.tokens_per_s),
            format!("{:.2}", row.peak_rss_gb),
            percent(row.limit_s.map(|limit| limit / row.median_s)),
            percent(share_of_gain(row, rows)),
        ];
        if let Some(peer) = peer {
            match peer.iter().find(|other| other.what == row.what) {
                Some(other) => cells.extend([
                    format!("{:.1}", other.tokens_per_s),
                    format!("{:.2}", row.tokens_per_s / other.tokens_per_s),
                    format!("{:.2}", row.peak_rss_gb / other.peak_rss_gb),
                ]),
                None => cells.extend(["-".to_owned(), "-".to_owned(), "-".to_owned()]),
            }
        }
        table.row(cells);
    }
    table.to_string()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}
