//! Finds the numbers in a plain text. What is written as one number is read as one or not at all: no part of a time, a range, a
//! power or a misplaced comma passes for the number.

use std::ops::Range;

use crate::number::Number;

/// A space that does not break: between digits it groups thousands.
pub(crate) const THIN: char = '\u{a0}';

/// Stands for mathematics that is no number: roots, letters such as π, commands that are not known. What is beside it is a part
/// of an expression.
pub(crate) const OPAQUE: char = '\u{fffc}';

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// Where, in bytes; its sign and currency belong to it.
    pub(crate) range: Range<usize>,
    /// What it says.
    pub(crate) reading: Reading,
}

/// What digits say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// A number.
    Number(Number),
    /// Several, `1,2,3`: the last of them.
    List(Number),
    /// None, or one that could be two: `12:30`, `2^5`, `70,00`, `1.2.3`, `5x`, `2024-05-01`.
    Unreadable,
}

/// Spaces within a line.
pub(crate) const SPACES: [char; 2] = [' ', THIN];

/// Letters that are units when they stand alone behind a number: `18m`. Others are variables or multiples (`5x`, `50k`).
const UNITS: &str = "mglLshdJNWVACF";

/// Codes that may touch a number: `USD18`.
const CURRENCIES: [&str; 9] = ["USD", "US", "EUR", "GBP", "INR", "CAD", "AUD", "CNY", "Rs"];

/// Words behind a number that multiply it, and the powers of ten that they stand for.
const MULTIPLES: [(&str, i32); 9] = [
    ("hundred", 2),
    ("thousand", 3),
    ("lakh", 5),
    ("million", 6),
    ("mn", 6),
    ("crore", 7),
    ("billion", 9),
    ("bn", 9),
    ("trillion", 12),
];

/// The numbers of a text that [`crate::plain_text::plain`] made, from left to right. Digits that belong to a word, an exponent
/// or an index (`H2O`, `m^2`, `x_1`) are none.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = Found> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = next_start(text, at)?;
            if belongs_to_word(&text[..start]) {
                at = word_end(text, start);
                continue;
            }
            let (negative, from) = sign(text, start);
            let mut reader = Reader { text, at: start, has_currency: ends_in_currency(&text[from..start]) };
            let reading = match reader.value() {
                Some(Value::List(last)) => only_number(last).map(Reading::List),
                Some(value) => negative.and_then(|negative| value.number(negative)).map(Reading::Number),
                None => None,
            };
            at = reader.at;
            return Some(Found { range: from..at, reading: reading.unwrap_or(Reading::Unreadable) });
        }
    })
}

/// The number of a plain text that holds one and nothing else but white space, currency, `%` and full stops around it.
pub(crate) fn only_number(text: &str) -> Option<Number> {
    let mut found = numbers(text);
    let (only, None) = (found.next()?, found.next()) else { return None };
    let Reading::Number(number) = only.reading else { return None };
    let is_around = |c: char| c.is_whitespace() || "$€£¥₹%.".contains(c);
    let around = [text.get(..only.range.start)?, text.get(only.range.end..)?];
    around.iter().all(|part| part.chars().all(is_around)).then_some(number)
}

/// Number of digits at a place.
fn count_digits(text: &str, at: usize) -> usize {
    text.as_bytes().iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count()
}

/// The next digit, or the point before it if no digit stands before that.
fn next_start(text: &str, at: usize) -> Option<usize> {
    let digit = at + text.get(at..)?.find(|c: char| c.is_ascii_digit())?;
    let is_decimal = digit > at
        && text[..digit]
            .strip_suffix('.')
            .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == ')'));
    Some(digit - usize::from(is_decimal))
}

/// Whether digits behind this text are a part of a word, an exponent or an index.
fn belongs_to_word(before: &str) -> bool {
    let unsigned = before.strip_suffix('-').unwrap_or(before);
    if unsigned.ends_with('^') || before.ends_with('_') {
        return true;
    }
    before.ends_with(|c: char| c.is_ascii_alphabetic()) && !ends_in_currency(before)
}

/// Whether a text ends with a currency's sign or code.
fn ends_in_currency(text: &str) -> bool {
    without_currency(text).is_some()
}

fn without_currency(text: &str) -> Option<&str> {
    if let Some(before) = text.strip_suffix(['$', '€', '£', '¥', '₹']) {
        return Some(before.trim_end_matches(|c: char| c.is_ascii_uppercase()));
    }
    CURRENCIES
        .into_iter()
        .find_map(|code| text.strip_suffix(code).filter(|before| !before.ends_with(|c: char| c.is_alphanumeric())))
}

