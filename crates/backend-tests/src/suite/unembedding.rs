//! Logits and the losses and readings computed from them, in chunks of rows.

use aloud_kernels::backend::{Backend, KlDirection, MAX_LOGIT_ROWS, Readout};
use aloud_kernels::dtype::DType;
use proptest::prelude::*;

use crate::device::{Device, values};
use crate::formulas::{self, dot};
use crate::random::{DTYPES, Random, for_cases, narrow};

const DIRECTIONS: [KlDirection; 2] = [KlDirection::Reverse, KlDirection::Forward];

/// Hidden states and an unembedding, on the device and in f64.
struct Model<B: Backend> {
    width: usize,
    vocabulary: usize,
    hidden: Vec<f64>,
    weight: Vec<f64>,
    hidden_rows: B::Rows,
    matrix: B::Matrix,
}

impl<B: Backend> Model<B> {
    fn new(device: &Device<B>, dtype: DType, n: usize, width: usize, vocabulary: usize, random: &mut Random) -> Self {
        let width = width.next_multiple_of(dtype.block_len());
        let hidden = random.values(n * width, 1.0);
        let (matrix, weight) = random.matrix(dtype, vocabulary, width);
        Self::of(device, width, hidden, device.backend.matrix(&matrix), weight)
    }

    /// With logits that are whole numbers, exact in f32, up to about `limit`.
    fn with_exact_logits(device: &Device<B>, n: usize, vocabulary: usize, limit: i32, random: &mut Random) -> Self {
        let width = 3;
        let hidden = random.integers(n * width, 8);
        let weight = random.integers(vocabulary * width, limit / 8 / width as i32);
        let matrix = aloud_kernels::matrix::Matrix::from_f32(vocabulary, width, narrow(&weight)).expect("shape");
        Self::of(device, width, hidden, device.backend.matrix(&matrix), weight)
    }

    fn of(device: &Device<B>, width: usize, hidden: Vec<f64>, matrix: B::Matrix, weight: Vec<f64>) -> Self {
        let hidden_rows = device.rows(width, &hidden);
        Self { width, vocabulary: weight.len() / width, hidden, weight, hidden_rows, matrix }
    }

    fn readout(&self) -> Readout<'_, B::Rows, B::Matrix> {
        Readout { hidden: &self.hidden_rows, weight: &self.matrix }
    }

    fn logits(&self, hidden: &[f64], weight: &[f64]) -> Vec<f64> {
        formulas::linear(hidden, weight, None, self.vocabulary, self.width)
    }

    fn own_logits(&self) -> Vec<f64> {
        self.logits(&self.hidden, &self.weight)
    }
}

/// Up to 64 rows, unembeddings in every number format.
pub fn logits<B: Backend>(device: &Device<B>) {
    let shapes = (prop::sample::select(DTYPES.to_vec()), 0usize..=64, 1usize..=40, 1usize..=70, any::<u64>());
    for_cases(24, shapes, |(dtype, n, width, vocabulary, seed)| {
        let model = Model::new(device, dtype, n, width, vocabulary, &mut Random::new(seed));
        let actual = device.backend.logits(model.readout());
        assert_eq!(actual.n_rows(), n);
        device.assert_values("logits", actual.values(), &model.own_logits());
    });
}

/// The limit on rows of logits is held.
pub fn logits_refuses_more_than_64_rows<B: Backend>(device: &Device<B>) {
    assert_eq!(MAX_LOGIT_ROWS, 64);
    let model = Model::new(device, DType::F32, 65, 4, 5, &mut Random::new(0));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.backend.logits(model.readout())));
    assert!(outcome.is_err());
}

