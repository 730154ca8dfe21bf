//! How fast the processor of this machine is at the work of models, and what memory it has.

use std::time::{Duration, Instant};

use aloud_kernels::backend::Linears as _;
use aloud_kernels::cpu::Cpu;
use aloud_kernels::dtype::DType;
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

/// Bytes a second that all threads together read and write when they copy memory that is in no cache.
pub fn copy_bytes_per_second(cpu: &Cpu) -> f64 {
    const BYTES: usize = 64 << 20;
    let n_threads = cpu.n_threads();
    let mut parts: Vec<(Vec<u8>, Vec<u8>)> = (0..n_threads).map(|_| (vec![1; BYTES], vec![0; BYTES])).collect();
    let seconds = shortest(|| {
        std::thread::scope(|scope| {
            for (from, to) in &mut parts {
                scope.spawn(|| to.copy_from_slice(std::hint::black_box(from)));
            }
        });
    });
    2.0 * (n_threads * BYTES) as f64 / seconds
}

/// Operations a second (a multiply-add is two) of a product whose weights, of the given number format, stay in the cache.
pub fn product_operations_per_second(cpu: &Cpu, dtype: DType) -> f64 {
    const SHAPE: (usize, usize, usize) = (240, 512, 256);
    let (rows, inputs, outputs_of_thread) = SHAPE;
    let outputs = outputs_of_thread * cpu.n_threads();
    let bytes = vec![0; outputs * inputs / dtype.block_len() * dtype.block_bytes()];
    let Ok(weight) = Matrix::new(dtype, outputs, inputs, &bytes) else { return 0.0 };
    let x = Rows::new(inputs, vec![1.0; rows * inputs]);
    let seconds = shortest(|| drop(cpu.linear_forward(&x, &weight, None)));
    2.0 * (rows * inputs * outputs) as f64 / seconds
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
