//! One item of a task, and the prompt that is made of it.

use serde::{Deserialize, Serialize};

use crate::hash::hash;
use crate::number::Number;

/// Who says a message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Role {
    /// The instructions above the conversation.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// What else the chat template of a model knows.
    Other(String),
}

impl Role {
    /// The name used by chat templates: `system`, `user`, `assistant`, or another.
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for Role {
    fn from(name: String) -> Self {
        match name.as_str() {
            "system" => Self::System,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            _ => Self::Other(name),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.as_str().to_owned()
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of the system.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// What a model is given, before it becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation that ends with a user message, to be rendered by the model's chat template.
    Chat(Vec<Message>),
    /// A text taken as it is, without any template.
    Raw(String),
}

impl Prompt {
    /// A single user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::Chat(vec![Message::user(content)])
    }
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training, and for tuning prompts and settings.
    #[default]
    Train,
    /// Held out, for evaluation only.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// One item of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Name of the item, unique within its data set.
    pub id: String,
    /// The question: the last user message, or the whole text if `raw`.
    pub question: String,
    /// Messages before the question: an optional system message and earlier turns. Empty if `raw`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Message>,
    /// The question is a text to be continued as it is, without chat template.
    #[serde(default)]
    pub raw: bool,
    /// A worked solution or reference response, if the data set has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// The gold answer, if the data set has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A story and a question about it, as one message.
pub fn story_question(story: &str, question: &str) -> String {
    format!("Read the story, then answer the question about it.\n\nStory: {story}\n\nQuestion: {question}")
}

impl Item {
    /// An item that is one question to be put by the chat template.
    pub fn new(id: impl Into<String>, question: impl Into<String>) -> Self {
        Self { id: id.into(), question: question.into(), context: Vec::new(), raw: false, solution: None, answer: None }
    }

    /// The prompt of this item. `instruction` (for instance [`crate::gsm8k::GSM8K_INSTRUCTION`]) is written below the question
    /// of a conversation; a raw text stays as it is.
    pub fn prompt(&self, instruction: Option<&str>) -> Prompt {
        if self.raw {
            return Prompt::Raw(self.question.clone());
        }
        let question = match instruction {
            Some(instruction) => format!("{}\n\n{instruction}", self.question),
            None => self.question.clone(),
        };
        let mut messages = self.context.clone();
        messages.push(Message::user(question));
        Prompt::Chat(messages)
    }

    /// The gold answer as a number; `None` if the item has no answer or the answer is not a number.
    pub fn gold(&self) -> Option<Number> {
        Number::parse(self.answer.as_deref()?)
    }
}

/// Up to `n` of the items: those with the smallest hashes of (seed, id), in that order. So a smaller choice is the beginning
/// of a larger one, and does not depend on the order of the items.
pub(crate) fn choose(mut items: Vec<Item>, n: usize, seed: u64) -> Vec<Item> {
    items.sort_by_cached_key(|item| (hash(seed, &item.id), item.id.clone()));
    items.truncate(n);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_choice_is_the_beginning_of_a_larger_one() {
        let items: Vec<Item> = (0..50).map(|i| Item::new(format!("{i}"), "?")).collect();
        let reversed: Vec<Item> = items.iter().rev().cloned().collect();
        let large = choose(items.clone(), 30, 7);
        assert_eq!(choose(reversed, 10, 7), large[..10]);
        assert_ne!(choose(items.clone(), 30, 8), large);
        assert_eq!(choose(items, 100, 7).len(), 50);
    }

    #[test]
    fn instruction_goes_below_the_question_of_a_conversation_only() {
        let mut item = Item::new("a", "2 + 2?");
        item.context.push(Message::system("Be brief."));
        let expected = vec![Message::system("Be brief."), Message::user("2 + 2?\n\nThink.")];
        assert_eq!(item.prompt(Some("Think.")), Prompt::Chat(expected));
        let raw = Item { raw: true, context: Vec::new(), ..item };
        assert_eq!(raw.prompt(Some("Think.")), Prompt::Raw("2 + 2?".to_owned()));
    }

    #[test]
    fn gold_reads_numbers_only() {
        let mut item = Item::new("a", "?");
        assert_eq!(item.gold(), None);
        item.answer = Some("1,234".to_owned());
        assert_eq!(item.gold(), Number::parse("1234"));
        item.answer = Some("the box".to_owned());
        assert_eq!(item.gold(), None);
    }
}
