//! Ops that touch each value a few times: norms, rotations, gates, exit heads.

#![allow(unsafe_code, reason = "rows are split among threads; every block states why it is sound")]

use super::Cpu;
use super::simd::{exp, pair_sums};
use super::simd_level::multiversion;
use super::strided::StridedMut;
use super::threads::Threads;
use crate::backend::{Layers, Memory, Rotation};
use crate::matrix::Matrix;
use crate::rope_table::RopeTable;
use crate::rows::Rows;

/// Calls `f(row, out_row)` for every row of `out`, in parallel.
fn for_rows(threads: &Threads, out: &mut Rows, cost: usize, f: impl Fn(usize, &mut [f32]) + Send + Sync) {
    let (n, width) = (out.n_rows(), out.width());
    let target = StridedMut::new(out.values_mut(), width);
    threads.for_ranges(n, 8, n * width * cost, |rows| {
        for row in rows {
            // SAFETY: every row is given to one thread once.
            f(row, unsafe { target.row(row, 0, width) });
        }
    });
}

/// New rows, each filled by `f(row, out_row)` from zeros that its own thread has just written.
fn new_rows<const N: usize>(
    threads: &Threads,
    n: usize,
    width: usize,
    cost: usize,
    f: impl Fn(usize, [&mut [f32]; N]) + Send + Sync,
) -> [Rows; N] {
    let write = |targets: &[StridedMut]| {
        threads.for_ranges(n, 8, n * width * cost, |rows| {
            for row in rows {
                // SAFETY: every row is given to one thread once, and is set to zero before it is borrowed.
                let out = std::array::from_fn(|i| unsafe {
                    targets[i].start.add(row * width).write_bytes(0, width);
                    targets[i].row(row, 0, width)
                });
                f(row, out);
            }
        });
    };
    // SAFETY: every row is set above.
    let rows = unsafe { Rows::written(&[(n, width); N], write) };
    rows.try_into().unwrap_or_else(|_| unreachable!("as many blocks of rows as shapes"))
}

multiversion! {
    /// Inner product.
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        pair_sums::<32>(x, y, |x, y| x * y).iter().sum()
    }
}

/// `1 / sqrt(mean(x^2) + eps)`; not a number where the sum exceeds f32. A division by infinity would make zeros of such a
/// row, and of zeros a finite answer.
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let sum = dot(x, x);
    if sum == f32::INFINITY { f32::NAN } else { 1.0 / (sum / x.len() as f32 + eps).sqrt() }
}

multiversion! {
    fn scale_by(out: &mut [f32], x: &[f32], factor: f32, gain: &[f32]) {
        for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
            *out = x * factor * gain;
        }
    }
}

impl Layers for Cpu {
    fn embedding_forward(&self, table: &Matrix, token_ids: &[u32]) -> Rows {
        let mut out = Rows::zeros(token_ids.len(), table.columns());
        for (i, &token) in token_ids.iter().enumerate() {
            table.widen_row(token as usize, 0, out.row_mut(i));
        }
        out
    }

    fn embedding_backward(&self, token_ids: &[u32], d_out: &Rows, d_table: &mut Rows) {
        self.scatter_add_rows(d_table, Some(token_ids), d_out);
    }

    fn rms_norm_forward(&self, x: &Rows, gain: &Rows, eps: f32) -> Rows {
        let gain = gain.values();
        assert!(x.width().is_multiple_of(gain.len()), "rms_norm: rows of {} with a gain of {}", x.width(), gain.len());
        let [out] = new_rows(&self.threads, x.n_rows(), x.width(), 4, |row, [out]| {
            for (out, x) in out.chunks_exact_mut(gain.len()).zip(x.row(row).chunks_exact(gain.len())) {
                scale_by(out, x, inverse_rms(x, eps), gain);
            }
        });
        out
    }

    fn rms_norm_backward(
        &self,
        x: &Rows,
        gain: &Rows,
        eps: f32,
        d_out: &Rows,
        d_x: &mut Rows,
        d_gain: Option<&mut Rows>,
    ) {
        let gain = gain.values();
        let n = gain.len();
        assert!(x.width().is_multiple_of(n), "rms_norm_backward: rows of {} with a gain of {n}", x.width());
        assert!(
            d_gain.as_ref().is_none_or(|d_gain| d_gain.values().len() == n),
            "rms_norm_backward: gradient of the gain"
        );
        assert_eq!((x.n_rows(), x.width()), (d_out.n_rows(), d_out.width()), "rms_norm_backward: shapes");
        assert_eq!((x.n_rows(), x.width()), (d_x.n_rows(), d_x.width()), "rms_norm_backward: shapes");
        for_rows(&self.threads, d_x, 6, |row, d_x| {
            let parts = x.row(row).chunks_exact(n).zip(d_out.row(row).chunks_exact(n));
            for ((x, d_out), d_x) in parts.zip(d_x.chunks_exact_mut(n)) {
                norm_row_backward(x, gain, d_out, inverse_rms(x, eps), d_x);
            }
        });
        if let Some(d_gain) = d_gain {
            for (x, d_out) in x.values().chunks_exact(n).zip(d_out.values().chunks_exact(n)) {
                add_scaled_product(d_gain.values_mut(), x, d_out, inverse_rms(x, eps));
            }
        }
    }

