//! The order in which weights of 16 bits and fewer lie in memory: panels of 16 rows, the values of one column side by side.
//!
//! A row of a weight matrix is an output of its linear layer, so a panel gives the weights of 16 outputs for one input as one
//! vector. The numbers of the file are moved, never changed: [`Panels::row`] gives a row's bytes back.
//!
//! | format | scales of a panel, a block of 32 columns | values of a panel |
//! |---|---|---|
//! | F16, BF16 | none | for each column 16 numbers of two bytes |
//! | `Q8_0` | 16 `d` | for each 4 columns: of each row 4 bytes |
//! | `Q4_0` | 16 `d` | for each 8 columns: of each row 4 bytes, byte `i` with column `i` low and column `4 + i` high |
//! | `Q4_1` | 16 `d`, 16 `m` | as `Q4_0` |

#![allow(unsafe_code, reason = "cache lines seen as bytes; the two blocks state why they are sound")]

use crate::dtype::DType;

/// Rows of a panel.
pub(crate) const WIDTH: usize = 16;

/// Bytes of a cache line, at which panels begin.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "read as bytes")]
struct Line([u8; LINE]);

/// Weights in panels.
pub(crate) struct Panels {
    dtype: DType,
    columns: usize,
    lines: Vec<Line>,
}

/// One panel: its scales and its values, each in the order of the columns.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) scales: &'a [u8],
    pub(crate) values: &'a [u8],
}

/// Bytes of scales and minima of a block of one row.
pub(crate) const fn scale_bytes(dtype: DType) -> usize {
    match dtype {
        DType::F32 | DType::F16 | DType::Bf16 => 0,
        DType::Q8_0 | DType::Q4_0 => 2,
        DType::Q4_1 => 4,
    }
}

impl Panels {
    /// Rows of whole blocks, one after the other, as a file has them. The last panel is filled up with zeros.
    pub(crate) fn from_rows(dtype: DType, rows: usize, columns: usize, bytes: &[u8]) -> Self {
        let mut panels = Self { dtype, columns, lines: Vec::new() };
        let panel_bytes = panels.panel_bytes();
        panels.lines = vec![Line([0; LINE]); rows.div_ceil(WIDTH) * panel_bytes / LINE];
        let (scales, block_bytes) = (panels.scales_of_panel(), dtype.block_bytes());
        let row_bytes = columns / dtype.block_len() * block_bytes;
        if panel_bytes == 0 {
            return panels;
        }
        let all = panels.lines.as_flattened_bytes_mut();
        for (panel, rows) in all.chunks_exact_mut(panel_bytes).zip(bytes.chunks(row_bytes * WIDTH)) {
            let (scales, values) = panel.split_at_mut(scales);
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                for (block, from) in row.chunks_exact(block_bytes).enumerate() {
                    write_block(dtype, from, lane, block, scales, values);
                }
            }
        }
        panels
    }

    fn scales_of_panel(&self) -> usize {
        (self.columns / self.dtype.block_len() * scale_bytes(self.dtype) * WIDTH).next_multiple_of(LINE)
    }

    fn panel_bytes(&self) -> usize {
        let values = self.dtype.block_bytes() - scale_bytes(self.dtype);
        self.scales_of_panel() + (self.columns / self.dtype.block_len() * values * WIDTH).next_multiple_of(LINE)
    }

    /// Panel number `panel`.
    #[inline]
    pub(crate) fn panel(&self, panel: usize) -> Panel<'_> {
        let lines = self.panel_bytes() / LINE;
        let bytes = self.lines[panel * lines..][..lines].as_flattened_bytes();
        let (scales, values) = bytes.split_at(self.scales_of_panel());
        Panel { scales, values }
    }

    /// The blocks of a row that hold `columns` columns from `first_column` on, as a file has them.
    pub(crate) fn row(&self, row: usize, first_column: usize, columns: usize) -> impl Iterator<Item = Block> {
        let (panel, lane) = (self.panel(row / WIDTH), row % WIDTH);
        let block_len = self.dtype.block_len();
        (first_column / block_len..(first_column + columns) / block_len)
            .map(move |block| read_block(self.dtype, panel, lane, block))
    }

    /// Whether a scale or minimum of this panel, or a value where there are none, has all bits of `mask`, those of its exponent: it
    /// is not finite then.
    pub(crate) fn panel_has_exponent(&self, panel: usize, mask: u16) -> bool {
        let panel = self.panel(panel);
        let halves = if scale_bytes(self.dtype) == 0 { panel.values } else { panel.scales };
        // Without branches, so that the loop vectorises.
        halves.as_chunks::<2>().0.iter().fold(false, |any, half| any | (u16::from_le_bytes(*half) & mask == mask))
    }
}

