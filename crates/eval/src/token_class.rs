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
