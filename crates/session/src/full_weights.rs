//! Puts the weights of a full-parameter checkpoint in the place of its base model's.

use crate::bail;
use crate::error::{Context as _, SessionError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::files::Tensor;
use aloud_model::weights::{ModelWeights, Parameter};

/// Replaces every parameter by the tensor of its name.
///
/// # Errors
/// If a parameter is missing, has another shape or is not made of floats, or a tensor is left over; `path` is named.
pub fn replace(
    weights: &mut ModelWeights,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(), SessionError> {
    // Training of all weights began with the start adapter folded into them.
    weights.start_adapter = None;
    let path = path.display();
    let mut unused: BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
    for (name, parameter) in weights.parameters_mut() {
        unused.remove(name.as_str());
        let tensor = tensors.get(&name).with_context(|| format!("{path}: tensor `{name}` is missing"))?;
        let expected = match &parameter {
            Parameter::Matrix(matrix) => vec![matrix.rows(), matrix.columns()],
            Parameter::Vector(vector) => vec![vector.len()],
        };
        let found = tensor.shape();
        if found != expected {
            bail!("{path}: tensor `{name}`: expected the shape {expected:?}, found {found:?}");
        }
        let values = tensor.to_f32().with_context(|| format!("{path}: tensor `{name}` is not made of floats"))?;
        match parameter {
            Parameter::Matrix(matrix) => *matrix = Matrix::from_f32(matrix.rows(), matrix.columns(), values)?,
            Parameter::Vector(vector) => vector.copy_from_slice(&values),
        }
    }
    if let Some(name) = unused.first() {
        bail!("{path}: tensor `{name}` is not a parameter of the base model");
    }
    Ok(())
}
