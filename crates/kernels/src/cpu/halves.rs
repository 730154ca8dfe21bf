//! Products of few rows with weights of 16 bits, widened in registers: for them a panel in memory would cost more than it saves.

#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "unchecked tiles; each has the contract of the function that it is of"
)]

use super::lanes::{Lanes, with_lanes};
use super::product::{Write, write_lanes};
use super::strided::StridedMut;
use crate::dtype::DType;
use crate::matrix::Matrix;
use crate::panels::WIDTH;

/// Most rows for which this is the faster way.
const MOST_ROWS: usize = 4;

/// Whether `m` rows take this way.
pub(super) fn are_direct(m: usize, dtype: DType) -> bool {
    m <= MOST_ROWS && matches!(dtype, DType::F16 | DType::Bf16)
}

/// Some rows of activations.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    pub(super) start: *const f32,
    pub(super) stride: usize,
    /// At most [`MOST_ROWS`].
    pub(super) n_rows: usize,
}

/// `out += scale * x W^T` or `out = x W^T` for the rows of `W` in panel `panel` and `n_terms` columns from `first` on; `x` begins
/// with that column. Sums are those of [`super::product::product`], bit for bit.
///
/// # Safety
/// `x` must hold its rows, of `n_terms` values, and `out` as many of up to 16, which no other thread may use meanwhile.
pub(super) unsafe fn panel_forward(
    x: Inputs,
    weight: &Matrix,
    panel: usize,
    first: usize,
    n_terms: usize,
    out: StridedMut,
    write: Write,
) {
    let Some(values) = weight.panel(panel) else { unreachable!("weights of 16 bits lie in panels") };
    let values = &values.values[first * 2 * WIDTH..][..n_terms * 2 * WIDTH];
    let n = (weight.rows() - panel * WIDTH).min(WIDTH);
    widened_products(x, values, weight.dtype() == DType::Bf16, out, write, n);
}

with_lanes! {
    /// # Safety
    /// That of [`panel_forward`].
    unsafe fn widened_products =
        rows_body(x: Inputs, values: &[u8], is_bf16: bool, out: StridedMut, write: Write, n: usize)
}

#[inline(always)]
unsafe fn rows_body<V: Lanes>(x: Inputs, values: &[u8], is_bf16: bool, out: StridedMut, write: Write, n: usize) {
    match (x.n_rows, is_bf16) {
        (0, _) => {}
        (1, true) => body::<V, 1, true>(x, values, out, write, n),
        (2, true) => body::<V, 2, true>(x, values, out, write, n),
        (3, true) => body::<V, 3, true>(x, values, out, write, n),
        (_, true) => body::<V, MOST_ROWS, true>(x, values, out, write, n),
        (1, false) => body::<V, 1, false>(x, values, out, write, n),
        (2, false) => body::<V, 2, false>(x, values, out, write, n),
        (3, false) => body::<V, 3, false>(x, values, out, write, n),
        (_, false) => body::<V, MOST_ROWS, false>(x, values, out, write, n),
    }
}

#[inline(always)]
unsafe fn body<V: Lanes, const M: usize, const BF16: bool>(
    x: Inputs,
    values: &[u8],
    out: StridedMut,
    write: Write,
    n: usize,
) {
    let mut sums = [V::splat(0.0); M];
    for (p, values) in values.as_chunks::<{ 2 * WIDTH }>().0.iter().enumerate() {
        let weights = if BF16 { V::upper_halves(values.as_ptr()) } else { V::halves(values.as_ptr()) };
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.add_product(V::splat(*x.start.add(i * x.stride + p)), weights);
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        write_lanes(sum, out.start.add(i * out.stride), write, n);
    }
}
