//! Files of models: configurations, weights, adapters, checkpoints, where they come from, and the decoder that they make.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

mod adapter;
mod checkpoint;
mod config;
mod damaged_files;
mod decoder_golden;
mod gguf_golden;
#[path = "../gguf_writer/mod.rs"]
mod gguf_writer;
mod gguf_written;
mod lineage;
mod propagation;
mod rope_golden;
mod safetensors_directory;
mod source;
mod translators;

use std::path::{Path, PathBuf};

use aloud_model::load::{PretrainedModel, load};
use aloud_model::source::ResolvedSource;
use tempfile::TempDir;

/// A file or folder beside the tests.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Numbers between -1 and 1, the same everywhere.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 131 + seed * 29 + 7) % 251) as f32 / 125.0 - 1.0).collect()
}

/// A model that `golden/make_gguf_golden.py` wrote, as a file or a directory.
fn golden(name: &str) -> PathBuf {
    data("golden/gguf").join(name)
}

fn load_directory(path: &Path) -> Result<PretrainedModel, String> {
    load(&ResolvedSource::Directory(path.to_owned())).map_err(|error| error.to_string())
}

/// A directory with the golden model's `config.json` and nothing else.
fn directory_of(name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(golden(name).join("config.json"), directory.path().join("config.json")).unwrap();
    directory
}

/// Checks that a message has all these parts.
#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}
