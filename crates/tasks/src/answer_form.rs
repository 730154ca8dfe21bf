//! How a model writes answers that are numbers: where the trace ends in a response, and what asks for the answer at once in the
//! model's own form.

use std::collections::BTreeMap;

use crate::extract::{Scoring, answer_region, extract_answer};
use crate::pieces::piece_ends;

/// Marks of a trace that some models write.
pub const THINK_OPEN: &str = "<think>";
/// Closes such a trace.
pub const THINK_CLOSE: &str = "</think>";

/// Stands before the answer in the form that is asked for.
const ANSWER_MARK: &str = "####";

/// Stands before the answer in the form of models that were trained on mathematics.
const BOX_OPEN: &str = "\\boxed{";

/// A form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerForm {
    /// `#### 18`
    Marked,
    /// `\boxed{18}`
    Boxed,
}

impl AnswerForm {
    /// The form of a response's answer; [`AnswerForm::Marked`] where it has none of the two.
    fn of(completion: &str) -> Self {
        let is_marked = extract_answer(completion, Scoring::Strict).is_some();
        let is_boxed = || last_box(answer_region(completion)).is_some();
        if !is_marked && is_boxed() { Self::Boxed } else { Self::Marked }
    }

    /// What stands right before the answer.
    fn mark(self) -> String {
        match self {
            Self::Marked => format!("{ANSWER_MARK} "),
            Self::Boxed => format!("The final answer is {BOX_OPEN}"),
        }
    }
}

/// Whether a text ends within a trace; `None` if it has no mark of one.
fn is_open(text: &str) -> Option<bool> {
    match (text.rfind(THINK_OPEN), text.rfind(THINK_CLOSE)) {
        (None, None) => None,
        (open, close) => Some(open > close),
    }
}

/// Where a completion's trace ends, and where what follows it begins (bytes); `None`: it is not closed. `prompt` may have begun
/// the trace: then only its mark ends it, or an answer after `####`.
pub fn trace_end(completion: &str, prompt: &str) -> Option<(usize, usize)> {
    if let Some(start) = completion.rfind(THINK_CLOSE) {
        return Some((start, start + THINK_CLOSE.len()));
    }
    let is_thinking = is_open(completion).or_else(|| is_open(prompt)) == Some(true);
    let boxed = || if is_thinking { None } else { last_box(completion) };
    last_mark(completion).or_else(boxed).map(|start| (start, start))
}

/// Where the last `####` stands that an answer follows; the last of all if none is followed by one.
fn last_mark(text: &str) -> Option<usize> {
    let has_answer = |at: &usize| {
        let line = text[*at..].lines().next().unwrap_or_default();
        extract_answer(line, Scoring::Strict).is_some()
    };
    let marks = || text.rmatch_indices(ANSWER_MARK).map(|(at, _)| at);
    marks().find(has_answer).or_else(|| marks().next())
}

/// Where the sentence begins that ends with the last box with an answer in it.
fn last_box(text: &str) -> Option<usize> {
    let at = text.rmatch_indices(BOX_OPEN).map(|(at, _)| at).find(|at| {
        let end = text[*at..].lines().next().unwrap_or_default();
        extract_answer(end, Scoring::Flexible).is_some()
    })?;
    let sentence = piece_ends(&text[..at]).into_iter().rev().find(|end| *end < at);
    Some(sentence.unwrap_or(0))
}

/// What is known of a response from which an answer is elicited: how it was asked for, and how its model writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptForm<'a> {
    /// The prompt as the model saw it: it may have begun the trace.
    pub prompt: &'a str,
    /// Whether the model has tokens that mark a trace.
    pub marks_traces: bool,
}

/// The texts that ask for the answer, in one form.
struct Suffix {
    /// After no trace.
    without_trace: String,
    /// Within a trace that was opened.
    open: String,
    /// After a trace that was closed.
    closed: String,
    /// After a trace without marks.
    bare: String,
}

impl Suffix {
    fn new(answer: AnswerForm, form: PromptForm<'_>) -> Self {
        let mark = answer.mark();
        let closed = format!("\n\n{mark}");
        let open = format!("\n{THINK_CLOSE}{closed}");
        let bare = format!("\n{mark}");
        let without_trace = match (form.marks_traces, is_open(form.prompt)) {
            (true, None) => format!("{THINK_OPEN}{open}"),
            (_, Some(true)) => open.clone(),
            (_, Some(false)) | (false, None) => mark,
        };
        Self { without_trace, open, closed, bare }
    }
}

