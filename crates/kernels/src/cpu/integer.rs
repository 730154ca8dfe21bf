//! Integer products: activations rounded to blocks of 32 signed bytes, times quantised weights as they lie in their panels.
//!
//! The sum within a block is an exact integer; blocks are added in their order, each by the same multiply-adds. So a row's result
//! depends neither on other rows nor, where multiply-adds are fused, on the instruction level.

#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "SIMD intrinsics, unchecked tiles and rows split among threads; each function has the contract of its caller"
)]

#[cfg(target_arch = "x86_64")]
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::lanes::Pair;
use super::lanes::PlainLanes;
use super::product::{Write, write_lanes};
use super::simd_level::{SimdLevel, multiversion};
use super::strided::StridedMut;
use super::threads::Threads;
use crate::dtype::{DType, half_to_f32};
use crate::matrix::Matrix;
use crate::panels::WIDTH;
use crate::rows::Rows;

/// Values of a block.
const BLOCK: usize = 32;
/// Groups of four bytes in a block, each multiplied at once.
const FOURS: usize = BLOCK / 4;

/// A block of activations: value = scale times byte.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
struct QuantisedBlock {
    bytes: [i8; BLOCK],
    scale: f32,
    /// Of the bytes.
    sum: i32,
    /// `scale * sum`.
    scaled_sum: f32,
}

/// Rows of activations as signed bytes.
pub(super) struct QuantisedRows {
    n_rows: usize,
    blocks: Vec<QuantisedBlock>,
}

impl QuantisedRows {
    /// Rounds rows whose width is a multiple of 32 to the nearest of 255 values a block, the largest magnitude being one. A block
    /// with a value that is not finite gets a scale that is not a number.
    pub(super) fn new(threads: &Threads, x: &Rows) -> Self {
        assert!(x.width().is_multiple_of(BLOCK), "rows of {} values in blocks of {BLOCK}", x.width());
        let x_blocks = x.values().as_chunks::<BLOCK>().0;
        let mut blocks = Vec::with_capacity(x_blocks.len());
        let place = Place(blocks.as_mut_ptr());
        threads.for_ranges(x_blocks.len(), x.width() / BLOCK, x.values().len() * 2, |range| {
            // SAFETY: ranges are disjoint, and the capacity is that of all blocks.
            range.for_each(|block| unsafe { place.write(block, quantise(&x_blocks[block])) });
        });
        // SAFETY: every block was written.
        unsafe { blocks.set_len(x_blocks.len()) };
        Self { n_rows: x.n_rows(), blocks }
    }

    /// Blocks of a row.
    fn n_blocks(&self) -> usize {
        self.blocks.len() / self.n_rows.max(1)
    }
}

/// Where threads write, each its own blocks.
struct Place(*mut QuantisedBlock);

// SAFETY: the type only carries an address; who writes through it guarantees that no two threads write one block.
unsafe impl Sync for Place {}

impl Place {
    unsafe fn write(&self, block: usize, value: QuantisedBlock) {
        self.0.add(block).write(value);
    }
}

multiversion! {
    /// Rounds one block.
    fn quantise(x: &[f32; BLOCK]) -> QuantisedBlock {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
        // Magnitudes are in the order of their bits, and what is not finite comes last.
        let largest = f32::from_bits(x.iter().fold(0, |largest, x| largest.max(x.abs().to_bits())));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut bytes = [0; BLOCK];
        for (byte, x) in bytes.iter_mut().zip(x) {
            *byte = ((x * factor + ROUND).to_bits() as u8).cast_signed();
        }
        let scale = if largest.is_finite() { largest / 127.0 } else { f32::NAN };
        let sum = bytes.iter().map(|byte| i32::from(*byte)).sum();
        QuantisedBlock { bytes, scale, sum, scaled_sum: scale * sum as f32 }
    }
}

/// Whether weights of this format have integer products.
pub(super) fn has_integer_products(dtype: DType) -> bool {
    matches!(dtype, DType::Q8_0 | DType::Q4_0 | DType::Q4_1)
}

/// Some rows of activations, as tiles read them.
#[derive(Clone, Copy)]
struct Activations {
    start: *const QuantisedBlock,
    n_blocks: usize,
}

