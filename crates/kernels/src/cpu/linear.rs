//! Linear layers: weights are widened panel by panel as they are needed, and multiplied from the cache.

#![allow(unsafe_code, reason = "calls unchecked tiles; every block states why it is sound")]

use std::ops::Range;

use super::integer::{self, QuantisedRows, has_integer_products};
use super::product::{Left, Right, Write, product};
use super::scratch::with_scratch;
use super::simd_level::multiversion;
use super::strided::StridedMut;
use super::widen::{copy_columns, widen_columns, widen_panel};
use super::{Activations, Cpu, halves};
use crate::backend::Linears;
use crate::matrix::Matrix;
use crate::panels::WIDTH;
use crate::rows::Rows;

/// Panels widened together: as many as a tile of few rows takes.
const GROUP: usize = 4;
/// Most terms of a sum that are added up in registers before they go to the output. The same for any number of rows, so that
/// sums do not depend on it.
const MOST_TERMS: usize = 1024;
/// Rows and columns of weights and gradients that the backward handles at a time.
const BACKWARD_ROWS: usize = 256;
const BACKWARD_COLUMNS: usize = 2 * WIDTH;
/// Rows are taken in runs of at most this many bytes, which stay in the second-level cache.
const RUN_BYTES: usize = 640 << 10;

/// Rows times integers are quick: their bytes stay in the first-level cache.
const INTEGER_RUN_BYTES: usize = 24 << 10;

/// Rows of `width` values in a run.
fn run_rows(width: usize) -> usize {
    (RUN_BYTES / (4 * width.max(1))).max(1)
}

/// `out += scale * x W^T` or `out = x W^T` for the rows of `W` in `panels`; `out` begins with the first of them.
///
/// # Safety
/// `out` must hold as many rows as `x`, of the columns of these panels, and no other thread may use them meanwhile.
unsafe fn panels_forward(x: &[f32], weight: &Matrix, panels: Range<usize>, out: StridedMut, write: Write) {
    let k = weight.columns();
    let m = x.len() / k.max(1);
    let terms = k.div_ceil(k.div_ceil(MOST_TERMS).max(1)).next_multiple_of(32).max(1);
    with_scratch(GROUP * WIDTH * terms.min(k), |scratch| {
        for first in panels.clone().step_by(GROUP) {
            let group = first..(first + GROUP).min(panels.end);
            let n = (group.end * WIDTH).min(weight.rows()) - first * WIDTH;
            // SAFETY: the columns of this group are among those of the contract.
            let out = unsafe { out.at(0, (first - panels.start) * WIDTH) };
            for start in (0..k).step_by(terms) {
                let columns = start..(start + terms).min(k);
                let (n_terms, write) = (columns.len(), if start == 0 { write } else { added(write) });
                if halves::are_direct(m, weight.dtype()) {
                    // SAFETY: `x` has m rows of k values; these columns are among those of the contract.
                    unsafe {
                        let x = Left::rows(&x[start..], k);
                        halves::panels_forward(m, x, weight, group.clone(), columns, out, write);
                    }
                    continue;
                }
                for (panel, scratch) in group.clone().zip(scratch.chunks_exact_mut(n_terms * WIDTH)) {
                    widen_panel(weight, panel, columns.clone(), scratch);
                }
                // SAFETY: `x` has m rows of k values, the scratch these panels, and `out` is the caller's contract.
                unsafe {
                    product(m, n, n_terms, Left::rows(&x[start..], k), Right::panels(scratch, n_terms), out, write);
                }
            }
        }
    });
}

/// How the second part of a sum meets the first.
fn added(write: Write) -> Write {
    if write == Write::Set { Write::AddScaled(1.0) } else { write }
}