fn check_distill_kl<B: Backend>(
    device: &Device<B>,
    direction: KlDirection,
    dtype: DType,
    n: usize,
    (width, teacher_width, vocabulary): (usize, usize, usize),
    seed: u64,
) {
    let backend = &device.backend;
    let mut random = Random::new(seed);
    let student = Model::new(device, dtype, n, width, vocabulary, &mut random);
    let teacher = Model::new(device, DType::F32, n, teacher_width, vocabulary, &mut random);
    let teacher_logits = teacher.own_logits();
    let kls = |hidden: &[f64], weight: &[f64]| {
        formulas::distill_kl(&student.logits(hidden, weight), &teacher_logits, vocabulary, direction)
    };
    let (values_alone, no_gradient) = backend.distill_kl(student.readout(), teacher.readout(), direction, None, None);
    assert!(no_gradient.is_none());
    device.assert_values("kl", &values_alone, &kls(&student.hidden, &student.weight));

    let d_kl = random.values(n, 2.0);
    let d_kl_f32 = narrow(&d_kl);
    let before = random.values(vocabulary * student.width, 1.0);
    let mut d_weight = device.rows(student.width, &before);
    let gradients = Some(&mut d_weight);
    let (kl, d_hidden) =
        backend.distill_kl(student.readout(), teacher.readout(), direction, Some(&d_kl_f32), gradients);
    assert_eq!(kl, values_alone, "values do not depend on whether gradients are asked for");
    let d_hidden = values(backend, &d_hidden.expect("gradients were asked for"));
    let loss = |hidden: &[f64], weight: &[f64]| dot(&kls(hidden, weight), &d_kl);
    let zeros = vec![0.0; student.hidden.len()];
    device.assert_gradient("d_hidden", &d_hidden, &zeros, &student.hidden, |h| loss(h, &student.weight));
    let d_weight = values(backend, &d_weight);
    device.assert_gradient("d_weight", &d_weight, &before, &student.weight, |w| loss(&student.hidden, w));

    let (_, without_weight) =
        backend.distill_kl(student.readout(), teacher.readout(), direction, Some(&d_kl_f32), None);
    assert_eq!(values(backend, &without_weight.expect("gradients were asked for")), d_hidden);
}

/// Both directions; the teacher may have another hidden size, the student's unembedding any format.
pub fn distill_kl<B: Backend>(device: &Device<B>) {
    let shape = (1usize..=20, 1usize..=20, 1usize..=70);
    let direction = prop::sample::select(DIRECTIONS.to_vec());
    let shapes = (direction, prop::sample::select(DTYPES.to_vec()), 0usize..=9, shape, any::<u64>());
    for_cases(32, shapes, |(direction, dtype, n, shape, seed)| {
        check_distill_kl(device, direction, dtype, n, shape, seed);
    });
}

/// More rows than there may be rows of logits.
pub fn distill_kl_of_many_rows<B: Backend>(device: &Device<B>) {
    for direction in DIRECTIONS {
        for n in [32, 64, 65, 130] {
            check_distill_kl(device, direction, DType::F32, n, (6, 4, 50), n as u64);
        }
    }
}

/// Rounding of logits of size `largest` in f32 moves probabilities by this much, relatively.
fn rounding(largest: f64) -> f64 {
    4.0 * f64::from(f32::EPSILON) * (1.0 + largest)
}

