//! Low-rank adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aloud_kernels::{DType, Matrix};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::{
    CheckpointError,
    files::{self, FileError, Tensor, TensorFile},
    known_extents, require, require_finite, write_tensors,
};
use crate::lora::{Lora, LoraPair, Projection};

const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

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
    target_modules: Vec<&'a str>,
    layers_to_transform: Option<Vec<usize>>,
    bias: &'a str,
    fan_in_fan_out: bool,
}

/// The keys read back. PEFT writes many more; those that would change the result are checked by [`refuse_variants`].
#[derive(Deserialize)]
struct ReadConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    target_modules: Vec<String>,
    #[serde(default)]
    layers_to_transform: Option<Vec<usize>>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// Name of a factor's tensor, as PEFT writes it for a causal LM of the Llama family.
fn tensor_name(block: usize, projection: Projection, factor: char) -> String {
    format!("base_model.model.model.layers.{block}.{}.lora_{factor}.weight", projection.path())
}

/// Blocks and projections of adapters that cover a grid: every projection named in every block named.
fn grid(lora: &Lora) -> (BTreeSet<usize>, BTreeSet<Projection>) {
    lora.pairs.keys().copied().unzip()
}

/// Checks the adapters before they are written.
pub(super) fn check(lora: &Lora, n_blocks: usize, hidden_size: usize) -> Result<(), CheckpointError> {
    let invalid = |field: String, expected: String, found: String| CheckpointError::Invalid { field, expected, found };
    if lora.rank == 0 {
        return Err(invalid("rank of the adapters".to_owned(), "at least 1".to_owned(), "0".to_owned()));
    }
    require_finite("alpha of the adapters", &[lora.alpha])?;
    let (blocks, projections) = grid(lora);
    if lora.pairs.is_empty() {
        return Err(invalid("number of adapters".to_owned(), "at least 1".to_owned(), "0".to_owned()));
    }
    require(
        "number of adapters (the same projections in every adapted block)",
        blocks.len() * projections.len(),
        lora.pairs.len(),
    )?;
    for (&(block, projection), pair) in &lora.pairs {
        let name = |factor| tensor_name(block, projection, factor);
        if block >= n_blocks {
            let expected = format!("below the {n_blocks} blocks of the model");
            return Err(invalid(format!("block of `{}`", name('A')), expected, block.to_string()));
        }
        let (known_in, known_out) = known_extents(projection, hidden_size);
        require(&format!("rows of `{}`", name('A')), lora.rank, pair.a.rows())?;
        require(&format!("columns of `{}`", name('B')), lora.rank, pair.b.columns())?;
        require(&format!("columns of `{}`", name('A')), known_in.unwrap_or(pair.a.columns()), pair.a.columns())?;
        require(&format!("rows of `{}`", name('B')), known_out.unwrap_or(pair.b.rows()), pair.b.rows())?;
        for (factor, matrix) in [('A', &pair.a), ('B', &pair.b)] {
            if matrix.dtype() != DType::F32 {
                let found = matrix.dtype().name().to_owned();
                return Err(invalid(format!("number format of `{}`", name(factor)), "F32".to_owned(), found));
            }
            require_finite(&format!("`{}`", name(factor)), matrix.as_f32().unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Writes checked adapters to `folder`.
pub(super) fn write(folder: &Path, lora: &Lora, n_blocks: usize, base: &str) -> Result<(), CheckpointError> {
    let (blocks, projections) = grid(lora);
    let config = Config {
        peft_type: "LORA",
        task_type: "CAUSAL_LM",
        base_model_name_or_path: base,
        inference_mode: true,
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: 0.0,
        target_modules: projections.iter().map(|projection| projection.name()).collect(),
        layers_to_transform: (blocks.len() < n_blocks).then(|| blocks.into_iter().collect()),
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
    let config: ReadConfig = files::read_json(&path)?;
    refuse_variants(&path, &config)?;
    let mut projections = BTreeSet::new();
    for name in &config.target_modules {
        let projection = Projection::ALL.into_iter().find(|projection| projection.name() == name);
        let known = || Projection::ALL.map(Projection::name).join(", ");
        projections
            .insert(projection.ok_or_else(|| {
                FileError::content(&path, "target_modules", format!("names among {}", known()), name)
            })?);
    }
    let file = TensorFile::open(&folder.join(WEIGHTS))?;
    // Checked before any loop over blocks: a foreign description may name a huge number of them.
    let n_adapted_blocks = config.layers_to_transform.as_ref().map_or(n_blocks, Vec::len);
    let expected = n_adapted_blocks.saturating_mul(projections.len()).saturating_mul(2);
    if projections.is_empty() || file.names().len() != expected {
        let found = file.names().len();
        return Err(FileError::content(file.path(), "number of tensors", expected.max(2).to_string(), found).into());
    }
    let blocks: BTreeSet<usize> = match config.layers_to_transform {
        Some(blocks) => blocks.into_iter().collect(),
        None => (0..n_blocks).collect(),
    };
    if let Some(block) = blocks.iter().find(|&&block| block >= n_blocks) {
        let expected = format!("blocks below {n_blocks}");
        return Err(FileError::content(&path, "layers_to_transform", expected, block).into());
    }
    let mut extents = BTreeMap::new();
    let mut pairs = BTreeMap::new();
    for &block in &blocks {
        for &projection in &projections {
            let (name_a, name_b) = (tensor_name(block, projection, 'A'), tensor_name(block, projection, 'B'));
            let (known_in, known_out) = *extents.entry(projection).or_insert(known_extents(projection, hidden_size));
            let columns = match known_in {
                Some(columns) => columns,
                None => file.info(&name_a)?.shape.last().copied().unwrap_or(0),
            };
            let rows = match known_out {
                Some(rows) => rows,
                None => file.info(&name_b)?.shape.first().copied().unwrap_or(0),
            };
            // Every block of a model has the same shapes: the first one fixes those of the others.
            extents.insert(projection, (Some(columns), Some(rows)));
            pairs.insert(
                (block, projection),
                LoraPair {
                    a: read_factor(&file, &name_a, config.r, columns)?,
                    b: read_factor(&file, &name_b, rows, config.r)?,
                },
            );
        }
    }
    Ok(Lora { rank: config.r, alpha: config.lora_alpha, pairs })
}

fn read_factor(file: &TensorFile, name: &str, rows: usize, columns: usize) -> Result<Matrix, FileError> {
    file.expect(name, &[Dtype::F32, Dtype::BF16, Dtype::F16], &[rows, columns])?;
    let values = file.read_finite_f32(name, &[rows, columns])?;
    Matrix::from_f32(rows, columns, values)
        .map_err(|error| FileError::content(file.path(), format!("tensor `{name}`"), "a matrix", error))
}

/// Refuses adapters that PEFT would apply in another way than `y = W x + (alpha / r) B A x`.
fn refuse_variants(path: &Path, config: &ReadConfig) -> Result<(), FileError> {
    if config.peft_type != "LORA" {
        return Err(FileError::content(path, "peft_type", "LORA", &config.peft_type));
    }
    if config.r == 0 {
        return Err(FileError::content(path, "r", "at least 1", config.r));
    }
    if !config.lora_alpha.is_finite() {
        return Err(FileError::content(path, "lora_alpha", "a finite number", config.lora_alpha));
    }
    for key in ["use_rslora", "use_dora", "use_qalora", "lora_bias", "fan_in_fan_out"] {
        if config.others.get(key).is_some_and(|value| value != false) {
            return Err(FileError::content(path, key, "false", config.others.get(key).unwrap_or_default()));
        }
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        let empty =
            |value: &serde_json::Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(value) = config.others.get(key)
            && !empty(value)
        {
            return Err(FileError::content(path, key, "nothing", value));
        }
    }
    for key in [
        "modules_to_save",
        "layer_replication",
        "trainable_token_indices",
        "target_parameters",
        "exclude_modules",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "monteclora_config",
        "use_bdlora",
        "velora_config",
    ] {
        if let Some(value) = config.others.get(key)
            && !value.is_null()
        {
            return Err(FileError::content(path, key, "null", value));
        }
    }
    if let Some(value) = config.others.get("bias")
        && value != "none"
    {
        return Err(FileError::content(path, "bias", "none", value));
    }
    Ok(())
}
