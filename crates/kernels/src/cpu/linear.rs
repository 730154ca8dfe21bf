//! Linear layers: frozen weights are read in their file's number format and widened a few rows at a time.

#![allow(unsafe_code, reason = "calls unchecked tiles; every block states why it is sound")]

use super::Cpu;
use super::simd::{Write, dot_products};
use super::simd_level::multiversion;
use super::strided::{Strided, StridedMut};
use super::threads::Threads;
use super::widen::widen_rows;
use crate::backend::Linears;
use crate::matrix::Matrix;
use crate::rows::Rows;

/// Weight rows handled at a time when many input rows share them: they stay in the second-level cache, while the inputs of
/// a tile stay in the first (measured: 48 to 96 rows reach the speed of a packed product, 12 lose a third).
const BLOCK_ROWS: usize = 48;
/// The same for few input rows, where weights are read once and a widened row should not leave the first-level cache.
const FEW_BLOCK_ROWS: usize = 8;
/// From this many input rows on, inputs and weights are copied to cache-line boundaries: the copy costs less than loads that
/// cross lines.
const MANY_INPUT_ROWS: usize = 12;

/// Input rows are taken in runs of at most this many bytes, so that they stay in the second-level cache too.
const RUN_BYTES: usize = 640 << 10;

/// f32 scratch that starts at a cache line.
struct Aligned {
    values: Vec<f32>,
    start: usize,
}

impl Aligned {
    fn zeros(n: usize) -> Self {
        const LINE: usize = 64 / size_of::<f32>();
        let values = vec![0.0f32; n + LINE];
        let start = values.as_ptr().align_offset(64).min(LINE);
        Self { values, start }
    }

    fn from_slice(from: &[f32]) -> Self {
        let mut aligned = Self::zeros(from.len());
        aligned.first_mut(from.len()).copy_from_slice(from);
        aligned
    }

    fn first(&self, n: usize) -> &[f32] {
        &self.values[self.start..][..n]
    }

    fn first_mut(&mut self, n: usize) -> &mut [f32] {
        &mut self.values[self.start..][..n]
    }
}

/// `x W^T` for weight rows `first..first + n`, written to `out`, whose column 0 belongs to row `first`. `x` holds rows of
/// as many values as `weight` has columns.
///
/// # Safety
/// `out` must hold as many rows as `x`, of `n` columns, and no other thread may use them meanwhile.
unsafe fn rows_forward(x: &[f32], weight: &Matrix, first: usize, n: usize, out: StridedMut, write: Write) {
    let k = weight.columns();
    let m = x.len() / k.max(1);
    let many = m >= MANY_INPUT_ROWS;
    let block_rows = if many { BLOCK_ROWS } else { FEW_BLOCK_ROWS };
    let in_place = weight.as_f32().filter(|_| !many);
    let mut scratch = Aligned::zeros(if in_place.is_some() { 0 } else { block_rows.min(n) * k });
    for block in (0..n).step_by(block_rows) {
        let rows = (n - block).min(block_rows);
        let w = if let Some(values) = in_place {
            &values[(first + block) * k..][..rows * k]
        } else {
            widen_rows(weight, first + block, 0, k, scratch.first_mut(rows * k));
            scratch.first(rows * k)
        };
        let w = Strided::new(w, k);
        // SAFETY: `x` has m rows of k values, `w` has `rows` rows of k, and `out` is the caller's contract.
        unsafe { dot_products(m, rows, k, Strided::new(x, k), w, out.at(0, block), write) };
    }
}

/// Input rows at a cache line, if there are enough of them to be worth a copy.
fn aligned_inputs(x: &Rows) -> Option<Aligned> {
    let is_aligned = x.values().as_ptr().align_offset(64) == 0;
    (x.n_rows() >= MANY_INPUT_ROWS && !is_aligned).then(|| Aligned::from_slice(x.values()))
}

