//! LaTeX and Unicode spellings of numbers as plain text, so that one reader of numbers suffices: `70{,}000`, `\frac{1}{2}`,
//! `\text{ eggs}`, thin spaces, the minus sign U+2212, superscripts, full-width digits.

use std::fmt::Write as _;

use crate::number::Number;
use crate::number_reader::{OPAQUE, THIN, only_number};

/// Most characters of an argument in brackets.
const MAX_OPTION: usize = 32;

/// The text without LaTeX, every number in ASCII. Takes time linear in its length.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_raised = false;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let raised = superscript(character);
        if raised.is_some() && !is_raised {
            plain.push('^');
        }
        is_raised = raised.is_some();
        rest = match character {
            '\\' => command(after, &mut plain),
            '{' if after.starts_with(",}") => {
                plain.push(',');
                &after[2..]
            }
            '{' => after,
            '}' => {
                plain.push(' ');
                after
            }
            _ => {
                plain.extend(raised.or_else(|| one(character)));
                after
            }
        };
    }
    plain
}

impl Number {
    /// Reads a text that is one number and nothing else but currency, `%` and final full stops: digits with an optional sign and
    /// an optional decimal part (`-12`, `.5`, `3.50`), thousands in groups of three (by `,`, a space, `'`, `_` or LaTeX's `{,}`
    /// and `\,`), a fraction (`1/2`, `2 1/2`, `\frac{1}{2}`), a power of ten (`1.5e3`, `5 \times 10^3`), `3 million`.
    pub fn parse(text: &str) -> Option<Self> {
        only_number(&plain(text))
    }
}

/// One character in its plain spelling; none for those that cannot be seen.
fn one(character: char) -> Option<char> {
    Some(match character {
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => return None,
        '~' | '\u{2007}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => THIN,
        '\u{2010}'..='\u{2013}' | '\u{2212}' | '\u{fe63}' => '-',
        '\u{ff01}'..='\u{ff5e}' => u32::from(character).checked_sub(0xfee0).and_then(char::from_u32)?,
        '\u{3000}' => ' ',
        '·' | '⋅' | '∙' | '✕' | '✖' => '×',
        '≃' | '≅' => '≈',
        '’' => '\'',
        '√' | 'π' | '±' | '∓' | '∞' | '¼'..='¾' | '⅐'..='⅞' => OPAQUE,
        _ => character,
    })
}

fn superscript(character: char) -> Option<char> {
    let place = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻".chars().position(|raised| raised == character)?;
    "0123456789-".chars().nth(place)
}

/// Writes what a command stands for, and returns the text behind it. `after` begins behind the backslash.
fn command<'a>(after: &'a str, plain: &mut String) -> &'a str {
    let name_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    let (name, rest) = after.split_at(name_end);
    match name {
        "" => return escape(after, plain),
        "frac" | "dfrac" | "tfrac" | "cfrac" => return fraction(rest, plain),
        "text" | "textbf" | "textit" | "textrm" | "textnormal" | "texttt" | "emph" | "mbox" | "hbox" | "mathrm"
        | "operatorname" => plain.push(' '),
        "times" | "cdot" | "ast" => plain.push('×'),
        "div" => plain.push('÷'),
        "approx" | "thickapprox" | "simeq" | "cong" => plain.push('≈'),
        "thinspace" | "nobreakspace" => plain.push(THIN),
        "textdollar" | "pounds" | "euro" => plain.push('$'),
        // They change how something looks, or stand between things.
        "boxed" | "fbox" | "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "displaystyle" | "textstyle"
        | "mathbf" | "mathit" | "mathsf" | "mathtt" | "boldsymbol" | "bm" | "bf" | "rm" | "quad" | "qquad"
        | "space" | "newline" | "circ" | "degree" | "therefore" | "implies" | "Rightarrow" | "rightarrow"
        | "Longrightarrow" | "longrightarrow" | "to" | "star" | "bullet" | "item" | "checkmark" | "blacksquare"
        | "square" | "dots" | "ldots" | "cdots" => {}
        _ => {
            plain.push(OPAQUE);
            return behind_arguments(rest);
        }
    }
    rest
}

