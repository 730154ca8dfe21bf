//! Sixteen f32 at a time, for AVX-512, AVX2 and any other machine, and functions that run with the widest of them.
//!
//! A column panel is as wide as one [`Lanes`] at every instruction level, so the order in which an output element is summed
//! does not depend on the level; with fused multiply-adds its bits do not either.

#![allow(unsafe_code, reason = "SIMD intrinsics; every block states why it is sound")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "a method of `Lanes` is an instruction or two: its contract is that of the trait"
)]

#[cfg(target_arch = "x86_64")]
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

use crate::dtype::half_to_f32;
use crate::panels::WIDTH;

/// Sixteen f32 in vector registers.
///
/// # Safety
/// Methods may be called only where the instructions of the implementing type exist, with pointers valid for the
/// lanes they touch: those beyond the first `n` are not touched.
pub(super) trait Lanes: Copy {
    /// Sixteen 32-bit integers.
    type Integers: Copy;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` lanes; the others are zero.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// `a * b + self`, one rounding.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    /// Sixteen 16-bit IEEE floats.
    unsafe fn halves(from: *const u8) -> Self;
    /// Sixteen upper halves of f32.
    unsafe fn upper_halves(from: *const u8) -> Self;
    unsafe fn integers(from: *const u8) -> Self::Integers;
    /// The four bits from `shift` on of each integer.
    unsafe fn nibbles(integers: Self::Integers, shift: u32) -> Self;
    /// The signed byte that has `shift` bits above it in each integer.
    unsafe fn signed_bytes(integers: Self::Integers, shift: u32) -> Self;
    /// Sixteen signed bytes.
    unsafe fn bytes(from: *const u8) -> Self;
    /// The nibbles of sixteen bytes: of each four bytes, the lower four, then the upper four.
    unsafe fn nibbles_of_bytes(from: *const u8) -> [Self; 2];
    /// Writes 16 x 16 values transposed: value `j` of row `i` goes to `out[16 j + i]`. `row(i)` is where row `i` begins.
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, out: *mut f32);
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    type Integers = __m512i;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        _mm512_maskz_loadu_ps(first_lanes(n), from)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(to, first_lanes(n), self);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        _mm512_fmadd_ps(a, b, self)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm512_add_ps(self, other)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        _mm512_mul_ps(self, other)
    }
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u8) -> Self {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))))
    }
    #[inline(always)]
    unsafe fn integers(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn nibbles(integers: __m512i, shift: u32) -> Self {
        let shifted = _mm512_srlv_epi32(integers, _mm512_set1_epi32(shift.cast_signed()));
        _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(15)))
    }
    #[inline(always)]
    unsafe fn signed_bytes(integers: __m512i, shift: u32) -> Self {
        let shifted = _mm512_sllv_epi32(integers, _mm512_set1_epi32(shift.cast_signed()));
        _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(shifted))
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn nibbles_of_bytes(from: *const u8) -> [Self; 2] {
        nibbles_in_order(from).map(|bytes| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
    }
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, out: *mut f32) {
        // Pairs, then fours within 128 bits; then the 128-bit quarters change places.
        let mut fours = [_mm512_setzero_ps(); 16];
        for i in (0..16).step_by(4) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|j| _mm512_loadu_ps(row(i + j)));
            let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            fours[i] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
            fours[i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
            fours[i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
            fours[i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
        }
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let (ab_02, ab_13) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (cd_02, cd_13) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_storeu_ps(out.add(16 * j), _mm512_shuffle_f32x4::<0x88>(ab_02, cd_02));
            _mm512_storeu_ps(out.add(16 * (4 + j)), _mm512_shuffle_f32x4::<0x88>(ab_13, cd_13));
            _mm512_storeu_ps(out.add(16 * (8 + j)), _mm512_shuffle_f32x4::<0xdd>(ab_02, cd_02));
            _mm512_storeu_ps(out.add(16 * (12 + j)), _mm512_shuffle_f32x4::<0xdd>(ab_13, cd_13));
        }
    }
}

/// A mask of the first `n` of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_lanes(n: usize) -> u16 {
    u16::MAX >> (16 - n.clamp(1, 16))
}

/// Two registers of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Pair(pub(crate) __m256, pub(crate) __m256);

/// Masks of the first `n` of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_lanes_of_pair(n: usize) -> (__m256i, __m256i) {
    const MASKS: [i32; 32] = {
        let mut masks = [0; 32];
        let mut i = 0;
        while i < 16 {
            masks[i] = -1;
            i += 1;
        }
        masks
    };
    let masks = MASKS.as_ptr().add(16 - n.min(16));
    (_mm256_loadu_si256(masks.cast()), _mm256_loadu_si256(masks.add(8).cast()))
}

/// The nibbles of sixteen bytes as bytes: of each four, the lower ones, then the upper ones.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn nibbles_in_order(from: *const u8) -> [__m128i; 2] {
    let bytes = _mm_loadu_si128(from.cast());
    let low = _mm_and_si128(bytes, _mm_set1_epi8(15));
    let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
    [_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)]
}

#[cfg(target_arch = "x86_64")]
impl Pair {
    #[inline(always)]
    unsafe fn of_bytes(bytes: __m128i) -> Self {
        let half = |bytes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
        Self(half(bytes), half(_mm_srli_si128::<8>(bytes)))
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for Pair {
    type Integers = (__m256i, __m256i);
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value), _mm256_set1_ps(value))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let (a, b) = first_lanes_of_pair(n);
        Self(_mm256_maskload_ps(from, a), _mm256_maskload_ps(from.wrapping_add(8), b))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        let (a, b) = first_lanes_of_pair(n);
        _mm256_maskstore_ps(to, a, self.0);
        _mm256_maskstore_ps(to.wrapping_add(8), b, self.1);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
    }
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self {
        let half = |from: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        Self(half(from), half(from.add(16)))
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u8) -> Self {
        let half = |from: *const u8| {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        Self(half(from), half(from.add(16)))
    }
    #[inline(always)]
    unsafe fn integers(from: *const u8) -> (__m256i, __m256i) {
        (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()))
    }
    #[inline(always)]
    unsafe fn nibbles((a, b): (__m256i, __m256i), shift: u32) -> Self {
        let half = |integers| {
            let shifted = _mm256_srlv_epi32(integers, _mm256_set1_epi32(shift.cast_signed()));
            _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(15)))
        };
        Self(half(a), half(b))
    }
    #[inline(always)]
    unsafe fn signed_bytes((a, b): (__m256i, __m256i), shift: u32) -> Self {
        let half = |integers| {
            let shifted = _mm256_sllv_epi32(integers, _mm256_set1_epi32(shift.cast_signed()));
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(shifted))
        };
        Self(half(a), half(b))
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self {
        Self::of_bytes(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn nibbles_of_bytes(from: *const u8) -> [Self; 2] {
        let [first, second] = nibbles_in_order(from);
        [Self::of_bytes(first), Self::of_bytes(second)]
    }
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, out: *mut f32) {
        // Four blocks of 8 x 8.
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            let mut fours = [_mm256_setzero_ps(); 8];
            for at in [0, 4] {
                let [a, b, c, d] = [0, 1, 2, 3].map(|r| _mm256_loadu_ps(row(i + at + r).add(j)));
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                fours[at] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
                fours[at + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
                fours[at + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
                fours[at + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
            }
            for r in 0..4 {
                let (a, b) = (fours[r], fours[4 + r]);
                let to = out.add(16 * (j + r) + i);
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(to.add(64), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
}

/// Sixteen lanes for machines without the instructions above.
#[derive(Clone, Copy)]
pub(crate) struct PlainLanes(pub(crate) [f32; WIDTH]);

impl PlainLanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for PlainLanes {
    type Integers = [u32; WIDTH];
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; WIDTH])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; WIDTH]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; WIDTH];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; WIDTH]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, n);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // Without fused instructions a library call would be slow: two roundings here.
        self.add(a.multiply(b))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self {
        Self(from.cast::<[[u8; 2]; WIDTH]>().read_unaligned().map(half_to_f32))
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u8) -> Self {
        let widen = |half| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16);
        Self(from.cast::<[[u8; 2]; WIDTH]>().read_unaligned().map(widen))
    }
    #[inline(always)]
    unsafe fn integers(from: *const u8) -> [u32; WIDTH] {
        from.cast::<[[u8; 4]; WIDTH]>().read_unaligned().map(u32::from_le_bytes)
    }
    #[inline(always)]
    unsafe fn nibbles(integers: [u32; WIDTH], shift: u32) -> Self {
        Self(integers.map(|integer| ((integer >> shift) & 15) as f32))
    }
    #[inline(always)]
    unsafe fn signed_bytes(integers: [u32; WIDTH], shift: u32) -> Self {
        Self(integers.map(|integer| ((integer << shift).cast_signed() >> 24) as f32))
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self {
        Self(from.cast::<[u8; WIDTH]>().read_unaligned().map(|byte| f32::from(byte.cast_signed())))
    }
    #[inline(always)]
    unsafe fn nibbles_of_bytes(from: *const u8) -> [Self; 2] {
        let bytes = from.cast::<[u8; WIDTH]>().read_unaligned();
        let nibble = |i: usize| f32::from((bytes[i / 8 * 4 + i % 4] >> (i / 4 % 2 * 4)) & 15);
        [0, WIDTH].map(|first| Self(std::array::from_fn(|i| nibble(first + i))))
    }
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, out: *mut f32) {
        for i in 0..WIDTH {
            let row = row(i);
            for j in 0..WIDTH {
                *out.add(WIDTH * j + i) = *row.add(j);
            }
        }
    }
}

/// Defines an unsafe function that runs a body generic over [`Lanes`] with the widest lanes of the machine.
macro_rules! with_lanes {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident = $body:ident($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
                unsafe fn avx512($($arg: $ty),*) {
                    // SAFETY: contract of the caller.
                    unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn avx2($($arg: $ty),*) {
                    // SAFETY: contract of the caller.
                    unsafe { $body::<$crate::cpu::lanes::Pair>($($arg),*) }
                }
                match $crate::cpu::simd_level::SimdLevel::in_use() {
                    // SAFETY: the instructions in use were detected, or are narrower; the rest is the caller's contract.
                    $crate::cpu::simd_level::SimdLevel::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd_level::SimdLevel::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd_level::SimdLevel::Portable => {}
                }
            }
            // SAFETY: contract of the caller.
            unsafe { $body::<$crate::cpu::lanes::PlainLanes>($($arg),*) }
        }
    };
}
pub(crate) use with_lanes;
