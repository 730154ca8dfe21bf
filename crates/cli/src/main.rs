//! The `aloud` program.
fn main() {}