/// The end of a word of letters, digits and points between digits.
fn word_end(text: &str, start: usize) -> usize {
    let mut end = start;
    while let Some(character) = text[end..].chars().next() {
        let is_point = character == '.' && count_digits(text, end + 1) > 0;
        if !(character.is_ascii_alphanumeric() || character == '_' || is_point) {
            break;
        }
        end += 1;
    }
    end.max(start + 1)
}

/// Whether the number at `start` is negative, and where its sign or currency begins; `None` for the sign where it cannot be
/// told: behind roots, and in `-(3)`. A minus is a sign unless it stands behind a letter, a digit or `)`; with a space behind
/// it, only at the beginning and behind `=` or an opening bracket.
fn sign(text: &str, start: usize) -> (Option<bool>, usize) {
    let is_operand = |c: char| c.is_alphanumeric() || c == ')' || c == OPAQUE;
    let close = |text: &str| text.strip_suffix('-').is_some_and(|before| !before.ends_with(is_operand));
    let mut before = &text[..start];
    before = without_currency(before.trim_end_matches(SPACES)).unwrap_or(before);
    if close(before) {
        return (Some(true), before.len() - 1);
    }
    let far = before.trim_end_matches(SPACES);
    let opens = |text: &str| text.is_empty() || text.ends_with(['=', '≈', '(', '[']);
    if far.strip_suffix('-').is_some_and(|before| opens(before.trim_end_matches(SPACES))) {
        return (Some(true), far.len() - 1);
    }
    let is_unclear = far.ends_with(OPAQUE) || far.strip_suffix('(').is_some_and(close);
    let plus = usize::from(before.ends_with('+'));
    ((!is_unclear).then_some(false), before.len() - plus)
}

/// What digits say, without sign.
enum Value<'a> {
    /// Digits before and behind the point, and an exponent of ten.
    Decimal(String, &'a str, i32),
    /// A whole number and a fraction.
    Fraction(u128, String, String),
    /// The last of several.
    List(&'a str),
}

impl Value<'_> {
    fn number(&self, negative: bool) -> Option<Number> {
        match self {
            Self::Decimal(whole, fraction, exponent) => Number::from_digits(negative, whole, fraction, *exponent),
            Self::Fraction(mixed, above, below) => Number::from_fraction(negative, *mixed, above, below),
            Self::List(_) => None,
        }
    }
}

