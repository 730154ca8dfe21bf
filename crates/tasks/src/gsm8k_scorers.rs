//! Every way in which answers to GSM8K are scored: our own two, and the patterns of earlier evaluations, kept as they are so
//! that their figures can be compared with. The latter have known defects and are called `compat`.

use std::ops::Range;

use crate::extract::{Scoring, extract_answer};
use crate::number::Number;

/// A scorer of GSM8K answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gsm8kScorer {
    /// [`Scoring::Strict`], compared as exact numbers.
    Strict,
    /// [`Scoring::Flexible`], compared as exact numbers.
    Flexible,
    /// The last `#### (\-?[0-9\.\,]+)` of the completion without `,`, compared as text, as in the method's own code.
    CompatSourceStrict,
    /// The last `\-?[0-9\.\,]+` that is not `.`, compared as text as it stands.
    CompatSourceFlexible,
    /// The first `#### (\-?[0-9\.\,]+)`; `,`, `$` and a final `.` do not count, as in a widespread evaluation harness.
    CompatHarnessStrict,
    /// The last `(-?[$0-9.,]{2,})|(-?[0-9]+)`; `,`, `$` and a final `.` do not count.
    CompatHarnessFlexible,
}

impl Gsm8kScorer {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Strict,
        Self::Flexible,
        Self::CompatSourceStrict,
        Self::CompatSourceFlexible,
        Self::CompatHarnessStrict,
        Self::CompatHarnessFlexible,
    ];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Flexible => "flex",
            Self::CompatSourceStrict => "compat_source_strict",
            Self::CompatSourceFlexible => "compat_source_flex",
            Self::CompatHarnessStrict => "compat_harness_strict",
            Self::CompatHarnessFlexible => "compat_harness_flex",
        }
    }

    /// The answer that the scorer finds, as it compares it. The compat scorers look at the whole completion, our own at
    /// what follows the last `</think>`.
    pub fn extract(self, completion: &str) -> Option<String> {
        match self {
            Self::Strict => extract_answer(completion, Scoring::Strict).map(|number| number.to_string()),
            Self::Flexible => extract_answer(completion, Scoring::Flexible).map(|number| number.to_string()),
            Self::CompatSourceStrict => after_hashes(completion).last().map(|found| found.replace([',', '$'], "")),
            Self::CompatSourceFlexible => {
                matches(completion, plain_number).filter(|found| *found != ".").last().map(str::to_owned)
            }
            Self::CompatHarnessStrict => after_hashes(completion).next().map(without_ignored),
            Self::CompatHarnessFlexible => matches(completion, harness_number).last().map(without_ignored),
        }
    }

    /// Whether the scorer calls a completion right. A completion without an answer is not.
    pub fn is_correct(self, completion: &str, gold: &Number) -> bool {
        self.extract(completion).is_some_and(|found| found == gold.as_str())
    }
}

/// All matches of a pattern from left to right, without overlap. `matched` gives the end of the match that begins at a byte.
fn matches<'a>(
    text: &'a str,
    matched: impl Fn(&[u8], usize) -> Option<usize> + 'a,
) -> impl Iterator<Item = &'a str> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        let range: Range<usize> = (at..text.len()).find_map(|start| Some(start..matched(text.as_bytes(), start)?))?;
        at = range.end;
        text.get(range)
    })
}

/// What the group of `#### (\-?[0-9\.\,]+)` holds at each match.
fn after_hashes(text: &str) -> impl Iterator<Item = &str> {
    const MARK: &str = "#### ";
    let matched = |bytes: &[u8], start: usize| {
        bytes.get(start..)?.starts_with(MARK.as_bytes()).then(|| plain_number(bytes, start + MARK.len()))?
    };
    matches(text, matched).filter_map(|found| found.strip_prefix(MARK))
}

