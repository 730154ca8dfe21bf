//! Speed of the matrix products, in GFLOP/s, against the `gemm` crate: `cargo bench -p aloud-kernels`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::expect_used, clippy::format_push_string, reason = "a benchmark")]
#![expect(unsafe_code, reason = "the gemm crate's interface is raw pointers")]

use std::time::Instant;

use aloud_kernels::backend::{Linears, Term};
use aloud_kernels::cpu::{Activations, Cpu};
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;

fn best(mut f: impl FnMut()) -> f64 {
    f();
    (0..7)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

/// `x W^T` of `n` rows of weights by the `gemm` crate, on this thread.
fn product(m: usize, n: usize, k: usize, x: &Rows, w: &[f32]) {
    let mut y = vec![0.0f32; m * n];
    // SAFETY: operands have the shapes given.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.values().as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    std::hint::black_box(y);
}

fn main() {
    let cpu = Cpu::with_all_processors();
    println!("{} threads, {:?}", cpu.n_threads(), aloud_kernels::cpu::SimdLevel::in_use());
    for (m, n, k) in [
        (240, 64, 256),
        (1, 1536, 576),
        (16, 1536, 576),
        (256, 576, 576),
        (256, 1536, 576),
        (256, 576, 1536),
        (512, 1536, 576),
        (60, 49152, 576),
    ] {
        let x = Rows::new(k, (0..m * k).map(|i| (i % 17) as f32 - 8.0).collect());
        let dy = Rows::new(n, (0..m * n).map(|i| (i % 13) as f32 - 6.0).collect());
        let f32_weight = Matrix::from_f32(n, k, (0..n * k).map(|i| (i % 11) as f32 - 5.0).collect()).expect("shape");
        let q4_weight = Matrix::new(DType::Q4_1, n, k, &vec![0x35; n * k / 32 * 20]).expect("shape");
        let q8_weight = Matrix::new(DType::Q8_0, n, k, &vec![0x35; n * k / 32 * 34]).expect("shape");
        let gflop = 2.0 * (m * n * k) as f64 / 1e9;
        let mut line = format!("m {m:4} n {n:5} k {k:4}:");
        for (name, weight) in [("f32", &f32_weight), ("q4_1", &q4_weight), ("q8_0", &q8_weight)] {
            let forward = best(|| {
                std::hint::black_box(cpu.linear_forward(&x, weight, None));
            });
            let backward = best(|| {
                std::hint::black_box(cpu.linears_backward_input(&[Term { rows: &dy, weight, scale: 1.0 }]));
            });
            line += &format!(" {name} forward {:5.1} backward {:5.1} |", gflop / forward, gflop / backward);
        }
        let integers = cpu.with_activations(Activations::Q8);
        for (name, weight) in [("q4_1", &q4_weight), ("q8_0", &q8_weight)] {
            let forward = best(|| {
                std::hint::black_box(integers.linear_forward(&x, weight, None));
            });
            line += &format!(" {name} x q8 {:5.1} |", gflop / forward);
        }
        let w = f32_weight.as_f32().expect("f32");
        let gemm = best(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| product(m, n / 2, k, &x, w));
                product(m, n - n / 2, k, &x, &w[n / 2 * k..]);
            });
        });
        println!("{line} gemm {:5.1} GFLOP/s", gflop / gemm);
    }
}