pub(super) fn forward(threads: &Threads, x: &Rows, layers: &[(&Matrix, Option<&Rows>)]) -> Vec<Rows> {
    for (weight, bias) in layers {
        assert_eq!(weight.columns(), x.width(), "linear: {weight:?} with inputs of width {}", x.width());
        assert!(bias.is_none_or(|bias| bias.width() == weight.rows()), "linear: bias of another width than {weight:?}");
    }
    let m = x.n_rows();
    if m == 0 {
        return layers.iter().map(|(weight, _)| Rows::zeros(0, weight.rows())).collect();
    }
    let total: usize = layers.iter().map(|(weight, _)| weight.rows()).sum();
    let aligned = aligned_inputs(x);
    let inputs = aligned.as_ref().map_or(x.values(), |aligned| aligned.first(x.values().len()));
    let run_rows = (RUN_BYTES / (4 * x.width().max(1))).max(6) / 6 * 6;
    let write = |targets: &[StridedMut]| {
        threads.for_ranges(total, BLOCK_ROWS, total * x.width() * m, |range| {
            let mut start = 0;
            for ((weight, bias), target) in layers.iter().zip(targets) {
                let from = range.start.max(start);
                let to = range.end.min(start + weight.rows());
                if from < to {
                    let (first, n) = (from - start, to - from);
                    for run in (0..m).step_by(run_rows) {
                        let rows = (m - run).min(run_rows);
                        let x = &inputs[run * x.width()..][..rows * x.width()];
                        // SAFETY: ranges are disjoint, so each column of each output is written by one thread.
                        unsafe {
                            rows_forward(x, weight, first, n, target.at(run, first), Write::Set);
                            if let Some(bias) = bias {
                                for row in run..run + rows {
                                    add(target.row(row, first, n), &bias.values()[first..][..n]);
                                }
                            }
                        }
                    }
                }
                start += weight.rows();
            }
        });
    };
    let shapes: Vec<(usize, usize)> = layers.iter().map(|(weight, _)| (m, weight.rows())).collect();
    // SAFETY: every column of every output is set above.
    unsafe { Rows::written(&shapes, write) }
}

multiversion! {
    pub(crate) fn add(out: &mut [f32], x: &[f32]) {
        assert_eq!(out.len(), x.len(), "rows to add of another width");
        for (out, x) in out.iter_mut().zip(x) {
            *out += x;
        }
    }
}

impl Linears for Cpu {
    fn linear_forward(&self, x: &Rows, weight: &Matrix, bias: Option<&Rows>) -> Rows {
        forward(&self.threads, x, &[(weight, bias)]).swap_remove(0)
    }

    fn linears_forward(&self, x: &Rows, layers: &[(&Matrix, Option<&Rows>)]) -> Vec<Rows> {
        forward(&self.threads, x, layers)
    }

    fn linear_add_forward(&self, x: &Rows, weight: &Matrix, scale: f32, out: &mut Rows) {
        assert_eq!((x.width(), out.width()), (weight.columns(), weight.rows()), "linear_add: {weight:?}");
        assert_eq!(x.n_rows(), out.n_rows(), "linear_add: rows");
        let (m, n) = (x.n_rows(), weight.rows());
        let target = StridedMut::new(out.values_mut(), n);
        self.threads.for_ranges(n, BLOCK_ROWS, n * m * x.width(), |range| {
            // SAFETY: ranges are disjoint, so each column is written by one thread.
            unsafe {
                rows_forward(
                    x.values(),
                    weight,
                    range.start,
                    range.len(),
                    target.at(0, range.start),
                    Write::AddScaled(scale),
                );
            };
        });
    }