/// Reads one number. It always goes behind everything that is written together with it.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    has_currency: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The value, if all that belongs together says one.
    fn value(&mut self) -> Option<Value<'a>> {
        let value = self.decimal().and_then(|value| self.with_power(value));
        let value = value.and_then(|value| self.with_fraction(value)).and_then(|value| self.with_multiple(value));
        let is_whole = self.ends_well(value.as_ref());
        value.filter(|_| is_whole)
    }

    /// Digits in groups, and decimals.
    fn decimal(&mut self) -> Option<Value<'a>> {
        let mut parts: Vec<(char, &str)> = vec![('\0', self.digits())];
        while let Some(separator) = self.rest().chars().next() {
            let n = count_digits(self.text, self.at + separator.len_utf8());
            let belongs = match separator {
                ',' | '.' | '\'' | '_' | ':' => n > 0,
                ' ' | THIN => {
                    let goes_on = |(mark, digits): &(char, &str)| *mark == separator && digits.len() == 3;
                    n == 3 && is_group(&parts[..1], separator) && parts[1..].last().is_none_or(goes_on)
                }
                _ => false,
            };
            if !belongs {
                break;
            }
            self.at += separator.len_utf8();
            parts.push((separator, self.digits()));
        }
        let (first, rest) = (parts.first()?.1, parts.get(1..)?);
        let (groups, fraction) = match rest {
            [groups @ .., ('.', fraction)] => (groups, *fraction),
            _ => (rest, ""),
        };
        let join = || parts.iter().take(groups.len() + 1).map(|(_, digits)| *digits).collect();
        let (is_list, is_short) =
            (rest.iter().all(|(mark, _)| *mark == ','), |(_, digits): &(_, &str)| digits.len() <= 2);
        match groups {
            [] => Some(Value::Decimal(first.to_owned(), fraction, 0)),
            [(mark, _), ..] if !".:".contains(*mark) && is_group(&parts[..=groups.len()], *mark) => {
                Some(Value::Decimal(join(), fraction, 0))
            }
            [_, .., (_, last)] if is_list && parts.iter().all(is_short) => Some(Value::List(last)),
            _ => None,
        }
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        self.at += count_digits(self.text, start);
        &self.text[start..self.at]
    }

    /// An exponent with its sign, behind a mark at this byte.
    fn exponent(&mut self, from: usize) -> Option<i32> {
        let digits = from + usize::from(self.text[from..].starts_with(['-', '+']));
        let end = digits + count_digits(self.text, digits);
        if end == digits {
            return None;
        }
        self.at = end;
        // What does not fit is too far away for a number.
        Some(self.text[from..end].parse().unwrap_or(i32::MAX))
    }

    /// `e3`, `^3` behind 10, `× 10^3`.
    fn with_power(&mut self, value: Value<'a>) -> Option<Value<'a>> {
        let Value::Decimal(whole, fraction, _) = value else { return Some(value) };
        let at = self.at;
        if self.rest().starts_with(['e', 'E'])
            && let Some(exponent) = self.exponent(at + 1)
        {
            return Some(Value::Decimal(whole, fraction, exponent));
        }
        if self.rest().starts_with('^')
            && let Some(exponent) = self.exponent(at + 1)
        {
            return (whole == "10" && fraction.is_empty()).then(|| Value::Decimal("1".to_owned(), "", exponent));
        }
        let times = self.rest().trim_start_matches(SPACES);
        let ten = times.strip_prefix(['×', '*', 'x']).map(|rest| rest.trim_start_matches(SPACES));
        let exponent = match ten.and_then(|rest| rest.strip_prefix("10^")) {
            Some(power) => self.exponent(self.text.len() - power.len()).unwrap_or(0),
            None => 0,
        };
        Some(Value::Decimal(whole, fraction, exponent))
    }

    /// `1/2`, and `2 1/2`.
    fn with_fraction(&mut self, value: Value<'a>) -> Option<Value<'a>> {
        let Value::Decimal(whole, fraction, exponent) = value else { return Some(value) };
        if self.rest().starts_with('/') && count_digits(self.text, self.at + 1) > 0 {
            self.at += 1;
            let Some(Value::Decimal(below, decimals, _)) = self.decimal() else { return None };
            let joined = |whole: &str, fraction: &str| format!("{whole}.{fraction}");
            let mut is_simple = exponent == 0;
            while self.rest().starts_with('/') && count_digits(self.text, self.at + 1) > 0 {
                self.at += 1;
                self.digits();
                is_simple = false;
            }
            return is_simple.then(|| Value::Fraction(0, joined(&whole, fraction), joined(&below, decimals)));
        }
        let start = self.text.len() - self.rest().trim_start_matches(SPACES).len();
        let slash = start + count_digits(self.text, start);
        let end = slash + 1 + count_digits(self.text, slash + 1);
        let is_mixed = start > self.at && slash > start && self.text[slash..].starts_with('/') && end > slash + 1;
        if is_mixed && fraction.is_empty() && exponent == 0 {
            let (above, below) = (&self.text[start..slash], &self.text[slash + 1..end]);
            if above.len() <= below.len() && (above.len(), above) < (below.len(), below) {
                self.at = end;
                return Some(Value::Fraction(whole.parse().ok()?, above.to_owned(), below.to_owned()));
            }
        }
        Some(Value::Decimal(whole, fraction, exponent))
    }

    /// `3 million`, `70万`.
    fn with_multiple(&mut self, value: Value<'a>) -> Option<Value<'a>> {
        let mut shift = 0;
        let next = self.rest().trim_start_matches([' ', THIN, '-']);
        let word = &next[..next.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(next.len())];
        let lower = word.to_ascii_lowercase();
        if let Some((_, power)) = MULTIPLES.iter().find(|(name, _)| lower.strip_suffix('s').unwrap_or(&lower) == *name)
        {
            shift = *power;
            self.at = self.text.len() - next.len() + word.len();
        }
        let mut next = self.rest().trim_start_matches(SPACES).chars();
        while let Some(power) = next.next().and_then(ideographic_power) {
            // Kilograms, kilometres, kilowatts, kilocalories and percent.
            if next.as_str().starts_with(['克', '米', '瓦', '卡', '分']) {
                break;
            }
            shift += power;
            self.at = self.text.len() - next.as_str().len();
        }
        match value {
            Value::Decimal(whole, fraction, exponent) => {
                Some(Value::Decimal(whole, fraction, exponent.checked_add(shift)?))
            }
            other => (shift == 0).then_some(other),
        }
    }

    /// Whether the number ends where it was read to. What is written together with it is passed over.
    fn ends_well(&mut self, value: Option<&Value<'a>>) -> bool {
        let is_decimal = matches!(value, Some(Value::Decimal(_, fraction, _)) if !fraction.is_empty());
        let is_cut = is_decimal && (self.rest().starts_with('…') || self.rest().starts_with("..."));
        // The second and third part of a date.
        let date = self.rest().strip_prefix('-').map_or(0, |rest| count_digits(rest, 0));
        let is_date =
            date > 0 && self.text[self.at + 1 + date..].strip_prefix('-').is_some_and(|rest| count_digits(rest, 0) > 0);
        if is_date {
            self.at += date + 2;
            self.digits();
            return false;
        }
        let letters = self.rest().bytes().take_while(u8::is_ascii_alphabetic).count();
        let is_mixed_up = count_digits(self.text, self.at + letters) > 0;
        let is_unit = match self.rest().get(..letters) {
            Some(unit) if letters == 1 => UNITS.contains(unit) && !self.has_currency,
            Some("st" | "nd" | "rd" | "th") => false,
            _ => true,
        };
        if is_mixed_up {
            self.at = word_end(self.text, self.at);
        } else {
            self.at += letters;
        }
        let mut rest = self.rest().trim_start_matches(SPACES);
        if let Some(raised) = self.rest().strip_prefix('^') {
            if letters == 0 && raised.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '(' | OPAQUE)) {
                return false;
            }
            rest = raised;
        }
        !is_cut && !is_mixed_up && is_unit && !rest.starts_with(OPAQUE) && !self.rest().starts_with('_')
    }
}

