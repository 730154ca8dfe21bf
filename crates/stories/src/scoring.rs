//! Scoring of answers to questions about stories: the rest of the last line that says `ANSWER:`, compared with the true
//! answer as a whole. Nothing is searched for inside an answer: `does not know about it` contains `know about it`.

use aloud_tasks::error::RewardError;
use aloud_tasks::extract::{Scoring, answer_region};
use aloud_tasks::reward::Completion;

/// Other words for the two answers about knowledge: that somebody knows, and that somebody does not.
const KNOWS: [&str; 7] = [
    "knows about it",
    "knows",
    "knows it",
    "know about it",
    "he knows about it",
    "she knows about it",
    "they know about it",
];
const DOES_NOT_KNOW: [&str; 7] = [
    "does not know about it",
    "does not know",
    "doesn't know about it",
    "doesn't know",
    "he does not know about it",
    "she does not know about it",
    "they do not know about it",
];

/// An answer as it is compared. Strict: without capitals, superfluous spaces and a final `.` or `!`. Flexible: also without
/// article and quotation marks, with knowledge said in other words, and with yes or no as first word.
pub(crate) fn form(answer: &str, scoring: Scoring) -> String {
    match scoring {
        Scoring::Strict => strict(answer),
        Scoring::Flexible => lenient(answer),
    }
}

/// Whether an answer is the true one.
pub(crate) fn is_right(answer: &str, gold: &str, scoring: Scoring) -> bool {
    form(answer, scoring) == form(gold, scoring)
}

/// What a response answers: the rest of the line after the last `ANSWER:` (capitals or not) of the text after the last
/// `</think>`. `None` if there is none.
pub(crate) fn story_answer(response: &str) -> Option<&str> {
    const MARK: &str = "answer:";
    let text = answer_region(response);
    // Letters outside ASCII keep their length, so places in the copy are places in the text.
    let at = text.to_ascii_lowercase().rfind(MARK)? + MARK.len();
    text.get(at..)?.lines().next().map(str::trim)
}

/// 1 if the answer of a response is right, else 0; a truncated response is not.
///
/// # Errors
/// If the item has no gold answer.
pub(crate) fn story_reward(completion: &Completion<'_>, scoring: Scoring) -> Result<f64, RewardError> {
    let gold = completion.answer.map(str::trim).filter(|gold| !gold.is_empty());
    let gold = gold.ok_or_else(|| RewardError::NoAnswer { id: completion.id.to_owned() })?;
    let answer = story_answer(completion.response).filter(|_| !completion.truncated);
    Ok(f64::from(u8::from(answer.is_some_and(|answer| is_right(answer, gold, scoring)))))
}

/// Small letters, single spaces, no final full stop or exclamation mark.
fn strict(answer: &str) -> String {
    let small = answer.to_lowercase();
    let words: Vec<&str> = small.split_whitespace().collect();
    words.join(" ").trim_end_matches(['.', '!']).trim_end().to_owned()
}

/// Also without quotation marks, article and preposition, and in the words of the gold answers.
fn lenient(answer: &str) -> String {
    let quotes: &[char] = &['"', '\'', '`', '*', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '.', '!', ' '];
    let text = strict(answer).replace('\u{2019}', "'");
    let text = text.trim_matches(quotes);
    for (words, known) in [(KNOWS, "knows"), (DOES_NOT_KNOW, "not_knows")] {
        if words.contains(&text) {
            return known.to_owned();
        }
    }
    let first = text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    if matches!(first, "yes" | "no") {
        return first.to_owned();
    }
    let articles = ["in the ", "the ", "an ", "a "];
    articles.iter().find_map(|article| text.strip_prefix(article)).unwrap_or(text).to_owned()
}
