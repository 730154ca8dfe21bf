//! Gradients have the same bits on every run and on any number of threads.

use aloud_kernels::backend::{Backend, Heads, KeyValues, KlDirection, Query, Readout, Rotation, Term};
use aloud_kernels::dtype::DType;
use aloud_kernels::rope_table::RopeTable;

use crate::device::{Device, bits, rows};
use crate::random::{DTYPES, Random, for_cases, narrow};

/// Asserts that `op` gives the same bits when repeated and on the device's twin.
fn assert_repeats<B: Backend>(device: &Device<B>, what: &str, op: impl Fn(&B) -> Vec<Vec<u32>>) {
    let expected = op(&device.backend);
    for (which, backend) in [("the same device", &device.backend), ("its twin", &device.twin)] {
        for (i, (actual, expected)) in op(backend).iter().zip(&expected).enumerate() {
            assert_eq!(actual.len(), expected.len());
            let differing = actual.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert!(differing == 0, "{what}: {differing} values of result {i} differ on {which}");
        }
    }
}

/// Norm, gate, embedding, bias, gather, rotation and exit head.
pub fn layer_gradients_repeat<B: Backend>(device: &Device<B>) {
    for (m, width) in [(1, 33), (45, 192)] {
        let mut random = Random::new(1);
        let [x, y, d_out, before] = std::array::from_fn(|_| random.values(m * width, 2.0));
        let gain = random.values(width, 2.0);
        let tokens = random.indices(m, 7);
        assert_repeats(device, "layers", |backend| {
            let up = |values: &[f64]| rows(backend, width, values);
            let (mut d_x, mut d_gain) = (up(&before), up(&gain));
            backend.rms_norm_backward(&up(&x), &up(&gain), 1e-5, &up(&d_out), &mut d_x, Some(&mut d_gain));
            let (d_gate, d_up) = backend.swiglu_backward(&up(&x), &up(&y), &up(&d_out));
            let mut d_table = backend.zeros(7, width);
            backend.embedding_backward(&tokens, &up(&d_out), &mut d_table);
            let mut d_bias = up(&gain);
            backend.bias_backward(&up(&d_out), &mut d_bias);
            let mut d_rows = backend.zeros(7, width);
            backend.scatter_add_rows(&mut d_rows, Some(&tokens), &up(&d_out));
            let table = RopeTable::new(&vec![0.5; width / 2], 1.0, 7);
            let mut rotated = up(&x);
            if width % 2 == 0 {
                backend.rope(&mut rotated, &table, &tokens, Rotation::Backward);
            }
            let mut d_rows_of_head = up(&before);
            let (mut d_weight, mut d_head_bias) = (narrow(&gain), 0.0);
            let d_logits = narrow(&d_out[..m]);
            backend.exit_head_backward(
                &up(&x),
                &narrow(&gain),
                Some(1e-5),
                &d_logits,
                Some(&mut d_rows_of_head),
                &mut d_weight,
                &mut d_head_bias,
            );
            let mut results: Vec<Vec<u32>> =
                [&d_x, &d_gain, &d_gate, &d_up, &d_table, &d_bias, &d_rows, &rotated, &d_rows_of_head]
                    .map(|rows| bits(backend, rows))
                    .into();
            d_weight.push(d_head_bias);
            results.push(d_weight.into_iter().map(f32::to_bits).collect());
            results
        });
    }
}

fn check_linear<B: Backend>(device: &Device<B>, dtype: DType, (m, n, k): (usize, usize, usize)) {
    let k = k.next_multiple_of(dtype.block_len());
    let mut random = Random::new(2);
    let (matrix, _) = random.matrix(dtype, n, k);
    let (x, d_out) = (random.values(m * k, 2.0), random.values(m * n, 2.0));
    let before = random.values(n * k, 2.0);
    assert_repeats(device, &format!("linear {m} x {n} x {k} {}", dtype.name()), |backend| {
        let (x, d_out) = (rows(backend, k, &x), rows(backend, n, &d_out));
        let weight = backend.matrix(&matrix);
        let d_x = backend.linears_backward_input(&[Term { rows: &d_out, weight: &weight, scale: 0.7 }]);
        let mut d_weight = rows(backend, k, &before);
        backend.linear_backward_weight(&d_out, &x, 0.7, &mut d_weight);
        vec![bits(backend, &d_x), bits(backend, &d_weight)]
    });
}

