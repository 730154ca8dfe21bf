//! The program as its users run it: on the committed tiny models, with a tokenizer and checkpoints made here.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod checkpoints;
mod data;
mod evaluation;
mod evaluation_inputs;
mod evaluation_run;
mod fixtures;
mod generation;
mod judge;
mod lens;
mod lineage;
mod program;
mod records;
mod reports;
#[path = "../../../eval/src/chat/scripted_server.rs"]
#[allow(dead_code, reason = "the tests of the client use more of it")]
mod scripted_server;
mod stage2;
mod stories;
mod toy_models;