/// A block of a file: the first [`DType::block_bytes`] bytes.
pub(crate) type Block = [u8; 34];

/// Where the `i`-th part of a block of one row lies: parts are four bytes.
const fn part(block: usize, parts: usize, i: usize, lane: usize) -> usize {
    ((block * parts + i) * WIDTH + lane) * 4
}

fn write_block(dtype: DType, from: &[u8], lane: usize, block: usize, scales: &mut [u8], values: &mut [u8]) {
    let (from_scales, from) = from.split_at(scale_bytes(dtype));
    for (i, scale) in from_scales.chunks_exact(2).enumerate() {
        let at = ((block * scale_bytes(dtype) / 2 + i) * WIDTH + lane) * 2;
        scales[at..at + 2].copy_from_slice(scale);
    }
    match dtype {
        DType::Q8_0 => {
            for (i, four) in from.chunks_exact(4).enumerate() {
                values[part(block, 8, i, lane)..][..4].copy_from_slice(four);
            }
        }
        DType::Q4_0 | DType::Q4_1 => {
            for (half, eight) in from.as_chunks::<8>().0.iter().enumerate() {
                let eight = u64::from_le_bytes(*eight);
                for (i, nibbles) in [(half, eight & NIBBLES), (2 + half, (eight >> 4) & NIBBLES)] {
                    let pairs = (nibbles | nibbles >> 28) as u32;
                    values[part(block, 4, i, lane)..][..4].copy_from_slice(&pairs.to_le_bytes());
                }
            }
        }
        DType::F32 | DType::F16 | DType::Bf16 => {
            let at = (block * WIDTH + lane) * from.len();
            values[at..at + from.len()].copy_from_slice(from);
        }
    }
}

fn read_block(dtype: DType, panel: Panel<'_>, lane: usize, block: usize) -> Block {
    let mut bytes = [0; 34];
    let (to_scales, to) = bytes[..dtype.block_bytes()].split_at_mut(scale_bytes(dtype));
    for (i, scale) in to_scales.chunks_exact_mut(2).enumerate() {
        let at = ((block * scale_bytes(dtype) / 2 + i) * WIDTH + lane) * 2;
        scale.copy_from_slice(&panel.scales[at..at + 2]);
    }
    match dtype {
        DType::Q8_0 => {
            for (i, four) in to.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&panel.values[part(block, 8, i, lane)..][..4]);
            }
        }
        DType::Q4_0 | DType::Q4_1 => {
            let eight = |i: usize| {
                let at = part(block, 4, i, lane);
                let pairs = panel.values[at..].first_chunk().map_or(0, |pairs| u64::from(u32::from_le_bytes(*pairs)));
                (pairs | pairs << 28) & NIBBLES
            };
            for (half, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *to = (eight(half) | eight(2 + half) << 4).to_le_bytes();
            }
        }
        DType::F32 | DType::F16 | DType::Bf16 => {
            let at = (block * WIDTH + lane) * to.len();
            to.copy_from_slice(&panel.values[at..at + to.len()]);
        }
    }
    bytes
}

/// The low four bits of each byte.
const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

/// Lines as their bytes.
trait AsBytes {
    fn as_flattened_bytes(&self) -> &[u8];
    fn as_flattened_bytes_mut(&mut self) -> &mut [u8];
}

impl AsBytes for [Line] {
    fn as_flattened_bytes(&self) -> &[u8] {
        // SAFETY: a line is `LINE` bytes without padding, for its alignment is its size.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * LINE) }
    }

    fn as_flattened_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and any bytes make a line.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len() * LINE) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(
            dtype in prop::sample::select(vec![DType::F16, DType::Bf16, DType::Q8_0, DType::Q4_0, DType::Q4_1]),
            rows in 1usize..40,
            blocks in 1usize..5,
            seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let columns = blocks * dtype.block_len();
            let row_bytes = blocks * dtype.block_bytes();
            let mut bytes = vec![0u8; rows * row_bytes];
            rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
            let panels = Panels::from_rows(dtype, rows, columns, &bytes);
            for row in 0..rows {
                let back: Vec<u8> =
                    panels.row(row, 0, columns).flat_map(|block| block[..dtype.block_bytes()].to_vec()).collect();
                prop_assert_eq!(&back, &bytes[row * row_bytes..][..row_bytes]);
            }
        }
    }
}
