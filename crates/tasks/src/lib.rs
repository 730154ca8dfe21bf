//! Data sets, prompts, generators, answer extraction and rewards. This crate knows tasks; it knows nothing of models: a
//! [`Prompt`] is rendered to tokens elsewhere, a completion comes back as text and is scored here.

mod conversation;
mod draw;
mod error;
mod extract;
mod gsm8k;
mod gsm8k_scorers;
mod hash;
mod item;
mod json_rows;
mod number;
mod number_reader;
mod plain_text;
mod prompt_file;
mod reward;
mod reward_program;
mod serial;
mod source;
pub mod stories;
mod word_problems;

pub use error::{RewardError, TasksError};
pub use extract::{Extraction, Region, answer_region, extract_answer, is_correct, suggests_flexible};
pub use gsm8k::{Annotations, GSM8K_INSTRUCTION, read_gsm8k, strip_annotations};
pub use gsm8k_scorers::Gsm8kScorer;
pub use item::{Item, Message, Prompt, Role, Split};
pub use number::Number;
pub use prompt_file::{read_csv, read_jsonl};
pub use reward::{Completion, Scoring, numeric_or_text_reward};
pub use reward_program::RewardProgram;
pub use serial::{
    ANSWER, END, MAX_SERIAL_STEPS, QUESTION, ResponseStyle, SEPARATOR, SERIAL_VOCABULARY, SerialItem, SerialSource,
    SerialTask, SerialVerdict, Symbol, THINK, verify_serial,
};
pub use source::{DataSource, choose};
pub use word_problems::{MAX_STEPS, WordProblem, generate};
