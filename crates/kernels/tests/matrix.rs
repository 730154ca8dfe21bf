//! Building matrices, their values, and who shares them.

use aloud_backend_tests::random::{DTYPES, Random, for_cases, narrow};
use aloud_kernels::dtype::DType;
use aloud_kernels::error::KernelError;
use aloud_kernels::matrix::Matrix;
use proptest::prelude::*;

#[test]
fn bytes_must_be_as_many_as_the_shape_needs() {
    for dtype in DTYPES {
        let (rows, columns) = (3, 64);
        let expected = rows * columns / dtype.block_len() * dtype.block_bytes();
        assert!(Matrix::new(dtype, rows, columns, &vec![0; expected]).is_ok());
        for actual in [0, 1, expected - dtype.block_bytes(), expected - 1, expected + 1, expected + dtype.block_bytes()]
        {
            let error = Matrix::new(dtype, rows, columns, &vec![0; actual]).expect_err("wrong length");
            assert_eq!(error, KernelError::ByteLength { rows, columns, dtype: dtype.name(), expected, actual });
        }
    }
    let error = Matrix::from_f32(2, 3, vec![0.0; 5]).expect_err("wrong length");
    assert_eq!(error.to_string(), "a 2 x 3 F32 matrix takes 24 bytes, 20 were given");
}

#[test]
fn rows_must_be_whole_blocks() {
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_1] {
        for columns in [1, 31, 33, 48] {
            let error = Matrix::new(dtype, 1, columns, &vec![0; 2 * dtype.block_bytes()]).expect_err("ragged");
            assert_eq!(error, KernelError::BlockLength { columns, dtype: dtype.name(), block: 32 });
        }
    }
}

#[test]
fn sizes_beyond_memory_are_errors() {
    for dtype in DTYPES {
        let columns = usize::MAX / 64 * 32;
        for rows in [usize::MAX, 1 << 20] {
            let error = Matrix::new(dtype, rows, columns, &[]).expect_err("too large");
            assert_eq!(error, KernelError::TooLarge { rows, columns });
        }
    }
    assert!(Matrix::from_f32(usize::MAX, 2, Vec::new()).is_err());
}

#[test]
fn empty_matrices_have_no_values() {
    for dtype in DTYPES {
        for (rows, columns) in [(0, 0), (0, 32), (5, 0)] {
            let matrix = Matrix::new(dtype, rows, columns, &[]).expect("shape");
            assert_eq!((matrix.rows(), matrix.columns(), matrix.size_bytes()), (rows, columns, 0));
            assert!(matrix.to_f32().is_empty());
        }
    }
}

/// `to_f32`, `widened`, `widen_row` and `select_rows` give the values that the format defines, to the bit.
#[test]
fn values_are_those_of_the_format() {
    let shapes = (prop::sample::select(DTYPES.to_vec()), 1usize..=9, 1usize..=70, any::<u64>());
    for_cases(64, shapes, |(dtype, rows, columns, seed)| {
        let mut random = Random::new(seed);
        let block = dtype.block_len();
        let columns = columns.next_multiple_of(block);
        let (matrix, values) = random.matrix(dtype, rows, columns);
        let values = narrow(&values);
        assert_eq!((matrix.rows(), matrix.columns(), matrix.dtype()), (rows, columns, dtype));
        assert_eq!(matrix.size_bytes(), rows * columns / block * dtype.block_bytes());
        assert_eq!(matrix.to_f32(), values);
        assert_eq!(matrix.as_f32().is_some(), dtype == DType::F32);
        let widened = matrix.widened();
        assert_eq!((widened.dtype(), widened.as_f32()), (DType::F32, Some(values.as_slice())));

        let row = random.below(rows);
        let first = random.below(columns / block) * block;
        let mut part = vec![0.0; (1 + random.below((columns - first) / block)) * block];
        matrix.widen_row(row, first, &mut part);
        assert_eq!(part, values[row * columns + first..][..part.len()]);

        let order: Vec<usize> = (0..random.below(12)).map(|_| random.below(rows)).collect();
        let selected = matrix.select_rows(&order);
        let expected: Vec<f32> = order.iter().flat_map(|&row| &values[row * columns..][..columns]).copied().collect();
        assert_eq!((selected.rows(), selected.columns(), selected.dtype()), (order.len(), columns, dtype));
        assert_eq!(selected.to_f32(), expected);
    });
}

#[test]
fn changing_a_clone_leaves_the_original() {
    let original = Matrix::from_f32(2, 2, vec![1.0, 2.0, 3.0, 4.0]).expect("shape");
    let mut clone = original.clone();
    assert_eq!(original.as_f32().map(<[f32]>::as_ptr), clone.as_f32().map(<[f32]>::as_ptr), "clones share");
    clone.f32_mut().expect("f32")[3] = 5.0;
    assert_eq!(original.as_f32(), Some([1.0, 2.0, 3.0, 4.0].as_slice()));
    assert_eq!(clone.as_f32(), Some([1.0, 2.0, 3.0, 5.0].as_slice()));

    let place = clone.as_f32().map(<[f32]>::as_ptr);
    clone.f32_mut().expect("f32")[0] = 0.0;
    assert_eq!(clone.as_f32().map(<[f32]>::as_ptr), place, "values that nobody shares are changed in place");

    let mut packed = Matrix::new(DType::F16, 1, 2, &[0; 4]).expect("shape");
    assert!(packed.f32_mut().is_none());
    let mut selected = original.select_rows(&[0, 1]);
    selected.f32_mut().expect("f32")[0] = 9.0;
    assert_eq!(original.as_f32(), Some([1.0, 2.0, 3.0, 4.0].as_slice()), "selected rows are a copy");
}

/// In every format, wherever it stands, and in the scale and the minimum of a quantised block.
#[test]
fn the_first_value_that_is_not_finite_is_found() {
    let shapes = (prop::sample::select(DTYPES.to_vec()), 1usize..=9, 1usize..=3000, any::<u64>());
    for_cases(64, shapes, |(dtype, rows, columns, seed)| {
        let mut random = Random::new(seed);
        let columns = columns.next_multiple_of(dtype.block_len());
        assert_eq!(random.matrix(dtype, rows, columns).0.first_not_finite(), None);
        let mut bytes = vec![0; rows * columns / dtype.block_len() * dtype.block_bytes()];
        let block = random.below(rows * columns / dtype.block_len());
        let place = block * dtype.block_bytes();
        // An infinity, and a NaN of which only the lowest bit tells.
        let special: &[u8] = match (dtype, random.below(2)) {
            (DType::F32, 0) => &[0, 0, 0x80, 0xff],
            (DType::F32, _) => &[1, 0, 0x80, 0x7f],
            (DType::Bf16, 0) => &[0x80, 0x7f],
            (DType::Bf16, _) => &[0x81, 0xff],
            (_, 0) => &[0, 0xfc],
            (_, _) => &[1, 0x7c],
        };
        let within = if dtype == DType::Q4_1 { 2 * random.below(2) } else { 0 };
        bytes[place + within..][..special.len()].copy_from_slice(special);
        let damaged = Matrix::new(dtype, rows, columns, &bytes).expect("shape");
        let at = block * dtype.block_len();
        let (row, column, value) = damaged.first_not_finite().expect("a value that is not finite");
        assert_eq!((row, column), (at / columns, at % columns), "{dtype:?}");
        assert!(!value.is_finite());
    });
}
