//! The program as its users run it: on the committed tiny models, with a tokenizer and checkpoints made here.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adapters;
mod checkpoints;
mod data;
mod evaluation;
mod evaluation_inputs;
mod evaluation_run;
mod fixtures;
mod generation;
#[path = "../../../model/tests/gguf_writer/mod.rs"]
#[allow(dead_code, reason = "the tests of the readers use more of it")]
mod gguf_writer;
mod judge;
mod lens;
mod lineage;
mod merged;
mod model_files;
mod not_finite;
mod numerics;
mod program;
mod records;
mod reports;
mod stage2;
mod stories;
mod toy_models;
