//! Theory-of-mind stories with true labels: who believes what, and what they believe that others believe.
//!
//! The method is that of ExploreToM (Sclar et al. 2024, arXiv 2412.12175), with semantics, words and code of our own. A
//! story is a list of actions; an event log says who could notice each (`log`); every belief of every order is folded
//! from it, so that no answer is guessed. Stories are random, or searched for where flawed readers fail (`search`).
//!
//! Text comes last: actions, questions and answers are numbers until a `Cast` names them.

mod action;
mod card;
mod cast;
mod dataset;
mod entity;
mod examination;
mod family;
mod generator;
mod grading;
mod infill;
mod lint;
mod log;
mod model_target;
mod names;
mod part;
mod passage_check;
mod question;
mod readers;
mod refusal;
mod row;
mod sampler;
mod scoring;
mod search;
mod selection;
mod settings;
mod story;
mod structure;
mod telling;
mod template;
#[cfg(test)]
mod tests;
mod text_model;
mod trace;
mod view;
mod words;
mod world;
mod written_row;

pub use card::DataCard;
pub use dataset::{StoryFile, StoryFormat};
pub use examination::{ExaminationItem, QuestionGroup, examination};
pub use family::Family;
pub use generator::{Asymmetry, StoryGenerator, StorySettings};
pub use grading::Grader;
pub use infill::Rejection;
pub use part::Part;
pub use question::QuestionKind;
pub use row::StoryRow;
pub use scoring::{StoryScoring, story_answer, story_reward};
pub use story::Story;
pub use text_model::{Asking, TextModel};

/// How stories are asked for. Written below a story and its question.
pub const STORY_INSTRUCTION: &str = "\
Answer from the story alone. Think about where things are, what each person has seen or been told, and what each person \
believes about the others. Reason step by step between <think> and </think>. End with one line: ANSWER: <short answer>";

/// A story and a question about it, as one message.
pub fn story_question(story: &str, question: &str) -> String {
    format!("Read the story, then answer the question about it.\n\nStory: {story}\n\nQuestion: {question}")
}