    fn linear_backward_input(&self, d_out: &Rows, weight: &Matrix, scale: f32, d_x: &mut Rows) {
        /// Weight rows widened at a time.
        const ROWS: usize = 192;
        let (n, k, m) = (weight.rows(), weight.columns(), d_out.n_rows());
        assert_eq!((d_out.width(), d_x.width()), (n, k), "linear_backward_input: {weight:?}");
        assert_eq!(m, d_x.n_rows(), "linear_backward_input: rows");
        if m == 0 {
            return;
        }
        let target = StridedMut::new(d_x.values_mut(), k);
        let d_out = View::row_major(d_out.values(), n);
        // Columns are split among threads in whole quantisation blocks, so no weight is widened twice.
        let grain = k.div_ceil(self.threads.count()).next_multiple_of(32);
        self.threads.for_ranges(k, grain, n * k * m, |columns| {
            let width = columns.len();
            if let Some(values) = weight.as_f32() {
                let b = View::row_major(&values[columns.start..], k);
                // SAFETY: column ranges are disjoint.
                unsafe { gemm(m, width, n, d_out, b, scale, true, target.at(0, columns.start)) };
                return;
            }
            let mut scratch = vec![0.0; ROWS.min(n) * width];
            for first in (0..n).step_by(ROWS) {
                let rows = (n - first).min(ROWS);
                let scratch = &mut scratch[..rows * width];
                widen_rows(weight, first, columns.start, width, scratch);
                let a = View { values: &d_out.values[first..], ..d_out };
                // SAFETY: column ranges are disjoint.
                unsafe {
                    gemm(m, width, rows, a, View::row_major(scratch, width), scale, true, target.at(0, columns.start));
                };
            }
        });
    }

    fn linear_backward_weight(&self, d_out: &Rows, x: &Rows, scale: f32, d_weight: &mut Rows) {
        let (n, k, m) = (d_out.width(), x.width(), x.n_rows());
        assert_eq!((d_weight.n_rows(), d_weight.width()), (n, k), "linear_backward_weight: shape of the gradient");
        assert_eq!(m, d_out.n_rows(), "linear_backward_weight: rows");
        if m == 0 {
            return;
        }
        let target = StridedMut::new(d_weight.values_mut(), k);
        let d_out = View::row_major(d_out.values(), n).transposed();
        let x = View::row_major(x.values(), k);
        // The longer side is split.
        if n >= k {
            let grain = n.div_ceil(self.threads.count() * 2).next_multiple_of(16);
            self.threads.for_ranges(n, grain, n * k * m, |rows| {
                let a = View { values: &d_out.values[rows.start..], ..d_out };
                // SAFETY: row ranges are disjoint.
                unsafe { gemm(rows.len(), k, m, a, x, scale, true, target.at(rows.start, 0)) };
            });
        } else {
            let grain = k.div_ceil(self.threads.count() * 2).next_multiple_of(16);
            self.threads.for_ranges(k, grain, n * k * m, |columns| {
                let b = View { values: &x.values[columns.start..], ..x };
                // SAFETY: column ranges are disjoint.
                unsafe { gemm(n, columns.len(), m, d_out, b, scale, true, target.at(0, columns.start)) };
            });
        }
    }

    fn bias_backward(&self, d_out: &Rows, d_bias: &mut Rows) {
        for row in 0..d_out.n_rows() {
            add(d_bias.values_mut(), d_out.row(row));
        }
    }
}

/// A matrix for [`gemm()`]: element `(row, column)` is `values[offset + row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> View<'a> {
    pub(super) fn row_major(values: &'a [f32], row_stride: usize) -> Self {
        Self { values, row_stride, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn check(&self, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
            assert!(last < self.values.len(), "matrix product reads beyond its operand");
        }
    }
}

/// `out = keep * out + scale * a b`, `a` `[m, k]`, `b` `[k, n]`, on this thread.
///
/// # Safety
/// `out` must hold `m` rows of `n` columns, and no other thread may use them meanwhile.
pub(super) unsafe fn gemm(
    m: usize,
    n: usize,
    k: usize,
    a: View<'_>,
    b: View<'_>,
    scale: f32,
    keep: bool,
    out: StridedMut,
) {
    a.check(m, k);
    b.check(k, n);
    // SAFETY: both operands were checked against their slices; `out` is the caller's contract.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.start,
            1,
            out.stride as isize,
            keep,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
