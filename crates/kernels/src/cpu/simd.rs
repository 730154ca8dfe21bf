//! Sums and elementary functions that loops over rows are built from: plain arithmetic, in one order, so that they vectorise.

/// Sums of `term` over `x` and `y`, value `i` in sum `i % N`: one order for every caller, in which loops vectorise.
#[inline(always)]
pub(crate) fn pair_sums<const N: usize>(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> [f32; N] {
    let mut sums = [0.0f32; N];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<N>(), y.as_chunks::<N>());
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += term(*x, *y);
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += term(*x, *y);
    }
    sums
}

/// The same over `x` alone.
#[inline(always)]
pub(crate) fn sums<const N: usize>(x: &[f32], term: impl Fn(f32) -> f32) -> [f32; N] {
    pair_sums(x, x, |x, _| term(x))
}

/// The largest value; negative infinity of none.
#[inline(always)]
pub(crate) fn largest<const N: usize>(x: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; N];
    let (chunks, rest) = x.as_chunks::<N>();
    for chunk in chunks {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = if *x > *largest { *x } else { *largest };
        }
    }
    for (largest, x) in largest.iter_mut().zip(rest) {
        *largest = if *x > *largest { *x } else { *largest };
    }
    largest.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b))
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
