//! Two runs on the same items: paired differences with intervals, and what may be claimed from them. Knows rows and records of
//! evaluation runs; knows nothing of models, or of how claims are shown.

pub mod paired;
pub mod verdicts;
