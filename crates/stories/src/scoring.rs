//! Scoring of answers to questions about stories: the rest of the last line that says `ANSWER:`, compared with the true
//! answer as a whole. Nothing is searched for inside an answer: `does not know about it` contains `know about it`.

use aloud_tasks::error::RewardError;
use aloud_tasks::extract::answer_region;
use aloud_tasks::reward::Completion;

/// How forgiving the comparison is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoryScoring {
    /// The same but for capitals, spaces and a final `.` or `!`.
    #[default]
    Strict,
    /// Also without article and quotation marks, with knowledge said in other words, and with yes or no as first word.
    Lenient,
}

impl StoryScoring {
    /// Both, the strict one first.
    pub const ALL: [Self; 2] = [Self::Strict, Self::Lenient];

    /// The name: `strict` or `lenient`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lenient => "lenient",
        }
    }

    /// An answer as it is compared: answers of the same form are the same.
    pub fn form(self, answer: &str) -> String {
        match self {
            Self::Strict => strict(answer),
            Self::Lenient => lenient(answer),
        }
    }

    /// Whether an answer is the true one.
    pub fn is_right(self, answer: &str, gold: &str) -> bool {
        self.form(answer) == self.form(gold)
    }
}

/// Other words for the two answers about knowledge.
const KNOWLEDGE: [(&str, bool); 14] = [
    ("knows about it", true),
    ("knows", true),
    ("knows it", true),
    ("know about it", true),
    ("he knows about it", true),
    ("she knows about it", true),
    ("they know about it", true),
    ("does not know about it", false),
    ("does not know", false),
    ("doesn't know about it", false),
    ("doesn't know", false),
    ("he does not know about it", false),
    ("she does not know about it", false),
    ("they do not know about it", false),
];

/// What a response answers: the rest of the line after the last `ANSWER:` (capitals or not) of the text after the last
/// `</think>`. `None` if there is none.
pub fn story_answer(response: &str) -> Option<&str> {
    const MARK: &str = "answer:";
    let text = answer_region(response).text;
    // Letters outside ASCII keep their length, so places in the copy are places in the text.
    let at = text.to_ascii_lowercase().rfind(MARK)? + MARK.len();
    text.get(at..)?.lines().next().map(str::trim)
}

/// 1 if the answer of a response is right, else 0; a truncated response is not.
///
/// # Errors
/// If the item has no gold answer.
pub fn story_reward(completion: &Completion<'_>, scoring: StoryScoring) -> Result<f64, RewardError> {
    let gold = completion.answer.map(str::trim).filter(|gold| !gold.is_empty());
    let gold = gold.ok_or_else(|| RewardError::NoAnswer { id: completion.id.to_owned() })?;
    let answer = story_answer(completion.response).filter(|_| !completion.truncated);
    let is_right = answer.is_some_and(|answer| scoring.is_right(answer, gold));
    Ok(f64::from(u8::from(is_right)))
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
    if let Some((_, knows)) = KNOWLEDGE.iter().find(|(words, _)| *words == text) {
        return if *knows { "knows" } else { "not_knows" }.to_owned();
    }
    let first = text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    if matches!(first, "yes" | "no") {
        return first.to_owned();
    }
    let articles = ["in the ", "the ", "an ", "a "];
    articles.iter().find_map(|article| text.strip_prefix(article)).unwrap_or(text).to_owned()
}
