//! The files of the repository, as the rules look at them.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root of the repository")
}

/// A text file below the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether generated parts of documents are to be written, and not compared.
pub(crate) fn writes_documents() -> bool {
    std::env::var_os("ALOUD_WRITE_DOCUMENTS").is_some()
}

/// A file of Rust code.
pub(crate) struct Source {
    /// Below the root, with `/`.
    pub(crate) path: String,
    /// Name of its crate's folder.
    pub(crate) krate: String,
    pub(crate) text: String,
}

impl Source {
    /// Whether it is in `src`, and no file of tests alone.
    pub(crate) fn is_library(&self) -> bool {
        let file = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/src/") && file != "tests.rs" && !self.path.contains("/tests/") && file != "test_runs.rs"
    }

    /// The code without the unit tests at its end.
    pub(crate) fn code(&self) -> &str {
        let tests = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    pub(crate) fn n_lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// All files of Rust code.
pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    walk(&root.join("crates"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            let krate = path.split('/').nth(1).unwrap().to_owned();
            Source { krate, text: fs::read_to_string(&file).unwrap(), path }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with all problems at once.
pub(crate) fn none(problems: &[String], what_to_do: &str) {
    assert!(problems.is_empty(), "{what_to_do}\n  {}", problems.join("\n  "));
}
