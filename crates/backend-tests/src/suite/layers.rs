//! Row moves, embedding, norm, rotation, gate and exit head: values and gradients.

use aloud_kernels::backend::{Backend, Rotation};
use aloud_kernels::rope_table::RopeTable;
use proptest::prelude::*;

use crate::device::{Device, values};
use crate::formulas::{self, dot};
use crate::random::{DTYPES, Random, for_cases, narrow};

/// Gathering, scattering, joining, copying and growing move rows unchanged; adding adds, and is the backward of gathering.
pub fn rows_move<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    for_cases(24, (1usize..=20, 0usize..=14, 1usize..=70, any::<u64>()), |(n, m, width, seed)| {
        let mut random = Random::new(seed);
        let x = random.values(n * width, 2.0);
        let indices = random.indices(m, n);
        let gather = |x: &[f64]| -> Vec<f64> {
            indices.iter().flat_map(|&i| x[i as usize * width..][..width].to_vec()).collect()
        };
        let x_rows = device.rows(width, &x);
        assert_eq!(values(backend, &backend.gather_rows(&x_rows, &indices)), narrow(&gather(&x)));

        let d_out = random.values(m * width, 2.0);
        let mut d_x = x_rows.clone();
        backend.scatter_add_rows(&mut d_x, Some(&indices), &device.rows(width, &d_out));
        let d_x = values(backend, &d_x);
        device.assert_gradient("gather_rows", &d_x, &x, &x, |x| dot(&gather(x), &d_out));

        let more = random.values(n * width, 2.0);
        let mut sum = x_rows.clone();
        backend.scatter_add_rows(&mut sum, None, &device.rows(width, &more));
        let expected: Vec<f64> = x.iter().zip(&more).map(|(a, b)| a + b).collect();
        device.assert_rows("scatter_add_rows", &sum, &expected);

        let order = random.order(n);
        let order: Vec<u32> = order[..m.min(n)].iter().map(|&i| i as u32).collect();
        let new = random.values(order.len() * width, 2.0);
        let mut out = x_rows.clone();
        backend.scatter_rows(&mut out, &order, &device.rows(width, &new));
        let mut expected = x.clone();
        for (&row, new) in order.iter().zip(new.chunks_exact(width)) {
            expected[row as usize * width..][..width].copy_from_slice(new);
        }
        assert_eq!(values(backend, &out), narrow(&expected));

        let (first, last) = (random.below(n + 1), random.below(n + 1));
        let range = first.min(last)..first.max(last);
        let joined = backend.concat_rows(width, &[(&x_rows, range.clone()), (&x_rows, 0..0), (&x_rows, 0..n)]);
        let run = &x[range.start * width..range.end * width];
        assert_eq!(values(backend, &joined), narrow(&[run, &x].concat()));
        let to = random.below(n - range.len() + 1);
        let mut copied = sum;
        let mut expected = values(backend, &copied);
        backend.copy_rows(&mut copied, to, &x_rows, range.clone());
        expected[to * width..][..run.len()].copy_from_slice(&narrow(run));
        assert_eq!(values(backend, &copied), expected);

        let mut grown = x_rows;
        backend.grow(&mut grown, n + m);
        let mut expected = x;
        expected.resize((n + m) * width, 0.0);
        assert_eq!((backend.n_rows(&grown), values(backend, &grown)), (n + m, narrow(&expected)));
        backend.grow(&mut grown, 1);
        assert_eq!(backend.n_rows(&grown), n + m, "growing never shrinks");
        let zeros = backend.zeros(m, width);
        assert_eq!((backend.n_rows(&zeros), values(backend, &zeros)), (m, vec![0.0; m * width]));
    });
}

/// Rows of the table in every number format, and its gradient.
pub fn embedding<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let shapes = (prop::sample::select(DTYPES.to_vec()), 1usize..=12, 0usize..=14, 1usize..=70, any::<u64>());
    for_cases(32, shapes, |(dtype, vocabulary, m, columns, seed)| {
        let mut random = Random::new(seed);
        let columns = columns.next_multiple_of(dtype.block_len());
        let (table, table_values) = random.matrix(dtype, vocabulary, columns);
        let tokens = random.indices(m, vocabulary);
        let look_up = |table: &[f64]| -> Vec<f64> {
            tokens.iter().flat_map(|&token| table[token as usize * columns..][..columns].to_vec()).collect()
        };
        let out = backend.embedding_forward(&backend.matrix(&table), &tokens);
        assert_eq!(values(backend, &out), narrow(&look_up(&table_values)));

        let d_out = random.values(m * columns, 2.0);
        let before = random.values(vocabulary * columns, 1.0);
        let mut d_table = device.rows(columns, &before);
        backend.embedding_backward(&tokens, &device.rows(columns, &d_out), &mut d_table);
        let d_table = values(backend, &d_table);
        device.assert_gradient("d_table", &d_table, &before, &table_values, |table| dot(&look_up(table), &d_out));
    });
}