    fn rope(&self, x: &mut Rows, table: &RopeTable, positions: &[u32], rotation: Rotation) {
        let half = table.head_dim() / 2;
        assert_eq!(x.n_rows(), positions.len(), "rope: one position a row");
        assert!(x.width().is_multiple_of(2 * half), "rope: rows of {} with heads of {}", x.width(), 2 * half);
        let direction = if rotation == Rotation::Forward { 1.0 } else { -1.0 };
        for_rows(&self.threads, x, 3, |row, x| {
            let (cos, sin) = table.row(positions[row] as usize);
            for head in x.chunks_exact_mut(2 * half) {
                rotate(head, cos, sin, direction);
            }
        });
    }

    fn swiglu_forward(&self, gate: &Rows, up: &Rows) -> Rows {
        assert_eq!((gate.n_rows(), gate.width()), (up.n_rows(), up.width()), "swiglu: shapes");
        let [out] = new_rows(&self.threads, gate.n_rows(), gate.width(), 10, |row, [out]| {
            swiglu_row(out, gate.row(row), up.row(row));
        });
        out
    }

    fn swiglu_backward(&self, gate: &Rows, up: &Rows, d_out: &Rows) -> (Rows, Rows) {
        let shape = (gate.n_rows(), gate.width());
        assert_eq!([shape; 2], [up, d_out].map(|rows| (rows.n_rows(), rows.width())), "swiglu_backward: shapes");
        let [d_gate, d_up] = new_rows(&self.threads, gate.n_rows(), gate.width(), 12, |row, [d_gate, d_up]| {
            swiglu_row_backward(gate.row(row), up.row(row), d_out.row(row), d_gate, d_up);
        });
        (d_gate, d_up)
    }

    /// `z = w . x r + b` per row, `r` the inverse root mean square or 1.
    fn exit_head_forward(&self, x: &Rows, weight: &[f32], bias: f32, rms_eps: Option<f32>) -> Vec<f32> {
        assert_eq!(x.width(), weight.len(), "exit_head: width");
        (0..x.n_rows())
            .map(|row| {
                let x = x.row(row);
                dot(x, weight) * rms_eps.map_or(1.0, |eps| inverse_rms(x, eps)) + bias
            })
            .collect()
    }

    /// With `u = x r`: `d_w += dz u`, `d_b += dz`, `d_x += dz r (w - u (w . u) / n)`; without the norm `d_x += dz w`.
    fn exit_head_backward(
        &self,
        x: &Rows,
        weight: &[f32],
        rms_eps: Option<f32>,
        d_logits: &[f32],
        mut d_x: Option<&mut Rows>,
        d_weight: &mut [f32],
        d_bias: &mut f32,
    ) {
        assert_eq!(x.n_rows(), d_logits.len(), "exit_head_backward: one gradient a row");
        assert_eq!([x.width(); 2], [weight.len(), d_weight.len()], "exit_head_backward: widths");
        for (row, &d) in d_logits.iter().enumerate() {
            let x = x.row(row);
            let r = rms_eps.map_or(1.0, |eps| inverse_rms(x, eps));
            add_scaled(d_weight, x, d * r);
            *d_bias += d;
            if let Some(d_x) = d_x.as_deref_mut() {
                let d_x = d_x.row_mut(row);
                add_scaled(d_x, weight, d * r);
                if rms_eps.is_some() {
                    add_scaled(d_x, x, -d * r * r * r * dot(x, weight) / x.len() as f32);
                }
            }
        }
    }
}

multiversion! {
    /// `d_x += r (g - x r^2 (g . x) / n)`, where `g = d_out * gain` and `r` is the inverse root mean square.
    fn norm_row_backward(x: &[f32], gain: &[f32], d_out: &[f32], r: f32, d_x: &mut [f32]) {
        let mut sums = [0.0f32; 16];
        for ((x, g), d) in x.chunks(16).zip(gain.chunks(16)).zip(d_out.chunks(16)) {
            for (((sum, x), g), d) in sums.iter_mut().zip(x).zip(g).zip(d) {
                *sum += x * g * d;
            }
        }
        let along = sums.iter().sum::<f32>() * r * r * r / x.len() as f32;
        for (((d_x, x), g), d) in d_x.iter_mut().zip(x).zip(gain).zip(d_out) {
            *d_x += r * g * d - along * x;
        }
    }
}

multiversion! {
    fn add_scaled_product(out: &mut [f32], x: &[f32], y: &[f32], scale: f32) {
        for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
            *out += x * y * scale;
        }
    }
}

multiversion! {
    fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out += x * scale;
        }
    }
}

multiversion! {
    fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let (first, second) = x.split_at_mut(cos.len());
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (x, y, sin) = (*a, *b, sin * direction);
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }
}

multiversion! {
    fn swiglu_row(out: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

multiversion! {
    /// `d_gate = d_out * up * s (1 + g (1 - s))`, `d_up = d_out * g s`, `s = sigmoid(g)`.
    fn swiglu_row_backward(gate: &[f32], up: &[f32], d_out: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        for ((((g, up), d), d_gate), d_up) in gate.iter().zip(up).zip(d_out).zip(d_gate).zip(d_up) {
            let s = 1.0 / (1.0 + exp(-g));
            *d_gate = d * up * s * (1.0 + g * (1.0 - s));
            *d_up = d * g * s;
        }
    }
}

/// Rows of zeros, written by all threads.
pub(super) fn zeros(threads: &Threads, n_rows: usize, width: usize) -> Rows {
    let [rows] = new_rows(threads, n_rows, width, 1, |_, [_]| {});
    rows
}
