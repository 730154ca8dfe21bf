//! From f32 rows to the bytes of a number format, by the reference rules of ggml (`quantize_row_*_ref`).

use half::{bf16, f16};

use crate::dtype::DType;

/// Values of a block of the quantised formats.
const BLOCK: usize = 32;

/// A row that a number format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum QuantiseError {
    /// A row is not a whole number of blocks.
    #[error("rows of {columns} values are no whole blocks of {block}, which {} needs; use f32, f16 or bf16", dtype.name())]
    Blocks {
        /// Values of a row.
        columns: usize,
        /// Values of a block.
        block: usize,
        /// The format.
        dtype: DType,
    },
    /// A value, or the scale of a block, is beyond the largest number of the format.
    #[error("values as large as {largest} do not fit {}; use f32 or bf16", dtype.name())]
    TooLarge {
        /// The largest magnitude of the block.
        largest: f32,
        /// The format.
        dtype: DType,
    },
}

/// Checks that rows of `columns` values are whole blocks of `dtype`.
///
/// # Errors
/// [`QuantiseError::Blocks`] if they are not.
pub fn check_columns(dtype: DType, columns: usize) -> Result<(), QuantiseError> {
    if columns.is_multiple_of(dtype.block_len()) {
        return Ok(());
    }
    Err(QuantiseError::Blocks { columns, block: dtype.block_len(), dtype })
}

/// Appends a row of finite values to `out`, in `dtype`.
///
/// # Errors
/// If the row is not a whole number of blocks, or does not fit the range of the format.
pub fn encode_row(dtype: DType, row: &[f32], out: &mut Vec<u8>) -> Result<(), QuantiseError> {
    check_columns(dtype, row.len())?;
    match dtype {
        DType::F32 => row.iter().for_each(|value| out.extend(value.to_le_bytes())),
        DType::F16 => row.iter().try_for_each(|value| half(*value, dtype, *value, out))?,
        DType::Bf16 => {
            for value in row {
                let rounded = bf16::from_f32(*value);
                if !rounded.is_finite() {
                    return Err(QuantiseError::TooLarge { largest: *value, dtype });
                }
                out.extend(rounded.to_le_bytes());
            }
        }
        DType::Q8_0 | DType::Q4_0 | DType::Q4_1 => {
            for block in row.as_chunks::<BLOCK>().0 {
                match dtype {
                    DType::Q8_0 => q8_0(block, out)?,
                    DType::Q4_0 => q4_0(block, out)?,
                    _ => q4_1(block, out)?,
                }
            }
        }
    }
    Ok(())
}

/// `d = max |x| / 127`, `q = round(x / d)`, halves away from zero.
fn q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), QuantiseError> {
    let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    half(scale, DType::Q8_0, largest, out)?;
    out.extend(block.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned()));
    Ok(())
}

/// `d = x / -8` of the value of largest magnitude, with its sign; `q = min(15, floor(x / d + 8.5))`. So that value is exact, and
/// one of the same magnitude and the other sign is off by `d`.
fn q4_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), QuantiseError> {
    let (mut largest, mut signed) = (0.0f32, 0.0f32);
    for value in block {
        if largest < value.abs() {
            (largest, signed) = (value.abs(), *value);
        }
    }
    let scale = signed / -8.0;
    let inverse = inverse(scale);
    half(scale, DType::Q4_0, largest, out)?;
    nibbles(block, |value| value * inverse + 8.5, out);
    Ok(())
}

/// `m = min`, `d = (max - min) / 15`, `q = min(15, floor((x - m) / d + 0.5))`.
fn q4_1(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), QuantiseError> {
    let (minimum, maximum) =
        block.iter().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    let scale = (maximum - minimum) / 15.0;
    let inverse = inverse(scale);
    let largest = minimum.abs().max(maximum.abs());
    half(scale, DType::Q4_1, largest, out)?;
    half(minimum, DType::Q4_1, largest, out)?;
    nibbles(block, |value| (value - minimum) * inverse + 0.5, out);
    Ok(())
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Value `i` of a block is in the low half of byte `i`, value `16 + i` in its high half.
fn nibbles(block: &[f32; BLOCK], steps: impl Fn(f32) -> f32, out: &mut Vec<u8>) {
    let step = |value: &f32| (steps(*value) as u8).min(15);
    let (low, high) = block.split_at(BLOCK / 2);
    out.extend(low.iter().zip(high).map(|(low, high)| step(low) | step(high) << 4));
}

fn half(value: f32, dtype: DType, largest: f32, out: &mut Vec<u8>) -> Result<(), QuantiseError> {
    let rounded = f16::from_f32(value);
    if !rounded.is_finite() {
        return Err(QuantiseError::TooLarge { largest, dtype });
    }
    out.extend(rounded.to_le_bytes());
    Ok(())
}