/// The gain is as wide as a row, or as one of its heads.
pub fn rms_norm<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let eps = prop::sample::select(vec![1e-6f32, 1e-5, 0.5]);
    let shapes = prop_oneof![
        4 => (0usize..=14, 1usize..=3, 1usize..=70),
        1 => (20usize..=30, 1usize..=2, 100usize..=300),
    ];
    for_cases(40, (shapes, eps, any::<u64>()), |((m, heads, width), eps, seed)| {
        let mut random = Random::new(seed);
        let x = random.values(m * heads * width, 2.0);
        let gain = random.values(width, 2.0);
        let d_out = random.values(x.len(), 2.0);
        let norm = |x: &[f64], gain: &[f64]| formulas::rms_norm(x, gain, f64::from(eps));
        let (x_rows, gain_row) = (device.rows(heads * width, &x), device.rows(width, &gain));
        let d_out_rows = device.rows(heads * width, &d_out);
        let out = backend.rms_norm_forward(&x_rows, &gain_row, eps);
        assert_eq!(backend.n_rows(&out), m);
        device.assert_rows("rms_norm", &out, &norm(&x, &gain));

        let before = random.values(x.len(), 1.0);
        let before_gain = random.values(width, 1.0);
        let mut d_x = device.rows(heads * width, &before);
        let mut d_gain = device.rows(width, &before_gain);
        backend.rms_norm_backward(&x_rows, &gain_row, eps, &d_out_rows, &mut d_x, Some(&mut d_gain));
        let d_gain = values(backend, &d_gain);
        device.assert_gradient("d_x", &values(backend, &d_x), &before, &x, |x| dot(&norm(x, &gain), &d_out));
        device.assert_gradient("d_gain", &d_gain, &before_gain, &gain, |gain| dot(&norm(&x, gain), &d_out));

        let mut frozen = device.rows(heads * width, &before);
        backend.rms_norm_backward(&x_rows, &gain_row, eps, &d_out_rows, &mut frozen, None);
        assert_eq!(
            values(backend, &frozen),
            values(backend, &d_x),
            "d_x does not depend on whether d_gain is asked for"
        );
    });
}

/// A sum of squares beyond f32 is no root mean square: the row becomes NaN, and not zeros.
pub fn a_norm_that_overflows_is_not_a_number<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let x = device.rows(4, &[1e30, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let gain = device.rows(4, &[1.0; 4]);
    let out = values(backend, &backend.rms_norm_forward(&x, &gain, 1e-5));
    assert!(out[..4].iter().all(|x| x.is_nan()) && out[4..].iter().all(|x| x.is_finite()), "{out:?}");
    let logits = backend.exit_head_forward(&x, &[1.0; 4], 0.0, Some(1e-5));
    assert!(logits[0].is_nan() && logits[1].is_finite(), "{logits:?}");
}

/// Rotating back is the gradient of rotating, scaled tables included.
pub fn rope<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let shapes = (0usize..=14, 1usize..=3, 1usize..=35, prop::sample::select(vec![1.0f32, 1.25]), any::<u64>());
    for_cases(32, shapes, |(m, heads, half, scaling, seed)| {
        let mut random = Random::new(seed);
        let frequencies = narrow(&random.values(half, 1.0));
        let table = RopeTable::new(&frequencies, scaling, 50);
        let width = heads * 2 * half;
        let x = random.values(m * width, 2.0);
        let d_out = random.values(m * width, 2.0);
        let positions = random.indices(m, 50);
        let mut out = device.rows(width, &x);
        backend.rope(&mut out, &table, &positions, Rotation::Forward);
        device.assert_rows("rope", &out, &formulas::rope(&x, width, &table, &positions, Rotation::Forward));

        let mut d_x = device.rows(width, &d_out);
        backend.rope(&mut d_x, &table, &positions, Rotation::Backward);
        let zeros = vec![0.0; x.len()];
        device.assert_gradient("d_x", &values(backend, &d_x), &zeros, &x, |x| {
            dot(&formulas::rope(x, width, &table, &positions, Rotation::Forward), &d_out)
        });
    });
}

/// A pair of values `(a, b)` turns by `position * frequency` radians.
pub fn rope_table_turns_by_the_angle<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let frequencies = [1.0f32, 0.25, 0.01];
    let table = RopeTable::new(&frequencies, 1.0, 64);
    assert_eq!((table.head_dim(), table.n_positions()), (6, 64));
    let positions: Vec<u32> = (0..64).collect();
    let mut out = device.rows(6, &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0].repeat(64));
    backend.rope(&mut out, &table, &positions, Rotation::Forward);
    let angles = |position: u32| frequencies.map(|frequency| f64::from(position) * f64::from(frequency));
    let expected: Vec<f64> = positions
        .iter()
        .flat_map(|&position| [angles(position).map(f64::cos), angles(position).map(f64::sin)].concat())
        .collect();
    device.assert_rows("unit vectors", &out, &expected);
}

