//! Names of the token classes.

use serde::{Deserialize, Serialize};

/// What kind of token a token is. Exactly one class each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Control and think tags.
    Special,
    /// A line break.
    Newline,
    /// The first digits after `=`, `is` or `equals`.
    ResultFirst,
    /// The first digits of another number.
    DigitFirst,
    /// Further digits of a number.
    DigitCont,
    /// `+ - * / = x % ^ < >` and their LaTeX forms.
    Operator,
    /// Other signs.
    Punct,
    /// Letters that continue a word.
    WordCont,
    /// A word that leads a thought, such as `Wait` or `Therefore`.
    Discourse,
    /// A function word.
    Function,
    /// Any other token.
    Content,
}

impl TokenClass {
    /// The name that stands in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Special => "special",
            Self::Newline => "newline",
            Self::ResultFirst => "result_first",
            Self::DigitFirst => "digit_first",
            Self::DigitCont => "digit_cont",
            Self::Operator => "operator",
            Self::Punct => "punct",
            Self::WordCont => "word_cont",
            Self::Discourse => "discourse",
            Self::Function => "function",
            Self::Content => "content",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_name_is_the_one_in_files() {
        let all =
            "special newline result_first digit_first digit_cont operator punct word_cont discourse function content";
        for name in all.split(' ') {
            let class: TokenClass = serde_json::from_value(name.into()).unwrap();
            assert_eq!((class.name(), serde_json::json!(class)), (name, name.into()));
        }
    }
}
