//! Weights widened to f32 in panels, ready for the matrix product, bit for bit as [`Matrix::widen_row`] does it.

#![allow(unsafe_code, reason = "SIMD intrinsics; every block states why it is sound")]
#![allow(unsafe_op_in_unsafe_fn, reason = "bodies of functions with lanes, whose contract is theirs")]

use std::ops::Range;

use super::lanes::{Lanes, with_lanes};
use crate::dtype::DType;
use crate::matrix::Matrix;
use crate::panels::{Panel, WIDTH, scale_bytes};

/// Writes columns `columns` of panel `panel` of `matrix`, `[columns, 16]`; rows that do not exist are zero. Column bounds are
/// multiples of the block length.
pub(super) fn widen_panel(matrix: &Matrix, panel: usize, columns: Range<usize>, out: &mut [f32]) {
    assert_eq!(out.len(), columns.len() * WIDTH, "a panel of {} columns", columns.len());
    match (matrix.panel(panel), matrix.as_f32()) {
        (Some(panel), _) => {
            let first = columns.start / matrix.dtype().block_len();
            let n_blocks = columns.len() / matrix.dtype().block_len();
            // SAFETY: the panel has the scales and values of these blocks, and `out` has room for them.
            unsafe { widen_blocks(matrix.dtype(), panel, first, n_blocks, out.as_mut_ptr()) };
        }
        (None, Some(values)) => {
            let first = panel * WIDTH;
            let n = (matrix.rows() - first).min(WIDTH);
            transpose(&values[first * matrix.columns() + columns.start..], matrix.columns(), n, columns.len(), out);
        }
        (None, None) => unreachable!("a matrix is f32 or in panels"),
    }
}

