//! What can be wrong with a chat template, or with a conversation given to it.

use aloud_model::error::ModelError;

/// An error while loading or rendering a chat template. The message says which template and what it complained of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// A file could not be read, or holds something else than a template where the template is expected.
    #[error(transparent)]
    File(#[from] ModelError),
    /// The model has no chat template.
    #[error(
        "this model has no chat template, so a conversation cannot be written as a prompt; use an instruction-tuned \
         model, give a template, or give plain text"
    )]
    Missing,
    /// A variable cannot be set.
    #[error("chat template of {origin}: variable `{name}` {problem}")]
    Variable {
        /// Where the template came from.
        origin: String,
        /// The variable.
        name: String,
        /// Why not.
        problem: String,
    },
    /// The template is not Jinja that this program understands.
    #[error("chat template of {origin}, line {line}: {problem}")]
    Syntax {
        /// Where the template came from.
        origin: String,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The template itself refused the conversation (`raise_exception`).
    #[error("the chat template of {origin} refuses this conversation: {message}")]
    Refused {
        /// Where the template came from.
        origin: String,
        /// What the template says.
        message: String,
    },
    /// The template failed on this conversation.
    #[error("chat template of {origin}, line {line}: {problem}")]
    Render {
        /// Where the template came from.
        origin: String,
        /// Line, counted from 1.
        line: usize,
        /// What went wrong.
        problem: String,
    },
    /// The template ran for too long.
    #[error(
        "chat template of {origin}: stopped after {steps} steps; it does not end, or the conversation is far too long"
    )]
    TooLong {
        /// Where the template came from.
        origin: String,
        /// The limit.
        steps: u64,
    },
}
