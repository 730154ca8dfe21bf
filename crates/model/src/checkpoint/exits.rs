//! The files of exit heads and exit translators, and what must hold between them.

use std::path::Path;

use super::files::{FileError, Tensor, TensorFile};
use super::{CheckpointError, require, require_finite, write_tensors};
use crate::exit_heads::{ExitHeads, HeadInput};
use crate::exit_propagation::ExitPropagation;
use crate::exit_translators::{ExitReadout, ExitTranslators};

/// Weights and biases of exit heads.
pub(super) const EXIT_HEADS: &str = "exit_heads.safetensors";
/// Matrices of exit translators, where there are any.
pub(super) const EXIT_TRANSLATORS: &str = "exit_translators.safetensors";

/// Factors of propagation maps, where there are any.
pub(super) const EXIT_PROPAGATION: &str = "exit_propagation.safetensors";

/// Names of the files of exits that are read out like this and have propagation maps or not.
pub(super) fn files(readout: ExitReadout, has_propagation: bool) -> impl Iterator<Item = &'static str> {
    let translators = (!readout.is_none()).then_some(EXIT_TRANSLATORS);
    let propagation = has_propagation.then_some(EXIT_PROPAGATION);
    std::iter::once(EXIT_HEADS).chain(translators).chain(propagation)
}

/// Writes the files.
pub(super) fn write(
    folder: &Path,
    heads: &ExitHeads,
    (translators, propagation): (Option<&ExitTranslators>, Option<&ExitPropagation>),
    hidden_size: usize,
) -> Result<(), FileError> {
    let n_candidates = heads.candidates.len();
    let tensors = [
        ("weight", Tensor::from_f32(&[n_candidates, hidden_size], &heads.weights.concat())),
        ("bias", Tensor::from_f32(&[n_candidates], &heads.biases)),
    ];
    let tensors = tensors.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?))).collect();
    write_tensors(&folder.join(EXIT_HEADS), &tensors)?;
    if let Some(translators) = translators {
        write_tensors(&folder.join(EXIT_TRANSLATORS), &translators.tensors())?;
    }
    if let Some(propagation) = propagation {
        write_tensors(&folder.join(EXIT_PROPAGATION), &propagation.tensors())?;
    }
    Ok(())
}

/// Reads the heads of these candidates.
pub(super) fn read_heads(
    folder: &Path,
    candidates: Vec<usize>,
    input: HeadInput,
    hidden_size: usize,
) -> Result<ExitHeads, FileError> {
    let file = TensorFile::open(&folder.join(EXIT_HEADS))?;
    let weights = file.read_finite_f32("weight", &[candidates.len(), hidden_size])?;
    let biases = file.read_finite_f32("bias", &[candidates.len()])?;
    let weights = match hidden_size {
        0 => vec![Vec::new(); candidates.len()],
        _ => weights.chunks_exact(hidden_size).map(<[f32]>::to_vec).collect(),
    };
    Ok(ExitHeads { candidates, input, weights, biases })
}

/// Reads the translators of these candidates; `None` if residuals are read as they are.
pub(super) fn read_translators(
    folder: &Path,
    readout: ExitReadout,
    candidates: &[usize],
    hidden_size: usize,
) -> Result<Option<ExitTranslators>, FileError> {
    if readout == ExitReadout::None {
        return Ok(None);
    }
    ExitTranslators::read(&TensorFile::open(&folder.join(EXIT_TRANSLATORS))?, readout, candidates, hidden_size)
}

/// Reads propagation maps of this rank; `None` for rank 0.
pub(super) fn read_propagation(
    folder: &Path,
    rank: usize,
    candidates: &[usize],
    (n_blocks, hidden_size): (usize, usize),
) -> Result<Option<ExitPropagation>, FileError> {
    if rank == 0 {
        return Ok(None);
    }
    let file = TensorFile::open(&folder.join(EXIT_PROPAGATION))?;
    ExitPropagation::read(&file, rank, candidates, n_blocks, hidden_size).map(Some)
}

/// Checks the heads, and translators and propagation maps against them.
pub(super) fn check(
    heads: &ExitHeads,
    (translators, propagation): (Option<&ExitTranslators>, Option<&ExitPropagation>),
    (n_blocks, hidden_size): (usize, usize),
) -> Result<(), CheckpointError> {
    if let Some(propagation) = propagation {
        let expected: Vec<usize> = (heads.candidates.first().copied().unwrap_or(n_blocks)..n_blocks).collect();
        let found: Vec<usize> = propagation.maps.keys().copied().collect();
        if found != expected {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            return Err(CheckpointError::invalid("blocks of exit_propagation", expected, found));
        }
        for (block, maps) in &propagation.maps {
            for (name, factor) in maps.factors() {
                let field = format!("factor {name} of the propagation maps of block {block}");
                let (found, expected) = match name {
                    "k.a" | "v.a" => (factor.columns(), hidden_size),
                    _ => (factor.columns(), propagation.rank()),
                };
                require(&format!("columns of {field}"), expected, found)?;
                require_finite(&field, &factor.to_f32())?;
            }
        }
    }
    let n_candidates = heads.candidates.len();
    require("exit_heads.weights", n_candidates, heads.weights.len())?;
    require("exit_heads.biases", n_candidates, heads.biases.len())?;
    for (candidate, weight) in heads.candidates.iter().zip(&heads.weights) {
        require(&format!("length of the exit head at depth {candidate}"), hidden_size, weight.len())?;
        require_finite(&format!("exit head at depth {candidate}"), weight)?;
    }
    require_finite("exit_heads.biases", &heads.biases)?;
    let Some(translators) = translators else { return Ok(()) };
    if translators.candidates != heads.candidates {
        let (expected, found) = (format!("{:?}", heads.candidates), format!("{:?}", translators.candidates));
        return Err(CheckpointError::invalid("exit_translators.candidates", expected, found));
    }
    for (candidate, map) in translators.candidates.iter().zip(&translators.maps) {
        for (name, matrix) in map.matrices() {
            let field = format!("matrix {name} of the translator at depth {candidate}");
            let width = if matches!(name, "b" | "down") { matrix.rows() } else { matrix.columns() };
            require(&format!("width of {field}"), hidden_size, width)?;
            require_finite(&field, &matrix.to_f32())?;
        }
    }
    Ok(())
}
