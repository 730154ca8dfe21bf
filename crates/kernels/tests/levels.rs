//! AVX-512 and AVX2 give the same bits: sixteen lanes are sixteen lanes, in one register or two. A test alone in its process, for
//! the level is the process's.

use aloud_backend_tests::random::{DTYPES, Random, narrow};
use aloud_kernels::backend::{Attention as _, Heads, KeyValues, Layers as _, Linears as _, Query};
use aloud_kernels::cpu::{Activations, Cpu, SimdLevel};
use aloud_kernels::rows::Rows;

/// Results of ops of a decoder on some shapes, with the level in use.
fn results() -> Vec<(String, Vec<u32>)> {
    let mut random = Random::new(11);
    let mut results = Vec::new();
    let mut keep = |what: String, rows: &Rows| {
        results.push((what, rows.values().iter().map(|value| value.to_bits()).collect()));
    };
    let mut rows = |n: usize, width: usize| Rows::new(width, narrow(&random.values(n * width, 1.0)));
    let (x, gate) = (rows(23, 96), rows(23, 96));
    let (queries, keys, values) = (rows(23, 96), rows(40, 48), rows(40, 48));
    let mut weights = Random::new(12);
    for cpu in [Cpu::new(1), Cpu::new(2).with_activations(Activations::Q8)] {
        let activations = cpu.activations();
        for dtype in DTYPES {
            for n in [5, 16, 77] {
                let (matrix, _) = weights.matrix(dtype, n, 96);
                keep(format!("linear {dtype:?} {n} {activations:?}"), &cpu.linear_forward(&x, &matrix, None));
            }
        }
        keep("swiglu".to_owned(), &cpu.swiglu_forward(&gate, &x));
        let heads = Heads { n_heads: 6, n_kv_heads: 3, head_dim: 16 };
        let all: Vec<Query> = (0..23).map(|i| Query { sequence: 0, n_keys: 18 + i }).collect();
        let sequence = KeyValues { keys: &keys, values: &values, first_row: 0 };
        keep("attention".to_owned(), &cpu.attention_forward(heads, &queries, &all, &[sequence]).0);
    }
    results
}

#[test]
fn avx512_and_avx2_agree_to_the_bit() {
    // Without AVX-512 there is nothing to compare.
    if SimdLevel::limit(SimdLevel::Avx512) != SimdLevel::Avx512 {
        return;
    }
    let wide = results();
    assert_eq!(SimdLevel::limit(SimdLevel::Avx2), SimdLevel::Avx2);
    for ((what, wide), (_, narrow)) in wide.iter().zip(&results()) {
        assert!(wide == narrow, "{what}");
    }
}
