//! `--activations`: how activations enter products with quantised weights.

use aloud_kernels::cpu::Activations;
use aloud_session::numerics::ActivationChoice;
use clap::Args;

use crate::arguments::{Choice, one_of};

/// Ways in which activations enter products with quantised weights.
const WAYS: [Choice<Activations>; 2] = [
    ("f32", "As they are, times weights widened to f32", Activations::F32),
    ("q8", "Rounded to 8 bits, times the weights' own integers", Activations::Q8),
];

/// How activations enter products with quantised weights.
#[derive(Args, Clone, Debug)]
pub(crate) struct ActivationArgs {
    /// How activations enter products with quantised weights
    #[arg(
        long,
        value_parser = one_of(&WAYS),
        value_name = "f32|q8",
        help = "How activations enter products with quantised weights [default: q8 in generate, chat, dial and bench where weights are \
                quantised, else f32]"
    )]
    activations: Option<Activations>,
}

impl ActivationArgs {
    /// What was asked for; `None` if nothing was.
    pub(crate) fn given(&self) -> Option<Activations> {
        self.activations
    }

    /// Of a command that answers people: the fastest that the weights allow, unless something else is asked for.
    pub(crate) fn of_answers(&self) -> ActivationChoice {
        self.activations.map_or(ActivationChoice::Fastest, ActivationChoice::from)
    }

    /// Of a command that measures: f32, unless something else is asked for.
    pub(crate) fn of_measurements(&self) -> ActivationChoice {
        self.activations.map_or(ActivationChoice::F32, ActivationChoice::from)
    }
}

/// The same flag where it is refused.
#[derive(Args, Clone, Debug)]
pub(crate) struct RefusedActivationArgs {
    /// Refused, with the reason
    #[arg(long, hide = true, value_name = "f32|q8", value_parser = refused)]
    activations: Option<String>,
}

/// For clap: no value at all.
fn refused(_: &str) -> Result<String, &'static str> {
    Err("something is trained on the result, so activations are always f32: leave it out")
}
