//! Number formats of stored weights.

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
