//! Finds the answer in a completion, and compares it with the gold answer as a number.
//!
//! The rules for GSM8K: a **strict** answer follows `#### `, as in the data set (Cobbe et al. 2021, arXiv 2110.14168); a
//! **flexible** answer is the first of: strict, the last `\boxed{…}`, the last "answer is" or "answer:", the last number.

use crate::Number;
use crate::number::{last_number, number_at};

/// How forgiving the search for the answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extraction {
    /// The last number after `####`.
    #[default]
    Strict,
    /// Strict if it matches; else the last number in the last `\boxed{…}` that has one; else the number after the last
    /// "answer is" or "answer:" that has one; else the last number.
    Flexible,
}

/// The part of a completion in which the answer is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// The text after the last `</think>`, or the whole completion.
    pub text: &'a str,
    /// The completion has no `</think>`.
    pub no_close: bool,
}

/// The text after the last `</think>`; the whole completion if there is none.
pub fn answer_region(completion: &str) -> Region<'_> {
    match completion.rsplit_once("</think>") {
        Some((_, text)) => Region { text, no_close: false },
        None => Region { text: completion, no_close: true },
    }
}

/// The answer of a completion, or `None` if the search finds no number.
pub fn extract_answer(completion: &str, extraction: Extraction) -> Option<Number> {
    let text = answer_region(completion).text;
    match extraction {
        Extraction::Strict => after_hashes(text),
        Extraction::Flexible => {
            after_hashes(text).or_else(|| boxed(text)).or_else(|| after_phrase(text)).or_else(|| last(text))
        }
    }
}

/// Whether the answer of a completion equals `gold` as a number (`18.00` is `18`; there is no tolerance). A completion
/// without an answer is not correct.
pub fn is_correct(completion: &str, gold: &Number, extraction: Extraction) -> bool {
    extract_answer(completion, extraction).as_ref() == Some(gold)
}

fn last(text: &str) -> Option<Number> {
    Number::parse(text.get(last_number(text)?)?)
}

/// The number that starts at `start`.
fn parse_at(text: &str, start: usize) -> Option<Number> {
    Number::parse(text.get(start..number_at(text, start)?)?)
}

/// The last match of `#### *NUMBER`.
fn after_hashes(text: &str) -> Option<Number> {
    let mut end = text.len();
    while let Some(at) = text.get(..end)?.rfind("####") {
        let rest = text.get(at + 4..)?;
        let start = text.len() - rest.trim_start_matches(' ').len();
        if let Some(number) = parse_at(text, start) {
            return Some(number);
        }
        // Runs of five and more: `####` may also begin one character earlier.
        end = at + 3;
    }
    None
}

/// The last number inside the last closed `\boxed{…}` that contains one.
fn boxed(text: &str) -> Option<Number> {
    const OPEN: &str = "\\boxed{";
    text.rmatch_indices(OPEN).find_map(|(at, _)| {
        let inside = text.get(at + OPEN.len()..)?;
        let mut depth = 1_usize;
        let end = inside.char_indices().find_map(|(i, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(i)
        })?;
        last(inside.get(..end)?)
    })
}

