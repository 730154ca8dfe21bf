//! Running a model with exits that skip computation: [`decode`] generates, token by token and many sequences at once; [`read`]
//! says what given tokens at given depths were worth, in one teacher-forced pass. Knows token ids and never text, files or tasks.

pub mod decode;
pub mod exit_reading;
pub mod read;
