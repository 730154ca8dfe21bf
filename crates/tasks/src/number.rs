//! Exact numbers in one canonical spelling.

use std::fmt;

/// Most digits that an exponent may add to a number.
const MAX_SHIFT: i32 = 400;

/// An exact number in one canonical spelling, so that `18.00`, `$18` and `18` are equal, `1,234` is `1234`, `1.5e3` is `1500`
/// and `1/2` is `0.5`. A fraction without an end as a decimal is written in its lowest terms, `22/7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(String);

impl Number {
    /// The canonical spelling: no sign for zero, no leading or trailing zeros, no thousands separators.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a fraction without an end as a decimal.
    pub(crate) fn is_fraction(&self) -> bool {
        self.0.contains('/')
    }

    /// The number of these digits before and behind the point, times ten to the `exponent`. `None` where that is too far away.
    pub(crate) fn from_digits(negative: bool, whole: &str, fraction: &str, exponent: i32) -> Option<Self> {
        if exponent.abs() > MAX_SHIFT {
            return None;
        }
        let mut digits = format!("{whole}{fraction}");
        let mut point = whole.len() as i64 + i64::from(exponent);
        if point < 0 {
            digits.insert_str(0, &"0".repeat(point.unsigned_abs() as usize));
            point = 0;
        }
        let point = point as usize;
        if digits.len() < point {
            digits.push_str(&"0".repeat(point - digits.len()));
        }
        let (whole, fraction) = digits.split_at(point);
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let sign = if negative && !(whole.is_empty() && fraction.is_empty()) { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        Some(Self(format!("{sign}{whole}{point}{fraction}")))
    }

    /// `(mixed + above / below)` with a sign, of decimals without one. `None` where that has too many digits, or `below` is 0.
    pub(crate) fn from_fraction(negative: bool, mixed: u128, above: &str, below: &str) -> Option<Self> {
        let ((above, above_shift), (below, below_shift)) = (integer(above)?, integer(below)?);
        let power = |shift: usize| 10_u128.checked_pow(u32::try_from(shift).ok()?);
        let (above, below) = (above.checked_mul(power(below_shift)?)?, below.checked_mul(power(above_shift)?)?);
        let above = above.checked_add(mixed.checked_mul(below)?)?;
        if below == 0 {
            return None;
        }
        let divisor = greatest_common_divisor(above, below);
        let (above, below) = (above / divisor, below / divisor);
        let mut rest = below;
        for prime in [2, 5] {
            while rest.is_multiple_of(prime) {
                rest /= prime;
            }
        }
        if rest != 1 {
            return Some(Self(format!("{}{above}/{below}", if negative { "-" } else { "" })));
        }
        let (whole, mut left, mut decimals) = ((above / below).to_string(), above % below, String::new());
        while left > 0 {
            left = left.checked_mul(10)?;
            decimals.push_str(&(left / below).to_string());
            left %= below;
        }
        Self::from_digits(negative, &whole, &decimals, 0)
    }
}

/// A decimal without sign as an integer, and how many of its digits stand behind the point.
fn integer(decimal: &str) -> Option<(u128, usize)> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    Some((format!("{whole}{fraction}").parse().ok()?, fraction.len()))
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value.to_string())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_spelling_per_value() {
        for (text, expected) in [
            ("18", "18"),
            (" 18.00 ", "18"),
            ("$1,234", "1234"),
            ("007", "7"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("3.50", "3.5"),
            (".5", "0.5"),
            ("50%", "50"),
            ("18.", "18"),
            ("-$7", "-7"),
            ("$-7", "-7"),
            ("+7", "7"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("10^{-2}", "0.01"),
            ("1/2", "0.5"),
            ("\\frac{44}{14}", "22/7"),
            ("-2 1/3", "-7/3"),
            ("3 million", "3000000"),
            ("70\u{202f}000", "70000"),
            ("\u{2212}3", "-3"),
        ] {
            assert_eq!(Number::parse(text).unwrap().as_str(), expected, "{text}");
        }
        for text in [
            "", ".", "-", "$", "1 2", "1.2.3", "eighteen", "1e999", "½", "٣", "12:30", "18 eggs", "1/0", "1/2/3",
            "5-7", "1,2,3", "70,00", "2^5", "2\\pi", "x1",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64) {
            prop_assert_eq!(Number::parse(&value.to_string()), Some(Number::from(value)));
        }

        #[test]
        fn canonical_spellings_are_read_back(text in "[0-9]{1,9}(\\.[0-9]{1,9})?(e-?[0-9]{1,2})?|[0-9]{1,5}/[0-9]{1,5}") {
            if let Some(number) = Number::parse(&text) {
                prop_assert_eq!(Number::parse(number.as_str()), Some(number.clone()));
            }
        }

        #[test]
        fn any_text_is_safe(text in "(\\PC|[0-9,.$ /^eE×-]|10\\^|million){0,30}") {
            let _ = Number::parse(&text);
        }
    }
}
