//! Tokens coloured by depth, for streaming to a terminal.

use std::fmt::Write;

use crate::palette::{Colour, Theme, depth_colour};

/// What a terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourSupport {
    /// No colour codes at all.
    #[default]
    None,
    /// The 256 indexed colours.
    Indexed,
    /// 24-bit colours.
    Truecolour,
}

impl ColourSupport {
    /// From the environment: none if `NO_COLOR` is set and not empty, if the output is no terminal, or if `TERM` is missing or
    /// `dumb`; 24 bits if `COLORTERM` says so; 256 colours if `TERM` says so; else none. `variable` looks up a variable.
    pub fn detect(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let term = variable("TERM").unwrap_or_default();
        let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        if no_color || !is_terminal || term.is_empty() || term == "dumb" {
            return Self::None;
        }
        match variable("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::Truecolour,
            _ if term.contains("256color") => Self::Indexed,
            _ => Self::None,
        }
    }

    /// The codes for a fill with readable text on it; empty if there is nothing to colour.
    fn codes(self, fill: Option<Colour>) -> String {
        match (self, fill) {
            (Self::None, _) | (_, None) => String::new(),
            (Self::Indexed, Some(fill)) => {
                let (index, shown) = fill.indexed();
                let ink = if shown.ink() == Colour::BLACK { 16 } else { 231 };
                format!("\x1b[48;5;{index};38;5;{ink}m")
            }
            (Self::Truecolour, Some(fill)) => {
                let [fill, ink] = [fill, fill.ink()].map(|Colour { red, green, blue }| format!("{red};{green};{blue}"));
                format!("\x1b[48;2;{fill};38;2;{ink}m")
            }
        }
    }
}

const RESET: &str = "\x1b[0m";

/// The text of a token on the fill of its depth; plain at full depth. Colours end before line ends, so that they do not run
/// on to the edge of the terminal. Where there is colour, control characters (but line ends and tabs) are shown as pictures, so
/// that a token cannot send codes of its own; without colour the text is left exactly as it is.
pub fn coloured_token(text: &str, depth: usize, n_blocks: usize, support: ColourSupport) -> String {
    if support == ColourSupport::None {
        return text.to_owned();
    }
    let codes = support.codes(depth_colour(depth, n_blocks, Theme::Dark));
    let mut written = String::with_capacity(text.len() + codes.len() + RESET.len());
    for line in text.split_inclusive('\n') {
        let (content, end) = line.strip_suffix('\n').map_or((line, ""), |content| (content, "\n"));
        let content: String = content.chars().map(shown).collect();
        if codes.is_empty() || content.is_empty() {
            written.push_str(&content);
        } else {
            written.extend([codes.as_str(), &content, RESET]);
        }
        written.push_str(end);
    }
    written
}

/// A control character as its picture.
fn shown(c: char) -> char {
    match c {
        '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// One line that explains the colours: `depth  5  10  15  20  25  full 28`.
pub fn legend_line(candidates: &[usize], n_blocks: usize, support: ColourSupport) -> String {
    let mut line = String::from("depth");
    for candidate in candidates {
        line.push(' ');
        line.push_str(&coloured_token(&format!(" {candidate} "), *candidate, n_blocks, support));
    }
    // Writing to a string cannot fail.
    let _ = write!(line, "  full {n_blocks}");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn full_depth_and_disabled_colour_are_plain() {
        assert_eq!(coloured_token(" four", 30, 30, ColourSupport::Truecolour), " four");
        assert_eq!(coloured_token(" four\x1b", 5, 30, ColourSupport::None), " four\x1b");
        assert_eq!(legend_line(&[5, 10], 30, ColourSupport::None), "depth  5   10   full 30");
    }

    #[test]
    fn colours_end_before_line_ends() {
        let written = coloured_token("a\n\nb\n", 5, 30, ColourSupport::Indexed);
        let lines: Vec<&str> = written.split('\n').collect();
        assert!(lines[0].starts_with("\x1b[48;5;") && lines[0].ends_with("ma\x1b[0m"), "{written:?}");
        assert_eq!((lines[1], lines[3]), ("", ""));
        assert!(lines[2].ends_with("mb\x1b[0m"), "{written:?}");
    }

    #[test]
    fn detection() {
        let detect = |is_terminal, pairs: &[(&str, &str)]| {
            ColourSupport::detect(is_terminal, |name| {
                pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned())
            })
        };
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(detect(true, &[xterm]), ColourSupport::Indexed);
        assert_eq!(detect(true, &[xterm, ("COLORTERM", "truecolor")]), ColourSupport::Truecolour);
        assert_eq!(detect(true, &[xterm, ("NO_COLOR", "1")]), ColourSupport::None);
        assert_eq!(detect(true, &[xterm, ("NO_COLOR", "")]), ColourSupport::Indexed);
        assert_eq!(detect(false, &[xterm]), ColourSupport::None);
        assert_eq!(detect(true, &[("TERM", "dumb"), ("COLORTERM", "truecolor")]), ColourSupport::None);
        assert_eq!(detect(true, &[("TERM", "vt100")]), ColourSupport::None);
        assert_eq!(detect(true, &[]), ColourSupport::None);
    }

    /// The text without colour codes, or `None` if a code is not one of ours or a colour stays on at a line end.
    fn strip(written: &str) -> Option<String> {
        let mut plain = String::new();
        let mut rest = written;
        let mut on = false;
        while let Some((before, after)) = rest.split_once('\x1b') {
            if on && before.contains('\n') {
                return None;
            }
            plain.push_str(before);
            let (code, next) = after.strip_prefix('[')?.split_once('m')?;
            on = match code {
                "0" if on => false,
                _ if code.starts_with("48;") && !on => true,
                _ => return None,
            };
            rest = next;
        }
        plain.push_str(rest);
        (!on).then_some(plain)
    }

    proptest! {
        #[test]
        fn text_survives_and_colours_are_always_reset(text in "(\\PC|\n|\t|\x1b|\x07){0,20}", depth in 1_usize..=30, truecolour: bool) {
            let support = if truecolour { ColourSupport::Truecolour } else { ColourSupport::Indexed };
            let written = coloured_token(&text, depth, 30, support);
            let expected = text.replace('\x1b', "␛").replace('\x07', "␇");
            prop_assert_eq!(strip(&written), Some(expected));
        }
    }
}
