//! Tasks for training and evaluation: data sets, prompts, generators, answer extraction and rewards, behind one trait
//! ([`task::Task`]). This crate knows nothing of models: a prompt is rendered to tokens elsewhere, a completion comes back as text
//! and is scored here.

pub mod answer_form;
mod conversation;
pub mod draw;
pub mod error;
pub mod extract;
pub mod gsm8k;
pub mod gsm8k_scorers;
pub mod hash;
pub mod item;
mod json_rows;
pub mod number;
mod number_reader;
pub mod pieces;
mod plain_text;
pub mod prompt_file;
pub mod reward;
pub mod reward_program;
pub mod serial;
pub mod task;
pub mod word_problems;