/// Values, and gradients of gate and up projection.
pub fn swiglu<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let shapes = prop_oneof![4 => (0usize..=14, 1usize..=70), 1 => (20usize..=30, 100usize..=300)];
    for_cases(32, (shapes, any::<u64>()), |((m, width), seed)| {
        let mut random = Random::new(seed);
        let (gate, up) = (random.values(m * width, 8.0), random.values(m * width, 2.0));
        let d_out = random.values(m * width, 2.0);
        let (gate_rows, up_rows) = (device.rows(width, &gate), device.rows(width, &up));
        let out = backend.swiglu_forward(&gate_rows, &up_rows);
        device.assert_rows("swiglu", &out, &formulas::swiglu(&gate, &up));
        let (d_gate, d_up) = backend.swiglu_backward(&gate_rows, &up_rows, &device.rows(width, &d_out));
        let (d_gate, d_up) = (values(backend, &d_gate), values(backend, &d_up));
        let zeros = vec![0.0; gate.len()];
        device.assert_gradient("d_gate", &d_gate, &zeros, &gate, |gate| dot(&formulas::swiglu(gate, &up), &d_out));
        device.assert_gradient("d_up", &d_up, &zeros, &up, |up| dot(&formulas::swiglu(&gate, up), &d_out));
    });
}

/// The exponential is accurate to 1e-6 relative over the range of normal results, and saturates without NaN beyond it.
pub fn swiglu_is_accurate<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let gate: Vec<f64> = (-8600..=8600).map(|i| f64::from(i as f32 / 100.0)).collect();
    let ones = vec![1.0; gate.len()];
    let out = backend.swiglu_forward(&device.rows(gate.len(), &gate), &device.rows(gate.len(), &ones));
    for ((actual, expected), gate) in values(backend, &out).iter().zip(formulas::swiglu(&gate, &ones)).zip(&gate) {
        let error = (f64::from(*actual) - expected).abs();
        assert!(error <= 1e-6 * expected.abs(), "silu({gate}) = {actual} instead of {expected}");
    }
    let extreme = [-1e30, -1000.0, -100.0, 100.0, 1000.0, 1e30];
    let extreme_rows = device.rows(6, &extreme);
    let ones = device.rows(6, &[1.0; 6]);
    let out = values(backend, &backend.swiglu_forward(&extreme_rows, &ones));
    let (d_gate, d_up) = backend.swiglu_backward(&extreme_rows, &ones, &ones);
    let (d_gate, d_up) = (values(backend, &d_gate), values(backend, &d_up));
    for (i, gate) in extreme.into_iter().enumerate() {
        let (identity, slope) = if gate > 0.0 { (gate, 1.0) } else { (0.0, 0.0) };
        // e^-88.3 = 4.5e-39 is where the exponential saturates.
        let slack = gate.abs() * 1e-38;
        for (what, actual, expected) in
            [("silu", out[i], identity), ("d_gate", d_gate[i], slope), ("d_up", d_up[i], identity)]
        {
            let error = (f64::from(actual) - expected).abs();
            assert!(error <= 1e-6 * expected.abs() + slack, "{what} at {gate}: {actual}");
        }
    }
}

/// With and without the norm, with and without the gradient of the rows.
pub fn exit_head<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let eps = prop::sample::select(vec![None, Some(1e-5f32), Some(0.5)]);
    for_cases(40, (0usize..=14, 1usize..=70, eps, any::<u64>()), |(m, width, rms_eps, seed)| {
        let mut random = Random::new(seed);
        let x = random.values(m * width, 2.0);
        let weight = random.values(width, 2.0);
        let bias = random.values(1, 2.0)[0];
        let d_logits = random.values(m, 2.0);
        let head = |x: &[f64], weight: &[f64], bias: f64| formulas::exit_head(x, weight, bias, rms_eps);
        let (x_rows, weight_f32) = (device.rows(width, &x), narrow(&weight));
        let logits = backend.exit_head_forward(&x_rows, &weight_f32, bias as f32, rms_eps);
        device.assert_values("exit logits", &logits, &head(&x, &weight, bias));

        let before = random.values(x.len(), 1.0);
        let before_weight = random.values(width, 1.0);
        let d = narrow(&d_logits);
        let mut d_x = device.rows(width, &before);
        let (mut d_weight, mut d_bias) = (narrow(&before_weight), 0.25);
        backend.exit_head_backward(&x_rows, &weight_f32, rms_eps, &d, Some(&mut d_x), &mut d_weight, &mut d_bias);
        let d_x = values(backend, &d_x);
        device.assert_gradient("d_x", &d_x, &before, &x, |x| dot(&head(x, &weight, bias), &d_logits));
        device.assert_gradient("d_weight", &d_weight, &before_weight, &weight, |weight| {
            dot(&head(&x, weight, bias), &d_logits)
        });
        device.assert_gradient("d_bias", &[d_bias], &[0.25], &[bias], |b| dot(&head(&x, &weight, b[0]), &d_logits));

        let (mut detached, mut detached_bias) = (narrow(&before_weight), 0.25);
        backend.exit_head_backward(&x_rows, &weight_f32, rms_eps, &d, None, &mut detached, &mut detached_bias);
        assert_eq!((detached, detached_bias), (d_weight, d_bias), "the head's gradient without the rows'");
    });
}