impl Activations {
    #[inline(always)]
    unsafe fn block(&self, row: usize, block: usize) -> *const QuantisedBlock {
        self.start.add(row * self.n_blocks + block)
    }

    /// Four bytes of a row's block as one number.
    #[inline(always)]
    unsafe fn four(&self, row: usize, block: usize, four: usize) -> i32 {
        self.block(row, block).cast::<i32>().add(four).read()
    }
}

/// Some rows times one panel, of which the first columns exist, as many as the last argument says: activations, scales and values
/// of the panel, output. Contract: that of [`panels_forward`].
type Tile = unsafe fn(Activations, *const u8, *const u8, StridedMut, Write, usize);

/// `out += scale * x W^T` or `out = scale * x W^T` for rows `rows` of `x` and the rows of `W` in `panels`; `out` begins with the first of
/// both.
///
/// # Safety
/// `out` must hold these rows, of the columns of these panels, and no other thread may use them meanwhile.
pub(super) unsafe fn panels_forward(
    x: &QuantisedRows,
    rows: Range<usize>,
    weight: &Matrix,
    panels: Range<usize>,
    out: StridedMut,
    write: Write,
) {
    let n_blocks = x.n_blocks();
    assert!(n_blocks * BLOCK == weight.columns() && rows.end <= x.n_rows, "integer products: {weight:?}");
    let tiles = tiles(weight.dtype());
    let rows_at_a_time = rows.len().div_ceil(rows.len().div_ceil(tiles.len()).max(1)).max(1);
    for panel in panels.clone() {
        let Some(weights) = weight.panel(panel) else { unreachable!("quantised weights lie in panels") };
        let n = (weight.rows() - panel * WIDTH).min(WIDTH);
        for row in rows.clone().step_by(rows_at_a_time) {
            let tile = tiles[(rows.end - row).min(rows_at_a_time) - 1];
            let x = Activations { start: x.blocks[row * n_blocks..].as_ptr(), n_blocks };
            let out = out.at(row - rows.start, (panel - panels.start) * WIDTH);
            tile(x, weights.scales.as_ptr(), weights.values.as_ptr(), out, write, n);
        }
    }
}

