//! Random inputs, in every number format, and the values that they stand for.

use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use half::{bf16, f16};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// All number formats.
pub const DTYPES: [DType; 6] = [DType::F32, DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1];

/// Random numbers that f32 holds exactly, as f64.
#[derive(Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// `n` values between `-limit` and `limit`.
    pub fn values(&mut self, n: usize, limit: f32) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.0.random_range(-limit..limit))).collect()
    }

    /// `n` whole numbers between `-limit` and `limit`: their sums of products are exact in f32.
    pub fn integers(&mut self, n: usize, limit: i32) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.0.random_range(-limit..=limit))).collect()
    }

    /// `n` indices below `limit`.
    pub fn indices(&mut self, n: usize, limit: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(limit) as u32).collect()
    }

    /// The numbers below `n` in random order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// A matrix in the given format, values within about 1 of 0, and these values as the format defines them.
    pub fn matrix(&mut self, dtype: DType, rows: usize, columns: usize) -> (Matrix, Vec<f64>) {
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
pub fn for_cases<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
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
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
