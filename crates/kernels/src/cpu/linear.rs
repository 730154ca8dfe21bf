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
use crate::backend::{Linears, Term};
use crate::matrix::Matrix;
use crate::panels::WIDTH;
use crate::rows::Rows;

/// Panels widened together: as many as a tile of few rows takes.
const GROUP: usize = 4;
/// Most terms of a sum that are added up in registers before they go to the output. The same for any number of rows, so that
/// sums do not depend on it.
const MOST_TERMS: usize = 1024;
/// Terms of a sum that the backward handles at a time: sums of gradients are cut there, whatever is computed together.
const BACKWARD_TERMS: usize = 256;
/// Most columns of a gradient that the backward handles at a time: weights of so many columns are read in long runs, and widened
/// they still fit the second-level cache.
const BACKWARD_COLUMNS: usize = 96;
/// Rows are taken in runs of at most this many bytes, which stay in the second-level cache.
const RUN_BYTES: usize = 640 << 10;
/// Fewest rows in a run, if there are more: weights are widened once for each run.
const FEWEST_RUN_ROWS: usize = 48;
/// Parts of a product for each thread: the last ones even out what one thread was slower at.
const PARTS_PER_THREAD: usize = 3;

/// Rows times integers are quick: their bytes stay in the first-level cache.
const INTEGER_RUN_BYTES: usize = 24 << 10;

/// Rows of `width` values in a run.
fn run_rows(width: usize) -> usize {
    (RUN_BYTES / (4 * width.max(1))).max(1)
}

/// Length of the parts in which `n` are taken if there should be `n_parts` of them, from `fewest` to `most`, multiples of `fewest`.
fn part_len(n: usize, n_parts: usize, fewest: usize, most: usize) -> usize {
    n.div_ceil(n_parts.max(1)).next_multiple_of(fewest).min(most)
}

/// `out += scale * x W^T` or `out = scale * x W^T` for the rows of `W` in `panels`; `out` begins with the first of them.
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
    match write {
        Write::Scaled(scale) | Write::AddScaled(scale) => Write::AddScaled(scale),
    }
}

/// A layer in the forward: its input, its parameters, and how its result meets what is in the output.
struct Layer<'a> {
    x: &'a Rows,
    weight: &'a Matrix,
    bias: Option<&'a Rows>,
    write: Write,
}

impl Layer<'_> {
    fn n_panels(&self) -> usize {
        self.weight.rows().div_ceil(WIDTH)
    }
}

