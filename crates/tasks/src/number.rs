//! Exact decimal numbers as they are written in answers, and the pattern that finds them in text.

use std::fmt;
use std::ops::Range;

/// An exact decimal number in one canonical spelling, so that `18.00`, `$18` and `18` are equal and `1,234` is `1234`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(String);

impl Number {
    /// Reads a number. `$`, `,`, `%`, surrounding white space and final full stops are removed first; what is left has to
    /// be digits with an optional sign and an optional decimal part (`-12`, `.5`, `3.50`).
    pub fn parse(text: &str) -> Option<Self> {
        let kept: String = text.trim().chars().filter(|c| !matches!(c, '$' | ',' | '%')).collect();
        let kept = kept.trim().trim_end_matches('.');
        let (negative, digits) = match kept.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, kept.strip_prefix('+').unwrap_or(kept)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty())
            || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let mut canonical = String::with_capacity(kept.len() + 1);
        if negative && !(whole.is_empty() && fraction.is_empty()) {
            canonical.push('-');
        }
        canonical.push_str(if whole.is_empty() { "0" } else { whole });
        if !fraction.is_empty() {
            canonical.push('.');
            canonical.push_str(fraction);
        }
        Some(Self(canonical))
    }

    /// The canonical spelling: no sign for zero, no leading or trailing zeros, no thousands separators.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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

/// The number that starts exactly at byte `start`, as the pattern
/// `-?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?` matches it there; a leading `-` is a sign only if the character
/// before it is not a letter, a digit or `)`. Returns the end of the match.
pub(crate) fn number_at(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        let before = text.get(..start)?.chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == ')') {
            return None;
        }
        at += 1;
    }
    if bytes.get(at) == Some(&b'$') {
        at += 1;
    }
    let digits = count_digits(bytes, at);
    if digits == 0 {
        return None;
    }
    let mut end = at + digits;
    if digits <= 3 {
        while bytes.get(end) == Some(&b',') && count_digits(bytes, end + 1) >= 3 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') {
        let decimals = count_digits(bytes, end + 1);
        if decimals > 0 {
            end += 1 + decimals;
        }
    }
    Some(end)
}

/// Byte range of the last number in `text`; matches are found from left to right and do not overlap.
pub(crate) fn last_number(text: &str) -> Option<Range<usize>> {
    let mut last = None;
    let mut at = 0;
    while at < text.len() {
        match number_at(text, at) {
            Some(end) => {
                last = Some(at..end);
                at = end;
            }
            None => at += 1,
        }
    }
    last
}

fn count_digits(bytes: &[u8], start: usize) -> usize {
    bytes.iter().skip(start).take_while(|b| b.is_ascii_digit()).count()
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
        ] {
            assert_eq!(Number::parse(text).unwrap().as_str(), expected, "{text}");
        }
        for text in ["", ".", "-", "$", "1 2", "1.2.3", "eighteen", "1e3", "--3", "½", "٣"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn pattern_takes_thousands_only_in_groups_of_three() {
        let found = |text: &'static str| last_number(text).map(|range| &text[range]);
        assert_eq!(found("1,234"), Some("1,234"));
        assert_eq!(found("12,345,678.9 in all"), Some("12,345,678.9"));
        assert_eq!(found("1,2,3"), Some("3"));
        assert_eq!(found("1,2345"), Some("5"));
        assert_eq!(found("1234,567"), Some("567"));
        assert_eq!(found("it is -$7."), Some("-$7"));
        assert_eq!(found("between 5-7"), Some("7"));
        assert_eq!(found("(3)-4"), Some("4"));
        assert_eq!(found("é-4"), Some("4"));
        assert_eq!(found("= -4"), Some("-4"));
        assert_eq!(found("no digits … ٣"), None);
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64) {
            let written = value.to_string();
            prop_assert_eq!(Number::parse(&written), Some(Number::from(value)));
            prop_assert_eq!(last_number(&written), Some(0..written.len()));
        }

        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            if let Some(range) = last_number(&text) {
                prop_assert!(Number::parse(&text[range]).is_some());
            }
            let _ = Number::parse(&text);
        }
    }
}
