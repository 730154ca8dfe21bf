//! Conversations in data files, as trainers and chat interfaces write them.

use serde_json::Value;

use crate::item::{Message, Role};

/// A conversation, cut into what is asked and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// What stands before the question.
    pub(crate) context: Vec<Message>,
    /// The last turn of the user.
    pub(crate) question: String,
    /// The turn of the assistant behind it, if there is one.
    pub(crate) response: Option<String>,
}

/// Reads the list of messages in field `name`. It ends with the user's turn, or with the assistant's answer to it.
///
/// # Errors
/// What is wrong, with field and message.
pub(crate) fn conversation(value: &Value, name: &str) -> Result<Conversation, String> {
    let mut messages = messages(value, name)?;
    let Some(mut last) = messages.pop() else { return Err(format!("`{name}` is empty")) };
    let mut response = None;
    if last.role == Role::Assistant {
        response = Some(last.content);
        last = messages.pop().ok_or_else(|| format!("`{name}` holds an answer and no question"))?;
    }
    if last.role != Role::User {
        return Err(format!(
            "`{name}` has to end with a message of role `user`, or with one that answers it: message {} is of role `{}`",
            messages.len() + 1,
            last.role.as_str()
        ));
    }
    Ok(Conversation { context: messages, question: last.content, response })
}

/// The one answer in field `name`: a text, or a list of one message of the assistant.
///
/// # Errors
/// What is wrong, with field and message.
pub(crate) fn completion(value: &Value, name: &str) -> Result<String, String> {
    if let Value::String(text) = value {
        return Ok(text.clone());
    }
    match messages(value, name)?.as_slice() {
        [Message { role: Role::Assistant, content }] => Ok(content.clone()),
        _ => Err(format!("`{name}` is neither text nor one message of role `assistant`")),
    }
}

fn messages(value: &Value, name: &str) -> Result<Vec<Message>, String> {
    let Value::Array(messages) = value else { return Err(format!("`{name}` is neither text nor a list of messages")) };
    let mut read = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let message = message_of(message).map_err(|reason| format!("message {} of `{name}`: {reason}", index + 1))?;
        if message.role == Role::System && index > 0 {
            return Err(format!("message {} of `{name}`: a system message has to come first", index + 1));
        }
        read.push(message);
    }
    Ok(read)
}

fn message_of(value: &Value) -> Result<Message, String> {
    let role = match value.get("role").and_then(Value::as_str) {
        // The newer name of the same place.
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(role) => {
            return Err(format!("unknown `role` `{role}`: expected `system`, `developer`, `user` or `assistant`"));
        }
        None => return Err("it has no `role`".to_owned()),
    };
    let content = match value.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                text_of_part(part).map_err(|reason| format!("part {} of `content`: {reason}", index + 1))
            })
            .collect::<Result<String, String>>()?,
        _ => return Err("`content` is neither text nor a list of parts".to_owned()),
    };
    Ok(Message { role, content })
}

fn text_of_part(part: &Value) -> Result<&str, String> {
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text),
        (Some("text"), _) => Err("it has no `text`".to_owned()),
        (Some(kind), _) => Err(format!("it is of type `{kind}`: only `text` is read")),
        (None, _) => Err("it has no `type`".to_owned()),
    }
}