/// Several linear layers, of as many rows each: what they write, by thread.
///
/// # Safety
/// `targets` must hold as many rows as the inputs, of as many columns as their layers have rows, and nobody else may use them
/// meanwhile.
unsafe fn forward_into(cpu: &Cpu, m: usize, layers: &[Layer<'_>], targets: &[StridedMut]) {
    let total: usize = layers.iter().map(Layer::n_panels).sum();
    let is_integer = |layer: &Layer| cpu.activations == Activations::Q8 && has_integer_products(layer.weight.dtype());
    // Layers of one input share its rounded values.
    let mut quantised: Vec<(&Rows, QuantisedRows)> = Vec::new();
    for layer in layers.iter().filter(|layer| is_integer(layer)) {
        if !quantised.iter().any(|(x, _)| std::ptr::eq(*x, layer.x)) {
            quantised.push((layer.x, QuantisedRows::new(&cpu.threads, layer.x)));
        }
    }
    let quantised_of = |layer: &Layer| {
        let of_input = |(x, _): &&(&Rows, _)| std::ptr::eq(*x, layer.x);
        quantised.iter().find(of_input).filter(|_| is_integer(layer)).map(|(_, rows)| rows)
    };
    let k = layers.iter().map(|layer| layer.weight.columns()).max().unwrap_or_default();
    let n_groups = total.div_ceil(GROUP);
    let run_rows = if quantised.is_empty() {
        let n_runs = (PARTS_PER_THREAD * cpu.threads.count()).div_ceil(n_groups.max(1));
        part_len(m, n_runs, FEWEST_RUN_ROWS, run_rows(k))
    } else {
        (INTEGER_RUN_BYTES / k.max(1)).max(1)
    };
    let work = layers.iter().map(|layer| layer.weight.rows() * layer.weight.columns() * m).sum();
    cpu.threads.for_ranges(m.div_ceil(run_rows.max(1)) * n_groups, 1, work, |items| {
        let mut item = items.start;
        while item < items.end {
            // The groups of one run of rows.
            let (run, first) = (item / n_groups * run_rows, item % n_groups);
            let n = (items.end - item).min(n_groups - first);
            item += n;
            let rows = run..(run + run_rows).min(m);
            let range = first * GROUP..((first + n) * GROUP).min(total);
            let mut start = 0;
            for (layer, target) in layers.iter().zip(targets) {
                let Layer { x, weight, bias, write } = *layer;
                let own = range.start.max(start)..range.end.min(start + layer.n_panels());
                if own.start < own.end {
                    let own = own.start - start..own.end - start;
                    let columns = own.start * WIDTH..(own.end * WIDTH).min(weight.rows());
                    // SAFETY: items are disjoint, so each part of each output is written by one thread.
                    unsafe {
                        let out = target.at(rows.start, columns.start);
                        if let Some(x) = quantised_of(layer) {
                            integer::panels_forward(x, rows.clone(), weight, own, out, write);
                        } else {
                            let x = &x.values()[rows.start * x.width()..rows.end * x.width()];
                            panels_forward(x, weight, own, out, write);
                        }
                        if let Some(bias) = bias {
                            for row in rows.clone() {
                                add(target.row(row, columns.start, columns.len()), &bias.values()[columns.clone()]);
                            }
                        }
                    }
                }
                start += layer.n_panels();
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
    let layers: Vec<Layer<'_>> =
        layers.iter().map(|(weight, bias)| Layer { x, weight, bias: *bias, write: Write::Scaled(1.0) }).collect();
    // SAFETY: every element of every output is set.
    unsafe { Rows::written(&shapes, |targets| forward_into(cpu, x.n_rows(), &layers, targets)) }
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

    fn linears_add_forward(&self, terms: &[Term<'_, Rows, Matrix>], outs: &mut [&mut Rows]) {
        assert_eq!(terms.len(), outs.len(), "linears_add: one output a term");
        let m = terms.first().map_or(0, |term| term.rows.n_rows());
        for (Term { rows, weight, .. }, out) in terms.iter().zip(&*outs) {
            assert_eq!((rows.width(), out.width()), (weight.columns(), weight.rows()), "linears_add: {weight:?}");
            assert_eq!((rows.n_rows(), out.n_rows()), (m, m), "linears_add: rows");
        }
        let layers: Vec<Layer<'_>> = terms
            .iter()
            .map(|&Term { rows: x, weight, scale }| Layer { x, weight, bias: None, write: Write::AddScaled(scale) })
            .collect();
        let mut targets = Vec::with_capacity(outs.len());
        for out in outs {
            let width = out.width();
            targets.push(StridedMut::new(out.values_mut(), width));
        }
        // SAFETY: outputs have the rows of the inputs and the columns of their layers, and are borrowed for this call.
        unsafe { forward_into(self, m, &layers, &targets) };
    }

    fn linears_backward_input(&self, terms: &[Term<'_, Rows, Matrix>]) -> Rows {
        let Some(first) = terms.first() else { panic!("linears_backward_input of no layer") };
        let (m, k) = (first.rows.n_rows(), first.weight.columns());
        for Term { rows, weight, .. } in terms {
            assert_eq!((rows.width(), k), (weight.rows(), weight.columns()), "linears_backward_input: {weight:?}");
            assert_eq!(rows.n_rows(), m, "linears_backward_input: rows");
        }
        let n_parts = PARTS_PER_THREAD * self.threads.count();
        let width = part_len(k, n_parts, 2 * WIDTH, BACKWARD_COLUMNS);
        let n_columns = k.div_ceil(width);
        let run_rows = part_len(m, n_parts.div_ceil(n_columns), FEWEST_RUN_ROWS, run_rows(BACKWARD_TERMS));
        let work = terms.iter().map(|term| term.weight.rows() * k * m).sum();
        let write = |targets: &[StridedMut]| {
            self.threads.for_each(m.div_ceil(run_rows.max(1)) * n_columns, work, |item| {
                let run = item / n_columns * run_rows;
                let first = item % n_columns * width;
                let columns = first..(first + width).min(k);
                let panels = columns.len().div_ceil(WIDTH) * WIDTH;
                with_scratch(panels * BACKWARD_TERMS, |scratch| {
                    for (i, Term { rows: d_out, weight, scale }) in terms.iter().enumerate() {
                        for start in (0..weight.rows()).step_by(BACKWARD_TERMS) {
                            let rows = start..(start + BACKWARD_TERMS).min(weight.rows());
                            let n = rows.len();
                            let scratch = &mut scratch[..panels * n];
                            widen_columns(weight, rows, columns.clone(), scratch);
                            let d_out = Left::rows(&d_out.values()[run * d_out.width() + start..], d_out.width());
                            let write = if (i, start) == (0, 0) { Write::Scaled } else { Write::AddScaled };
                            let (m, right) = ((m - run).min(run_rows), Right::panels(scratch, n));
                            // SAFETY: items are disjoint, and the operands have these rows and columns.
                            unsafe {
                                product(m, columns.len(), n, d_out, right, targets[0].at(run, first), write(*scale));
                            }
                        }
                    }
                });
            });
        };
        // SAFETY: the items cover the output, and the first part of its sums sets it: a matrix has rows.
        unsafe { Rows::written(&[(m, k)], write) }.swap_remove(0)
    }

    fn linear_backward_weight(&self, d_out: &Rows, x: &Rows, scale: f32, d_weight: &mut Rows) {
        let (n, k, m) = (d_out.width(), x.width(), x.n_rows());
        assert_eq!((d_weight.n_rows(), d_weight.width()), (n, k), "linear_backward_weight: shape of the gradient");
        assert_eq!(m, d_out.n_rows(), "linear_backward_weight: rows");
        let target = StridedMut::new(d_weight.values_mut(), k);
        let n_parts = PARTS_PER_THREAD * self.threads.count();
        let width = part_len(k, n_parts, 2 * WIDTH, BACKWARD_COLUMNS);
        let n_columns = k.div_ceil(width);
        let height = part_len(n, n_parts.div_ceil(n_columns), FEWEST_RUN_ROWS, run_rows(BACKWARD_TERMS));
        self.threads.for_each(n.div_ceil(height.max(1)) * n_columns, n * k * m, |item| {
            let row = item / n_columns * height;
            let rows = (n - row).min(height);
            let first = item % n_columns * width;
            let columns = first..(first + width).min(k);
            let panels = columns.len().div_ceil(WIDTH) * WIDTH;
            with_scratch(panels * BACKWARD_TERMS, |scratch| {
                for start in (0..m).step_by(BACKWARD_TERMS) {
                    let terms = start..(start + BACKWARD_TERMS).min(m);
                    let scratch = &mut scratch[..panels * terms.len()];
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
