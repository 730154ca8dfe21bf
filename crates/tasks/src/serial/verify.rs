//! The verifier of serial items: it works from the prompt's own text, so that any response to any item can be judged.

use serde::{Deserialize, Serialize};

use super::{ANSWER, QUESTION, SERIAL_VOCABULARY, SerialItem, Symbol, THINK, chain, permutation, variables};

/// How a response begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseStyle {
    /// With `<t>`: thinks aloud.
    Think,
    /// With `<a>`: answers at once.
    Direct,
}

/// What a response to a serial item is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialVerdict {
    /// How it begins; `None` if with neither mark.
    pub style: Option<ResponseStyle>,
    /// Whether it ended by itself, and one symbol alone follows its last `<a>`.
    pub is_well_formed: bool,
    /// Whether it is well formed and that symbol is the answer.
    pub is_correct: bool,
}

/// Judges a response (symbols with spaces between them, without `<eos>`) to the item that `prompt` states; `truncated` says
/// that it was ended by the token limit. `None` if the prompt is no serial item.
pub fn verify_serial(prompt: &str, response: &str, truncated: bool) -> Option<SerialVerdict> {
    let item = SerialItem::parse(prompt)?;
    let symbols: Vec<&str> = response.split_whitespace().collect();
    let style = match symbols.first() {
        Some(&THINK) => Some(ResponseStyle::Think),
        Some(&ANSWER) => Some(ResponseStyle::Direct),
        _ => None,
    };
    let answer_mark = symbols.iter().rposition(|symbol| *symbol == ANSWER);
    let answer = answer_mark.map_or(&[][..], |mark| &symbols[mark + 1..]);
    let is_well_formed = !truncated && style.is_some() && answer.len() == 1;
    Some(SerialVerdict { style, is_well_formed, is_correct: is_well_formed && answer == [item.answer] })
}

impl SerialItem {
    /// Reads an item from its prompt; `None` if it is none.
    pub fn parse(prompt: &str) -> Option<Self> {
        let known = |text: &str| SERIAL_VOCABULARY.into_iter().find(|symbol| *symbol == text);
        let symbols = prompt.split_whitespace().map(known).collect::<Option<Vec<Symbol>>>()?;
        let (&QUESTION, rest) = symbols.split_first()? else { return None };
        permutation::parse(rest).or_else(|| variables::parse(rest)).or_else(|| chain::parse(rest))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const PROMPT: &str = "<q> 7 + 5 * 3 - 4";

    fn verdict(response: &str, truncated: bool) -> SerialVerdict {
        verify_serial(PROMPT, response, truncated).unwrap()
    }

    #[test]
    fn malformed_but_right_is_worth_as_much_as_wrong() {
        let wrong = verdict("<a> 3", false);
        assert_eq!((wrong.is_well_formed, wrong.is_correct), (true, false));
        for malformed in ["2", "<a> 2 2", "<a>", "", "<t> 7 + 5 = 2", "7 <a> 2", "<a> 2 <a>"] {
            let verdict = verdict(malformed, false);
            assert_eq!((verdict.is_well_formed, verdict.is_correct), (false, false), "{malformed}");
        }
        assert!(!verdict("<a> 2", true).is_correct);
        assert!(verdict("<a> 2", false).is_correct);
        // The symbol after the last mark counts.
        assert!(verdict("<t> 7 + 5 = 2 <a> 5 <a> 2", false).is_correct);
    }

    #[test]
    fn other_prompts_are_no_items() {
        for prompt in ["7 + 5", "<q>", "<q> 7 +", "<q> what is 7 + 5", "", "<q> 7 + 5 = 2"] {
            assert_eq!(verify_serial(prompt, "<a> 2", false), None, "{prompt}");
        }
    }
}
