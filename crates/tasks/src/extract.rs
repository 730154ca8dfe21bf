//! Finds the answer in a completion, and compares it with the gold answer as a number.
//!
//! The rules for GSM8K: a **strict** answer follows `#### `, as in the data set (Cobbe et al. 2021, arXiv 2110.14168); a
//! **flexible** answer is the first of: strict, the last `\boxed{…}`, the last "answer is" or "answer:", the last number.
//! No part of a number passes for the number: where one of the first three is there and does not say one number (`#### 12:30`,
//! `\boxed{5 + x}`, `answer: 5 to 7`), the rules after these three do not look for another.

use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::number_reader::{Found, OPAQUE, Reading, SPACES, numbers};
use crate::plain_text::{boxes, plain};

/// How forgiving the search for an answer is. In both, only the text after the last `</think>` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// A number: the one after the last `####` that is followed by one; a line `#### 3. Check` is a heading, and no answer. A
    /// text: the last line `ANSWER: x` or `#### x`.
    #[default]
    Strict,
    /// A number: strict if it matches; else what the last `\boxed{…}` with a number in it says; else the number after the last
    /// "answer is" or "answer:" that has one; else the last number. A text: strict if there is such a line, else the last line.
    Flexible,
}

/// The part of a completion in which the answer is looked for: the text after the last `</think>`; the whole completion if there
/// is none.
pub fn answer_region(completion: &str) -> &str {
    completion.rsplit_once("</think>").map_or(completion, |(_, text)| text)
}

/// The answer of a completion, or `None` if the search finds no number.
pub fn extract_answer(completion: &str, scoring: Scoring) -> Option<Number> {
    let text = answer_region(completion);
    let plain = plain(text);
    let strict = after_hashes(&plain);
    if scoring == Scoring::Strict {
        return strict?;
    }
    // An answer that cannot be read is still the answer: numbers elsewhere are none.
    let marked = strict.into_iter().chain(boxed(text)).chain(after_phrase(&plain));
    let mut is_marked = false;
    for answer in marked {
        if answer.is_some() {
            return answer;
        }
        is_marked = true;
    }
    if is_marked { None } else { last(&plain) }
}

/// Whether the answer of a completion equals `gold` as a number (`18.00` is `18`; there is no tolerance). A completion
/// without an answer is not correct.
pub fn is_correct(completion: &str, gold: &Number, scoring: Scoring) -> bool {
    extract_answer(completion, scoring).as_ref() == Some(gold)
}

/// Whether a completion has an answer in a box and none after `####`, so that only [`Scoring::Flexible`] sees it.
pub fn suggests_flexible(completion: &str) -> bool {
    extract_answer(completion, Scoring::Strict).is_none() && boxed(answer_region(completion)).flatten().is_some()
}

/// An answer where one was looked for; inner `None`: it is there and is not one number.
type Answer = Option<Number>;

/// The last number.
fn last(text: &str) -> Option<Number> {
    numbers(text)
        .filter_map(|found| match found.reading {
            Reading::Number(number) | Reading::List(number) => Some(number),
            Reading::Unreadable => None,
        })
        .last()
}

/// After the last `#### *` that is followed by a number and is no heading.
fn after_hashes(text: &str) -> Option<Answer> {
    const MARK: &str = "####";
    let mut before = text;
    while let Some(at) = before.rfind(MARK) {
        let line = line(text.get(at + MARK.len()..)?).trim_start_matches(' ');
        if !is_heading(line)
            && let Some(answer) = at_start(line)
        {
            return Some(answer);
        }
        before = before.get(..at)?.trim_end_matches('#');
    }
    None
}

/// The first line of a text, as far as an answer on it may go.
fn line(text: &str) -> &str {
    const LONGEST: usize = 1000;
    let is_end = |(place, (_, character)): &(usize, (usize, char))| *place == LONGEST || *character == '\n';
    let end = text.char_indices().enumerate().find(is_end).map_or(text.len(), |(_, (end, _))| end);
    text.get(..end).unwrap_or(text)
}

/// Whether what follows `####` is a numbered heading: `3. Check`, `3) Check`, `3: Check`.
fn is_heading(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let title = rest.strip_prefix(['.', ')', ':']).filter(|title| title.starts_with(' '));
    title.is_some_and(|title| title.contains(char::is_alphabetic))
}

/// What the last box with a digit says.
fn boxed(text: &str) -> Option<Answer> {
    boxes(text).into_iter().rev().find_map(|inside| phrase(&plain(inside)))
}

