//! Reads the grades of a judge.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lines::{after_name, lines};
use super::rubric::{OVERALL, Rubric};

/// The grades of one response.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// A grade for every criterion of the rubric, by its name.
    pub criteria: BTreeMap<String, f64>,
    /// The sum of the grades, computed here.
    pub sum: f64,
    /// The sum as the judge reported it, if it did.
    pub overall_reported: Option<f64>,
    /// Whether the reported sum is another one.
    pub overall_mismatch: bool,
    /// Whether the judge reported its sum on the scale of one criterion (`9/10`).
    pub overall_scale_conflict: bool,
}

impl Scores {
    /// The grade of a criterion, or the sum of all.
    pub(super) fn grade(&self, name: &str) -> Option<f64> {
        if name == OVERALL { Some(self.sum) } else { self.criteria.get(name).copied() }
    }
}

/// A number and the scale it names.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grade {
    value: f64,
    scale: Option<u32>,
}

/// The grades in a judge's reply: of every criterion the last line that names it. `None` if one is missing, is not between
/// the lowest and the highest grade, or names another scale than asked for: 4 of 5 is not 4 of 10.
pub(super) fn parse_scores(rubric: &Rubric, reply: &str) -> Option<Scores> {
    let last = |name: &str| lines(reply).filter_map(|line| parse_grade(after_name(line, name)?)).last();
    let in_range = f64::from(rubric.lowest)..=f64::from(rubric.highest);
    let criteria = rubric
        .criteria
        .iter()
        .map(|name| {
            let Grade { value, scale } = last(name)?;
            let is_valid = in_range.contains(&value) && scale.is_none_or(|scale| scale == rubric.highest);
            is_valid.then(|| ((*name).to_owned(), value))
        })
        .collect::<Option<BTreeMap<String, f64>>>()?;
    let sum = criteria.values().sum();
    let overall = rubric.has_overall.then(|| last(OVERALL)).flatten();
    Some(Scores {
        criteria,
        sum,
        overall_reported: overall.map(|overall| overall.value),
        overall_mismatch: overall.is_some_and(|overall| overall.value != sum),
        overall_scale_conflict: overall.is_some_and(|overall| overall.scale == Some(rubric.highest)),
    })
}

