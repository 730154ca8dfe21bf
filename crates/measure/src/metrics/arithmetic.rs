//! Numbers and equations that stand in a text, with exact values.

use std::collections::HashSet;

use aloud_base::rational::Rational;

/// Reads a decimal number as it is written in an answer: digits with an optional sign, decimal part, `$`, `%` and
/// commas, as in `-$1,250.50`. The percent sign does not divide.
pub fn number(text: &str) -> Option<Rational> {
    let kept: String = text.trim().chars().filter(|c| !matches!(c, '$' | ',' | '%')).collect();
    let kept = kept.trim().trim_end_matches('.');
    match kept.strip_prefix('-') {
        Some(digits) => Some(Rational::decimal(digits)?.negate()),
        None => Rational::decimal(kept),
    }
}

/// A piece of a text that may belong to an equation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    /// The written value, and the number of its decimals.
    Number(Rational, u32),
    /// `%` after a number.
    Percent,
    /// One of `+ - * /`.
    Operator(char),
    Open,
    Close,
    Equals,
    /// Anything else; equations do not go across it.
    Other,
}

/// Writes LaTeX and typographic forms in plain signs. `$` and thin spaces go away.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in [
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\u{d7}", "*"),
        ("\u{b7}", "*"),
        ("\\div", "/"),
        ("\u{f7}", "/"),
        ("\u{2212}", "-"),
        ("\\left(", "("),
        ("\\right)", ")"),
        ("\\%", "%"),
        ("\\$", ""),
        ("$", ""),
        ("\\,", ""),
        ("\\!", ""),
    ] {
        text = text.replace(from, to);
    }
    // `\frac{a}{b}` becomes `((a)/(b))`, from the inside out.
    for command in ["\\dfrac{", "\\tfrac{", "\\frac{"] {
        while let Some(at) = text.rfind(command) {
            let rest = &text[at + command.len()..];
            let Some((above, below, after)) = fraction_parts(rest) else {
                text.replace_range(at..at + command.len(), " ");
                continue;
            };
            text = format!("{}(({above})/({below})){after}", &text[..at]);
        }
    }
    text
}

/// `a}{b}rest` as `(a, b, rest)`, where neither part has braces.
fn fraction_parts(text: &str) -> Option<(&str, &str, &str)> {
    let (above, rest) = text.split_once('}')?;
    let (below, after) = rest.strip_prefix('{')?.split_once('}')?;
    (!above.contains('{') && !below.contains('{')).then_some((above, below, after))
}

fn pieces(text: &str) -> Vec<Piece> {
    let text = plain(text);
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut after_letter = false;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if c.is_ascii_digit() && !after_letter {
            let end = number_end(bytes, at);
            let written: String = text[at..end].chars().filter(|c| *c != ',').collect();
            let decimals = written.split_once('.').map_or(0, |(_, decimals)| decimals.len() as u32);
            pieces.push(Rational::decimal(&written).map_or(Piece::Other, |value| Piece::Number(value, decimals)));
            at = end;
            continue;
        }
        at += c.len_utf8();
        let ends_value = matches!(pieces.last(), Some(Piece::Number(..) | Piece::Close | Piece::Percent));
        let next = text[at..].trim_start_matches(' ').chars().next();
        let is_times =
            matches!(c, 'x' | 'X') && ends_value && next.is_some_and(|next| next.is_ascii_digit() || next == '(');
        after_letter = (c.is_alphanumeric() || c == '_') && !is_times;
        match c {
            ' ' => {}
            '+' | '-' | '*' | '/' => pieces.push(Piece::Operator(c)),
            _ if is_times => pieces.push(Piece::Operator('*')),
            '(' => pieces.push(Piece::Open),
            ')' => pieces.push(Piece::Close),
            '=' => pieces.push(Piece::Equals),
            '%' if ends_value => pieces.push(Piece::Percent),
            _ => pieces.push(Piece::Other),
        }
    }
    pieces
}

/// End of the number that starts at `start`: digits, with commas between groups of three, and decimals.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = start + digits(start);
    if end - start <= 3 {
        while bytes.get(end) == Some(&b',') && digits(end + 1) == 3 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    end
}

/// An equation `expression = value` with at least one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Equation {
    /// Numbers of the expression as they are written, without signs; a percent sign does not divide.
    pub operands: Vec<Rational>,
    /// The number after the equals sign, as it is written.
    pub value: Rational,
    /// Whether it is arithmetically true. A value with decimals may be rounded to them.
    pub is_true: bool,
}

