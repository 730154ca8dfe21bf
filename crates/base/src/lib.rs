//! Durable files, digests, and the one keyed random number. Knows nothing else of the program.

pub mod digest;
pub mod durable_file;
pub mod keyed_random;