/// Whether parts joined by `mark` are one number in groups of three.
fn is_group(parts: &[(char, &str)], mark: char) -> bool {
    let [(_, first), groups @ ..] = parts else { return false };
    (1..=3).contains(&first.len())
        && !first.starts_with('0')
        && groups.iter().all(|(each, digits)| *each == mark && digits.len() == 3)
}

fn ideographic_power(character: char) -> Option<i32> {
    Some(match character {
        '百' => 2,
        '千' => 3,
        '万' | '萬' => 4,
        '亿' | '億' => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found, `?` where it cannot be read, `…` before the last of a list.
    fn found(text: &str) -> Vec<String> {
        let shown = |found: Found| match found.reading {
            Reading::Number(number) => number.to_string(),
            Reading::List(last) => format!("…{last}"),
            Reading::Unreadable => "?".to_owned(),
        };
        numbers(text).map(shown).collect()
    }

    #[test]
    fn whole_numbers_or_none() {
        for (text, expected) in [
            ("1,234", "1234"),
            ("12,345,678.9 in all", "12345678.9"),
            ("1,2,3", "…3"),
            ("1,2345 and 1234,567 and 12,34,567", "? ? ?"),
            ("it is -$7.", "-7"),
            ("between 5-7", "5 7"),
            ("(3)-4", "3 4"),
            ("é-4", "4"),
            ("= -4, x = - 4, -(4)", "-4 -4 ?"),
            ("no digits … ٣", ""),
            ("at 12:30 on 2024-05-01, 5/1/2024", "? ? ?"),
            ("H2O, x_1 and v1.2.3, 5 m^2", "5"),
            ("2^5 = 32", "? 32"),
            ("10^3 and 1.5e3 and 5 × 10^-2", "1000 1500 0.05"),
            ("2 1/2 and 3/4", "2.5 0.75"),
            ("5x, 50k, 3rd, 4x4, 18cm, 18m, $5m", "? ? ? ? 18 18 ?"),
            ("3 million, 70万, 3千克, 2 hundred", "3000000 700000 3 200"),
            ("0.333... and 18...", "? 18"),
            ("Rs.18 and USD18 and .5", "18 18 0.5"),
            ("70 000 and 70\u{a0}000 and 1 2", "70000 70000 1 2"),
            ("2\u{fffc} and \u{fffc} 3", "? ?"),
            ("10'000 and 5'10 and 1_000", "10000 ? 1000"),
        ] {
            assert_eq!(found(text).join(" "), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "(\\PC|[0-9,.$ /^eE×_:'-]|10\\^|million|USD|\u{a0}|\u{fffc}){0,40}") {
            let mut end = 0;
            for found in numbers(&text) {
                prop_assert!(found.range.start < found.range.end && end <= found.range.end);
                prop_assert!(text.get(found.range.clone()).is_some());
                end = found.range.end;
            }
        }
    }
}
