//! Training end to end and in its parts.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod fixtures;
mod optimizer;
mod order;
mod pretrain;
mod recipes;
mod run_directory;
mod stage1;
mod stage2;
