//! Exact fractions.

/// An exact fraction in lowest terms, with a positive denominator. Results that do not fit are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    /// The fraction `numerator / denominator`; `None` for a denominator of 0.
    pub fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = greatest_common_divisor(numerator.checked_abs()?, denominator.checked_abs()?);
        if denominator == 0 {
            return None;
        }
        let sign = denominator.signum();
        Some(Self { numerator: sign * (numerator / divisor), denominator: sign * (denominator / divisor) })
    }

    /// A whole number.
    pub fn whole(number: i64) -> Self {
        Self { numerator: i128::from(number), denominator: 1 }
    }

    /// Reads digits with an optional decimal part: `12`, `0.50`. Signs, and points without digits before them, are not read.
    pub fn decimal(digits: &str) -> Option<Self> {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = whole.chars().chain(fraction.chars()).collect();
        if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Self::new(all.parse().ok()?, scale)
    }

    /// Whether it is below 0.
    pub fn is_negative(self) -> bool {
        self.numerator < 0
    }

    /// Without its sign.
    #[must_use]
    pub fn abs(self) -> Self {
        Self { numerator: self.numerator.abs(), ..self }
    }

    /// With the other sign.
    #[must_use]
    pub fn negate(self) -> Self {
        Self { numerator: -self.numerator, ..self }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The product.
    pub fn times(self, other: Self) -> Option<Self> {
        Self::new(self.numerator.checked_mul(other.numerator)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The quotient; `None` for a divisor of 0.
    pub fn divided_by(self, other: Self) -> Option<Self> {
        Self::new(self.numerator.checked_mul(other.denominator)?, self.denominator.checked_mul(other.numerator)?)
    }
}

/// 1 for two zeros.
fn greatest_common_divisor(a: i128, b: i128) -> i128 {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fractions_are_in_lowest_terms() {
        assert_eq!(Rational::new(6, -4), Rational::new(-3, 2));
        assert_eq!(Rational::new(0, 5).unwrap(), Rational::whole(0));
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(Rational::new(i128::MIN, 1), None);
        assert_eq!(Rational::whole(1).divided_by(Rational::whole(0)), None);
        assert_eq!(Rational::new(i128::MAX, 1).unwrap().plus(Rational::whole(1)), None);
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Rational::decimal("18.00"), Some(Rational::whole(18)));
        assert_eq!(Rational::decimal("0.125"), Rational::new(1, 8));
        for text in ["", ".", ".5", "-1", "1e3", "12a", "1.2.3", &"9".repeat(50)] {
            assert_eq!(Rational::decimal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn they_form_a_field(a in -999_i128..999, b in 1_i128..99, c in -999_i128..999, d in 1_i128..99) {
            let (x, y) = (Rational::new(a, b).unwrap(), Rational::new(c, d).unwrap());
            prop_assert_eq!(x.plus(y).unwrap().plus(y.negate()), Some(x));
            prop_assert_eq!(x.times(y), y.times(x));
            if c != 0 {
                prop_assert_eq!(x.times(y).unwrap().divided_by(y), Some(x));
            }
            prop_assert_eq!(x.plus(y).unwrap(), Rational::new(a * d + c * b, b * d).unwrap());
            prop_assert_eq!(x.plus(y.negate()).unwrap().is_negative(), a * d < c * b);
        }
    }
}
