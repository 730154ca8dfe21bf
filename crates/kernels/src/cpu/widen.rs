//! Widening stored weights to f32, a few rows at a time, bit for bit as [`Matrix::widen_row`] does it.

#![allow(unsafe_code, reason = "SIMD intrinsics; every block states why it is sound")]
#![allow(unsafe_op_in_unsafe_fn, reason = "bodies of `widen_*`, whose contract is theirs")]

use super::lanes::{Lanes, with_lanes};
use super::simd_level::multiversion;
use crate::matrix::half_to_f32;
use crate::matrix::{DType, Matrix};

/// Widens `out.len() / columns` rows of `matrix` from `first_row` on, the columns from `first_column` on.
pub(super) fn widen_rows(matrix: &Matrix, first_row: usize, first_column: usize, columns: usize, out: &mut [f32]) {
    for (i, out) in out.chunks_exact_mut(columns).enumerate() {
        match matrix.packed_row(first_row + i, first_column, columns) {
            // SAFETY: `packed_row` returns the whole blocks that hold `columns` values, and `out` has as many.
            Some(bytes) if matrix.dtype().block_len() > 1 => unsafe {
                let (bytes, n_blocks, out) = (bytes.as_ptr(), columns / 32, out.as_mut_ptr());
                match matrix.dtype() {
                    DType::Q8_0 => widen_q8_0(bytes, n_blocks, out),
                    DType::Q4_0 => widen_q4_0(bytes, n_blocks, out),
                    _ => widen_q4_1(bytes, n_blocks, out),
                }
            },
            _ => widen_plain(matrix, first_row + i, first_column, out),
        }
    }
}

multiversion! {
    fn widen_plain(matrix: &Matrix, row: usize, first_column: usize, out: &mut [f32]) {
        matrix.widen_row(row, first_column, out);
    }
}

#[inline(always)]
unsafe fn half_at(bytes: *const u8) -> f32 {
    // SAFETY: contract of the callers: two bytes of a block.
    half_to_f32(unsafe { bytes.cast::<[u8; 2]>().read() })
}

#[inline(always)]
unsafe fn q8_0_body<V: Lanes>(bytes: *const u8, n_blocks: usize, out: *mut f32) {
    // Blocks of 34 bytes and 32 values, `n_blocks` of each.
    for block in 0..n_blocks {
        let (bytes, out) = (bytes.add(block * 34), out.add(block * 32));
        let d = V::splat(half_at(bytes));
        for i in (0..32).step_by(V::WIDTH) {
            d.multiply(V::signed_bytes(bytes.add(2 + i))).store(out.add(i));
        }
    }
}

#[inline(always)]
unsafe fn q4_0_body<V: Lanes>(bytes: *const u8, n_blocks: usize, out: *mut f32) {
    // Blocks of 18 bytes and 32 values, `n_blocks` of each.
    for block in 0..n_blocks {
        let (bytes, out) = (bytes.add(block * 18), out.add(block * 32));
        let d = V::splat(half_at(bytes));
        let middle = V::splat(-8.0);
        for i in (0..16).step_by(V::WIDTH) {
            let (low, high) = V::nibbles(bytes.add(2 + i));
            d.multiply(low.add(middle)).store(out.add(i));
            d.multiply(high.add(middle)).store(out.add(16 + i));
        }
    }
}

#[inline(always)]
unsafe fn q4_1_body<V: Lanes>(bytes: *const u8, n_blocks: usize, out: *mut f32) {
    // Blocks of 20 bytes and 32 values, `n_blocks` of each.
    for block in 0..n_blocks {
        let (bytes, out) = (bytes.add(block * 20), out.add(block * 32));
        let d = V::splat(half_at(bytes));
        let m = V::splat(half_at(bytes.add(2)));
        for i in (0..16).step_by(V::WIDTH) {
            // Product and sum are rounded apart, as ggml defines them.
            let (low, high) = V::nibbles(bytes.add(4 + i));
            d.multiply(low).add(m).store(out.add(i));
            d.multiply(high).add(m).store(out.add(16 + i));
        }
    }
}

with_lanes! {
    /// # Safety
    /// `n_blocks` blocks must be readable and 32 values for each writable.
    unsafe fn widen_q8_0 = q8_0_body(bytes: *const u8, n_blocks: usize, out: *mut f32)
}

with_lanes! {
    /// # Safety
    /// As for [`widen_q8_0`].
    unsafe fn widen_q4_0 = q4_0_body(bytes: *const u8, n_blocks: usize, out: *mut f32)
}

with_lanes! {
    /// # Safety
    /// As for [`widen_q8_0`].
    unsafe fn widen_q4_1 = q4_1_body(bytes: *const u8, n_blocks: usize, out: *mut f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lanes_widen_like_the_reference(
            dtype in prop::sample::select(vec![DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1]),
            rows in 1usize..5,
            blocks in 1usize..5,
            seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let columns = blocks * 32;
            let mut bytes = vec![0u8; rows * columns / dtype.block_len() * dtype.block_bytes()];
            rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
            let matrix = Matrix::new(dtype, rows, columns, &bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
            for first_column in (0..columns).step_by(32) {
                let width = columns - first_column;
                let mut actual = vec![0.0f32; rows * width];
                widen_rows(&matrix, 0, first_column, width, &mut actual);
                for row in 0..rows {
                    let mut expected = vec![0.0f32; width];
                    matrix.widen_row(row, first_column, &mut expected);
                    for (a, e) in actual[row * width..].iter().zip(&expected) {
                        prop_assert!(a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan()));
                    }
                }
            }
        }
    }
}