/// What a phrase says by its only number, or by the number at its beginning; the part after the last `=` counts. `None` if
/// there is no number in it.
fn phrase(text: &str) -> Option<Answer> {
    let value = text.rsplit(['=', '≈']).next().unwrap_or_default();
    let mut found = numbers(value);
    let only =
        found.next().or_else(|| numbers(text).next().map(|found| Found { reading: Reading::Unreadable, ..found }))?;
    let before = value.get(..only.range.start).unwrap_or_default().trim_end();
    let is_expression =
        text.contains(OPAQUE) || before.ends_with(['+', '-', '×', '÷', '*', '/', '^', '<', '>', '≤', '≥']);
    if is_expression {
        return Some(None);
    }
    if found.next().is_some() {
        return Some(at_start(value.trim_start()).flatten());
    }
    let after = value.get(only.range.end..).unwrap_or_default();
    Some(number_of(only.reading).filter(|_| !goes_on(after)))
}

/// What stands after the last "answer is" or "answer:" (capitals count as small letters) that is followed by a number. White
/// space, `:`, `*` and `=` may stand between.
fn after_phrase(text: &str) -> Option<Answer> {
    let lower = text.to_ascii_lowercase();
    let mut starts: Vec<usize> = ["answer is", "answer:"]
        .iter()
        .flat_map(|phrase| lower.match_indices(phrase).map(|(at, _)| at + phrase.len()))
        .collect();
    starts.sort_unstable();
    starts.into_iter().rev().find_map(|start| {
        let rest = text.get(start..)?;
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '='));
        at_start(line(rest))
    })
}

/// What the beginning of a line says; `None` if there is no number. An expression is worth what its `=` says.
fn at_start(line: &str) -> Option<Answer> {
    let found = number_at_start(line)?;
    let after = line.get(found.range.end..).unwrap_or_default();
    if !goes_on(after) {
        return Some(number_of(found.reading));
    }
    let result = line.rsplit_once(['=', '≈']).map(|(_, result)| result.trim_start_matches(SPACES));
    let found = result.and_then(|result| Some((number_at_start(result)?, result)));
    Some(found.and_then(|(found, result)| number_of(found.reading).filter(|_| !goes_on(&result[found.range.end..]))))
}

/// The number before which nothing stands but its sign and currency.
fn number_at_start(line: &str) -> Option<Found> {
    // A line that begins with something else need not be searched.
    let begins = line.starts_with(|c: char| c.is_ascii_digit() || "-+.$€£¥₹".contains(c) || c.is_ascii_uppercase());
    if begins { numbers(line).next().filter(|found| found.range.start == 0) } else { None }
}

fn number_of(reading: Reading) -> Option<Number> {
    match reading {
        Reading::Number(number) => Some(number),
        Reading::List(_) | Reading::Unreadable => None,
    }
}

/// Whether what stands behind a number makes more of it on the same line: an operator and an operand (`5 + 3`, `5-7`), another
/// number after a comma or a word (`2, 3`; `2 hours 30 minutes`; `5 to 7`).
fn goes_on(after: &str) -> bool {
    let rest = line(after).trim_start_matches(|c: char| SPACES.contains(&c) || "%$€£¥₹".contains(c));
    let is_operand = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '(' | OPAQUE));
    let operand =
        |text: &str| is_operand(text.trim_start_matches(|c: char| SPACES.contains(&c) || "-$€£¥₹".contains(c)));
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        return true;
    }
    if let Some(factor) = rest.strip_prefix(['+', '×', '÷', '^', '*']).filter(|factor| !factor.starts_with('*')) {
        return operand(factor) || factor.trim_start().starts_with(char::is_alphabetic);
    }
    if let Some(other) = rest.strip_prefix(['-', '/', '=', ':', ',', ';']) {
        return operand(other) && !(rest.starts_with('-') && other.trim_start_matches(SPACES).starts_with('.'));
    }
    let word = |text: &str| text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let behind = rest[word(rest)..].trim_start_matches(['.', ',']).trim_start_matches(SPACES);
    let conjunction = ["and ", "or ", "to "].into_iter().find_map(|word| behind.strip_prefix(word)).unwrap_or(behind);
    word(rest) > 0 && conjunction.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_safe_and_strict_implies_flexible(text in "(#|\\PC|-|[0-9,.$ ]|answer is|\\\\boxed\\{|\\}|</think>){0,40}") {
            let strict = extract_answer(&text, Scoring::Strict);
            let flexible = extract_answer(&text, Scoring::Flexible);
            if strict.is_some() {
                prop_assert_eq!(strict, flexible);
            }
        }

        #[test]
        fn written_answers_are_found(value in -1_000_000_i64..1_000_000, before in "[a-z0-9 .]{0,30}") {
            let text = format!("{before}\n#### {value}");
            prop_assert!(is_correct(&text, &Number::from(value), Scoring::Strict));
        }
    }
}