/// The text that asks for the answer after the beginning of a response, in the form in which the response gives it. An empty
/// beginning is no trace.
pub fn suffix(form: PromptForm<'_>, response: &str, beginning: &str) -> String {
    let suffix = Suffix::new(AnswerForm::of(response), form);
    match is_open(beginning) {
        _ if beginning.is_empty() => suffix.without_trace,
        Some(true) => suffix.open,
        Some(false) => suffix.closed,
        None if is_open(form.prompt) == Some(true) => suffix.open,
        None => suffix.bare,
    }
}

/// All texts that [`suffix`] may give, by name.
pub fn suffixes(form: PromptForm<'_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (answer, name) in [(AnswerForm::Marked, "suffix"), (AnswerForm::Boxed, "boxed_suffix")] {
        let Suffix { without_trace, open, closed, bare } = Suffix::new(answer, form);
        for (after, text) in [
            ("", open),
            ("_after_closed_trace", closed),
            ("_after_unmarked_trace", bare),
            ("_without_trace", without_trace),
        ] {
            texts.insert(format!("{name}{after}"), text);
        }
    }
    texts
}

/// The answer at the beginning of a text that follows a suffix, of either form: what closes the box is not part of it.
pub fn elicited_answer(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let mut depth = 0_i32;
    let close = line.char_indices().find(|(_, character)| {
        depth += i32::from(*character == '{') - i32::from(*character == '}');
        depth < 0
    });
    let number = match close {
        Some((end, _)) => extract_answer(&format!("{BOX_OPEN}{}}}", &line[..end]), Scoring::Flexible),
        None => extract_answer(&format!("{ANSWER_MARK} {line}"), Scoring::Strict),
    };
    number.map(|number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_at_its_mark_or_before_the_answer() {
        for (completion, prompt, expected) in [
            ("a\n</think>\n\n#### 3", "", Some((2, 10))),
            ("2 + 2 = 4\n#### 4", "", Some((10, 10))),
            ("2 + 2 = 4", "", None),
            // A heading behind the answer.
            ("2 + 2 = 4\n#### 4\n#### 3. Check", "", Some((10, 10))),
            ("a</think>So \\boxed{4}", "<think>\n", Some((1, 9))),
            // Before the sentence with the box.
            ("2 + 2 = 4.\nSo it is \\boxed{4}.", "", Some((11, 11))),
            ("It is 4. So \\boxed{4}.", "", Some((8, 8))),
            ("\\boxed{4}", "", Some((0, 0))),
            // A box within a trace that was never closed is no answer.
            ("Perhaps \\boxed{4}? Wait", "<think>\n", None),
            ("<think>Perhaps \\boxed{4}? Wait", "", None),
            ("2 + 2 = 4. So \\boxed{4}.", "<think>\n\n</think>\n\n", Some((10, 10))),
        ] {
            assert_eq!(trace_end(completion, prompt), expected, "{completion}");
        }
    }

    #[test]
    fn forms_of_answers() {
        for (completion, expected) in [
            ("#### 4", AnswerForm::Marked),
            ("\\boxed{4}", AnswerForm::Boxed),
            ("<think>\\boxed{3}</think>\\[\\boxed{4}\\]", AnswerForm::Boxed),
            ("\\boxed{4}\n#### 4", AnswerForm::Marked),
            ("<think>\\boxed{3}</think> #### 4", AnswerForm::Marked),
            ("It is 4", AnswerForm::Marked),
        ] {
            assert_eq!(AnswerForm::of(completion), expected, "{completion}");
        }
    }

    #[test]
    fn elicited_answers_of_both_forms() {
        for (text, expected) in [
            ("18", Some("18")),
            ("18} eggs.", Some("18")),
            ("70{,}000}$", Some("70000")),
            ("\\frac{1}{2}}", Some("0.5")),
            ("18 \\text{ eggs}}", Some("18")),
            ("18 \\text{ eggs", Some("18")),
            ("18\n5", Some("18")),
            ("12:30}", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(elicited_answer(text).as_deref(), expected, "{text}");
        }
    }
}