/// The tiles of 1 row, 2 rows, and so on.
fn tiles(dtype: DType) -> &'static [Tile] {
    macro_rules! of_format {
        ($level:ident) => {
            match dtype {
                DType::Q8_0 => $level::<false, false>(),
                DType::Q4_0 => $level::<true, false>(),
                _ => $level::<true, true>(),
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    match SimdLevel::in_use() {
        SimdLevel::Avx512 if is_x86_feature_detected!("avx512vnni") => return of_format!(avx512_tiles),
        SimdLevel::Avx512 | SimdLevel::Avx2 => return of_format!(avx2_tiles),
        SimdLevel::Portable => {}
    }
    of_format!(plain_tiles)
}

/// Most rows for which weights are asked for ahead: products of more wait for arithmetic, not for memory.
#[cfg(target_arch = "x86_64")]
const FETCHED_ROWS: usize = 2;

/// Asks for the cache line that is needed some lines later; panels lie one after the other.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn fetch(values: *const u8) {
    _mm_prefetch::<_MM_HINT_T0>(values.wrapping_add(4096).cast());
}

#[cfg(target_arch = "x86_64")]
fn avx512_tiles<const NIBBLES: bool, const MINIMA: bool>() -> &'static [Tile] {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    unsafe fn tile<const M: usize, const NIBBLES: bool, const MINIMA: bool>(
        x: Activations,
        scales: *const u8,
        values: *const u8,
        out: StridedMut,
        write: Write,
        n: usize,
    ) {
        let mut sums = [_mm512_setzero_ps(); M];
        let (half, minima) = (_mm512_set1_epi8(15), 1 + usize::from(MINIMA));
        for block in 0..x.n_blocks {
            // Unsigned bytes: those of `Q8_0` are moved up by 128, as those of `Q4_0` are by 8.
            let weights: [__m512i; FOURS] = std::array::from_fn(|four| {
                let part = if NIBBLES { block * 4 + four / 2 } else { block * FOURS + four };
                let values = values.add(part * 4 * WIDTH);
                if M <= FETCHED_ROWS && (!NIBBLES || four % 2 == 0) {
                    fetch(values);
                }
                if NIBBLES {
                    let both = _mm512_loadu_si512(values.cast());
                    _mm512_and_si512(if four % 2 == 0 { both } else { _mm512_srli_epi16::<4>(both) }, half)
                } else {
                    let signed = _mm512_loadu_si512(values.cast());
                    _mm512_xor_si512(signed, _mm512_set1_epi8(-128))
                }
            });
            let scales = scales.add(block * minima * 2 * WIDTH);
            let d = _mm512_cvtph_ps(_mm256_loadu_si256(scales.cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = x.block(i, block);
                let mut totals = [_mm512_setzero_si512(); 2];
                for (four, weights) in weights.iter().enumerate() {
                    // With few rows two chains, so that the latency of an instruction does not show.
                    let total = &mut totals[if M < 4 { four % 2 } else { 0 }];
                    *total = _mm512_dpbusd_epi32(*total, *weights, _mm512_set1_epi32(x.four(i, block, four)));
                }
                let mut total = _mm512_add_epi32(totals[0], totals[1]);
                if !MINIMA {
                    let sum = _mm512_set1_epi32((*at).sum);
                    let moved = if NIBBLES { _mm512_slli_epi32::<3>(sum) } else { _mm512_slli_epi32::<7>(sum) };
                    total = _mm512_sub_epi32(total, moved);
                }
                let total = _mm512_cvtepi32_ps(total);
                let scale = _mm512_mul_ps(d, _mm512_set1_ps((*at).scale));
                *sum = _mm512_fmadd_ps(total, scale, *sum);
                if MINIMA {
                    let m = _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(2 * WIDTH).cast()));
                    *sum = _mm512_fmadd_ps(m, _mm512_set1_ps((*at).scaled_sum), *sum);
                }
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            write_lanes(sum, out.start.add(i * out.stride), write, n);
        }
    }
    const {
        &[
            tile::<1, NIBBLES, MINIMA>,
            tile::<2, NIBBLES, MINIMA>,
            tile::<3, NIBBLES, MINIMA>,
            tile::<4, NIBBLES, MINIMA>,
            tile::<5, NIBBLES, MINIMA>,
            tile::<6, NIBBLES, MINIMA>,
            tile::<7, NIBBLES, MINIMA>,
            tile::<8, NIBBLES, MINIMA>,
        ]
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2_tiles<const NIBBLES: bool, const MINIMA: bool>() -> &'static [Tile] {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn tile<const M: usize, const NIBBLES: bool, const MINIMA: bool>(
        x: Activations,
        scales: *const u8,
        values: *const u8,
        out: StridedMut,
        write: Write,
        n: usize,
    ) {
        let (half, ones, minima) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1), 1 + usize::from(MINIMA));
        // A number that the compiler does not know: it would unroll the loop and run out of registers.
        let n_parts = std::hint::black_box(4);
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        for block in 0..x.n_blocks {
            // Of nibbles, 16-bit sums of two neighbours: sixteen products of 15 and 127 fit; of bytes, 32-bit sums.
            let mut totals = [[_mm256_setzero_si256(); 2]; M];
            for part in 0..n_parts {
                if M <= FETCHED_ROWS && NIBBLES {
                    fetch(values.add((block * 4 + part) * 4 * WIDTH));
                }
                if NIBBLES {
                    let both: [__m256i; 2] = std::array::from_fn(|side| {
                        _mm256_loadu_si256(values.add(((block * 4 + part) * 4 + side * 2) * WIDTH).cast())
                    });
                    let low = both.map(|both| _mm256_and_si256(both, half));
                    for (i, totals) in totals.iter_mut().enumerate() {
                        let x = _mm256_set1_epi32(x.four(i, block, 2 * part));
                        for (total, weights) in totals.iter_mut().zip(low) {
                            *total = _mm256_add_epi16(*total, _mm256_maddubs_epi16(weights, x));
                        }
                    }
                    let high = both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), half));
                    for (i, totals) in totals.iter_mut().enumerate() {
                        let x = _mm256_set1_epi32(x.four(i, block, 2 * part + 1));
                        for (total, weights) in totals.iter_mut().zip(high) {
                            *total = _mm256_add_epi16(*total, _mm256_maddubs_epi16(weights, x));
                        }
                    }
                } else {
                    for four in [2 * part, 2 * part + 1] {
                        if M <= FETCHED_ROWS {
                            fetch(values.add((block * FOURS + four) * 4 * WIDTH));
                        }
                        for side in 0..2 {
                            let at = values.add(((block * FOURS + four) * 4 + side * 2) * WIDTH);
                            let weights = _mm256_loadu_si256(at.cast());
                            let magnitudes = _mm256_abs_epi8(weights);
                            for (i, totals) in totals.iter_mut().enumerate() {
                                // Magnitudes times activations with the sign of the weight: two products of 128 and 127 fit.
                                let x = _mm256_sign_epi8(_mm256_set1_epi32(x.four(i, block, four)), weights);
                                let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, x), ones);
                                totals[side] = _mm256_add_epi32(totals[side], pairs);
                            }
                        }
                    }
                }
            }
            for side in 0..2 {
                let scales = scales.add(block * minima * 2 * WIDTH + side * WIDTH);
                let d = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for (i, (sums, totals)) in sums.iter_mut().zip(totals).enumerate() {
                    let (sum, mut total) = (&mut sums[side], totals[side]);
                    let at = x.block(i, block);
                    if NIBBLES {
                        total = _mm256_madd_epi16(total, ones);
                    }
                    if NIBBLES && !MINIMA {
                        total = _mm256_sub_epi32(total, _mm256_slli_epi32::<3>(_mm256_set1_epi32((*at).sum)));
                    }
                    let scale = _mm256_mul_ps(d, _mm256_set1_ps((*at).scale));
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), scale, *sum);
                    if MINIMA {
                        let m = _mm256_cvtph_ps(_mm_loadu_si128(scales.add(2 * WIDTH).cast()));
                        *sum = _mm256_fmadd_ps(m, _mm256_set1_ps((*at).scaled_sum), *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            write_lanes(Pair(sums[0], sums[1]), out.start.add(i * out.stride), write, n);
        }
    }
    const {
        &[
            tile::<1, NIBBLES, MINIMA>,
            tile::<2, NIBBLES, MINIMA>,
            tile::<3, NIBBLES, MINIMA>,
            tile::<4, NIBBLES, MINIMA>,
        ]
    }
}

