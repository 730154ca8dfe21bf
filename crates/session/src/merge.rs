//! A checkpoint's adapters folded into its base model's weights, written as a model of its own, and how far that one is from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aloud_kernels::cpu::Cpu;
use aloud_kernels::dtype::DType;
use aloud_model::checkpoint::files::write_json;
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, Trained, write_folder};
use aloud_model::gguf::GgufFile;
use aloud_model::merged::Merged;
use aloud_model::source::{ModelSource, ResolvedSource};
use aloud_text::chat_template::TemplateSource;
use aloud_text::tokenizer::Tokenizer;
use serde::Serialize;

use crate::bail;
use crate::difference::{Difference, SampleText};
use crate::error::SessionError;
use crate::host::Host;
use crate::loaded_model::{BaseModel, LoadedModel, check_checkpoint};
use crate::model_choice::ModelChoice;
use crate::numerics::ActivationChoice;

/// Version of `merge.json`.
const FORMAT_VERSION: u32 = 1;
/// What was merged, in the model's folder.
pub const MERGE_FILE: &str = "merge.json";

/// What to make of a model.
#[derive(Clone, Debug)]
pub struct MergeSettings {
    /// The folder to write; must not be there.
    pub output: PathBuf,
    /// The format of the matrices; `None`: the one that most of the base's have.
    pub dtype: Option<DType>,
    /// A text to compare the models over, in place of the built-in one.
    pub text: Option<PathBuf>,
}

/// What was merged, and how far the result is from it: `merge.json`.
#[derive(Clone, Debug, Serialize)]
pub struct MergeReport {
    /// 1.
    pub format_version: u32,
    /// Version of the program.
    pub version: &'static str,
    /// The base model; the hash is that of weights and start adapter together.
    pub base: BaseIdentity,
    /// SHA-256 of the start adapter that was folded in.
    pub start_adapter_sha256: Option<String>,
    /// The checkpoint that was folded in.
    pub checkpoint: Option<MergedCheckpoint>,
    /// Number of matrices and vectors that differ from the base's values.
    pub changed_parameters: usize,
    /// The format of the changed matrices.
    pub dtype: &'static str,
    /// `safetensors` or `gguf`.
    pub container: &'static str,
    /// SHA-256 of the merged model's weights.
    pub sha256: String,
    /// How far the merged model is from the unmerged one.
    pub difference: Difference,
}

/// A checkpoint that was merged.
#[derive(Clone, Debug, Serialize)]
pub struct MergedCheckpoint {
    /// Where it was.
    pub path: PathBuf,
    /// [`Checkpoint::digest`].
    pub sha256: String,
}

/// Folds the adapters of a model into its weights, writes the result and compares the two. The folder appears whole or not at
/// all: with the model, the report and, of a checkpoint, its exit heads and description.
///
/// # Errors
/// If there is nothing to merge and no other format is asked for, or the folder is there (usage errors); if a file cannot be read
/// or written, the base is no GGUF file and the format needs one, or values do not fit the format.
pub fn merge(choice: &ModelChoice, settings: &MergeSettings, host: &dyn Host) -> Result<MergeReport, SessionError> {
    let output = &settings.output;
    if output.symlink_metadata().is_ok() {
        return Err(SessionError::usage(format!("--output {} is there already: name a new folder", output.display())));
    }
    let text = SampleText::read(settings.text.as_deref())?;
    let cpu = host.cpu();
    let (base, checkpoint) = choice.load_parts(host)?;
    let parts = Parts::fold(&base, checkpoint.as_ref(), settings)?;
    let text_files = text_files(&base.location)?;
    let unmerged = LoadedModel::assemble(base, checkpoint.clone(), &cpu, ActivationChoice::F32)?;
    let mut report = None;
    write_folder(output, |folder| {
        report = Some(parts.write(folder, settings, checkpoint, &text_files, (&unmerged, &text), host, &cpu)?);
        Ok::<_, SessionError>(())
    })?;
    match report {
        Some(report) => Ok(report),
        None => bail!("{} was not written", output.display()),
    }
}

/// The merged weights, and what they were made of.
struct Parts {
    /// With the adapters in the weights.
    model: BaseModel,
    changed: BTreeSet<String>,
    usual: DType,
    dtype: DType,
    start_adapter_sha256: Option<String>,
    merged_checkpoint: Option<MergedCheckpoint>,
}

