//! What several commands take from the command line, each as its plain form in a library.

pub(crate) mod activations;
pub(crate) mod endpoint;
pub(crate) mod generation;
pub(crate) mod judge;
pub(crate) mod model;
pub(crate) mod prompts;
pub(crate) mod task;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A value of an argument: its name, what it is, and what it stands for.
pub(crate) type Choice<T> = (&'static str, &'static str, T);

/// For clap: one of a few values, by its name.
pub(crate) fn one_of<T: Copy + Send + Sync + 'static>(
    choices: &'static [Choice<T>],
) -> impl TypedValueParser<Value = T> {
    let values = choices.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values).try_map(|given| {
        let chosen = choices.iter().find(|(name, ..)| *name == given);
        chosen.map(|(.., value)| *value).ok_or("no such value")
    })
}
