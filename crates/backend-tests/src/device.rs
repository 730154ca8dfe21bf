//! The device under test, and comparison of its results with f64.

use aloud_kernels::backend::Backend;
use aloud_kernels::rows::Rows;

use crate::random::{Random, narrow};

/// A backend and how exact it is.
#[derive(Debug)]
pub struct Device<B> {
    /// The backend under test.
    pub backend: B,
    /// Another instance whose results must have the same bits: for the CPU, one with another number of threads.
    pub twin: B,
    /// Largest error of a tensor's element, relative to the largest element of the tensor or 1.
    pub tolerance: f64,
}

/// Rows on the device.
pub(crate) fn rows<B: Backend>(backend: &B, width: usize, values: &[f64]) -> B::Rows {
    backend.upload(Rows::new(width, narrow(values)))
}

/// Values of rows of the device.
pub(crate) fn values<B: Backend>(backend: &B, rows: &B::Rows) -> Vec<f32> {
    backend.download(rows).into_values()
}

/// Bits of rows of the device.
pub(crate) fn bits<B: Backend>(backend: &B, rows: &B::Rows) -> Vec<u32> {
    values(backend, rows).into_iter().map(f32::to_bits).collect()
}

impl<B: Backend> Device<B> {
    /// Rows on the device.
    pub(crate) fn rows(&self, width: usize, values: &[f64]) -> B::Rows {
        rows(&self.backend, width, values)
    }

    /// Asserts that rows have the expected values.
    pub(crate) fn assert_rows(&self, what: &str, actual: &B::Rows, expected: &[f64]) {
        self.assert_values(what, &values(&self.backend, actual), expected);
    }

    /// Asserts that values are as expected.
    pub(crate) fn assert_values(&self, what: &str, actual: &[f32], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len(), "{what}: number of values");
        let largest = expected.iter().fold(1.0f64, |a, b| a.max(b.abs()));
        for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let error = (f64::from(*actual) - expected).abs();
            assert!(error <= self.tolerance * largest, "{what}[{i}]: {actual} instead of {expected}");
        }
    }

    /// Asserts that `gradient` is what was there `before` plus the gradient of `loss` at `x`: by finite differences of
    /// elements drawn at random, and along one random direction, which all elements take part in.
    pub(crate) fn assert_gradient(
        &self,
        what: &str,
        gradient: &[f32],
        before: &[f64],
        x: &[f64],
        loss: impl Fn(&[f64]) -> f64,
    ) {
        /// Elements looked at one by one.
        const ELEMENTS: usize = 32;
        assert_eq!((gradient.len(), before.len()), (x.len(), x.len()), "{what}: size of the gradient");
        let mut random = Random::new(x.len() as u64);
        let picked: Vec<usize> = random.order(x.len()).into_iter().take(ELEMENTS).collect();
        let expected: Vec<f64> = picked
            .iter()
            .map(|&i| {
                before[i]
                    + derivative(|step| {
                        let mut x = x.to_vec();
                        x[i] += step;
                        loss(&x)
                    })
            })
            .collect();
        let actual: Vec<f32> = picked.iter().map(|&i| gradient[i]).collect();
        self.assert_values(&format!("{what} at {picked:?}"), &actual, &expected);

        let direction: Vec<f64> = x.iter().map(|_| if random.below(2) == 0 { 1.0 } else { -1.0 }).collect();
        let expected = derivative(|step| {
            let x: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            loss(&x)
        });
        let parts = || gradient.iter().zip(before).map(|(g, b)| (f64::from(*g), *b));
        let actual: f64 = parts().zip(&direction).map(|((g, b), d)| (g - b) * d).sum();
        let magnitude = parts().map(|(g, b)| g.abs() + b.abs()).fold(1.0, |a, b| a + b);
        let error = (actual - expected).abs();
        assert!(error <= self.tolerance * magnitude, "{what}: {actual} instead of {expected} along a random direction");
    }
}

/// Derivative of `f` at 0 by the five-point stencil.
fn derivative(f: impl Fn(f64) -> f64) -> f64 {
    const H: f64 = 1e-5;
    (8.0 * (f(H) - f(-H)) - (f(2.0 * H) - f(-2.0 * H))) / (12.0 * H)
}