/// No NaN, no negative KL beyond rounding, however large the logits.
pub fn kl_of_large_logits<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let shapes = (1usize..=40, 1usize..=70, prop::sample::select(vec![100, 1_000, 10_000, 100_000]), any::<u64>());
    for_cases(32, shapes, |(n, vocabulary, limit, seed)| {
        let mut random = Random::new(seed);
        let student = Model::with_exact_logits(device, n, vocabulary, limit, &mut random);
        let teacher = Model::with_exact_logits(device, n, vocabulary, limit, &mut random);
        let (student_logits, teacher_logits) = (student.own_logits(), teacher.own_logits());
        let largest = student_logits.iter().chain(&teacher_logits).fold(0.0f64, |a, b| a.max(b.abs()));
        let close = |what: &str, kl: f32, expected: f64| {
            let error = (f64::from(kl) - expected).abs();
            assert!(error <= rounding(largest) * (1.0 + expected), "{what}: {kl} instead of {expected}");
        };
        for direction in DIRECTIONS {
            let ones = vec![1.0; n];
            let (kls, d_hidden) =
                backend.distill_kl(student.readout(), teacher.readout(), direction, Some(&ones), None);
            let expected = formulas::distill_kl(&student_logits, &teacher_logits, vocabulary, direction);
            for (kl, expected) in kls.into_iter().zip(expected) {
                close("distill_kl", kl, expected);
            }
            let d_hidden = values(backend, &d_hidden.expect("gradients were asked for"));
            assert!(d_hidden.iter().all(|d| d.is_finite()));
        }
        let lens = Model::with_exact_logits(device, n, vocabulary, limit, &mut random).hidden_rows;
        let lens_hidden: Vec<f64> = values(backend, &lens).into_iter().map(f64::from).collect();
        let lens_logits = student.logits(&lens_hidden, &student.weight);
        let readings = backend.lens_kl(student.readout(), &[&lens], &vec![0; n], false);
        let expected = formulas::distill_kl(&lens_logits, &student_logits, vocabulary, KlDirection::Forward);
        for (reading, expected) in readings.into_iter().flat_map(|row| row.lenses).zip(expected) {
            assert!(reading.kl >= 0.0);
            close("lens_kl", reading.kl, expected);
        }
    });
}

/// So are its gradients.
pub fn kl_of_equal_distributions_is_zero<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    for_cases(24, (0usize..=40, 1usize..=300, prop::bool::ANY, any::<u64>()), |(n, vocabulary, large, seed)| {
        let mut random = Random::new(seed);
        let model = if large {
            Model::with_exact_logits(device, n, vocabulary, 10_000, &mut random)
        } else {
            Model::new(device, DType::F32, n, 12, vocabulary, &mut random)
        };
        for direction in DIRECTIONS {
            let ones = vec![1.0; n];
            let (kls, d_hidden) = backend.distill_kl(model.readout(), model.readout(), direction, Some(&ones), None);
            assert!(kls.iter().all(|kl| kl.abs() <= 1e-6), "{kls:?}");
            let d_hidden = values(backend, &d_hidden.expect("gradients were asked for"));
            assert!(d_hidden.iter().all(|d| d.abs() <= 1e-6), "{d_hidden:?}");
        }
        let readings = backend.lens_kl(model.readout(), &[&model.hidden_rows], &vec![0; n], false);
        assert!(readings.iter().flat_map(|row| &row.lenses).all(|reading| (0.0..=1e-6).contains(&reading.kl)));
    });
}

/// The token is one with the largest logit, up to rounding.
fn assert_top<B: Backend>(device: &Device<B>, logits: &[f64], token: u32) {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let error = largest - logits[token as usize];
    assert!(error <= device.tolerance * largest.abs().max(1.0), "token {token} is not the top of {logits:?}");
}