impl Parts {
    fn fold(
        base: &BaseModel,
        checkpoint: Option<&(PathBuf, Checkpoint)>,
        settings: &MergeSettings,
    ) -> Result<Self, SessionError> {
        let mut model = base.clone();
        let usual = model.pretrained.weights.usual_dtype();
        let dtype = settings.dtype.unwrap_or(usual);
        let start_adapter = model.pretrained.weights.start_adapter.as_ref();
        let start_adapter_sha256 = start_adapter.map(aloud_model::lora::Lora::sha256);
        let trained = checkpoint.map(|(_, checkpoint)| &checkpoint.trained);
        let has_adapters = start_adapter.is_some() || matches!(trained, Some(Trained::Lora(_) | Trained::Full(_)));
        if !has_adapters && dtype == usual {
            return Err(SessionError::usage(format!(
                "nothing to merge: {} has no adapters, and its matrices are {} already; name a checkpoint or a PEFT adapter, or \
                 another --dtype",
                base.source,
                usual.name()
            )));
        }
        let lora = match checkpoint {
            Some((path, checkpoint)) => check_checkpoint(path, checkpoint, &mut model)?,
            None => None,
        };
        let weights = &mut model.pretrained.weights;
        let mut changed = weights.fold_start_adapter();
        changed.extend(lora.map(|lora| weights.fold(lora)).unwrap_or_default());
        if matches!(trained, Some(Trained::Full(_))) {
            changed.extend(weights.parameters().into_iter().map(|(name, _)| name));
        }
        let merged_checkpoint = match checkpoint {
            Some((path, _)) => Some(MergedCheckpoint { path: path.clone(), sha256: Checkpoint::digest(path)? }),
            None => None,
        };
        let parts = Self { model, changed, usual, dtype, start_adapter_sha256, merged_checkpoint };
        // What cannot be written is said before anything is.
        parts.merged().container()?;
        Ok(parts)
    }

    fn merged(&self) -> Merged<'_> {
        Merged {
            source: &self.model.location,
            config: &self.model.pretrained.config,
            weights: &self.model.pretrained.weights,
            changed: &self.changed,
            usual: self.usual,
            dtype: self.dtype,
        }
    }

    /// Fills `folder`, which is to become the output.
    fn write(
        &self,
        folder: &Path,
        settings: &MergeSettings,
        checkpoint: Option<(PathBuf, Checkpoint)>,
        text_files: &[(String, Vec<u8>)],
        (unmerged, text): (&LoadedModel, &SampleText),
        host: &dyn Host,
        cpu: &Cpu,
    ) -> Result<MergeReport, SessionError> {
        let merged = self.merged();
        merged.write(folder, text_files)?;
        let base = BaseModel::load(&ModelSource::Path(folder.to_owned()), host)?;
        let checkpoint = checkpoint.map(|(path, checkpoint)| {
            let source = settings.output.display().to_string();
            let base = BaseIdentity { source, sha256: base.identity.sha256.clone() };
            (path, Checkpoint { base, start_adapter: None, trained: Trained::Merged, ..checkpoint })
        });
        let sha256 = base.identity.sha256.clone();
        let model = LoadedModel::assemble(base, checkpoint.clone(), cpu, ActivationChoice::F32)?;
        let report = MergeReport {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            base: self.model.identity.clone(),
            start_adapter_sha256: self.start_adapter_sha256.clone(),
            checkpoint: self.merged_checkpoint.clone(),
            changed_parameters: self.changed.len(),
            dtype: self.dtype.name(),
            container: merged.container()?.name(),
            sha256,
            difference: Difference::between(unmerged, &model, text)?,
        };
        if let Some((_, checkpoint)) = &checkpoint {
            checkpoint.write_beside_model(folder)?;
        }
        write_json(&folder.join(MERGE_FILE), &report)?;
        Ok(report)
    }
}

/// The files of a tokenizer that has none of its own: it is in the metadata of a GGUF file.
fn text_files(location: &ResolvedSource) -> Result<Vec<(String, Vec<u8>)>, SessionError> {
    let ResolvedSource::Gguf(path) = location else { return Ok(Vec::new()) };
    let file = GgufFile::open(path)?;
    if file.string("tokenizer.ggml.model")?.is_none() {
        return Ok(Vec::new());
    }
    let template = TemplateSource::from_gguf(&file)?;
    Ok(Tokenizer::from_gguf(&file)?.files(template.as_ref().map(|template| template.text.as_str()))?)
}
