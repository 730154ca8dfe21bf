//! Weight matrices, kept in the number format of their file and widened to f32 where they are used.

use std::sync::Arc;

use half::bf16;

use crate::dtype::{DType, half_to_f32};
use crate::error::KernelError;
use crate::panels::{Block, Panel, Panels, WIDTH};
use crate::quantise::{QuantiseError, encode_row};

#[derive(Clone)]
enum Values {
    F32(Arc<Vec<f32>>),
    Packed(Arc<Panels>),
}

/// A matrix `[rows, columns]` of weights: f32 row by row, narrower formats in panels of rows. Cloning shares the values; [`Matrix::f32_mut`] copies them first if
/// they are shared, so a teacher keeps its weights while a student trains a clone.
#[derive(Clone)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    dtype: DType,
    values: Values,
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} x {} {})", self.rows, self.columns, self.dtype.name())
    }
}

impl Matrix {
    /// A matrix of the rows in `bytes` as a file stores them (little-endian).
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or `bytes` has another length than the shape needs.
    pub fn new(dtype: DType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self, KernelError> {
        if !columns.is_multiple_of(dtype.block_len()) {
            return Err(KernelError::BlockLength { columns, dtype: dtype.name(), block: dtype.block_len() });
        }
        let expected = (columns / dtype.block_len())
            .checked_mul(dtype.block_bytes())
            .and_then(|row_bytes| row_bytes.checked_mul(rows))
            .ok_or(KernelError::TooLarge { rows, columns })?;
        if bytes.len() != expected {
            return Err(KernelError::ByteLength { rows, columns, dtype: dtype.name(), expected, actual: bytes.len() });
        }
        let values = match dtype {
            DType::F32 => {
                Values::F32(Arc::new(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
            }
            _ => Values::Packed(Panels::from_rows(dtype, rows, columns, bytes).into()),
        };
        Ok(Self { rows, columns, dtype, values })
    }

    /// An f32 matrix that owns `values`.
    ///
    /// # Errors
    /// If there are not `rows * columns` values.
    pub fn from_f32(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self, KernelError> {
        let expected = rows.checked_mul(columns).ok_or(KernelError::TooLarge { rows, columns })?;
        if values.len() != expected {
            return Err(KernelError::ByteLength {
                rows,
                columns,
                dtype: DType::F32.name(),
                expected: expected.saturating_mul(4),
                actual: values.len() * 4,
            });
        }
        Ok(Self { rows, columns, dtype: DType::F32, values: Values::F32(Arc::new(values)) })
    }

    /// Number of rows (outputs of a linear layer; tokens of an embedding).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs of a linear layer; hidden size of an embedding).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number format.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes that the values take in a file; in memory panels are filled up to whole ones.
    pub fn size_bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// Whether both are views of the same values in memory.
    pub(crate) fn shares_values(&self, other: &Self) -> bool {
        match (&self.values, &other.values) {
            (Values::F32(own), Values::F32(other)) => Arc::ptr_eq(own, other),
            (Values::Packed(own), Values::Packed(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// The values, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.values {
            Values::F32(values) => Some(values),
            Values::Packed(_) => None,
        }
    }

    /// The values for changing, if they are f32; copied first if another matrix shares them.
    pub fn f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.values {
            Values::F32(values) => Some(Arc::make_mut(values).as_mut_slice()),
            Values::Packed(_) => None,
        }
    }

    /// All values as f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        for (row, out) in out.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.widen_row(row, 0, out);
        }
        out
    }

    /// The same matrix with its values widened to f32.
    #[must_use]
    pub fn widened(&self) -> Self {
        match self.values {
            Values::F32(_) => self.clone(),
            Values::Packed(_) => Self {
                rows: self.rows,
                columns: self.columns,
                dtype: DType::F32,
                values: Values::F32(Arc::new(self.to_f32())),
            },
        }
    }

    /// The same matrix with its values, which are finite, rounded to another format.
    ///
    /// # Errors
    /// If rows are not whole blocks of it, or its range is too small.
    pub fn rounded(&self, dtype: DType) -> Result<Self, QuantiseError> {
        let mut bytes = Vec::with_capacity(self.rows * self.columns / dtype.block_len() * dtype.block_bytes());
        for row in self.to_f32().chunks_exact(self.columns.max(1)) {
            encode_row(dtype, row, &mut bytes)?;
        }
        let panels = Panels::from_rows(dtype, self.rows, self.columns, &bytes);
        Ok(Self { dtype, values: Values::Packed(panels.into()), ..self.clone() })
    }

    /// The first value that is not finite: its row, its column, and what it is. One pass over the stored bytes; of
    /// quantised values only the scales (and minima) of the blocks are read, for these alone can be anything but finite.
    pub fn first_not_finite(&self) -> Option<(usize, usize, f32)> {
        let row = match &self.values {
            Values::F32(values) => first_that(values, |value| !value.is_finite())? / self.columns,
            Values::Packed(panels) => {
                let mask = if self.dtype == DType::Bf16 { 0x7f80 } else { 0x7c00 };
                let panel = (0..self.rows.div_ceil(WIDTH)).find(|panel| panels.panel_has_exponent(*panel, mask))?;
                panel * WIDTH
            }
        };
        let mut values = vec![0.0f32; self.columns];
        (row..self.rows).find_map(|row| {
            self.widen_row(row, 0, &mut values);
            values.iter().position(|value| !value.is_finite()).map(|column| (row, column, values[column]))
        })
    }

    /// A matrix whose row `i` is this one's row `order[i]`.
    ///
    /// # Panics
    /// If an index is not below [`Matrix::rows`].
    #[must_use]
    pub fn select_rows(&self, order: &[usize]) -> Self {
        let values = match &self.values {
            Values::F32(values) => Values::F32(Arc::new(
                order.iter().flat_map(|&row| &values[row * self.columns..][..self.columns]).copied().collect(),
            )),
            Values::Packed(panels) => {
                let block_bytes = self.dtype.block_bytes();
                let mut bytes = Vec::with_capacity(order.len() * self.row_bytes());
                for &row in order {
                    panels.row(row, 0, self.columns).for_each(|block| bytes.extend_from_slice(&block[..block_bytes]));
                }
                Values::Packed(Panels::from_rows(self.dtype, order.len(), self.columns, &bytes).into())
            }
        };
        Self { rows: order.len(), columns: self.columns, dtype: self.dtype, values }
    }

    /// Writes columns `first_column..first_column + out.len()` of `row` to `out` as f32.
    ///
    /// Both column bounds must be multiples of the block length. `d * q + m` of Q4_1 is two roundings, as ggml defines
    /// it: a fused multiply-add would give other bits.
    pub fn widen_row(&self, row: usize, first_column: usize, out: &mut [f32]) {
        let block_len = self.dtype.block_len();
        debug_assert!(first_column.is_multiple_of(block_len) && out.len().is_multiple_of(block_len));
        match &self.values {
            Values::F32(values) => {
                out.copy_from_slice(&values[row * self.columns + first_column..][..out.len()]);
            }
            Values::Packed(panels) => {
                let blocks = panels.row(row, first_column, out.len());
                for (out, block) in out.chunks_exact_mut(block_len).zip(blocks) {
                    widen_block(self.dtype, &block, out);
                }
            }
        }
    }

    /// Panel number `panel` of 16 rows, unless the values are f32.
    #[inline]
    pub(crate) fn panel(&self, panel: usize) -> Option<Panel<'_>> {
        match &self.values {
            Values::F32(_) => None,
            Values::Packed(panels) => Some(panels.panel(panel)),
        }
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.dtype.block_len() * self.dtype.block_bytes()
    }
}

/// Writes the values of a block, of which there are as many as `out` is long.
fn widen_block(dtype: DType, block: &Block, out: &mut [f32]) {
    let half = |at: usize| half_to_f32([block[at], block[at + 1]]);
    match dtype {
        DType::F32 => {}
        DType::F16 => out[0] = half(0),
        DType::Bf16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        DType::Q8_0 => {
            for (out, q) in out.iter_mut().zip(&block[2..]) {
                *out = half(0) * f32::from(q.cast_signed());
            }
        }
        DType::Q4_0 => widen_nibbles(out, &block[2..18], |q| half(0) * (q - 8.0)),
        DType::Q4_1 => widen_nibbles(out, &block[4..20], |q| half(0) * q + half(2)),
    }
}

/// Values of a block of nibbles: value `i` is in the low half of byte `i`, value `16 + i` in its high half.
#[inline(always)]
fn widen_nibbles(out: &mut [f32], bytes: &[u8], value: impl Fn(f32) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = value(f32::from(byte & 15));
        *high = value(f32::from(byte >> 4));
    }
}

/// Index of the first element that `is` true of. Without branches within a chunk, so that the loop vectorises.
fn first_that<T>(elements: &[T], is: impl Fn(&T) -> bool) -> Option<usize> {
    const CHUNK: usize = 1024;
    let chunk = elements.chunks(CHUNK).position(|chunk| chunk.iter().fold(false, |any, element| any | is(element)))?;
    let within = elements[chunk * CHUNK..].iter().position(is)?;
    Some(chunk * CHUNK + within)
}
