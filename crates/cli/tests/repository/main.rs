//! Rules that keep the tree a house: what each crate may use, how long files are, where formulas stand, what the documents say.
//! Every message says what to do. `ALOUD_WRITE_DOCUMENTS=1 cargo test -p aloud --test repository` writes what is generated.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod crates;
mod documents;
mod files;
mod formulas;
mod tree;
