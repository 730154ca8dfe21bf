//! Task rewards of completions whose gold answer is known: 1 for a right answer, 0 for anything else.

use crate::error::RewardError;
use crate::extract::{Scoring, answer_region, is_correct};
use crate::number::Number;

/// One response to one item, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Name of the item. Several completions may answer the same item.
    pub id: &'a str,
    /// What the model was asked.
    pub prompt: &'a str,
    /// What the model wrote, special tokens left out.
    pub response: &'a str,
    /// The gold answer, if the item has one.
    pub answer: Option<&'a str>,
    /// The response was ended by the limit on its tokens.
    pub truncated: bool,
}

/// The reward of a completion by its gold answer: 1 if the answer of the response is right, else 0. A wrong answer, a
/// right one in the wrong form and none at all count the same, so that form is never worth more than being right; a
/// truncated response counts 0 whatever it holds.
///
/// Where the gold answer is a number, answers are compared as exact decimals ([`is_correct`]). Where it is another
/// text, the answer is the rest of a line that begins with `ANSWER:` (capitals or not) or `####`, and is equal if it is
/// the same after trimming and without regard to capitals. Of several such lines the last one counts; one with nothing
/// after the mark does not. A gold answer may itself be a worked solution with such a line.
///
/// # Errors
/// If the item has no gold answer, or one of several lines.
pub fn numeric_or_text_reward(completion: &Completion<'_>, scoring: Scoring) -> Result<f64, RewardError> {
    let gold = completion.answer.unwrap_or_default();
    let gold = marked_answer(gold).unwrap_or(gold).trim();
    if gold.is_empty() {
        return Err(RewardError::NoAnswer { id: completion.id.to_owned() });
    }
    if gold.lines().count() > 1 {
        return Err(RewardError::LongAnswer { id: completion.id.to_owned() });
    }
    let right = !completion.truncated
        && match Number::parse(gold) {
            Some(number) => is_correct(completion.response, &number, scoring),
            None => text_answer(completion.response, scoring)
                .is_some_and(|answer| answer.to_lowercase() == gold.to_lowercase()),
        };
    Ok(if right { 1.0 } else { 0.0 })
}

fn text_answer(response: &str, scoring: Scoring) -> Option<&str> {
    let text = answer_region(response);
    match scoring {
        Scoring::Strict => marked_answer(text),
        Scoring::Flexible => marked_answer(text).or_else(|| text.trim().lines().next_back().map(str::trim)),
    }
}

/// What follows the mark on the last line that begins with `ANSWER:` or `####` and goes on after it.
fn marked_answer(text: &str) -> Option<&str> {
    const WORD: &str = "answer:";
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("####").or_else(|| {
            let (mark, rest) = line.split_at_checked(WORD.len())?;
            mark.eq_ignore_ascii_case(WORD).then_some(rest)
        });
        rest.map(str::trim).filter(|rest| !rest.is_empty())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn reward(response: &str, answer: &str, scoring: Scoring) -> f64 {
        let completion = Completion { id: "a", prompt: "?", response, answer: Some(answer), truncated: false };
        numeric_or_text_reward(&completion, scoring).unwrap()
    }

    /// (gold answer, response, strict reward, flexible reward)
    const GOLDEN: &[(&str, &str, f64, f64)] = &[
        ("18", "9 + 9\n#### 18", 1.0, 1.0),
        ("18", "#### 18.00", 1.0, 1.0),
        ("1,234", "#### $1234", 1.0, 1.0),
        ("18", "The answer is 18.", 0.0, 1.0),
        ("18", "#### 19, not 18", 0.0, 0.0),
        ("18", "", 0.0, 0.0),
        ("18", "<think>#### 18</think> I do not know.", 0.0, 0.0),
        ("9 + 9\n#### 18", "#### 18", 1.0, 1.0),
        ("basket", "She looks there.\nANSWER: Basket ", 1.0, 1.0),
        ("the basket", "#### the basket", 1.0, 1.0),
        ("basket", "answer: basket\r\n", 1.0, 1.0),
        ("Äpfel", "ANSWER: äpfel", 1.0, 1.0),
        ("basket", "She looks there.\n Basket\n\n", 0.0, 1.0),
        ("basket", "ANSWER: basket\nThat is all.", 1.0, 1.0),
        ("basket", "ANSWER: basket\nANSWER: box", 0.0, 0.0),
        ("basket", "ANSWER: box\nbasket", 0.0, 0.0),
        ("basket", "ANSWER:\nbasket", 0.0, 1.0),
        ("basket", "It is in the basket", 0.0, 0.0),
        ("basket", "ANSWER: basket</think>I do not know", 0.0, 0.0),
        ("Paris", "Réponse : Paris", 0.0, 0.0),
        ("She looked.\nANSWER: basket", "#### basket", 1.0, 1.0),
        ("1/2", "#### 1/2", 1.0, 1.0),
        ("1/2", "#### 1", 0.0, 0.0),
    ];

    #[test]
    fn golden_table() {
        for &(answer, response, strict, flexible) in GOLDEN {
            assert_eq!(reward(response, answer, Scoring::Strict), strict, "strict: {answer}: {response}");
            assert_eq!(reward(response, answer, Scoring::Flexible), flexible, "flexible: {answer}: {response}");
        }
    }

    #[test]
    fn a_truncated_response_counts_nothing() {
        for (answer, response) in [("18", "#### 18"), ("basket", "ANSWER: basket")] {
            let completion = Completion { id: "a", prompt: "?", response, answer: Some(answer), truncated: true };
            assert_eq!(numeric_or_text_reward(&completion, Scoring::Flexible).unwrap(), 0.0);
        }
    }

    #[test]
    fn an_item_without_a_usable_answer_is_named() {
        for (answer, expected) in [
            (None, "item `a7` has no gold answer: give it an `answer` field, or score with a reward program"),
            (Some(" \n"), "item `a7` has no gold answer"),
            (Some("One line.\nAnother."), "item `a7` has a gold answer of several lines"),
        ] {
            // A truncated response needs no answer to be scored, but the mistake is in the data: it is told at once.
            for truncated in [false, true] {
                let completion = Completion { id: "a7", prompt: "?", response: "#### 1", answer, truncated };
                let error = numeric_or_text_reward(&completion, Scoring::Strict).unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn rewards_are_0_or_1_and_flexible_is_no_harder_than_strict(
            response in "(#|\\PC|\n|[0-9,.$ ]|answer is|ANSWER:|#### |basket|</think>){0,30}",
            answer in "basket|18|\\PC{1,4}",
        ) {
            prop_assume!(!answer.trim().is_empty());
            let completion =
                Completion { id: "a", prompt: "", response: &response, answer: Some(&answer), truncated: false };
            if let Ok(strict) = numeric_or_text_reward(&completion, Scoring::Strict) {
                let flexible = numeric_or_text_reward(&completion, Scoring::Flexible).unwrap();
                prop_assert!(strict == 0.0 || strict == 1.0);
                prop_assert!(flexible == strict || (flexible == 1.0 && strict == 0.0));
            }
        }
    }
}