/// A backslash and a character that is no letter.
fn escape<'a>(after: &'a str, plain: &mut String) -> &'a str {
    let Some(character) = after.chars().next() else { return after };
    match character {
        ',' | ';' | ':' | ' ' => plain.push(THIN),
        '!' => {}
        '\\' | '\n' => plain.push('\n'),
        '(' | ')' | '[' | ']' | '{' | '}' | '|' | '#' | '&' => plain.push(' '),
        _ => plain.push(character),
    }
    &after[character.len_utf8()..]
}

/// `a/b` for numbers, else [`OPAQUE`]. After a digit it is the second part of a mixed number.
fn fraction<'a>(rest: &'a str, plain: &mut String) -> &'a str {
    let (above, rest) = argument(rest);
    let (below, rest) = argument(rest);
    // Fractions of fractions are not read, so that nothing is read twice.
    let number = |text: &str| if text.contains("frac") { None } else { Number::parse(text) };
    match (number(above), number(below)) {
        (Some(above), Some(below)) if !above.is_fraction() && !below.is_fraction() => {
            if plain.ends_with(|c: char| c.is_ascii_digit()) {
                plain.push(' ');
            }
            // Writing to a string cannot fail.
            let _ = write!(plain, "{above}/{below} ");
        }
        _ => plain.push(OPAQUE),
    }
    rest
}

/// The argument of a command and the text behind it: a group in braces, without them, or one character. A group that is not
/// closed goes on to the end.
fn argument(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let Some(character) = text.chars().next() else { return ("", "") };
    if character != '{' {
        return text.split_at(character.len_utf8());
    }
    let inside = &text[1..];
    let end = group_end(inside);
    (&inside[..end], inside.get(end + 1..).unwrap_or_default())
}

/// The text behind the groups that follow a command that is not known.
fn behind_arguments(mut text: &str) -> &str {
    loop {
        text = match text.chars().next() {
            Some('{') => argument(text).1,
            // Such arguments are short: a bracket that is far from its end is the text's own.
            Some('[') => match text.char_indices().take(MAX_OPTION).find(|(_, c)| *c == ']') {
                Some((end, _)) => &text[end + 1..],
                None => return text,
            },
            _ => return text,
        };
    }
}

/// Where the group ends whose brace stands before `inside`; the end of the text if it is not closed.
fn group_end(inside: &str) -> usize {
    let mut depth = 1_usize;
    let mut is_escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => depth += 1,
            '}' if depth == 1 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    inside.len()
}

/// What stands in each closed `\boxed{…}` (also `\fbox{…}`, and with spaces before the brace), in order; of nested ones only
/// the outermost.
pub(crate) fn boxes(text: &str) -> Vec<&str> {
    let mut closed: Vec<(usize, usize)> = Vec::new();
    let mut open: Vec<(bool, usize)> = Vec::new();
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => {
                let before = text[..at].trim_end_matches(' ');
                open.push((before.ends_with("\\boxed") || before.ends_with("\\fbox"), at + 1));
            }
            '}' => {
                if let Some((true, start)) = open.pop() {
                    while closed.pop_if(|(inner, _)| *inner > start).is_some() {}
                    closed.push((start, at));
                }
            }
            _ => {}
        }
    }
    closed.into_iter().map(|(start, end)| &text[start..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn outermost_closed_boxes() {
        assert_eq!(boxes("\\boxed{\\boxed{4} + 3} \\boxed {5} \\boxed{6"), ["\\boxed{4} + 3", "5"]);
        assert_eq!(boxes("\\boxed{\\{1\\}}"), ["\\{1\\}"]);
        assert_eq!(boxes("\\boxed{ \\fbox{7}"), ["7"]);
        assert!(boxes("} {8}").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "(\\PC|\\\\[a-z]{0,5}|\\\\frac|\\\\boxed|[{}\\[\\]0-9,. ]){0,40}") {
            let _ = (plain(&text), boxes(&text));
        }
    }
}
