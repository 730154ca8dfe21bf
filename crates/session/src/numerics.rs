//! What numbers a model runs with: how activations enter its products, and the record of it that stands in every result.

use std::collections::BTreeSet;

use aloud_base::numerics::{FieldDifference, Numerics};
use aloud_kernels::cpu::{Activations, Cpu, SimdLevel};
use aloud_kernels::dtype::DType;
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::source::ModelSource;
use aloud_model::weights::{ModelWeights, Parameter};

use crate::error::SessionError;

/// How activations are to enter products with quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationChoice {
    /// As f32: whatever is trained on, and what is measured unless something else is asked for.
    F32,
    /// Rounded to 8 bits.
    Q8,
    /// Rounded to 8 bits where weights are quantised, else as f32: the fastest that the weights allow.
    Fastest,
}

impl From<Activations> for ActivationChoice {
    fn from(activations: Activations) -> Self {
        match activations {
            Activations::F32 => Self::F32,
            Activations::Q8 => Self::Q8,
        }
    }
}

impl ActivationChoice {
    /// What a model with these weights takes.
    ///
    /// # Errors
    /// If 8 bits are asked for and no weight is quantised (a usage error).
    pub fn resolve(self, weights: &ModelWeights, source: &ModelSource) -> Result<Activations, SessionError> {
        match self {
            Self::Q8 if !is_quantised(weights) => Err(SessionError::usage(format!(
                "--activations q8: no weight matrix of {source} is quantised (they are {}), and q8 is for products with \
                 quantised weights: leave --activations out",
                formats(weights)
            ))),
            Self::Fastest if !is_quantised(weights) => Ok(Activations::F32),
            Self::Q8 | Self::Fastest => Ok(Activations::Q8),
            Self::F32 => Ok(Activations::F32),
        }
    }
}

/// Name of a way in which activations enter products, in arguments and records.
pub fn activations_name(activations: Activations) -> &'static str {
    match activations {
        Activations::F32 => "f32",
        Activations::Q8 => "q8",
    }
}

/// Number format in which the factors of adapters enter products, whatever their file has.
fn adapter_format(activations: Activations) -> &'static str {
    match activations {
        Activations::F32 => "f32",
        Activations::Q8 => "Q8_0+BF16",
    }
}

/// The numerics of a model that runs.
pub fn of_model(decoder: &Decoder<Cpu>, policy: Option<&Policy<Cpu>>) -> Numerics {
    let weights = decoder.export();
    let has_adapters = weights.start_adapter.is_some() || policy.is_some_and(Policy::has_factors);
    numerics(&weights, has_adapters, decoder.backend().activations())
}

/// The numerics of a training of adapters beside these weights.
pub fn of_adapter_training(weights: &ModelWeights) -> Numerics {
    numerics(weights, true, Activations::F32)
}

/// The numerics of a training of all weights, which are widened for it.
pub fn of_full_training() -> Numerics {
    record(DType::F32.name().to_owned(), false, Activations::F32)
}

/// The settings with which a run goes on where `difference` is in its way.
pub fn next_step(difference: &FieldDifference) -> String {
    let found = &difference.found;
    match difference.field {
        "activations" => format!("give --activations {found}, or choose another output folder"),
        "instructions" => {
            format!("set {}={found} on a machine that has them, or choose another output folder", SimdLevel::VARIABLE)
        }
        _ => "choose another output folder".to_owned(),
    }
}

/// Vector instructions, for people.
pub fn level_in_words(level: SimdLevel) -> &'static str {
    match level {
        SimdLevel::Avx512 => "AVX-512",
        SimdLevel::Avx2 => "AVX2 with FMA",
        SimdLevel::Portable => "none that the kernels use",
    }
}

/// The vector instructions in use, and those of the machine where they are others; for people.
pub fn instructions_in_words() -> String {
    let (in_use, machine) = (SimdLevel::in_use(), SimdLevel::detect());
    let (name, variable) = (in_use.name(), SimdLevel::VARIABLE);
    let (in_use, machine) = (level_in_words(in_use), level_in_words(machine));
    if in_use == machine {
        return machine.to_owned();
    }
    format!("{in_use} in use ({variable}={name}); this machine has {machine}")
}

fn numerics(weights: &ModelWeights, has_adapters: bool, activations: Activations) -> Numerics {
    let activations = if is_quantised(weights) { activations } else { Activations::F32 };
    record(formats(weights), has_adapters, activations)
}

fn record(weights: String, has_adapters: bool, activations: Activations) -> Numerics {
    Numerics {
        weights,
        activations: activations_name(activations).to_owned(),
        adapters: has_adapters.then(|| adapter_format(activations).to_owned()),
        merged: false,
        device: "cpu".to_owned(),
        instructions: SimdLevel::in_use().name().to_owned(),
    }
}

fn matrix_formats(weights: &ModelWeights) -> impl Iterator<Item = DType> {
    weights.parameters().into_iter().filter_map(|(_, parameter)| match parameter {
        Parameter::Matrix(matrix) => Some(matrix.dtype()),
        Parameter::Vector(_) => None,
    })
}

/// Whether some weight matrix is quantised: its values stand in blocks with a scale.
fn is_quantised(weights: &ModelWeights) -> bool {
    matrix_formats(weights).any(|format| format.block_len() > 1)
}

/// The number formats of the weight matrices, sorted by name.
fn formats(weights: &ModelWeights) -> String {
    let names: BTreeSet<&str> = matrix_formats(weights).map(DType::name).collect();
    names.into_iter().collect::<Vec<_>>().join("+")
}
