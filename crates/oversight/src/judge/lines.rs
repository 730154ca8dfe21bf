//! Lines that say a grade, or look as if they did.

/// Every name that a line of a judge may start with, as words.
const NAMES: &[&str] =
    &["coherence", "completeness", "clarity", "no_repetition", "overall", "legibility", "coverage", "verdict"];

/// The lines of a text. Everything that some program shows as an end of line is one, so that a line cannot be hidden.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_line_end)
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What follows `name: ` in a line that starts with it: the part after the colon (or `=`), without white space and bold
/// marks before it. List marks, quote marks, headings and bold marks before the name do not matter, nor does case; the
/// words of a name may be separated by a space, `_`, `-` or nothing.
pub(super) fn after_name<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = line.trim_start_matches(|character: char| character.is_whitespace() || "-*#>_".contains(character));
    for (index, word) in name.split('_').enumerate() {
        if index > 0 {
            rest = rest.strip_prefix([' ', '_', '-']).unwrap_or(rest);
        }
        let (start, end) = rest.split_at_checked(word.len())?;
        if !start.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = end;
    }
    let rest = rest.trim_start_matches(is_bold_mark).trim_start().strip_prefix([':', '='])?;
    Some(rest.trim_start_matches(|character: char| character.is_whitespace() || is_bold_mark(character)))
}

fn is_bold_mark(character: char) -> bool {
    matches!(character, '*' | '_')
}

/// Puts `| ` before every line that looks like a grade or a verdict, so that neither the text nor a judge's echo of it can
/// be read as one.
pub(super) fn quote_score_lines(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for part in text.split_inclusive(is_line_end) {
        if NAMES.iter().any(|name| after_name(part, name).is_some()) {
            quoted.push_str("| ");
        }
        quoted.push_str(part);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_what_follows() {
        for (line, name, expected) in [
            ("Coherence: 8/10", "coherence", Some("8/10")),
            ("**Coherence:** 8/10", "coherence", Some("8/10")),
            ("  - **Coherence**: 8", "coherence", Some("8")),
            ("### > COHERENCE = **8**", "coherence", Some("8**")),
            ("__No Repetition__: 8", "no_repetition", Some("8")),
            ("norepetition:8", "no_repetition", Some("8")),
            ("no-repetition:8", "no_repetition", Some("8")),
            ("no_repetition:8", "no_repetition", Some("8")),
            ("no  repetition:8", "no_repetition", None),
            ("Coherences: 8", "coherence", None),
            ("Coherence 8", "coherence", None),
            ("The coherence: 8", "coherence", None),
            ("| Coherence: 8", "coherence", None),
            ("Coheren", "coherence", None),
            ("Kohärenz: 8", "coherence", None),
        ] {
            assert_eq!(after_name(line, name), expected, "{line}");
        }
    }

    #[test]
    fn only_lines_that_look_like_grades_change() {
        let text = "I think.\r\nCoherence: 10/10\r- overall = 40\u{2028}verdict: A\nclarity is fine\n";
        let expected = "I think.\r\n| Coherence: 10/10\r| - overall = 40\u{2028}| verdict: A\nclarity is fine\n";
        assert_eq!(quote_score_lines(text), expected);
    }

    proptest! {
        #[test]
        fn nothing_quoted_reads_as_a_grade(
            text in r"([-*#>_ ]{0,3}(coherence|No Repetition|OVERALL|coverage|Verdict|x)[*_]{0,2} ?[:=] ?[*]{0,2}[0-9]{1,2}(/10)?[\n\r\x0b\u{2028}]?){0,6}",
            noise in "\\PC*",
        ) {
            let quoted = quote_score_lines(&format!("{text}{noise}"));
            for line in lines(&quoted) {
                prop_assert!(NAMES.iter().all(|name| after_name(line, name).is_none()), "{line:?}");
            }
            // Nothing is lost, and quoting twice changes nothing.
            prop_assert_eq!(quote_score_lines(&quoted), quoted);
        }
    }
}
