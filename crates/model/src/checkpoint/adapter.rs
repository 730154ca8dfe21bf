//! Low-rank adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use serde::Serialize;

use super::{
    CheckpointError, DESCRIPTION,
    adapter_config::AdapterConfig,
    files::{self, FileError, Tensor, TensorFile},
    require, require_finite, write_tensors,
};
use crate::{
    config::ModelConfig,
    lora::{Lora, LoraPair, Projection},
    pickles,
};

const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLED_WEIGHTS: &str = "adapter_model.bin";

/// The keys of `adapter_config.json` that change what the adapters compute, at the values that this program writes.
/// PEFT fills the others with its defaults.
#[derive(Serialize)]
struct Config<'a> {
    peft_type: &'a str,
    task_type: &'a str,
    base_model_name_or_path: &'a str,
    inference_mode: bool,
    r: usize,
    lora_alpha: f32,
    lora_dropout: f32,
    target_modules: Vec<String>,
    layers_to_transform: Option<Vec<usize>>,
    bias: &'a str,
    fan_in_fan_out: bool,
}

/// Name of a factor's tensor, as PEFT writes it for a causal LM of the Llama family.
fn tensor_name(block: usize, projection: Projection, factor: char) -> String {
    format!("base_model.model.model.layers.{block}.{}.lora_{factor}.weight", projection.path())
}

/// Extents of a projection's weight that follow from the hidden size alone: `(in, out)`, `None` where they do not.
fn known_extents(projection: Projection, hidden_size: usize) -> (Option<usize>, Option<usize>) {
    match projection {
        Projection::OProj | Projection::DownProj => (None, Some(hidden_size)),
        _ => (Some(hidden_size), None),
    }
}

