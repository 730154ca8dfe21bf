//! The program as its users run it: on the committed tiny models, with a tokenizer and checkpoints made here.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod checkpoints;
mod data;
mod evaluation;
mod evaluation_run;
mod fixtures;
mod generation;
mod lens;
mod program;
mod records;
mod reports;
mod stage2;
mod toy_models;
