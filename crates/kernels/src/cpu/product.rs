//! The one matrix product: tiles of outer products, rows times column panels.
//!
//! Every output element is one chain of multiply-adds in the order of the summation index, whatever tile it is computed in.
//! This is what makes a row's result independent of the other rows of its batch (row invariance).

#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "unchecked tiles, each with the contract of the function that it is of"
)]

use super::lanes::{Lanes, with_lanes};
use super::strided::StridedMut;
use crate::panels::WIDTH;

/// How a product meets what is in the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Write {
    /// Put `scale * result` in its place.
    Scaled(f32),
    /// Add `scale * result`.
    AddScaled(f32),
}

/// The left operand, by rows: element `(row, p)` is `start[row * stride + p]`; or by columns: `start[p * stride + row]`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    start: *const f32,
    stride: usize,
    by_rows: bool,
}

impl Left {
    /// Rows that lie one after the other in `values`, `stride` apart.
    pub(crate) fn rows(values: &[f32], stride: usize) -> Self {
        Self { start: values.as_ptr(), stride, by_rows: true }
    }

    /// The columns of such rows as rows.
    pub(crate) fn columns(values: &[f32], stride: usize) -> Self {
        Self { start: values.as_ptr(), stride, by_rows: false }
    }

    /// Where a row begins, of an operand by rows.
    #[inline(always)]
    pub(super) fn row(self, row: usize) -> *const f32 {
        self.at(row).start
    }

    /// From row `row` on.
    #[inline(always)]
    fn at(self, row: usize) -> Self {
        Self { start: self.start.wrapping_add(if self.by_rows { row * self.stride } else { row }), ..self }
    }
}

/// The right operand: element `(p, column)` is `start[p * step + column / 16 * panel_stride + column % 16]`.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub(crate) start: *const f32,
    pub(crate) step: usize,
    pub(crate) panel_stride: usize,
}

impl Right {
    /// Panels of `k` times 16 values, one after the other.
    pub(crate) fn panels(values: &[f32], k: usize) -> Self {
        Self { start: values.as_ptr(), step: WIDTH, panel_stride: k * WIDTH }
    }

    /// Rows that lie one after the other in `values`, `row_stride` apart.
    pub(crate) fn rows(values: &[f32], row_stride: usize) -> Self {
        Self { start: values.as_ptr(), step: row_stride, panel_stride: WIDTH }
    }
}

/// Rows of some panels; of a partial last panel only the first columns, as many as the last argument says, exist. A function of
/// its own, called by address: inlined among others, its sums would not stay in registers. Contract: that of [`product`].
type Tile = unsafe fn(usize, Left, Right, StridedMut, Write, usize);

/// The tiles of so many rows.
#[derive(Clone, Copy)]
struct Tiles {
    /// Panels of the widest: enough that the latency of a multiply-add does not show, and as many as registers take.
    panels: usize,
    widest: Tile,
    two: Tile,
    one: Tile,
    partial: Tile,
}

/// The tiles of 1 row, 2 rows, and so on.
trait HasTiles: Lanes {
    const TILES: &'static [Tiles];
    /// Terms of a sum whose code stands one after the other: several where addresses of rows would cost more than products.
    const UNROLLED: usize;
}

