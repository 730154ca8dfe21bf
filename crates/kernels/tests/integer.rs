//! Products of activations rounded to 8 bits: against their definition, and row by row.

use aloud_backend_tests::device::Device;
use aloud_backend_tests::random::{Random, for_cases, narrow};
use aloud_backend_tests::suite_of;
use aloud_kernels::backend::{Linears as _, Memory as _};
use aloud_kernels::cpu::{Activations, Cpu};
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;
use proptest::prelude::*;

fn cpu(n_threads: usize) -> Cpu {
    Cpu::new(n_threads).with_activations(Activations::Q8)
}

suite_of!(q8, Device { backend: cpu(1), twin: cpu(2), tolerance: 1e-5 },
    row_invariance: linear_rows linears_rows linear_add_rows logits_rows unembedding_rows;
    determinism: linear_gradients_repeat;
);

/// Values of rows after rounding: of each block of 32, to multiples of its largest magnitude / 127, ties to even.
fn rounded(x: &[f32]) -> Vec<f64> {
    let of_block = |block: &[f32]| {
        let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = f64::from(largest / 127.0);
        block.iter().map(|x| f64::from((x * factor).round_ties_even()) * scale).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(of_block).collect()
}

#[test]
fn products_are_those_of_rounded_activations() {
    let dtypes = prop::sample::select(vec![DType::Q8_0, DType::Q4_0, DType::Q4_1]);
    for_cases(96, (dtypes, 1usize..=30, 1usize..=70, 1usize..=6, any::<u64>()), |(dtype, m, n, blocks, seed)| {
        let mut random = Random::new(seed);
        let k = blocks * 32;
        let (matrix, weight) = random.matrix(dtype, n, k);
        let x: Vec<f32> = narrow(&random.values(m * k, 2.0));
        let out = cpu(2).linear_forward(&Rows::new(k, x.clone()), &matrix, None);
        for (x, out) in rounded(&x).chunks(k).zip(out.values().chunks(n)) {
            for (weight, out) in weight.chunks(k).zip(out) {
                let terms = || x.iter().zip(weight).map(|(x, w)| x * w);
                let (sum, size): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
                assert!(
                    (f64::from(*out) - sum).abs() <= 1e-5 * size.max(1e-6),
                    "{dtype:?} {m} x {n} x {k}: {out}, {sum}"
                );
            }
        }
    });
}

#[test]
fn weights_that_are_not_quantised_take_activations_as_they_are() {
    let mut random = Random::new(5);
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let (matrix, _) = random.matrix(dtype, 33, 64);
        let x = Rows::new(64, narrow(&random.values(3 * 64, 1.0)));
        let [rounding, exact] = [cpu(1), Cpu::new(1)].map(|cpu| cpu.linear_forward(&x, &matrix, None));
        assert_eq!(rounding, exact, "{dtype:?}");
    }
}

#[test]
fn activations_that_are_not_finite_show() {
    let mut random = Random::new(6);
    let (matrix, _) = random.matrix(DType::Q4_0, 20, 64);
    for value in [f32::NAN, f32::INFINITY] {
        let mut x = narrow(&random.values(64, 1.0));
        x[40] = value;
        let out = cpu(1).linear_forward(&Rows::new(64, x), &matrix, None);
        assert!(out.values().iter().all(|out| !out.is_finite()), "{value}");
    }
}

#[test]
fn factors_are_narrower_where_activations_are_rounded() {
    // Whole blocks, others, and values beyond the range of scales.
    for (columns, factor, dtype) in [(64, 1.0, DType::Q8_0), (48, 1.0, DType::Bf16), (64, 1e8, DType::Bf16)] {
        let values: Vec<f32> = narrow(&Random::new(7).values(8 * columns, 1.0)).iter().map(|x| x * factor).collect();
        let matrix = Matrix::from_f32(8, columns, values.clone()).expect("shape");
        assert_eq!(Cpu::new(1).factor(&matrix).dtype(), DType::F32);
        let narrower = cpu(1).factor(&matrix);
        assert_eq!(narrower.dtype(), dtype);
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (value, expected) in narrower.to_f32().iter().zip(values) {
            assert!((value - expected).abs() <= largest / 240.0, "{value}, {expected}");
        }
    }
}
