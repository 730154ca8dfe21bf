//! The device under test, random inputs for it, and comparison of its results with f64.

use aloud_kernels::{Backend, DType, Matrix, Rows};
use half::{bf16, f16};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A backend and how exact it is.
pub(crate) struct Device<B> {
    /// The backend under test.
    pub(crate) backend: B,
    /// Another instance whose results must have the same bits: for the CPU, one with another number of threads.
    pub(crate) twin: B,
    /// Largest error of a tensor's element, relative to the largest element of the tensor or 1.
    pub(crate) tolerance: f64,
}

/// All number formats.
pub(crate) const DTYPES: [DType; 6] = [DType::F32, DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1];

/// Random numbers that f32 holds exactly, as f64.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// `n` values between `-limit` and `limit`.
    pub(crate) fn values(&mut self, n: usize, limit: f32) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.0.random_range(-limit..limit))).collect()
    }

    /// `n` whole numbers between `-limit` and `limit`: their sums of products are exact in f32.
    pub(crate) fn integers(&mut self, n: usize, limit: i32) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.0.random_range(-limit..=limit))).collect()
    }

    /// `n` indices below `limit`.
    pub(crate) fn indices(&mut self, n: usize, limit: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(limit) as u32).collect()
    }

    /// The numbers below `n` in random order.
    pub(crate) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// A matrix in the given format, values within about 1 of 0, and these values as the format defines them.
    pub(crate) fn matrix(&mut self, dtype: DType, rows: usize, columns: usize) -> (Matrix, Vec<f64>) {
        let mut bytes = Vec::new();
        let mut values = Vec::new();
        for _ in 0..rows * columns / dtype.block_len() {
            self.block(dtype, &mut bytes, &mut values);
        }
        let values = values.into_iter().map(f64::from).collect();
        (Matrix::new(dtype, rows, columns, &bytes).expect("bytes of the shape"), values)
    }

    /// One block, after ggml's definitions of its formats.
    fn block(&mut self, dtype: DType, bytes: &mut Vec<u8>, values: &mut Vec<f32>) {
        let value: f32 = self.0.random_range(-1.0..1.0);
        let scale = f16::from_f32(value / if dtype == DType::Q8_0 { 128.0 } else { 16.0 });
        let minimum = f16::from_f32(self.0.random_range(-0.5..0.5));
        let (d, m) = (scale.to_f32(), minimum.to_f32());
        let quants: [u8; 32] = std::array::from_fn(|_| self.0.random_range(0..=u8::MAX));
        let nibbles = quants.map(|q| q >> 4);
        // Value i of a block of nibbles is in the low half of byte i, value 16 + i in its high half.
        let packed = (0..16).map(|i| nibbles[i] | nibbles[16 + i] << 4);
        match dtype {
            DType::F32 => {
                bytes.extend(value.to_le_bytes());
                values.push(value);
            }
            DType::F16 => {
                bytes.extend(f16::from_f32(value).to_le_bytes());
                values.push(f16::from_f32(value).to_f32());
            }
            DType::Bf16 => {
                bytes.extend(bf16::from_f32(value).to_le_bytes());
                values.push(bf16::from_f32(value).to_f32());
            }
            DType::Q8_0 => {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(quants);
                values.extend(quants.map(|q| d * f32::from(q.cast_signed())));
            }
            DType::Q4_0 => {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(packed);
                values.extend(nibbles.map(|q| d * (f32::from(q) - 8.0)));
            }
            DType::Q4_1 => {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(minimum.to_le_bytes());
                bytes.extend(packed);
                values.extend(nibbles.map(|q| d * f32::from(q) + m));
            }
        }
    }
}

/// Runs `test` on random cases, the same ones every time. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for others.
pub(crate) fn for_cases<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0);
    }
    let outcome = TestRunner::new(config).run(&strategy, |case| {
        test(case);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Rounds to f32, for inputs that are f32 already.
pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
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

/// Inner product: the loss whose gradient with respect to `y` is `d_y`.
pub(crate) fn dot(y: &[f64], d_y: &[f64]) -> f64 {
    y.iter().zip(d_y).map(|(y, d)| y * d).sum()
}
