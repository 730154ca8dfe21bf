//! Grading of free replies when the space of answers is known. For replies in the asked form see [`super::scoring`].

use aloud_tasks::extract::answer_region;

/// How a reply is graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grader {
    /// The true answer occurs anywhere in the reply. Kept for comparison with published searches; `no` occurs in `know`.
    Contains,
    /// What a widespread matcher of this kind of data decides. Kept to find names that it confuses.
    Compatible,
    /// Exactly one of the possible answers is named in the final answer, and it is the true one.
    Strict,
}

/// Words for an answer that nobody can give.
const UNKNOWN: [&str; 5] = ["unknown", "not known", "cannot be known", "cannot know", "does not know where"];
/// The two answers about what somebody thinks of another's knowledge.
const KNOWS: &str = "knows about it";
const DOES_NOT_KNOW: &str = "does not know about it";

impl Grader {
    /// Whether a reply gives the true answer; `answers` are all that are possible.
    pub fn is_right(self, reply: &str, gold: &str, answers: &[String]) -> bool {
        match self {
            Self::Contains => reply.to_lowercase().contains(gold),
            Self::Compatible => is_compatible(reply, gold),
            Self::Strict => is_strictly_right(reply, gold, answers),
        }
    }
}

/// The text after the last `answer:`, else the last line that is not empty; in small letters and single spaces, without
/// punctuation.
fn final_answer(reply: &str) -> String {
    let region = answer_region(reply).text.to_lowercase();
    let span = match region.rsplit_once("answer:") {
        Some((_, after)) => after.trim_start().lines().next().unwrap_or_default(),
        None => region.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default(),
    };
    let kept: String = span.chars().map(|c| if c.is_alphanumeric() || "'-".contains(c) { c } else { ' ' }).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_strictly_right(reply: &str, gold: &str, answers: &[String]) -> bool {
    let span = format!(" {} ", final_answer(reply));
    let has = |words: &str| span.contains(&format!(" {words} "));
    match gold {
        "yes" => has("yes") && !has("no"),
        "no" => has("no") && !has("yes"),
        KNOWS | DOES_NOT_KNOW => {
            let negated = has("not know") || has("doesn't know") || has("unaware");
            let known = has("knows") || has("know") || has("aware");
            if gold == KNOWS { known && !negated } else { negated }
        }
        _ => named(&span, answers) == [gold],
    }
}

/// The answers that are named as whole words, longer ones first so that no part of a name counts as another.
fn named<'a>(span: &str, answers: &'a [String]) -> Vec<&'a str> {
    let mut names: Vec<(&str, &str)> = answers.iter().map(|answer| (answer.as_str(), answer.as_str())).collect();
    names.extend(UNKNOWN.iter().map(|words| (*words, "unknown")));
    names.sort_by_key(|(words, _)| std::cmp::Reverse(words.len()));
    let mut rest = span.to_owned();
    let mut found: Vec<&str> = Vec::new();
    for (words, answer) in names {
        let whole = format!(" {words} ");
        if rest.contains(&whole) {
            rest = rest.replace(&whole, " | ");
            if !found.contains(&answer) {
                found.push(answer);
            }
        }
    }
    found
}

fn is_compatible(reply: &str, gold: &str) -> bool {
    let lower = reply.to_lowercase();
    let after = lower.rsplit_once("short answer:").map_or(lower.as_str(), |(_, after)| after);
    let deleted = after.replace("the", "");
    let text = deleted.trim().trim_end_matches('.').trim();
    match gold {
        KNOWS => !text.contains(" not "),
        DOES_NOT_KNOW => text.contains(" not "),
        "yes" | "no" => text.split([',', '.']).next().map(str::trim) == Some(gold),
        _ => text.contains(gold) || (!text.is_empty() && gold.contains(text)),
    }
}