/// Several linear layers of one input: what they write, by thread.
///
/// # Safety
/// `targets` must hold as many rows as `x`, of as many columns as their layers have rows, and nobody else may use them meanwhile.
unsafe fn forward_into(cpu: &Cpu, x: &Rows, layers: &[(&Matrix, Option<&Rows>)], targets: &[StridedMut], write: Write) {
    let (m, k) = (x.n_rows(), x.width());
    let panels = |weight: &Matrix| weight.rows().div_ceil(WIDTH);
    let total: usize = layers.iter().map(|(weight, _)| panels(weight)).sum();
    let is_integer = |weight: &Matrix| cpu.activations == Activations::Q8 && has_integer_products(weight.dtype());
    let quantised = layers.iter().any(|(weight, _)| is_integer(weight)).then(|| QuantisedRows::new(&cpu.threads, x));
    let run_rows = if quantised.is_some() { (INTEGER_RUN_BYTES / k.max(1)).max(1) } else { run_rows(k) };
    let n_groups = total.div_ceil(GROUP);
    let work = layers.iter().map(|(weight, _)| weight.rows() * k * m).sum();
    cpu.threads.for_ranges(m.div_ceil(run_rows) * n_groups, 1, work, |items| {
        let mut item = items.start;
        while item < items.end {
            // The groups of one run of rows.
            let (run, first) = (item / n_groups * run_rows, item % n_groups);
            let n = (items.end - item).min(n_groups - first);
            item += n;
            let rows = run..(run + run_rows).min(m);
            let x = &x.values()[rows.start * k..rows.end * k];
            let range = first * GROUP..((first + n) * GROUP).min(total);
            let mut start = 0;
            for ((weight, bias), target) in layers.iter().zip(targets) {
                let own = range.start.max(start)..range.end.min(start + panels(weight));
                if own.start < own.end {
                    let own = own.start - start..own.end - start;
                    let columns = own.start * WIDTH..(own.end * WIDTH).min(weight.rows());
                    // SAFETY: items are disjoint, so each part of each output is written by one thread.
                    unsafe {
                        let out = target.at(rows.start, columns.start);
                        match &quantised {
                            Some(x) if is_integer(weight) => {
                                integer::panels_forward(x, rows.clone(), weight, own, out, write);
                            }
                            _ => panels_forward(x, weight, own, out, write),
                        }
                        if let Some(bias) = bias {
                            for row in rows.clone() {
                                add(target.row(row, columns.start, columns.len()), &bias.values()[columns.clone()]);
                            }
                        }
                    }
                }
                start += panels(weight);
            }
        }
    });
}