/// The equations of a text: at each `=` the number after it, and the longest expression of `+ - * / ( )` before it that can
/// be read. In a chain such as `2 + 3 = 5 * 4 = 20` every `=` is one equation with what stands before it. An expression that
/// begins with `-` may be an item of a list; then the reading that is true counts, if one is.
pub fn equations(text: &str) -> Vec<Equation> {
    let pieces = pieces(text);
    (0..pieces.len()).filter(|at| pieces[*at] == Piece::Equals).filter_map(|at| equation_at(&pieces, at)).collect()
}

fn equation_at(pieces: &[Piece], equals: usize) -> Option<Equation> {
    let after = pieces.get(equals + 1..)?;
    let (negative, number) = match after {
        [Piece::Operator('-'), Piece::Number(value, decimals), ..] => (true, (*value, *decimals)),
        [Piece::Number(value, decimals), ..] => (false, (*value, *decimals)),
        _ => return None,
    };
    let (written, decimals) = number;
    let is_percent = after.get(1 + usize::from(negative)) == Some(&Piece::Percent);
    let value = if negative { written.negate() } else { written };
    let start = pieces[..equals]
        .iter()
        .rposition(|piece| matches!(piece, Piece::Other | Piece::Equals))
        .map_or(0, |before| before + 1);
    let readings: Vec<Expression> =
        (start..equals).filter_map(|from| Expression::read(&pieces[from..equals])).take(2).collect();
    let right = if is_percent { value.divided_by(Rational::whole(100))? } else { value };
    let holds = |expression: &Expression| is_rounded(expression.value, right, decimals + 2 * u32::from(is_percent));
    let longest = readings.first()?;
    // Only a sign can be left out without changing what the rest means.
    let without_sign = readings.get(1).filter(|_| longest.begins_with_sign);
    let chosen = without_sign.filter(|other| !holds(longest) && holds(other)).unwrap_or(longest);
    Some(Equation { operands: chosen.operands.clone(), value, is_true: holds(chosen) })
}

/// Whether `value`, written with so many decimals, is `exact`, rounded where there are decimals.
fn is_rounded(exact: Rational, value: Rational, decimals: u32) -> bool {
    if exact == value {
        return true;
    }
    let difference = exact.plus(value.negate());
    let half_unit = 10_i128.checked_pow(decimals).and_then(|scale| Rational::new(1, scale.checked_mul(2)?));
    let (Some(difference), Some(half_unit)) = (difference, half_unit) else { return false };
    let distance = difference.abs();
    decimals > 0 && half_unit.plus(distance.negate()).is_some_and(|left| !left.is_negative())
}

/// An expression with at least one operation between numbers.
struct Expression {
    value: Rational,
    operands: Vec<Rational>,
    begins_with_sign: bool,
}

impl Expression {
    /// Reads all of the pieces.
    fn read(pieces: &[Piece]) -> Option<Self> {
        let mut reader = Reader { pieces, at: 0, operands: Vec::new(), n_operations: 0, depth: 0 };
        let value = reader.sum()?;
        (reader.at == pieces.len() && reader.n_operations > 0).then(|| Self {
            value,
            operands: reader.operands,
            begins_with_sign: pieces.first() == Some(&Piece::Operator('-')),
        })
    }
}

/// Brackets may be nested this deep.
const MAX_NESTING: usize = 64;

/// Reads sums of products of values, `*` and `/` before `+` and `-`, from left to right.
struct Reader<'a> {
    pieces: &'a [Piece],
    at: usize,
    operands: Vec<Rational>,
    n_operations: usize,
    depth: usize,
}

impl Reader<'_> {
    fn take_operator(&mut self, wanted: [char; 2]) -> Option<char> {
        match self.pieces.get(self.at) {
            Some(Piece::Operator(operator)) if wanted.contains(operator) => {
                self.at += 1;
                Some(*operator)
            }
            _ => None,
        }
    }

    fn sum(&mut self) -> Option<Rational> {
        let mut total = self.product()?;
        while let Some(operator) = self.take_operator(['+', '-']) {
            self.n_operations += 1;
            let next = self.product()?;
            total = total.plus(if operator == '-' { next.negate() } else { next })?;
        }
        Some(total)
    }

    fn product(&mut self) -> Option<Rational> {
        let mut total = self.value()?;
        while let Some(operator) = self.take_operator(['*', '/']) {
            self.n_operations += 1;
            let next = self.value()?;
            total = if operator == '*' { total.times(next)? } else { total.divided_by(next)? };
        }
        Some(total)
    }

    fn value(&mut self) -> Option<Rational> {
        let negative = self.take_operator(['-', '-']).is_some();
        let piece = *self.pieces.get(self.at)?;
        self.at += 1;
        let value = match piece {
            Piece::Number(value, _) => {
                self.operands.push(value);
                if self.pieces.get(self.at) == Some(&Piece::Percent) {
                    self.at += 1;
                    value.divided_by(Rational::whole(100))?
                } else {
                    value
                }
            }
            Piece::Open if self.depth < MAX_NESTING => {
                self.depth += 1;
                let value = self.sum()?;
                self.depth -= 1;
                if self.pieces.get(self.at) != Some(&Piece::Close) {
                    return None;
                }
                self.at += 1;
                value
            }
            _ => return None,
        };
        Some(if negative { value.negate() } else { value })
    }
}