fn check_token_log_probs<B: Backend>(
    device: &Device<B>,
    dtype: DType,
    n: usize,
    (width, vocabulary): (usize, usize),
    temperature: f32,
    seed: u64,
) {
    let backend = &device.backend;
    let mut random = Random::new(seed);
    let model = Model::new(device, dtype, n, width, vocabulary, &mut random);
    let tokens = random.indices(n, vocabulary);
    let t = f64::from(temperature);
    let logits = model.own_logits();
    let readings = backend.token_log_probs(model.readout(), &tokens, temperature);
    let log_probabilities: Vec<f32> = readings.iter().map(|reading| reading.log_probability).collect();
    let entropies: Vec<f32> = readings.iter().map(|reading| reading.entropy).collect();
    let log_probs = |h: &[f64], w: &[f64]| formulas::token_log_probs(&model.logits(h, w), vocabulary, &tokens, t);
    device.assert_values("log-probabilities", &log_probabilities, &log_probs(&model.hidden, &model.weight));
    device.assert_values("entropies", &entropies, &formulas::entropy(&logits, vocabulary, t));
    for (logits, reading) in logits.chunks_exact(vocabulary).zip(&readings) {
        assert_top(device, logits, reading.top_token);
    }

    let d = random.values(n, 2.0);
    let before = random.values(vocabulary * model.width, 1.0);
    let mut d_weight = device.rows(model.width, &before);
    let d_f32 = narrow(&d);
    let d_hidden = backend.token_log_probs_backward(model.readout(), &tokens, temperature, &d_f32, Some(&mut d_weight));
    let d_hidden = values(backend, &d_hidden);
    let zeros = vec![0.0; model.hidden.len()];
    let loss = |h: &[f64], w: &[f64]| dot(&log_probs(h, w), &d);
    device.assert_gradient("d_hidden", &d_hidden, &zeros, &model.hidden, |h| loss(h, &model.weight));
    let d_weight = values(backend, &d_weight);
    device.assert_gradient("d_weight", &d_weight, &before, &model.weight, |w| loss(&model.hidden, w));
    let without_weight = backend.token_log_probs_backward(model.readout(), &tokens, temperature, &d_f32, None);
    assert_eq!(values(backend, &without_weight), d_hidden);
}

/// Log-probabilities, entropies, top tokens and gradients, at several temperatures.
pub fn token_log_probs<B: Backend>(device: &Device<B>) {
    let dtype = prop::sample::select(DTYPES.to_vec());
    let temperature = prop::sample::select(vec![1.0f32, 0.7, 2.0]);
    for_cases(32, (dtype, 0usize..=9, (1usize..=20, 1usize..=70), temperature, any::<u64>()), |case| {
        let (dtype, n, shape, temperature, seed) = case;
        check_token_log_probs(device, dtype, n, shape, temperature, seed);
    });
}

/// More rows than there may be rows of logits.
pub fn token_log_probs_of_many_rows<B: Backend>(device: &Device<B>) {
    for n in [63, 64, 65, 130] {
        check_token_log_probs(device, DType::F32, n, (7, 50), 0.8, n as u64);
    }
}

/// Finite and accurate, however large the logits.
pub fn token_log_probs_of_large_logits<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let shapes = (1usize..=40, 1usize..=300, prop::sample::select(vec![100, 10_000, 100_000]), any::<u64>());
    for_cases(24, shapes, |(n, vocabulary, limit, seed)| {
        let mut random = Random::new(seed);
        let model = Model::with_exact_logits(device, n, vocabulary, limit, &mut random);
        let tokens = random.indices(n, vocabulary);
        let logits = model.own_logits();
        let largest = logits.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let readings = backend.token_log_probs(model.readout(), &tokens, 0.5);
        let expected = formulas::token_log_probs(&logits, vocabulary, &tokens, 0.5);
        let entropies = formulas::entropy(&logits, vocabulary, 0.5);
        for (i, reading) in readings.iter().enumerate() {
            let slack = rounding(2.0 * largest);
            let error = (f64::from(reading.log_probability) - expected[i]).abs();
            assert!(error <= slack, "{reading:?}, log-probability is {}", expected[i]);
            let error = (f64::from(reading.entropy) - entropies[i]).abs();
            assert!(error <= slack * (1.0 + entropies[i]), "{reading:?}, entropy is {}", entropies[i]);
            assert_top(device, &logits[i * vocabulary..][..vocabulary], reading.top_token);
        }
        let d_hidden = backend.token_log_probs_backward(model.readout(), &tokens, 0.5, &vec![1.0; n], None);
        assert!(values(backend, &d_hidden).iter().all(|d| d.is_finite()));
    });
}