/// Writes `n <= 16` rows of `k` values, `stride` apart, as one panel `[k, 16]`; rows beyond `n` are zero.
pub(super) fn transpose(values: &[f32], stride: usize, n: usize, k: usize, out: &mut [f32]) {
    assert!(n <= WIDTH && out.len() == k * WIDTH, "a panel of {n} rows of {k} values");
    assert!(n == 0 || (n - 1) * stride + k <= values.len(), "a panel beyond its rows");
    let whole = if n == WIDTH { k / WIDTH * WIDTH } else { 0 };
    // SAFETY: the first `whole` values of 16 rows exist, and `out` has room for them.
    unsafe { transpose_whole(values.as_ptr(), stride, whole, out.as_mut_ptr()) };
    for (p, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate().skip(whole) {
        out.fill(0.0);
        out.iter_mut().zip(values[p..].iter().step_by(stride)).take(n).for_each(|(out, value)| *out = *value);
    }
}

/// Writes columns `columns` of rows `rows`, which begin with a panel, of `matrix` as panels of columns:
/// `[columns / 16, rows, 16]`. Columns that do not exist are zero. Column bounds are multiples of the block length.
pub(super) fn widen_columns(matrix: &Matrix, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
    if let Some(values) = matrix.as_f32() {
        let width = matrix.columns();
        copy_columns(&values[rows.start * width..rows.end * width], width, columns, out);
        return;
    }
    let n = rows.len();
    assert_eq!(out.len(), columns.len().div_ceil(WIDTH) * n * WIDTH, "panels of {n} rows of {} columns", columns.len());
    for number in rows.start / WIDTH..rows.end.div_ceil(WIDTH) {
        let first = number * WIDTH - rows.start;
        let n_rows = (n - first).min(WIDTH);
        if let (DType::Q8_0 | DType::Q4_0 | DType::Q4_1, Some(panel)) = (matrix.dtype(), matrix.panel(number)) {
            let block_len = matrix.dtype().block_len();
            let blocks = columns.start / block_len..columns.end / block_len;
            // SAFETY: the panel has these blocks, and `out` room for their columns of `n` rows.
            unsafe { widen_rows(matrix.dtype(), panel, blocks, n_rows, out[first * WIDTH..].as_mut_ptr(), n * WIDTH) };
            continue;
        }
        let mut scratch = [0.0f32; WIDTH * WIDTH];
        for (start, out) in columns.clone().step_by(WIDTH).zip(out.chunks_exact_mut(n * WIDTH)) {
            let width = (columns.end - start).min(WIDTH);
            widen_panel(matrix, number, start..start + width, &mut scratch[..width * WIDTH]);
            transpose(&scratch, WIDTH, width, n_rows, &mut out[first * WIDTH..][..n_rows * WIDTH]);
        }
    }
}

/// The same of rows of `width` f32, all of those in `values`.
pub(super) fn copy_columns(values: &[f32], width: usize, columns: Range<usize>, out: &mut [f32]) {
    for (first, out) in columns.clone().step_by(WIDTH).zip(out.chunks_exact_mut(values.len() / width * WIDTH)) {
        let n = (columns.end - first).min(WIDTH);
        for (row, out) in values.chunks_exact(width).zip(out.as_chunks_mut::<WIDTH>().0) {
            out[n..].fill(0.0);
            out[..n].copy_from_slice(&row[first..first + n]);
        }
    }
}

#[inline(always)]
unsafe fn transpose_body<V: Lanes>(from: *const f32, stride: usize, k: usize, out: *mut f32) {
    for p in (0..k).step_by(WIDTH) {
        V::transpose(|row| from.add(row * stride + p), out.add(p * WIDTH));
    }
}

with_lanes! {
    /// # Safety
    /// 16 rows of `k` values, a multiple of 16, must be readable, and as many values writable.
    unsafe fn transpose_whole = transpose_body(from: *const f32, stride: usize, k: usize, out: *mut f32)
}

#[inline(always)]
unsafe fn widen_body<V: Lanes>(dtype: DType, panel: Panel<'_>, first: usize, n_blocks: usize, out: *mut f32) {
    let (scales, values) = (panel.scales.as_ptr(), panel.values.as_ptr());
    for i in 0..n_blocks {
        let block = first + i;
        match dtype {
            DType::F32 => {}
            DType::F16 => V::halves(values.add(block * 2 * WIDTH)).store(out.add(i * WIDTH)),
            DType::Bf16 => V::upper_halves(values.add(block * 2 * WIDTH)).store(out.add(i * WIDTH)),
            DType::Q8_0 => {
                let d = V::halves(scales.add(block * 2 * WIDTH));
                for part in 0..8 {
                    let integers = V::integers(values.add((block * 8 + part) * 4 * WIDTH));
                    let out = out.add((i * 32 + part * 4) * WIDTH);
                    for column in 0..4 {
                        let q = V::signed_bytes(integers, 24 - 8 * column as u32);
                        d.multiply(q).store(out.add(column * WIDTH));
                    }
                }
            }
            DType::Q4_0 => {
                let d = V::halves(scales.add(block * 2 * WIDTH));
                let middle = V::splat(-8.0);
                widen_nibbles::<V>(values.add(block * 16 * WIDTH), out.add(i * 32 * WIDTH), |q| {
                    d.multiply(q.add(middle))
                });
            }
            DType::Q4_1 => {
                let d = V::halves(scales.add(block * 4 * WIDTH));
                let m = V::halves(scales.add((block * 4 + 2) * WIDTH));
                // Product and sum are rounded apart, as ggml defines them.
                widen_nibbles::<V>(values.add(block * 16 * WIDTH), out.add(i * 32 * WIDTH), |q| d.multiply(q).add(m));
            }
        }
    }
}

/// A block of 16 rows of 32 nibbles.
#[inline(always)]
unsafe fn widen_nibbles<V: Lanes>(values: *const u8, out: *mut f32, value: impl Fn(V) -> V) {
    for part in 0..4 {
        let integers = V::integers(values.add(part * 4 * WIDTH));
        let out = out.add(part * 8 * WIDTH);
        for column in 0..4 {
            let shift = 8 * column as u32;
            value(V::nibbles(integers, shift)).store(out.add(column * WIDTH));
            value(V::nibbles(integers, shift + 4)).store(out.add((4 + column) * WIDTH));
        }
    }
}

with_lanes! {
    /// # Safety
    /// `panel` must have blocks `first..first + n_blocks`, and there must be room for their values.
    unsafe fn widen_blocks =
        widen_body(dtype: DType, panel: Panel<'_>, first: usize, n_blocks: usize, out: *mut f32)
}

/// Blocks `blocks` of the first `n_rows` rows of a panel, row by row: 16 values of row `row` go to
/// `out[column / 16 * stride + row * 16]`. The integers of sixteen rows are transposed before they are widened, four or eight of them
/// in one lane.
#[inline(always)]
unsafe fn widen_rows_body<V: Lanes>(
    dtype: DType,
    panel: Panel<'_>,
    blocks: Range<usize>,
    n_rows: usize,
    out: *mut f32,
    stride: usize,
) {
    // Parts of four bytes a row and block, and blocks whose parts fill a square.
    let parts = if dtype == DType::Q8_0 { 8 } else { 4 };
    let at_a_time = WIDTH / parts;
    let mut bytes = [0.0f32; WIDTH * WIDTH];
    for first in blocks.clone().step_by(at_a_time) {
        let end = (first + at_a_time).min(blocks.end);
        let last_part = end * parts - 1;
        let part = |i: usize| panel.values.as_ptr().add((first * parts + i).min(last_part) * 4 * WIDTH).cast();
        V::transpose(part, bytes.as_mut_ptr());
        for block in first..end {
            let out = out.add((block - blocks.start) * 2 * stride);
            let bytes = bytes.as_ptr().add((block - first) * parts);
            let scales = panel.scales.as_ptr().add(block * scale_bytes(dtype) * WIDTH);
            let (mut d, mut m) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
            V::halves(scales).store(d.as_mut_ptr());
            if dtype == DType::Q4_1 {
                V::halves(scales.add(2 * WIDTH)).store(m.as_mut_ptr());
            }
            for (i, (d, m)) in d.into_iter().zip(m).enumerate().take(n_rows) {
                let (d, m, bytes) = (V::splat(d), V::splat(m), bytes.add(i * WIDTH).cast::<u8>());
                let (a, b) = if dtype == DType::Q8_0 {
                    (d.multiply(V::bytes(bytes)), d.multiply(V::bytes(bytes.add(WIDTH))))
                } else {
                    let [a, b] = V::nibbles_of_bytes(bytes);
                    if dtype == DType::Q4_0 {
                        let middle = V::splat(-8.0);
                        (d.multiply(a.add(middle)), d.multiply(b.add(middle)))
                    } else {
                        (d.multiply(a).add(m), d.multiply(b).add(m))
                    }
                };
                a.store(out.add(i * WIDTH));
                b.store(out.add(i * WIDTH + stride));
            }
        }
    }
}

with_lanes! {
    /// # Safety
    /// `panel` must have these blocks, of 32 columns, and there must be room for their values.
    unsafe fn widen_rows = widen_rows_body(
        dtype: DType, panel: Panel<'_>, blocks: Range<usize>, n_rows: usize, out: *mut f32, stride: usize,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn panels_widen_like_the_reference(
            dtype in prop::sample::select(vec![
                DType::F32, DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1,
            ]),
            rows in 1usize..40,
            blocks in 1usize..8,
            seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let columns = blocks * 32;
            let mut bytes = vec![0u8; rows * columns / dtype.block_len() * dtype.block_bytes()];
            rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
            let matrix = Matrix::new(dtype, rows, columns, &bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let expected = matrix.to_f32();
            let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a == 0.0 && b == 0.0);
            let value = |row: usize, column: usize| if row < rows { expected[row * columns + column] } else { 0.0 };
            let first = seed as usize % blocks * 32;
            for panel in 0..rows.div_ceil(WIDTH) {
                let mut out = vec![1.0; (columns - first) * WIDTH];
                widen_panel(&matrix, panel, first..columns, &mut out);
                for (i, out) in out.iter().enumerate() {
                    let expected = value(panel * WIDTH + i % WIDTH, first + i / WIDTH);
                    prop_assert!(same(*out, expected), "row {}, column {}", panel * WIDTH + i % WIDTH, i / WIDTH);
                }
            }
            let first_row = seed as usize / 64 % rows.div_ceil(WIDTH) * WIDTH;
            let n = rows - first_row;
            let mut out = vec![1.0; (columns - first) * n];
            widen_columns(&matrix, first_row..rows, first..columns, &mut out);
            for (i, out) in out.iter().enumerate() {
                let (row, column) = (first_row + i / WIDTH % n, first + i / WIDTH / n * WIDTH + i % WIDTH);
                prop_assert!(same(*out, value(row, column)), "row {row}, column {column}");
            }
        }
    }
}
