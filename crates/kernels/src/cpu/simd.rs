//! The vectorised inner products and elementary functions that everything else is built from.
//!
//! Both kernels give every output element its own accumulator, filled in one fixed order of the summation index that
//! does not depend on the size of the tile the element happens to be computed in. This is what makes a row's result
//! independent of the other rows of its batch (row invariance).

#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "unchecked tiles, each with the contract of the function that it is of"
)]

use super::lanes::{Lanes, with_lanes};
use super::strided::{Strided, StridedMut};

/// How a tile's result meets what is in the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Write {
    /// Replace it.
    Set,
    /// Add `scale * result`.
    AddScaled(f32),
}

#[inline(always)]
unsafe fn dot_tile<V: Lanes, const M: usize>(
    k: usize,
    x: Strided,
    w: [*const f32; 4],
    out: StridedMut,
    n: usize,
    write: Write,
) {
    let mut sums = [[V::splat(0.0); 4]; M];
    let mut p = 0;
    while p + V::WIDTH <= k {
        let w: [V; 4] = [V::load(w[0].add(p)), V::load(w[1].add(p)), V::load(w[2].add(p)), V::load(w[3].add(p))];
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = V::load(x.start.add(i * x.stride + p));
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = sum.add_product(x, w);
            }
        }
        p += V::WIDTH;
    }
    if p < k {
        let rest = k - p;
        let w: [V; 4] = w.map(|w| V::load_first(w.add(p), rest));
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = V::load_first(x.start.add(i * x.stride + p), rest);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = sum.add_product(x, w);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let sums = V::sums(sums);
        let out = out.start.add(i * out.stride);
        match write {
            Write::Set => std::ptr::copy_nonoverlapping(sums.as_ptr(), out, n),
            Write::AddScaled(scale) => {
                for (j, sum) in sums.iter().take(n).enumerate() {
                    *out.add(j) += scale * sum;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn dot_products_body<V: Lanes>(
    m: usize,
    n: usize,
    k: usize,
    x: Strided,
    w: Strided,
    out: StridedMut,
    write: Write,
) {
    // A tile over the right edge reads the last row again and stores only `n` columns.
    let mut i = 0;
    while i < m {
        let rows = (m - i).min(6);
        let x = Strided { start: x.start.add(i * x.stride), stride: x.stride };
        let mut j = 0;
        while j < n {
            let last = n - 1;
            let w = [0, 1, 2, 3].map(|c| w.start.add((j + c).min(last) * w.stride));
            let columns = (n - j).min(4);
            let out = out.at(i, j);
            match rows {
                6 => dot_tile::<V, 6>(k, x, w, out, columns, write),
                5 => dot_tile::<V, 5>(k, x, w, out, columns, write),
                4 => dot_tile::<V, 4>(k, x, w, out, columns, write),
                3 => dot_tile::<V, 3>(k, x, w, out, columns, write),
                2 => dot_tile::<V, 2>(k, x, w, out, columns, write),
                _ => dot_tile::<V, 1>(k, x, w, out, columns, write),
            }
            j += 4;
        }
        i += rows;
    }
}

with_lanes! {
    /// `out[i, j] = sum_p x[i, p] w[j, p]` for `i < m`, `j < n`, `p < k`.
    ///
    /// # Safety
    /// `x`, `w` and `out` must hold these elements, and no other thread may use the ones of `out` meanwhile.
    pub(crate) unsafe fn dot_products =
        dot_products_body(m: usize, n: usize, k: usize, x: Strided, w: Strided, out: StridedMut, write: Write)
}

#[inline(always)]
unsafe fn sum_tile<V: Lanes, const M: usize, const N: usize>(
    k: usize,
    p: Strided,
    v: Strided,
    out: StridedMut,
    last: usize,
) {
    // `last < WIDTH` lanes of the last register exist, or all if it is 0.
    let mut sums = [[V::splat(0.0); N]; M];
    for step in 0..k {
        let row = v.start.add(step * v.stride);
        let mut values = [V::splat(0.0); N];
        for (j, value) in values.iter_mut().enumerate() {
            let from = row.add(j * V::WIDTH);
            *value = if last > 0 && j + 1 == N { V::load_first(from, last) } else { V::load(from) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let weight = V::splat(*p.start.add(i * p.stride + step));
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.add_product(weight, value);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            let to = out.start.add(i * out.stride + j * V::WIDTH);
            if last > 0 && j + 1 == N { sum.store_first(to, last) } else { sum.store(to) }
        }
    }
}

#[inline(always)]
unsafe fn weighted_sums_body<V: Lanes>(m: usize, n: usize, k: usize, p: Strided, v: Strided, out: StridedMut) {
    let mut i = 0;
    while i < m {
        let rows = if m - i >= 4 { 4 } else { 1 };
        let p = Strided { start: p.start.add(i * p.stride), stride: p.stride };
        let mut j = 0;
        while j < n {
            let v = Strided { start: v.start.add(j), stride: v.stride };
            let out = out.at(i, j);
            let left = n - j;
            // Four registers of columns at a time, then one; the last may be partly filled.
            let (columns, last) = if left >= 4 * V::WIDTH {
                (4 * V::WIDTH, 0)
            } else if left >= V::WIDTH {
                (V::WIDTH, 0)
            } else {
                (left, left)
            };
            match (rows, columns == 4 * V::WIDTH) {
                (4, true) => sum_tile::<V, 4, 4>(k, p, v, out, last),
                (4, false) => sum_tile::<V, 4, 1>(k, p, v, out, last),
                (_, true) => sum_tile::<V, 1, 4>(k, p, v, out, last),
                (_, false) => sum_tile::<V, 1, 1>(k, p, v, out, last),
            }
            j += columns;
        }
        i += rows;
    }
}

with_lanes! {
    /// `out[i, j] = sum_s p[i, s] v[s, j]` for `i < m`, `j < n`, `s < k`, the sum in order of `s`.
    ///
    /// # Safety
    /// `p`, `v` and `out` must hold these elements, and no other thread may use the ones of `out` meanwhile.
    pub(crate) unsafe fn weighted_sums =
        weighted_sums_body(m: usize, n: usize, k: usize, p: Strided, v: Strided, out: StridedMut)
}

/// Sums of `term` over `x` and `y`, value `i` in sum `i % N`: one order for every caller, in which loops vectorise.
#[inline(always)]
pub(super) fn pair_sums<const N: usize>(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> [f32; N] {
    let mut sums = [0.0f32; N];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<N>(), y.as_chunks::<N>());
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += term(*x, *y);
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += term(*x, *y);
    }
    sums
}

/// The same over `x` alone.
#[inline(always)]
pub(super) fn sums<const N: usize>(x: &[f32], term: impl Fn(f32) -> f32) -> [f32; N] {
    pair_sums(x, x, |x, _| term(x))
}

/// The largest value; negative infinity of none.
#[inline(always)]
pub(super) fn largest<const N: usize>(x: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; N];
    let (chunks, rest) = x.as_chunks::<N>();
    for chunk in chunks {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = if *x > *largest { *x } else { *largest };
        }
    }
    for (largest, x) in largest.iter_mut().zip(rest) {
        *largest = if *x > *largest { *x } else { *largest };
    }
    largest.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

/// `ln(1 + y)` for `y` from 0 to 1, to about 1e-7. Plain arithmetic, so that loops over it vectorise.
#[inline(always)]
pub(crate) fn ln_1p(y: f32) -> f32 {
    // 2 artanh(z) with z = y / (2 + y) <= 1/3; the first term left out is below 1e-7.
    let z = y / (2.0 + y);
    let s = z * z;
    let series = 1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0))));
    2.0 * z * (1.0 + s * series)
}

/// `e^x`, accurate to about 2 ulp over the range where the result is a normal number; below it the result is 0 or tiny,
/// above it is clamped near the largest f32. Plain arithmetic, so that loops over it vectorise.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Cody-Waite reduction to |r| <= ln(2)/2, then the degree-6 minimax polynomial of Cephes' expf.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}
