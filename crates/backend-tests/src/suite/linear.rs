//! Linear layers over every number format: values and gradients of inputs, weights and biases.

use aloud_kernels::backend::{Backend, Term};
use aloud_kernels::dtype::DType;
use proptest::prelude::*;

use crate::device::{Device, values};
use crate::formulas::{self, dot};
use crate::gradients;
use crate::random::{DTYPES, Random, for_cases};

fn check<B: Backend>(device: &Device<B>, dtype: DType, (m, n, k): (usize, usize, usize), scale: f32, seed: u64) {
    let backend = &device.backend;
    let mut random = Random::new(seed);
    let k = k.next_multiple_of(dtype.block_len());
    let x = random.values(m * k, 2.0);
    let (matrix, w) = random.matrix(dtype, n, k);
    let bias = random.values(n, 2.0);
    let d_out = random.values(m * n, 2.0);
    let matrix = backend.matrix(&matrix);
    let (x_rows, d_out_rows) = (device.rows(k, &x), device.rows(n, &d_out));
    let product = |x: &[f64], w: &[f64]| formulas::linear(x, w, None, n, k);

    let out = backend.linear_forward(&x_rows, &matrix, None);
    assert_eq!(backend.n_rows(&out), m);
    device.assert_rows("x W^T", &out, &product(&x, &w));
    let out = backend.linear_forward(&x_rows, &matrix, Some(&device.rows(n, &bias)));
    device.assert_rows("x W^T + bias", &out, &formulas::linear(&x, &w, Some(&bias), n, k));

    let before = random.values(m * n, 2.0);
    let mut sum = device.rows(n, &before);
    backend.linears_add_forward(&[Term { rows: &x_rows, weight: &matrix, scale }], &mut [&mut sum]);
    let scale_f64 = f64::from(scale);
    let expected: Vec<f64> = before.iter().zip(product(&x, &w)).map(|(b, p)| b + scale_f64 * p).collect();
    device.assert_rows("out + scale x W^T", &sum, &expected);

    let d_x = backend.linears_backward_input(&[Term { rows: &d_out_rows, weight: &matrix, scale }]);
    let loss = |x: &[f64], w: &[f64]| scale_f64 * dot(&product(x, w), &d_out);
    device.assert_gradient("d_x", &values(backend, &d_x), &vec![0.0; m * k], &x, |x| loss(x, &w));

    let before = random.values(n * k, 2.0);
    let mut d_weight = device.rows(k, &before);
    backend.linear_backward_weight(&d_out_rows, &x_rows, scale, &mut d_weight);
    device.assert_gradient("d_weight", &values(backend, &d_weight), &before, &w, |w| loss(&x, w));
}

/// Shapes around the edges of every tile.
pub fn linear<B: Backend>(device: &Device<B>) {
    let scale = prop::sample::select(vec![1.0f32, -0.75, 2.5]);
    let shape = (0usize..=14, 1usize..=30, 1usize..=70);
    for_cases(
        48,
        (prop::sample::select(DTYPES.to_vec()), shape, scale, any::<u64>()),
        |(dtype, shape, scale, seed)| {
            check(device, dtype, shape, scale, seed);
        },
    );
}

/// Enough work to be split among threads; more weight rows than are widened at a time.
pub fn linear_with_tens_of_thousands_of_products<B: Backend>(device: &Device<B>) {
    for (i, dtype) in DTYPES.into_iter().enumerate() {
        check(device, dtype, (7, 205, 96), 0.5, i as u64);
        check(device, dtype, (19, 33, 160), 1.0, i as u64);
    }
    check(device, DType::F32, (21, 50, 65), 2.0, 0);
    check(device, DType::F32, (1, 300, 129), 2.0, 1);
}