pub(super) fn forward(cpu: &Cpu, x: &Rows, layers: &[(&Matrix, Option<&Rows>)]) -> Vec<Rows> {
    for (weight, bias) in layers {
        assert_eq!(weight.columns(), x.width(), "linear: {weight:?} with inputs of width {}", x.width());
        assert!(bias.is_none_or(|bias| bias.width() == weight.rows()), "linear: bias of another width than {weight:?}");
    }
    let shapes: Vec<(usize, usize)> = layers.iter().map(|(weight, _)| (x.n_rows(), weight.rows())).collect();
    // SAFETY: every element of every output is set.
    unsafe { Rows::written(&shapes, |targets| forward_into(cpu, x, layers, targets, Write::Set)) }
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
        forward(self, x, &[(weight, bias)]).swap_remove(0)
    }

    fn linears_forward(&self, x: &Rows, layers: &[(&Matrix, Option<&Rows>)]) -> Vec<Rows> {
        forward(self, x, layers)
    }

    fn linear_add_forward(&self, x: &Rows, weight: &Matrix, scale: f32, out: &mut Rows) {
        assert_eq!((x.width(), out.width()), (weight.columns(), weight.rows()), "linear_add: {weight:?}");
        assert_eq!(x.n_rows(), out.n_rows(), "linear_add: rows");
        let target = StridedMut::new(out.values_mut(), weight.rows());
        // SAFETY: `out` has the rows of `x` and the columns of the layer, and is borrowed for this call.
        unsafe { forward_into(self, x, &[(weight, None)], &[target], Write::AddScaled(scale)) };
    }

    fn linear_backward_input(&self, d_out: &Rows, weight: &Matrix, scale: f32, d_x: &mut Rows) {
        let (n, k, m) = (weight.rows(), weight.columns(), d_out.n_rows());
        assert_eq!((d_out.width(), d_x.width()), (n, k), "linear_backward_input: {weight:?}");
        assert_eq!(m, d_x.n_rows(), "linear_backward_input: rows");
        let target = StridedMut::new(d_x.values_mut(), k);
        let run_rows = run_rows(BACKWARD_ROWS);
        let n_columns = k.div_ceil(BACKWARD_COLUMNS);
        self.threads.for_each(m.div_ceil(run_rows) * n_columns, n * k * m, |item| {
            let run = item / n_columns * run_rows;
            let m = (m - run).min(run_rows);
            let first = item % n_columns * BACKWARD_COLUMNS;
            let columns = first..(first + BACKWARD_COLUMNS).min(k);
            with_scratch(BACKWARD_COLUMNS * BACKWARD_ROWS, |scratch| {
                for start in (0..n).step_by(BACKWARD_ROWS) {
                    let rows = start..(start + BACKWARD_ROWS).min(n);
                    let n = rows.len();
                    let scratch = &mut scratch[..columns.len().div_ceil(WIDTH) * WIDTH * n];
                    widen_columns(weight, rows, columns.clone(), scratch);
                    let d_out = Left::rows(&d_out.values()[run * d_out.width() + start..], d_out.width());
                    // SAFETY: items are disjoint, and the operands have these rows and columns.
                    unsafe {
                        let write = Write::AddScaled(scale);
                        product(m, columns.len(), n, d_out, Right::panels(scratch, n), target.at(run, first), write);
                    }
                }
            });
        });
    }

    fn linear_backward_weight(&self, d_out: &Rows, x: &Rows, scale: f32, d_weight: &mut Rows) {
        let (n, k, m) = (d_out.width(), x.width(), x.n_rows());
        assert_eq!((d_weight.n_rows(), d_weight.width()), (n, k), "linear_backward_weight: shape of the gradient");
        assert_eq!(m, d_out.n_rows(), "linear_backward_weight: rows");
        let target = StridedMut::new(d_weight.values_mut(), k);
        let (n_rows, n_columns) = (n.div_ceil(BACKWARD_ROWS), k.div_ceil(BACKWARD_COLUMNS));
        self.threads.for_each(n_rows * n_columns, n * k * m, |item| {
            let row = item / n_columns * BACKWARD_ROWS;
            let rows = (n - row).min(BACKWARD_ROWS);
            let first = item % n_columns * BACKWARD_COLUMNS;
            let columns = first..(first + BACKWARD_COLUMNS).min(k);
            with_scratch(BACKWARD_COLUMNS * BACKWARD_ROWS, |scratch| {
                for start in (0..m).step_by(BACKWARD_ROWS) {
                    let terms = start..(start + BACKWARD_ROWS).min(m);
                    let scratch = &mut scratch[..columns.len().div_ceil(WIDTH) * WIDTH * terms.len()];
                    copy_columns(&x.values()[terms.start * k..terms.end * k], k, columns.clone(), scratch);
                    let d_out = Left::columns(&d_out.values()[start * n + row..], n);
                    let x = Right::panels(scratch, terms.len());
                    // SAFETY: items are disjoint, and the operands have these rows and columns.
                    unsafe {
                        let write = Write::AddScaled(scale);
                        product(rows, columns.len(), terms.len(), d_out, x, target.at(row, first), write);
                    }
                }
            });
        });
    }

    fn bias_backward(&self, d_out: &Rows, d_bias: &mut Rows) {
        for row in 0..d_out.n_rows() {
            add(d_bias.values_mut(), d_out.row(row));
        }
    }
}