macro_rules! tiles {
    ($lanes:ty, $unrolled:literal, $($rows:literal x $panels:literal)+ $(, $features:literal)?) => {
        impl HasTiles for $lanes {
            const UNROLLED: usize = $unrolled;
            const TILES: &'static [Tiles] = {
                $(#[target_feature(enable = $features)])?
                unsafe fn tile<const M: usize, const P: usize, const PARTIAL: bool>(
                    k: usize,
                    left: Left,
                    right: Right,
                    out: StridedMut,
                    write: Write,
                    last: usize,
                ) {
                    tile_body::<$lanes, M, P, PARTIAL>(k, left, right, out, write, last);
                }
                &[$(Tiles {
                    panels: $panels,
                    widest: tile::<$rows, $panels, false>,
                    two: tile::<$rows, { if $panels < 2 { 1 } else { 2 } }, false>,
                    one: tile::<$rows, 1, false>,
                    partial: tile::<$rows, 1, true>,
                }),+]
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(
    std::arch::x86_64::__m512,
    1,
    1 x 4 2 x 4 3 x 4 4 x 4 5 x 4 6 x 4 7 x 4 8 x 2 9 x 2 10 x 2 11 x 2 12 x 2 13 x 2 14 x 2,
    "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
tiles!(super::lanes::Pair, 4, 1 x 4 2 x 2 3 x 1 4 x 1 5 x 1 6 x 1, "avx2,fma,f16c");
tiles!(super::lanes::PlainLanes, 4, 1 x 1 2 x 1);

#[inline(always)]
unsafe fn tile_body<V: HasTiles, const M: usize, const P: usize, const PARTIAL: bool>(
    k: usize,
    left: Left,
    right: Right,
    out: StridedMut,
    write: Write,
    last: usize,
) {
    let mut sums = [[V::splat(0.0); P]; M];
    if left.by_rows {
        // Several at a time: the addresses of the rows are then computed once for all.
        let whole = k / V::UNROLLED * V::UNROLLED;
        for first in (0..whole).step_by(V::UNROLLED) {
            for p in first..first + V::UNROLLED {
                add_products::<V, M, P, PARTIAL>(&mut sums, left.start.add(p), left.stride, right, p, last);
            }
        }
        for p in whole..k {
            add_products::<V, M, P, PARTIAL>(&mut sums, left.start.add(p), left.stride, right, p, last);
        }
    } else {
        for p in 0..k {
            add_products::<V, M, P, PARTIAL>(&mut sums, left.start.add(p * left.stride), 1, right, p, last);
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            let n = if PARTIAL && j + 1 == P { last } else { WIDTH };
            write_lanes(sum, out.start.add(i * out.stride + j * WIDTH), write, n);
        }
    }
}

/// Writes the first `n` of sixteen results.
#[inline(always)]
pub(super) unsafe fn write_lanes<V: Lanes>(sum: V, to: *mut f32, write: Write, n: usize) {
    let is_whole = n >= WIDTH;
    let sum = match write {
        Write::Scaled(scale) => V::splat(scale).multiply(sum),
        Write::AddScaled(scale) => {
            let before = if is_whole { V::load(to) } else { V::load_first(to, n) };
            before.add_product(V::splat(scale), sum)
        }
    };
    if is_whole { sum.store(to) } else { sum.store_first(to, n) }
}

/// Adds `left[i] right[p, j]`; the elements of `left` are `stride` apart.
#[inline(always)]
unsafe fn add_products<V: Lanes, const M: usize, const P: usize, const PARTIAL: bool>(
    sums: &mut [[V; P]; M],
    left: *const f32,
    stride: usize,
    right: Right,
    p: usize,
    last: usize,
) {
    let from = right.start.add(p * right.step);
    let columns: [V; P] = std::array::from_fn(|j| {
        let from = from.add(j * right.panel_stride);
        if PARTIAL && j + 1 == P { V::load_first(from, last) } else { V::load(from) }
    });
    for (i, sums) in sums.iter_mut().enumerate() {
        let x = V::splat(*left.add(i * stride));
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = sum.add_product(x, column);
        }
    }
}

#[inline(always)]
unsafe fn product_body<V: HasTiles>(
    m: usize,
    n: usize,
    k: usize,
    left: Left,
    right: Right,
    out: StridedMut,
    write: Write,
) {
    // As even strips of rows as tiles allow; columns of a tile, then all rows of them: their part of `right` stays in the
    // first-level cache.
    let rows_at_a_time = m.div_ceil(m.div_ceil(V::TILES.len()).max(1)).max(1);
    let columns_at_a_time = V::TILES[rows_at_a_time - 1].panels * WIDTH;
    for first in (0..n).step_by(columns_at_a_time) {
        let end = (first + columns_at_a_time).min(n);
        for i in (0..m).step_by(rows_at_a_time) {
            let tiles = V::TILES[(m - i).min(rows_at_a_time) - 1];
            let left = left.at(i);
            let mut j = first;
            while j < end {
                let right = Right { start: right.start.add(j / WIDTH * right.panel_stride), ..right };
                let whole = (end - j) / WIDTH;
                let (tile, panels) = if whole >= tiles.panels {
                    (tiles.widest, tiles.panels)
                } else if whole >= 2 {
                    (tiles.two, tiles.panels.min(2))
                } else if whole == 1 {
                    (tiles.one, 1)
                } else {
                    (tiles.partial, 1)
                };
                tile(k, left, right, out.at(i, j), write, end - j);
                j += panels * WIDTH;
            }
        }
    }
}

with_lanes! {
    /// `out[i, j] = sum_p left[i, p] right[p, j]` for `i < m`, `j < n`, `p < k`, or its multiple added to what is there.
    ///
    /// # Safety
    /// `left`, `right` and `out` must hold these elements, and no other thread may use the ones of `out` meanwhile.
    pub(crate) unsafe fn product =
        product_body(m: usize, n: usize, k: usize, left: Left, right: Right, out: StridedMut, write: Write)
}
