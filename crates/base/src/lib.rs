//! What every other crate may stand on: files that are written whole, digests, the one keyed random number, exact fractions.
//! Knows nothing of the rest.

pub mod digest;
pub mod durable_file;
pub mod random;
pub mod rational;