/// Shapes that split unevenly among threads: the last part would be one column or one row.
pub fn linear_gradients_repeat<B: Backend>(device: &Device<B>) {
    let shapes = [(1, 70, 512), (33, 33, 33), (40, 65, 33), (40, 33, 65), (3, 129, 97), (300, 50, 64), (1100, 18, 33)];
    for shape in shapes {
        for dtype in DTYPES {
            check_linear(device, dtype, shape);
        }
    }
    check_linear(device, DType::F32, (80, 300, 289));
    for_cases(48, (1usize..=150, 1usize..=150, 1usize..=150), |shape| check_linear(device, DType::F32, shape));
}

/// Ragged sequences, most of their positions active.
pub fn attention_gradients_repeat<B: Backend>(device: &Device<B>) {
    let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim: 20 };
    let mut random = Random::new(3);
    let lengths = [70, 9, 33];
    let mut queries = Vec::new();
    for (sequence, length) in lengths.into_iter().enumerate() {
        queries.extend((1..=length).filter(|_| random.below(4) > 0).map(|n_keys| Query { sequence, n_keys }));
    }
    let query_rows = random.values(queries.len() * 120, 2.0);
    let d_out = random.values(queries.len() * 120, 2.0);
    let [keys, values] = std::array::from_fn(|_| random.values(112 * 40, 2.0));
    assert_repeats(device, "attention", |backend| {
        let (query_rows, d_out) = (rows(backend, 120, &query_rows), rows(backend, 120, &d_out));
        let (keys, values) = (rows(backend, 40, &keys), rows(backend, 40, &values));
        let sequences = [0, 70, 79].map(|first_row| KeyValues { keys: &keys, values: &values, first_row });
        let (out, lse) = backend.attention_forward(heads, &query_rows, &queries, &sequences);
        let (mut d_keys, mut d_values) = (keys.clone(), values.clone());
        let d_queries = backend.attention_backward(
            heads,
            &query_rows,
            &queries,
            &sequences,
            &out,
            &lse,
            &d_out,
            &mut d_keys,
            &mut d_values,
        );
        [&out, &lse, &d_queries, &d_keys, &d_values].map(|rows| bits(backend, rows)).into()
    });
}

/// Both directions of the token KL, and log-probabilities.
pub fn unembedding_gradients_repeat<B: Backend>(device: &Device<B>) {
    for (n, width, vocabulary) in [(1, 33, 1003), (100, 65, 333)] {
        let mut random = Random::new(4);
        let [student, teacher] = std::array::from_fn(|_| random.values(n * width, 2.0));
        let (matrix, _) = random.matrix(DType::F32, vocabulary, width);
        let tokens = random.indices(n, vocabulary);
        let d = narrow(&random.values(n, 2.0));
        assert_repeats(device, "unembedding", |backend| {
            let weight = backend.matrix(&matrix);
            let (student, teacher) = (rows(backend, width, &student), rows(backend, width, &teacher));
            let readout = |hidden| Readout { hidden, weight: &weight };
            let mut d_weight = backend.zeros(vocabulary, width);
            let mut results = Vec::new();
            for direction in [KlDirection::Reverse, KlDirection::Forward] {
                let (student, teacher) = (readout(&student), readout(&teacher));
                let (kls, d_hidden) = backend.distill_kl(student, teacher, direction, Some(&d), Some(&mut d_weight));
                results.push(kls.into_iter().map(f32::to_bits).collect());
                results.push(bits(backend, &d_hidden.expect("gradients were asked for")));
            }
            let student = readout(&student);
            let d_hidden = backend.token_log_probs_backward(student, &tokens, 0.7, &d, Some(&mut d_weight));
            results.push(bits(backend, &d_hidden));
            results.push(bits(backend, &d_weight));
            results
        });
    }
}
