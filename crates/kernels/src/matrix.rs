//! Weight matrices, kept in the number format of their file and widened to f32 row by row where they are used.

use std::sync::Arc;

use half::bf16;

use crate::error::KernelError;

/// A number format of stored weights. Quantised formats are ggml's, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Blocks of 32: an f16 scale `d` and 32 signed bytes; value = `d * q`.
    Q8_0,
    /// Blocks of 32: an f16 scale `d` and 32 nibbles; value = `d * (q - 8)`.
    Q4_0,
    /// Blocks of 32: f16 scale `d`, f16 minimum `m` and 32 nibbles; value = `d * q + m`, product rounded before the sum.
    Q4_1,
}

impl DType {
    /// Name as ggml writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
        }
    }

    /// Values per block: 1 for plain floats.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => 32,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
        }
    }
}

#[derive(Clone)]
enum Values {
    F32(Arc<Vec<f32>>),
    Packed(Arc<[u8]>),
}

/// A row-major matrix `[rows, columns]` of weights. Cloning shares the values; [`Matrix::f32_mut`] copies them first if
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
    /// A matrix over `bytes` as stored (little-endian).
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
            _ => Values::Packed(bytes.into()),
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

    /// Bytes that the values take in memory.
    pub fn size_bytes(&self) -> usize {
        self.rows * self.row_bytes()
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

    /// The first value that is not finite: its row, its column, and what it is. One pass over the stored bytes; of
    /// quantised values only the scales (and minima) of the blocks are read, for these alone can be anything but finite.
    pub fn first_not_finite(&self) -> Option<(usize, usize, f32)> {
        // All bits of the exponent are set.
        let half = |bytes: &[u8]| bytes[1] & 0x7c == 0x7c;
        let block = match &self.values {
            Values::F32(values) => first_that(values, |value| !value.is_finite()),
            Values::Packed(bytes) => {
                let mut blocks = bytes.chunks_exact(self.dtype.block_bytes());
                match self.dtype {
                    DType::F16 => first_that(bytes.as_chunks::<2>().0, |b| half(b)),
                    DType::Bf16 => first_that(bytes.as_chunks::<2>().0, |b| u16::from_le_bytes(*b) & 0x7f80 == 0x7f80),
                    DType::F32 | DType::Q8_0 | DType::Q4_0 => blocks.position(half),
                    DType::Q4_1 => blocks.position(|block| half(block) || half(&block[2..])),
                }
            }
        }?;
        let first = block * self.dtype.block_len();
        let (row, column) = (first / self.columns, first % self.columns);
        let mut values = vec![0.0; self.dtype.block_len()];
        self.widen_row(row, column, &mut values);
        Some((row, column, values[0]))
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
            Values::Packed(bytes) => {
                let row_bytes = self.row_bytes();
                Values::Packed(order.iter().flat_map(|&row| &bytes[row * row_bytes..][..row_bytes]).copied().collect())
            }
        };
        Self { rows: order.len(), columns: self.columns, dtype: self.dtype, values }
    }

    /// Writes columns `first_column..first_column + out.len()` of `row` to `out` as f32.
    ///
    /// Both column bounds must be multiples of the block length. `d * q + m` of Q4_1 is two roundings, as ggml defines
    /// it: a fused multiply-add would give other bits.
    #[inline(always)]
    pub fn widen_row(&self, row: usize, first_column: usize, out: &mut [f32]) {
        let block_len = self.dtype.block_len();
        debug_assert!(first_column.is_multiple_of(block_len) && out.len().is_multiple_of(block_len));
        match &self.values {
            Values::F32(values) => {
                out.copy_from_slice(&values[row * self.columns + first_column..][..out.len()]);
            }
            Values::Packed(_) => {
                let bytes = self.packed_row(row, first_column, out.len()).unwrap_or_default();
                match self.dtype {
                    DType::F32 => {}
                    DType::F16 => {
                        for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                            *out = half_to_f32(*b);
                        }
                    }
                    DType::Bf16 => {
                        for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                            *out = bf16::from_le_bytes(*b).to_f32();
                        }
                    }
                    DType::Q8_0 => {
                        for (out, block) in out.as_chunks_mut::<32>().0.iter_mut().zip(bytes.as_chunks::<34>().0) {
                            let d = half_to_f32([block[0], block[1]]);
                            for (out, &q) in out.iter_mut().zip(&block[2..]) {
                                *out = d * f32::from(q.cast_signed());
                            }
                        }
                    }
                    DType::Q4_0 => {
                        for (out, block) in out.as_chunks_mut::<32>().0.iter_mut().zip(bytes.as_chunks::<18>().0) {
                            let d = half_to_f32([block[0], block[1]]);
                            widen_nibbles(out, &block[2..], |q| d * (q - 8.0));
                        }
                    }
                    DType::Q4_1 => {
                        for (out, block) in out.as_chunks_mut::<32>().0.iter_mut().zip(bytes.as_chunks::<20>().0) {
                            let d = half_to_f32([block[0], block[1]]);
                            let m = half_to_f32([block[2], block[3]]);
                            widen_nibbles(out, &block[4..], |q| d * q + m);
                        }
                    }
                }
            }
        }
    }

    /// The stored blocks of a part of a row, unless the values are f32.
    #[inline(always)]
    pub(crate) fn packed_row(&self, row: usize, first_column: usize, columns: usize) -> Option<&[u8]> {
        let block = |columns: usize| columns / self.dtype.block_len() * self.dtype.block_bytes();
        match &self.values {
            Values::F32(_) => None,
            Values::Packed(bytes) => Some(&bytes[row * self.row_bytes() + block(first_column)..][..block(columns)]),
        }
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.dtype.block_len() * self.dtype.block_bytes()
    }
}

/// Values of a block of nibbles: value `i` is in the low half of byte `i`, value `16 + i` in its high half.
#[inline(always)]
fn widen_nibbles(out: &mut [f32; 32], bytes: &[u8], value: impl Fn(f32) -> f32) {
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

/// A 16-bit float widened exactly, without branches, so that loops around it vectorise.
#[inline(always)]
pub(crate) fn half_to_f32(bytes: [u8; 2]) -> f32 {
    let half = u32::from(u16::from_le_bytes(bytes));
    let magnitude = (half & 0x7fff) << 13;
    // 2^112 moves the exponent's bias; it is a product, so that subnormal halves come out normalised.
    let finite = (f32::from_bits(magnitude) * f32::from_bits((112 + 127) << 23)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let magnitude = if half & 0x7c00 == 0x7c00 { special } else { finite };
    f32::from_bits(magnitude | (half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_half_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            let actual = half_to_f32(bits.to_le_bytes());
            assert!(actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()), "{bits:#06x}");
        }
    }
}
