//! What every other crate may stand on: files that are written whole, digests, the one keyed random number, exact fractions,
//! and the record of what numbers a result was computed with. Knows nothing of the rest.

pub mod digest;
pub mod durable_file;
pub mod numerics;
pub mod random;
pub mod rational;