/// `8`, `8.5`, `8/10`, `8 / 10`, whatever follows.
fn parse_grade(text: &str) -> Option<Grade> {
    let n_digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = n_digits(text);
    if end == 0 {
        return None;
    }
    if let Some(fraction) = text[end..].strip_prefix('.') {
        let n_fraction = n_digits(fraction);
        end += if n_fraction > 0 { 1 + n_fraction } else { 0 };
    }
    let value = text[..end].parse().ok()?;
    let scale = text[end..].trim_start().strip_prefix('/').map(str::trim_start).and_then(|scale| {
        let digits = &scale[..n_digits(scale)];
        // A scale of too many digits is one that nobody asked for.
        (!digits.is_empty()).then(|| digits.parse().unwrap_or(u32::MAX))
    });
    Some(Grade { value, scale })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::super::rubric::{LEGIBILITY, QUALITY};
    use super::*;

    const PLAIN: &str =
        "Fine.\nCoherence: 8/10\nCompleteness: 7/10\nClarity: 9/10\nNo Repetition: 10/10\nOverall: 34/40";

    fn quality(text: &str) -> Option<Scores> {
        parse_scores(&QUALITY, text)
    }

    #[test]
    fn many_ways_to_write_the_same() {
        let expected = quality(PLAIN).unwrap();
        let grades = ["coherence", "completeness", "clarity", "no_repetition"].map(|name| expected.criteria[name]);
        assert_eq!(grades, [8.0, 7.0, 9.0, 10.0]);
        assert_eq!((expected.sum, expected.overall_reported), (34.0, Some(34.0)));
        assert!(!expected.overall_mismatch && !expected.overall_scale_conflict);
        for text in [
            // Bold.
            "**Coherence:** 8/10\n**Completeness**: 7/10\n**Clarity: 9/10**\n**No Repetition:** **10/10**\n**Overall:** 34/40",
            // Bullets, headings, quotes.
            "- Coherence: 8/10\n* Completeness: 7/10\n> Clarity: 9/10\n### No Repetition: 10/10\n- **Overall**: 34/40",
            // Spaces around `/`, `:` and `=`.
            "Coherence : 8 / 10\nCompleteness= 7/ 10\nClarity:9 /10\n  No Repetition  :  10  /  10\nOverall: 34 / 40",
            // Case, and the ways to write `No Repetition`.
            "COHERENCE: 8\ncompleteness: 7\nclarity: 9\nNo_Repetition: 10\noverall: 34",
            "coherence: 8.0\ncompleteness: 7\nclarity: 9\nno-repetition: 10/10.\noverall: 34",
            "coherence: 8\ncompleteness: 7 (cut off)\nclarity: 9\nNoRepetition: 10\noverall: 34 of 40",
            // Ends of lines, and the last of several.
            "Coherence: 3/10\r\nCoherence: 8/10\r\nCompleteness: 7/10\rClarity: 9/10\u{2028}No Repetition: 10/10\nOverall: 34/40",
        ] {
            assert_eq!(quality(text).as_ref(), Some(&expected), "{text}");
        }
    }

    #[test]
    fn the_sum_is_computed_here() {
        let without = quality(&PLAIN.replace("\nOverall: 34/40", "")).unwrap();
        assert_eq!((without.sum, without.overall_reported, without.overall_mismatch), (34.0, None, false));
        let other = quality(&PLAIN.replace("34/40", "36/40")).unwrap();
        assert_eq!((other.sum, other.overall_reported, other.overall_mismatch), (34.0, Some(36.0), true));
        assert!(!other.overall_scale_conflict);
        let scale = quality(&PLAIN.replace("34/40", "9/10")).unwrap();
        assert_eq!((scale.sum, scale.overall_reported), (34.0, Some(9.0)));
        assert!(scale.overall_mismatch && scale.overall_scale_conflict);
    }

    #[test]
    fn what_cannot_be_read_is_none_and_not_zero() {
        for (from, to) in [
            ("Clarity: 9/10\n", ""),
            ("9/10", "11/10"),
            ("9/10", "0/10"),
            ("9/10", "0.5/10"),
            ("9/10", "-9/10"),
            ("9/10", "X/10"),
            ("9/10", "nine"),
            ("9/10", "4/5"),
            ("9/10", "9/100"),
            ("9/10", "9/40"),
            ("9/10", "9/99999999999999999999"),
            ("9/10", "99999999999999999999999999999999999999999"),
            ("Clarity:", "| Clarity:"),
            ("Clarity:", "Clarity"),
        ] {
            assert_eq!(quality(&PLAIN.replace(from, to)), None, "{to}");
        }
        assert_eq!(quality(""), None);
        // The last line counts, also where it is worse than an earlier one.
        assert_eq!(quality(&format!("{PLAIN}\nClarity: 12/10")), None);
        // A line without a number says nothing.
        assert!(quality(&format!("{PLAIN}\nClarity: see above")).is_some());
    }

    #[test]
    fn legibility_and_coverage() {
        let scores = parse_scores(&LEGIBILITY, "Readable.\n**Legibility:** 4/4\nCoverage: 0/4").unwrap();
        assert_eq!((scores.criteria["legibility"], scores.criteria["coverage"]), (4.0, 0.0));
        assert_eq!((scores.sum, scores.overall_reported), (4.0, None));
        for bad in ["Legibility: 4/4", "Legibility: 5/4\nCoverage: 1/4", "Legibility: 4/10\nCoverage: 1/4"] {
            assert_eq!(parse_scores(&LEGIBILITY, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_fault(text in "((coherence|clarity|overall)[ :=*]{0,4}[0-9./ ]{0,9}[\n\\PC]{0,3}){0,8}") {
            if let Some(scores) = quality(&text) {
                prop_assert!(scores.criteria.values().all(|grade| (1.0..=10.0).contains(grade)));
            }
        }
    }
}