/// Layers of several shapes and formats over one input.
pub fn linears_are_one_linear_each<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let layer = (prop::sample::select(DTYPES.to_vec()), 1usize..=100, any::<bool>());
    let shapes = (0usize..=14, 1usize..=3, prop::collection::vec(layer, 0..=4), any::<u64>());
    for_cases(24, shapes, |(m, blocks, layers, seed)| {
        let mut random = Random::new(seed);
        let k = blocks * 32;
        let x = random.values(m * k, 2.0);
        let parts: Vec<_> = layers
            .into_iter()
            .map(|(dtype, n, with_bias)| {
                let (matrix, w) = random.matrix(dtype, n, k);
                let bias = with_bias.then(|| random.values(n, 2.0));
                let expected = formulas::linear(&x, &w, bias.as_deref(), n, k);
                (backend.matrix(&matrix), bias.map(|bias| device.rows(n, &bias)), expected)
            })
            .collect();
        let layers: Vec<_> = parts.iter().map(|(matrix, bias, _)| (matrix, bias.as_ref())).collect();
        let outs = backend.linears_forward(&device.rows(k, &x), &layers);
        assert_eq!(outs.len(), parts.len());
        for (out, (.., expected)) in outs.iter().zip(&parts) {
            assert_eq!(backend.n_rows(out), m);
            device.assert_rows("layer", out, expected);
        }
    });
}

/// Terms of several shapes and formats: each added to an output of its own, and the sum of their gradients of one input.
pub fn terms<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let layer = (prop::sample::select(DTYPES.to_vec()), 1usize..=300, prop::sample::select(vec![1.0f32, -0.75]));
    let shapes = (0usize..=70, 1usize..=6, prop::collection::vec(layer, 1..=4), any::<u64>());
    for_cases(24, shapes, |(m, blocks, layers, seed)| {
        let mut random = Random::new(seed);
        let k = blocks * 32;
        let mut d_x = vec![0.0; m * k];
        let parts: Vec<_> = layers
            .into_iter()
            .map(|(dtype, n, scale)| {
                let (matrix, w) = random.matrix(dtype, n, k);
                let (x, before) = (random.values(m * k, 2.0), random.values(m * n, 2.0));
                let product = formulas::linear(&x, &w, None, n, k);
                let sum: Vec<f64> = before.iter().zip(product).map(|(b, p)| b + f64::from(scale) * p).collect();
                let gradient = gradients::linear_input(&before, &w, n, k);
                d_x.iter_mut().zip(gradient).for_each(|(d_x, part)| *d_x += f64::from(scale) * part);
                (backend.matrix(&matrix), scale, device.rows(k, &x), device.rows(n, &before), sum)
            })
            .collect();
        let forward: Vec<_> =
            parts.iter().map(|(weight, scale, rows, ..)| Term { rows, weight, scale: *scale }).collect();
        let mut outs: Vec<_> = parts.iter().map(|(.., before, _)| before.clone()).collect();
        backend.linears_add_forward(&forward, &mut outs.iter_mut().collect::<Vec<_>>());
        for (out, (.., sum)) in outs.iter().zip(&parts) {
            device.assert_rows("term", out, sum);
        }
        let backward: Vec<_> =
            parts.iter().map(|(weight, scale, _, rows, _)| Term { rows, weight, scale: *scale }).collect();
        device.assert_rows("d_x of all terms", &backend.linears_backward_input(&backward), &d_x);
    });
}

/// The gradient of a bias: column sums.
pub fn bias<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    for_cases(24, (0usize..=40, 1usize..=70, any::<u64>()), |(m, n, seed)| {
        let mut random = Random::new(seed);
        let d_out = random.values(m * n, 2.0);
        let before = random.values(n, 2.0);
        let mut d_bias = device.rows(n, &before);
        backend.bias_backward(&device.rows(n, &d_out), &mut d_bias);
        let loss = |bias: &[f64]| d_out.chunks_exact(n).map(|d_out| dot(bias, d_out)).sum();
        device.assert_gradient("d_bias", &values(backend, &d_bias), &before, &vec![0.0; n], loss);
    });
}