fn plain_tiles<const NIBBLES: bool, const MINIMA: bool>() -> &'static [Tile] {
    unsafe fn tile<const NIBBLES: bool, const MINIMA: bool>(
        x: Activations,
        scales: *const u8,
        values: *const u8,
        out: StridedMut,
        write: Write,
        n: usize,
    ) {
        let mut sums = [0.0f32; WIDTH];
        let minima = 1 + usize::from(MINIMA);
        for block in 0..x.n_blocks {
            let mut totals = [0i32; WIDTH];
            for four in 0..FOURS {
                let x = x.four(0, block, four).to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
                let part = if NIBBLES { block * 4 + four / 2 } else { block * FOURS + four };
                let weights = values.add(part * 4 * WIDTH).cast::<[[u8; 4]; WIDTH]>().read_unaligned();
                for (total, weights) in totals.iter_mut().zip(weights) {
                    for (x, weight) in x.iter().zip(weights) {
                        let weight = match (NIBBLES, four % 2) {
                            (false, _) => i32::from(weight.cast_signed()),
                            (true, 0) => i32::from(weight & 15),
                            (true, _) => i32::from(weight >> 4),
                        };
                        *total += x * if NIBBLES && !MINIMA { weight - 8 } else { weight };
                    }
                }
            }
            let halves = |from: *const u8| from.cast::<[[u8; 2]; WIDTH]>().read_unaligned().map(half_to_f32);
            let (at, scales) = (x.block(0, block), scales.add(block * minima * 2 * WIDTH));
            let d = halves(scales);
            for ((sum, total), d) in sums.iter_mut().zip(totals).zip(d) {
                *sum += total as f32 * (d * (*at).scale);
            }
            if MINIMA {
                for (sum, m) in sums.iter_mut().zip(halves(scales.add(2 * WIDTH))) {
                    *sum += m * (*at).scaled_sum;
                }
            }
        }
        write_lanes(PlainLanes(sums), out.start, write, n);
    }
    const { &[tile::<NIBBLES, MINIMA>] }
}