/// The number after the last "answer is" or "answer:" (capitals count as small letters). White space, `:`, `*` and `=`
/// may stand between.
fn after_phrase(text: &str) -> Option<Number> {
    let lower = text.to_ascii_lowercase();
    let mut starts: Vec<usize> = ["answer is", "answer:"]
        .iter()
        .flat_map(|phrase| lower.match_indices(phrase).map(|(at, _)| at + phrase.len()))
        .collect();
    starts.sort_unstable();
    starts.into_iter().rev().find_map(|start| {
        let rest = text.get(start..)?;
        let skipped = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '='));
        parse_at(text, text.len() - skipped.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Option<Number> {
        Number::parse(text)
    }

    /// The golden table of the evaluation rules: (completion, strict, flexible).
    const GOLDEN: &[(&str, &str, &str)] = &[
        ("#### 18", "18", "18"),
        ("#### 18.", "18", "18"),
        ("#### $18", "18", "18"),
        ("####18", "18", "18"),
        ("#### 1,234", "1234", "1234"),
        ("The answer is 18.", "", "18"),
        ("\\boxed{42}", "", "42"),
        ("-7 degrees", "", "-7"),
        ("total 5 ... then 7 ...", "", "7"),
        ("x = 3.50", "", "3.5"),
        ("between 5-7", "", "7"),
        ("1,2,3", "", "3"),
        ("no digits at all", "", ""),
        ("<think>it is 12, #### 12</think> I am not sure.", "", ""),
    ];

    #[test]
    fn golden_table() {
        for &(text, strict, flexible) in GOLDEN {
            assert_eq!(extract_answer(text, Extraction::Strict), number(strict), "strict: {text}");
            assert_eq!(extract_answer(text, Extraction::Flexible), number(flexible), "flexible: {text}");
        }
    }

    #[test]
    fn order_of_the_flexible_rules() {
        let flexible = |text| extract_answer(text, Extraction::Flexible);
        assert_eq!(flexible("#### 1\nThe answer is 2, \\boxed{3}, 4"), number("1"));
        assert_eq!(flexible("The answer is 2, \\boxed{3}, 4"), number("3"));
        assert_eq!(flexible("The answer is 2, or 4"), number("2"));
        assert_eq!(flexible("**Answer:** 2 (of 4)"), number("2"));
        assert_eq!(flexible("ANSWER: 2 (of 4)"), number("2"));
        assert_eq!(flexible("The answer is unknown, 4 or 5"), number("5"));
        assert_eq!(flexible("The answer is 3. The answer is clear. 9"), number("3"));
    }

    #[test]
    fn last_match_wins_and_failed_matches_do_not_count() {
        let strict = |text| extract_answer(text, Extraction::Strict);
        assert_eq!(strict("#### 1\nQuestion: …\n#### 2"), number("2"));
        assert_eq!(strict("#### 1\n#### none"), number("1"));
        assert_eq!(strict("###### 5"), number("5"));
        assert_eq!(strict("#####5"), number("5"));
        assert_eq!(strict("### 5"), None);
        assert_eq!(strict("####\n5"), None);
        assert_eq!(strict("#### -3"), number("-3"));
        assert_eq!(strict("####-3"), number("-3"));
        assert_eq!(strict("#### about 5"), None);
    }

    #[test]
    fn boxes_nest_and_have_to_close() {
        let flexible = |text| extract_answer(text, Extraction::Flexible);
        assert_eq!(flexible("\\boxed{\\text{about } 42} of 7"), number("42"));
        assert_eq!(flexible("\\boxed{5} or \\boxed{x}, 9"), number("5"));
        assert_eq!(flexible("\\boxed{5} then 8 \\boxed{"), number("5"));
    }

    #[test]
    fn region_after_the_last_close() {
        assert_eq!(answer_region("a</think>b</think>c"), Region { text: "c", no_close: false });
        assert_eq!(answer_region("abc"), Region { text: "abc", no_close: true });
    }

    #[test]
    fn correct_means_equal_as_numbers() {
        let gold = Number::from(1234);
        assert!(is_correct("#### 1,234.00", &gold, Extraction::Strict));
        assert!(!is_correct("It is 1234", &gold, Extraction::Strict));
        assert!(is_correct("It is 1234", &gold, Extraction::Flexible));
        assert!(!is_correct("#### 1235", &gold, Extraction::Flexible));
        assert!(!is_correct("", &gold, Extraction::Flexible));
    }

    proptest! {
        #[test]
        fn any_text_is_safe_and_strict_implies_flexible(text in "(#|\\PC|-|[0-9,.$ ]|answer is|\\\\boxed\\{|\\}|</think>){0,40}") {
            let strict = extract_answer(&text, Extraction::Strict);
            let flexible = extract_answer(&text, Extraction::Flexible);
            if strict.is_some() {
                prop_assert_eq!(strict, flexible);
            }
        }

        #[test]
        fn written_answers_are_found(value in -1_000_000_i64..1_000_000, before in "[a-z0-9 .]{0,30}") {
            let text = format!("{before}\n#### {value}");
            prop_assert!(is_correct(&text, &Number::from(value), Extraction::Strict));
        }
    }
}
