//! Vector registers of f32 for AVX-512, AVX2 and any other machine, and functions that run with the widest of them.

#![allow(unsafe_code, reason = "SIMD intrinsics; every block states why it is sound")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "a method of `Lanes` is an instruction or two: its contract is that of the trait"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm_add_ps, _mm_loadl_epi64, _mm_loadu_si128, _mm_storeu_ps, _mm256_add_ps, _mm256_and_si256,
    _mm256_castps256_ps128, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm512_add_ps, _mm512_and_si512, _mm512_castps512_ps256, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_shuffle_ps,
    _mm512_srli_epi32, _mm512_storeu_ps,
};

/// A vector register of f32.
///
/// # Safety
/// Methods may be called only where the instructions of the implementing type exist, with pointers valid for the
/// lanes they touch: those that are masked, or beyond the first `n`, are not touched.
pub(super) trait Lanes: Copy {
    /// Number of f32 in one register.
    const WIDTH: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n < WIDTH` lanes; the others are zero.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// `a * b + self`, one rounding.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    /// `WIDTH` bytes as their low and their high nibbles.
    unsafe fn nibbles(from: *const u8) -> (Self, Self);
    /// `WIDTH` signed bytes.
    unsafe fn signed_bytes(from: *const u8) -> Self;
    /// The four horizontal sums, each in the same fixed order of lanes.
    unsafe fn sums(four: [Self; 4]) -> [f32; 4];
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    const WIDTH: usize = 16;
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
        _mm512_maskz_loadu_ps((1u16 << n) - 1, from)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(to, (1u16 << n) - 1, self);
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
    unsafe fn nibbles(from: *const u8) -> (Self, Self) {
        let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
        let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
        (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes)))
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // Two shuffles and an add leave half as many partial sums per input, interleaved.
        let ab = _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(a, b), _mm512_shuffle_ps::<0b11_10_11_10>(a, b));
        let cd = _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(c, d), _mm512_shuffle_ps::<0b11_10_11_10>(c, d));
        let abcd =
            _mm512_add_ps(_mm512_shuffle_ps::<0b10_00_10_00>(ab, cd), _mm512_shuffle_ps::<0b11_01_11_01>(ab, cd));
        let half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps::<1>(abcd));
        let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        let mut out = [0.0; 4];
        _mm_storeu_ps(out.as_mut_ptr(), quarter);
        out
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m256 {
    const WIDTH: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 8];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        _mm256_loadu_ps(lanes.as_ptr())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 8];
        _mm256_storeu_ps(lanes.as_mut_ptr(), self);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        _mm256_fmadd_ps(a, b, self)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm256_add_ps(self, other)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        _mm256_mul_ps(self, other)
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> (Self, Self) {
        let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
        let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
        (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        let abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let half = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps::<1>(abcd));
        let mut out = [0.0; 4];
        _mm_storeu_ps(out.as_mut_ptr(), half);
        out
    }
}

/// Eight lanes for machines without the instructions above.
#[derive(Clone, Copy)]
pub(crate) struct PlainLanes([f32; 8]);

impl Lanes for PlainLanes {
    const WIDTH: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; 8]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 8];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; 8]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, n);
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // Without fused instructions a library call would be slow: two roundings here.
        let mut out = self.0;
        for (out, (a, b)) in out.iter_mut().zip(a.0.iter().zip(&b.0)) {
            *out += a * b;
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> (Self, Self) {
        let bytes = from.cast::<[u8; 8]>().read();
        (Self(bytes.map(|byte| f32::from(byte & 15))), Self(bytes.map(|byte| f32::from(byte >> 4))))
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        Self(from.cast::<[i8; 8]>().read().map(f32::from))
    }
    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        four.map(|lanes| lanes.0.iter().sum())
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
                    unsafe { $body::<std::arch::x86_64::__m256>($($arg),*) }
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
