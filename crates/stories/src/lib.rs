//! Theory-of-mind stories with true labels: who believes what, and what they believe that others believe.
//!
//! The method is that of ExploreToM (Sclar et al. 2024, arXiv 2412.12175), with semantics, words and code of our own. A
//! story is a list of actions; an event log says who could notice each (`log`); every belief of every order is folded
//! from it, so that no answer is guessed. Stories are random, or searched for where flawed readers fail (`search`).
//!
//! Text comes last: actions, questions and answers are numbers until a `Cast` names them.
//!
//! The way in is [`task::Stories`] for questions to be asked, and [`generator::StoryGenerator`] with [`dataset::StoryFile`] for
//! stories in files.

mod action;
pub mod card;
mod cast;
pub mod dataset;
mod entity;
mod examination;
pub mod family;
pub mod generator;
pub mod infill;
mod lint;
mod log;
mod model_target;
mod names;
pub mod part;
mod passage_check;
mod question;
mod readers;
mod refusal;
pub mod row;
mod sampler;
mod scoring;
mod search;
mod selection;
mod settings;
pub mod story;
mod structure;
pub mod task;
mod telling;
mod template;
#[cfg(test)]
mod tests;
pub mod text_model;
mod trace;
mod view;
mod words;
mod world;
