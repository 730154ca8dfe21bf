//! What several commands take from the command line, each as its plain form in a library.

pub(crate) mod endpoint;
pub(crate) mod generation;
pub(crate) mod judge;
pub(crate) mod model;
pub(crate) mod prompts;
pub(crate) mod task;
