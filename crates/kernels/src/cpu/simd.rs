//! Vector lanes and the two inner products that everything else is built from, for AVX-512, AVX2 and any other machine.
//!
//! Both kernels give every output element its own accumulator, filled in one fixed order of the summation index that
//! does not depend on the size of the tile the element happens to be computed in. This is what makes a row's result
//! independent of the other rows of its batch (row invariance).

#![allow(unsafe_code, reason = "SIMD intrinsics and unchecked tiles; every block states why it is sound")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm_add_ps, _mm_loadl_epi64, _mm_loadu_si128, _mm_storeu_ps, _mm256_add_ps, _mm256_and_si256,
    _mm256_castps256_ps128, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_srli_epi32, _mm256_storeu_ps, _mm512_add_ps, _mm512_and_si512, _mm512_castps512_ps256,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_extractf32x8_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_shuffle_ps, _mm512_srli_epi32, _mm512_storeu_ps,
};

/// The widest vector instructions of this machine that the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdLevel {
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// Whatever the compiler makes of plain loops.
    Portable,
}

impl SimdLevel {
    /// What this machine has (detected once, then cached by the standard library).
    #[inline]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

/// Compiles a function for every [`SimdLevel`] and calls the one that fits the machine. The body is plain Rust, which
/// the compiler vectorises with the widest registers of each level.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::cpu::simd::SimdLevel::detect() {
                    // SAFETY: the level was detected on this very machine.
                    $crate::cpu::simd::SimdLevel::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::SimdLevel::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd::SimdLevel::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// A vector register of f32.
///
/// # Safety
/// Methods may be called only where the instructions of the implementing type exist, with pointers valid for the
/// lanes they touch.
pub(super) trait Lanes: Copy {
    /// Number of f32 in one register.
    const WIDTH: usize;
    unsafe fn zero() -> Self;
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
    unsafe fn zero() -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        // SAFETY: contract of the trait; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps((1u16 << n) - 1, from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: contract of the trait.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: contract of the trait; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(to, (1u16 << n) - 1, self) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> (Self, Self) {
        // SAFETY: contract of the trait.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: contract of the trait.
        unsafe {
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
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m256 {
    const WIDTH: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 8];
        // SAFETY: `n` values are readable by contract and fit the array.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            _mm256_loadu_ps(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: contract of the trait.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 8];
        // SAFETY: `n` values are writable by contract and the array holds them.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), self);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> (Self, Self) {
        // SAFETY: contract of the trait.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        // SAFETY: contract of the trait.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: contract of the trait.
        unsafe {
            let abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let half = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps::<1>(abcd));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), half);
            out
        }
    }
}

/// Eight lanes for machines without the instructions above.
#[derive(Clone, Copy)]
pub(crate) struct PlainLanes([f32; 8]);

impl Lanes for PlainLanes {
    const WIDTH: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: contract of the trait.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 8];
        // SAFETY: `n` values are readable by contract and fit the array.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n) };
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: contract of the trait.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: `n` values are writable by contract and the array holds them.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, n) }
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
        // SAFETY: contract of the trait.
        let bytes = unsafe { from.cast::<[u8; 8]>().read() };
        (Self(bytes.map(|byte| f32::from(byte & 15))), Self(bytes.map(|byte| f32::from(byte >> 4))))
    }
    #[inline(always)]
    unsafe fn signed_bytes(from: *const u8) -> Self {
        // SAFETY: contract of the trait.
        Self(unsafe { from.cast::<[i8; 8]>().read() }.map(f32::from))
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
                match $crate::cpu::simd::SimdLevel::detect() {
                    // SAFETY: the instructions were detected; the rest is the caller's contract.
                    $crate::cpu::simd::SimdLevel::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::SimdLevel::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd::SimdLevel::Portable => {}
                }
            }
            // SAFETY: contract of the caller.
            unsafe { $body::<$crate::cpu::simd::PlainLanes>($($arg),*) }
        }
    };
}
pub(crate) use with_lanes;

/// A borrowed matrix of f32 with a row stride, for the tiles below.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub(crate) start: *const f32,
    pub(crate) stride: usize,
}

impl Strided {
    pub(crate) fn new(values: &[f32], stride: usize) -> Self {
        Self { start: values.as_ptr(), stride }
    }
}

/// A place for results that several threads write, each its own elements.
#[derive(Clone, Copy)]
pub(crate) struct StridedMut {
    pub(crate) start: *mut f32,
    pub(crate) stride: usize,
}

// SAFETY: the type only carries an address; who writes through it guarantees that no two threads touch one element.
unsafe impl Send for StridedMut {}
// SAFETY: as above.
unsafe impl Sync for StridedMut {}

impl StridedMut {
    pub(crate) fn new(values: &mut [f32], stride: usize) -> Self {
        Self { start: values.as_mut_ptr(), stride }
    }

    /// The same matrix from row `row` and column `column` on.
    ///
    /// # Safety
    /// The element must exist.
    pub(crate) unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: contract.
        Self { start: unsafe { self.start.add(row * self.stride + column) }, stride: self.stride }
    }

    /// `len` elements of row `row` from `column` on, for writing.
    ///
    /// # Safety
    /// The elements must exist and nobody else may use them meanwhile.
    pub(crate) unsafe fn row<'a>(self, row: usize, column: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + column), len) }
    }
}

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
    // SAFETY: contract of `dot_products`.
    unsafe {
        let mut sums = [[V::zero(); 4]; M];
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
    // SAFETY: contract of `dot_products`; a tile over the right edge reads the last row again and stores only `n` columns.
    unsafe {
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
    // SAFETY: contract of `weighted_sums`; `last < WIDTH` lanes of the last register exist, or all if it is 0.
    unsafe {
        let mut sums = [[V::zero(); N]; M];
        for step in 0..k {
            let row = v.start.add(step * v.stride);
            let mut values = [V::zero(); N];
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
}

#[inline(always)]
unsafe fn weighted_sums_body<V: Lanes>(m: usize, n: usize, k: usize, p: Strided, v: Strided, out: StridedMut) {
    // SAFETY: contract of `weighted_sums`.
    unsafe {
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
}

with_lanes! {
    /// `out[i, j] = sum_s p[i, s] v[s, j]` for `i < m`, `j < n`, `s < k`, the sum in order of `s`.
    ///
    /// # Safety
    /// `p`, `v` and `out` must hold these elements, and no other thread may use the ones of `out` meanwhile.
    pub(crate) unsafe fn weighted_sums =
        weighted_sums_body(m: usize, n: usize, k: usize, p: Strided, v: Strided, out: StridedMut)
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