/// What the final distribution says of the tokens, and KL and top token of the lenses: from no lens to more than fit beside
/// the final distribution; more rows than fit at a time.
pub fn lens_kl<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    let n_lenses = prop_oneof![4 => 0usize..=5, 1 => Just(30), 1 => Just(63), 1 => Just(64), 1 => Just(130)];
    let shapes = (prop::sample::select(DTYPES.to_vec()), 0usize..=40, n_lenses, 1usize..=12, 1usize..=70, any::<u64>());
    for_cases(32, shapes, |(dtype, n, n_lenses, width, vocabulary, seed)| {
        let mut random = Random::new(seed);
        let model = Model::new(device, dtype, n, width, vocabulary, &mut random);
        let hidden: Vec<Vec<f64>> = (0..n_lenses).map(|_| random.values(n * model.width, 1.0)).collect();
        let lenses: Vec<B::Rows> = hidden.iter().map(|hidden| device.rows(model.width, hidden)).collect();
        let tokens = random.indices(n, vocabulary);
        let readings = backend.lens_kl(model.readout(), &lenses.iter().collect::<Vec<_>>(), &tokens, true);
        let without = backend.lens_kl(model.readout(), &lenses.iter().collect::<Vec<_>>(), &tokens, false);
        assert!(without.iter().flat_map(|row| &row.lenses).all(|lens| lens.js.is_none()));
        assert_eq!(readings.len(), n);
        assert!(readings.iter().all(|row| row.lenses.len() == n_lenses));
        let final_logits = model.own_logits();
        let log_probabilities: Vec<f32> = readings.iter().map(|row| row.token.log_probability).collect();
        let expected = formulas::token_log_probs(&final_logits, vocabulary, &tokens, 1.0);
        device.assert_values("log-probabilities", &log_probabilities, &expected);
        let entropies: Vec<f32> = readings.iter().map(|row| row.token.entropy).collect();
        device.assert_values("entropies", &entropies, &formulas::entropy(&final_logits, vocabulary, 1.0));
        for (row, logits) in readings.iter().zip(final_logits.chunks_exact(vocabulary)) {
            assert_top(device, logits, row.token.top_token);
        }
        for (lens, hidden) in hidden.iter().enumerate() {
            let logits = model.logits(hidden, &model.weight);
            let kls: Vec<f32> = readings.iter().map(|row| row.lenses[lens].kl).collect();
            let expected = formulas::distill_kl(&logits, &final_logits, vocabulary, KlDirection::Forward);
            device.assert_values("lens KL", &kls, &expected);
            assert!(kls.iter().all(|kl| *kl >= 0.0));
            let divergences: Vec<f32> = readings.iter().map(|row| row.lenses[lens].js.expect("asked for")).collect();
            device.assert_values(
                "lens JS",
                &divergences,
                &formulas::jensen_shannon(&final_logits, &logits, vocabulary),
            );
            assert!(divergences.iter().all(|js| (0.0..=std::f32::consts::LN_2).contains(js)));
            for (row, logits) in readings.iter().zip(logits.chunks_exact(vocabulary)) {
                assert_top(device, logits, row.lenses[lens].top_token);
            }
        }
    });
}

/// One value that is not finite in a hidden state or in the unembedding shows in every reading of its row, and in no other.
pub fn what_is_not_finite_shows<B: Backend>(device: &Device<B>) {
    let backend = &device.backend;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut random = Random::new(3);
        let (n, width, vocabulary) = (5, 8, 40);
        let mut model = Model::new(device, DType::F32, n, width, vocabulary, &mut random);
        let mut lens = random.values(n * width, 1.0);
        lens[width] = value;
        model.hidden[3 * width] = value;
        model.hidden_rows = device.rows(width, &model.hidden);
        let readings = backend.lens_kl(model.readout(), &[&device.rows(width, &lens)], &vec![0; n], true);
        let finite = |row: usize| readings[row].token.log_probability.is_finite();
        assert_eq!([0, 1, 2, 3, 4].map(finite), [true, true, true, false, true], "{value}");
        let kl = |row: usize| {
            readings[row].lenses[0].kl.is_finite() && readings[row].lenses[0].js.is_some_and(f32::is_finite)
        };
        assert_eq!([0, 1, 2, 3, 4].map(kl), [true, false, true, false, true], "{value}");
    }
}