/// The values of all numbers in a text, without signs; a percent sign does not divide.
pub fn numbers_in(text: &str) -> HashSet<Rational> {
    pieces(text)
        .into_iter()
        .filter_map(|piece| if let Piece::Number(value, _) = piece { Some(value) } else { None })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn exact(text: &str) -> Rational {
        number(text).unwrap()
    }

    /// Values of the equations of a text, with whether they are true.
    fn found(text: &str) -> Vec<(Rational, bool)> {
        equations(text).into_iter().map(|equation| (equation.value, equation.is_true)).collect()
    }

    #[test]
    fn equations_of_texts() {
        for (text, expected) in [
            ("16 - 3 - 4 = 9", vec![("9", true)]),
            ("2 + 3 * 4 = 20", vec![("20", false)]),
            ("(2 + 3) * 4 = 20", vec![("20", true)]),
            ("She has 4+8=<<4+8=12>>12 pens.", vec![("12", true)]),
            ("2*1250=$<<2*1250=2500>>2500", vec![("2500", true)]),
            ("$5 x $3 = $15.", vec![("15", true)]),
            ("1,250 \u{d7} 2 = 2,500", vec![("2500", true)]),
            ("\\frac{1}{2} \\times 10 = 5", vec![("5", true)]),
            ("\\( \\frac{\\frac{1}{2}}{2} = 0.25 \\)", vec![("0.25", true)]),
            ("10 / 3 = 3.33", vec![("3.33", true)]),
            ("10 / 3 = 3", vec![("3", false)]),
            ("10 / 3 = 3.34", vec![("3.34", false)]),
            ("2 + 3 = 5 * 4 = 20", vec![("5", true), ("20", true)]),
            ("20% * 50 = 10", vec![("10", true)]),
            ("1 / 4 = 25%", vec![("25", true)]),
            ("- 5 + 3 = 8", vec![("8", true)]),
            ("-5 + 3 = -2", vec![("-2", true)]),
            ("x = 5", vec![]),
            ("2x + 3 = 7", vec![]),
            ("5 apples * 3 = 15", vec![]),
            ("7 = 7", vec![]),
            ("3 / 0 = 0", vec![]),
            ("1\n+ 2 = 3", vec![]),
            ("a2 + 3 = 5", vec![]),
            ("2 + 3 = five", vec![]),
        ] {
            let expected: Vec<(Rational, bool)> =
                expected.into_iter().map(|(value, is_true)| (exact(value), is_true)).collect();
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn operands_are_as_written() {
        let equation = equations("20% * 50 - 1 = 9").remove(0);
        assert_eq!(equation.operands, [exact("20"), exact("50"), exact("1")]);
    }

    #[test]
    fn numbers_of_a_text() {
        let numbers = numbers_in("Ana has 5kg, $1,250.50 and -3; see a7 and \\frac{2}{9}.");
        let expected: HashSet<Rational> = ["5", "1250.5", "3", "2", "9"].map(exact).into();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn one_value_whatever_the_spelling() {
        assert_eq!(exact("18.00"), exact("$18."));
        assert_eq!(exact("-1,250"), Rational::whole(-1250));
        for text in ["", ".", "-", "1/2", "1e3", "12a", &"9".repeat(50)] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "([0-9.,=+*/()%$x -]|\\\\frac\\{|\\}|\\{|\\PC|\n){0,60}") {
            let _ = (equations(&text), numbers_in(&text), number(&text));
        }

        #[test]
        fn written_equations_are_read_and_judged(a in 0_i64..2000, b in 1_i64..2000, off in 0_i64..3) {
            for (sign, result) in [("+", a + b), ("-", a - b), ("*", a * b)] {
                let text = format!("We get {a} {sign} {b} = {}, so", result + off);
                prop_assert_eq!(found(&text), vec![(Rational::whole(result + off), off == 0)], "{}", text);
            }
            let product = a * b;
            let text = format!("{product} / {b} = {}", a + off);
            prop_assert_eq!(found(&text), vec![(Rational::whole(a + off), off == 0)]);
        }
    }
}