/// Checks the adapters before they are written.
pub(super) fn check(lora: &Lora, n_blocks: usize, hidden_size: usize) -> Result<(), CheckpointError> {
    if lora.rank == 0 {
        return Err(CheckpointError::invalid("rank of the adapters", "at least 1", 0));
    }
    require_finite("alpha of the adapters", &[lora.alpha])?;
    if lora.pairs.is_empty() {
        return Err(CheckpointError::invalid("number of adapters", "at least 1", 0));
    }
    for (&(block, projection), pair) in &lora.pairs {
        let [name_a, name_b] = ['A', 'B'].map(|factor| tensor_name(block, projection, factor));
        if block >= n_blocks {
            let expected = format!("below the {n_blocks} blocks of the model");
            return Err(CheckpointError::invalid(format!("block of `{name_a}`"), expected, block));
        }
        let (known_in, known_out) = known_extents(projection, hidden_size);
        require(&format!("rows of `{name_a}`"), lora.rank, pair.a.rows())?;
        require(&format!("columns of `{name_b}`"), lora.rank, pair.b.columns())?;
        require(&format!("columns of `{name_a}`"), known_in.unwrap_or(pair.a.columns()), pair.a.columns())?;
        require(&format!("rows of `{name_b}`"), known_out.unwrap_or(pair.b.rows()), pair.b.rows())?;
        for (name, matrix) in [(name_a, &pair.a), (name_b, &pair.b)] {
            if matrix.dtype() != DType::F32 {
                let found = matrix.dtype().name();
                return Err(CheckpointError::invalid(format!("number format of `{name}`"), "F32", found));
            }
            require_finite(&format!("`{name}`"), matrix.as_f32().unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Writes checked adapters to `folder`.
pub(super) fn write(folder: &Path, lora: &Lora, n_blocks: usize, base: &str) -> Result<(), CheckpointError> {
    let (blocks, projections): (BTreeSet<usize>, BTreeSet<Projection>) = lora.pairs.keys().copied().unzip();
    // The same projections in every adapted block have short names; others are named one by one.
    let is_grid = blocks.len() * projections.len() == lora.pairs.len();
    let module = |&(block, projection): &(usize, Projection)| format!("model.layers.{block}.{}", projection.path());
    let config = Config {
        peft_type: "LORA",
        task_type: "CAUSAL_LM",
        base_model_name_or_path: base,
        inference_mode: true,
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: 0.0,
        target_modules: if is_grid {
            projections.iter().map(|projection| projection.name().to_owned()).collect()
        } else {
            lora.pairs.keys().map(module).collect()
        },
        layers_to_transform: (is_grid && blocks.len() < n_blocks).then(|| blocks.into_iter().collect()),
        bias: "none",
        fan_in_fan_out: false,
    };
    let path = folder.join(CONFIG);
    files::write_synced(&path, &files::json_bytes(&path, &config)?)?;
    let mut tensors = BTreeMap::new();
    for (&(block, projection), pair) in &lora.pairs {
        for (factor, matrix) in [('A', &pair.a), ('B', &pair.b)] {
            let values = matrix.as_f32().unwrap_or_default();
            if let Some(tensor) = Tensor::from_f32(&[matrix.rows(), matrix.columns()], values) {
                tensors.insert(tensor_name(block, projection, factor), tensor);
            }
        }
    }
    Ok(write_tensors(&folder.join(WEIGHTS), &tensors)?)
}

/// Reads the adapters of `folder`.
pub(super) fn read(folder: &Path, n_blocks: usize, hidden_size: usize) -> Result<Lora, CheckpointError> {
    let path = folder.join(CONFIG);
    let config = AdapterConfig::read(&path)?;
    refuse_pickles(folder)?;
    let file = TensorFile::open(&folder.join(WEIGHTS))?;
    let targeted = config.targeted(&path, n_blocks)?;
    check_names(&file, &targeted)?;
    let mut extents = BTreeMap::new();
    let mut pairs = BTreeMap::new();
    for (block, projection) in targeted {
        let (name_a, name_b) = (tensor_name(block, projection, 'A'), tensor_name(block, projection, 'B'));
        let (known_in, known_out) = *extents.entry(projection).or_insert(known_extents(projection, hidden_size));
        let found_in = file.info(&name_a)?.shape.last().copied();
        let found_out = file.info(&name_b)?.shape.first().copied();
        let (columns, rows) = (known_in.or(found_in).unwrap_or(0), known_out.or(found_out).unwrap_or(0));
        // Every block of a model has the same shapes: the first one fixes those of the others.
        extents.insert(projection, (Some(columns), Some(rows)));
        let (a, b) =
            (read_factor(&file, &name_a, config.rank, columns)?, read_factor(&file, &name_b, rows, config.rank)?);
        pairs.insert((block, projection), LoraPair { a, b });
    }
    Ok(Lora { rank: config.rank, alpha: config.alpha, pairs })
}

/// Whether `folder` is an adapter as PEFT saves it, whole or in part, in a format that is read or not, and no checkpoint
/// of this program.
pub fn is_peft_adapter(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    [CONFIG, WEIGHTS, PICKLED_WEIGHTS].into_iter().any(has) && !has(DESCRIPTION)
}

/// What the adapter in `folder` says its base model is (`base_model_name_or_path`). Nothing is looked up or fetched.
///
/// # Errors
/// If its configuration is missing, damaged, or of an adapter that is not supported.
pub fn peft_base(folder: &Path) -> Result<Option<String>, CheckpointError> {
    Ok(AdapterConfig::read(&folder.join(CONFIG))?.base)
}

/// Reads the adapter that PEFT saved in `folder`, for a base model of this shape.
///
/// # Errors
/// If a file is missing or damaged, the adapter is of a kind that is not supported, or does not fit the model.
pub fn load_peft_adapter(folder: &Path, config: &ModelConfig) -> Result<Lora, CheckpointError> {
    let lora = read(folder, config.n_layers, config.hidden_size)?;
    lora.check_fits(config).map_err(|source| CheckpointError::Misfit { path: folder.to_owned(), source })?;
    Ok(lora)
}

/// Refuses weights that are there as a pickle only.
fn refuse_pickles(folder: &Path) -> Result<(), CheckpointError> {
    match pickles::first_in(folder) {
        Some(pickle) if !folder.join(WEIGHTS).exists() => {
            Err(CheckpointError::Pickle { advice: pickles::advice(&pickle, WEIGHTS) })
        }
        _ => Ok(()),
    }
}

/// Checks that the file has both factors of every projection that is targeted, and nothing else.
fn check_names(file: &TensorFile, targeted: &BTreeSet<(usize, Projection)>) -> Result<(), FileError> {
    let found: BTreeSet<String> = file.names().into_iter().collect();
    let factors = |&(block, projection): &(usize, Projection)| ['A', 'B'].map(|f| tensor_name(block, projection, f));
    let expected: BTreeSet<String> = targeted.iter().flat_map(factors).collect();
    let listed = |what: &str, names: Vec<&String>| {
        names.first().map(|name| format!("{} {what}, the first `{name}`", names.len()))
    };
    let faults = [
        listed("missing", expected.difference(&found).collect()),
        listed("others", found.difference(&expected).collect()),
    ];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    if faults.is_empty() {
        return Ok(());
    }
    let wanted = format!("the {} factors of the modules in {CONFIG} (target_modules)", expected.len());
    Err(FileError::content(file.path(), "tensors", wanted, faults.join("; ")))
}

fn read_factor(file: &TensorFile, name: &str, rows: usize, columns: usize) -> Result<Matrix, FileError> {
    let values = file.read_finite_f32(name, &[rows, columns])?;
    Matrix::from_f32(rows, columns, values)
        .map_err(|error| FileError::content(file.path(), format!("tensor `{name}`"), "a matrix", error))
}
