//! How fast the processor of this machine is at the work of models, and what memory it has.

use std::time::{Duration, Instant};

use aloud_kernels::backend::Linears as _;
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;

/// Most time that a measurement takes.
const MEASURED: Duration = Duration::from_millis(500);

/// Shortest time (seconds) that `f` takes, over a few runs.
fn shortest(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || start.elapsed() < MEASURED {
        let run = Instant::now();
        f();
        best = best.min(run.elapsed().as_secs_f64());
    }
    best
}

fn ones(rows: usize, columns: usize) -> Option<Matrix> {
    Matrix::from_f32(rows, columns, vec![1.0; rows * columns]).ok()
}

/// GFLOP/s of a matrix product of the shape of a small model's layer: 512 tokens, 576 to 1536.
pub fn gflops(cpu: &Cpu) -> f64 {
    const SHAPE: (usize, usize, usize) = (512, 576, 1536);
    let (tokens, inputs, outputs) = SHAPE;
    let Some(weight) = ones(outputs, inputs) else { return 0.0 };
    let x = Rows::new(inputs, vec![1.0; tokens * inputs]);
    let seconds = shortest(|| drop(cpu.linear_forward(&x, &weight, None)));
    2.0 * (tokens * inputs * outputs) as f64 / seconds / 1e9
}

/// GB/s at which one token's pass reads weights that are in no cache.
pub fn bandwidth(cpu: &Cpu, available_bytes: Option<u64>) -> f64 {
    const COLUMNS: usize = 1024;
    let megabytes = if available_bytes.is_some_and(|bytes| bytes < 1 << 30) { 32 } else { 256 };
    let rows = megabytes * (1 << 20) / (4 * COLUMNS);
    let Some(weight) = ones(rows, COLUMNS) else { return 0.0 };
    let x = Rows::new(COLUMNS, vec![1.0; COLUMNS]);
    let seconds = shortest(|| drop(cpu.linear_forward(&x, &weight, None)));
    weight.size_bytes() as f64 / seconds / 1e9
}

/// Total and available memory in bytes, as Linux says.
pub fn memory() -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}
