//! Products of few rows with weights of 16 bits, widened in registers: for them a panel in memory would cost more than it saves.

#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "unchecked tiles; each has the contract of the function that it is of"
)]

use std::ops::Range;

use super::lanes::{Lanes, with_lanes};
use super::product::{Left, Write, write_lanes};
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

with_lanes! {
    /// `out += scale * x W^T` or `out = scale * x W^T` for the rows of `W` in `panels` and its columns `columns`; `x` has `m` rows, at most
    /// [`MOST_ROWS`], and begins with the first column, `out` with the first row. Sums are those of [`super::product::product`], bit for bit.
    ///
    /// # Safety
    /// `x` must hold its rows, of as many values as there are columns, and `out` as many, of the columns of these panels, which
    /// no other thread may use meanwhile.
    pub(super) unsafe fn panels_forward = panels_body(
        m: usize,
        x: Left,
        weight: &Matrix,
        panels: Range<usize>,
        columns: Range<usize>,
        out: StridedMut,
        write: Write,
    )
}

#[inline(always)]
unsafe fn panels_body<V: Lanes>(
    m: usize,
    x: Left,
    weight: &Matrix,
    panels: Range<usize>,
    columns: Range<usize>,
    out: StridedMut,
    write: Write,
) {
    let n = weight.rows() - panels.start * WIDTH;
    let mut done = 0;
    while done < panels.len() {
        let values = |i: usize| {
            let Some(panel) = weight.panel(panels.start + done + i) else { unreachable!("16 bits lie in panels") };
            panel.values[columns.start * 2 * WIDTH..][..columns.len() * 2 * WIDTH].as_ptr()
        };
        let (left, is_bf16) = (panels.len() - done, weight.dtype() == DType::Bf16);
        // With few rows several panels at a time, so that the latency of a multiply-add does not show.
        macro_rules! tile {
            ($m:literal, $p:literal) => {{
                let (at, out, n) = (std::array::from_fn(values), out.at(0, done * WIDTH), n - done * WIDTH);
                if is_bf16 {
                    tile::<V, $m, $p, true>(x, at, columns.len(), out, write, n);
                } else {
                    tile::<V, $m, $p, false>(x, at, columns.len(), out, write, n);
                }
                $p
            }};
        }
        done += match (m, left) {
            (0, _) => left,
            (1, 4..) => tile!(1, 4),
            (1, _) => tile!(1, 1),
            (2, 2..) => tile!(2, 2),
            (2, _) => tile!(2, 1),
            (3, _) => tile!(3, 1),
            _ => tile!(4, 1),
        };
    }
}

#[inline(always)]
unsafe fn tile<V: Lanes, const M: usize, const P: usize, const BF16: bool>(
    x: Left,
    values: [*const u8; P],
    n_terms: usize,
    out: StridedMut,
    write: Write,
    n: usize,
) {
    let mut sums = [[V::splat(0.0); P]; M];
    for p in 0..n_terms {
        let weights: [V; P] = std::array::from_fn(|j| {
            let values = values[j].add(p * 2 * WIDTH);
            if BF16 { V::upper_halves(values) } else { V::halves(values) }
        });
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = V::splat(*x.row(i).add(p));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = sum.add_product(x, weights);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            write_lanes(sum, out.start.add(i * out.stride + j * WIDTH), write, n - j * WIDTH);
        }
    }
}