/// `\-?[0-9\.\,]+`
fn plain_number(bytes: &[u8], start: usize) -> Option<usize> {
    signed_run(bytes, start, 1, |byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
}

/// `(-?[$0-9.,]{2,})|(-?[0-9]+)`
fn harness_number(bytes: &[u8], start: usize) -> Option<usize> {
    signed_run(bytes, start, 2, |byte| byte.is_ascii_digit() || matches!(byte, b'$' | b'.' | b','))
        .or_else(|| signed_run(bytes, start, 1, |byte| byte.is_ascii_digit()))
}

/// An optional `-` and at least `least` bytes of a class.
fn signed_run(bytes: &[u8], start: usize, least: usize, class: impl Fn(u8) -> bool) -> Option<usize> {
    let from = start + usize::from(bytes.get(start) == Some(&b'-'));
    let length = bytes.get(from..)?.iter().take_while(|byte| class(**byte)).count();
    (length >= least).then_some(from + length)
}

/// Without what the harness does not compare.
fn without_ignored(found: &str) -> String {
    let kept = found.replace([',', '$'], "");
    kept.strip_suffix('.').map_or(kept.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn found(completion: &str) -> [Option<String>; 4] {
        use Gsm8kScorer::{CompatHarnessFlexible, CompatHarnessStrict, CompatSourceFlexible, CompatSourceStrict};
        [CompatSourceStrict, CompatSourceFlexible, CompatHarnessStrict, CompatHarnessFlexible]
            .map(|scorer| scorer.extract(completion))
    }

    #[test]
    fn known_defects_are_kept() {
        // (completion, source strict, source flexible, harness strict, harness flexible)
        for (completion, expected) in [
            ("#### 18", ["18", "18", "18", "18"]),
            // A full stop is part of the answer, and a text comparison fails.
            ("#### 18.", ["18.", "18.", "18", "18"]),
            ("#### $18", ["", "18", "", "18"]),
            ("####18", ["", "18", "", "18"]),
            ("#### 1,234", ["1234", "1,234", "1234", "1234"]),
            // Dots at the end are taken for a number.
            ("It is 18, I think...", ["", "...", "", ".."]),
            // A comma alone is one for the first, and so is a sign before digits.
            ("18, of course", ["", "18,", "", "18"]),
            ("between 5-7", ["", "-7", "", "-7"]),
            // A recited example is taken for the answer.
            ("#### 5\nQuestion: ...\n#### 18", ["18", "18", "5", "18"]),
            ("<think>#### 5</think> I do not know", ["5", "5", "5", "5"]),
            ("A dot . only", ["", "", "", ""]),
            ("", ["", "", "", ""]),
        ] {
            let expected = expected.map(|answer| (!answer.is_empty()).then(|| answer.to_owned()));
            assert_eq!(found(completion), expected, "{completion}");
        }
    }

    #[test]
    fn right_by_each_scorer() {
        let right = |completion: &str| {
            Gsm8kScorer::ALL.map(|scorer| scorer.is_correct(completion, &Number::parse("18").unwrap()))
        };
        assert_eq!(right("#### 18"), [true; 6]);
        assert_eq!(right("#### 18."), [true, true, false, false, true, true]);
        assert_eq!(right("#### 18.00"), [true, true, false, false, false, false]);
        assert_eq!(right("The answer is 18."), [false, true, false, false, false, true]);
        assert_eq!(right("none"), [false; 6]);
        let names: std::collections::BTreeSet<_> = Gsm8kScorer::ALL.map(Gsm8kScorer::name).into();
        assert_eq!(names.len(), 6);
    }

    proptest! {
        #[test]
        fn any_text_is_safe_and_plain_answers_are_found(text in "(#|\\PC|-|[0-9,.$ ]|#### ){0,40}", value in -999_i64..999) {
            let _ = found(&text);
            let completion = format!("so it is\n#### {value}");
            for scorer in Gsm8kScorer::ALL {
                prop_assert!(scorer.is_correct(&completion, &Number::from(value)));
            }
        }
    }
}
