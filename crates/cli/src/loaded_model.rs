//! Base models and checkpoints, put together to a model that runs.

use std::path::{Path, PathBuf};

use aloud_kernels::{Backend, Cpu};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, CheckpointError, Trained, load_peft_adapter};
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::{PretrainedModel, load};
use aloud_model::lora::Lora;
use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};
use aloud_model::text_codec::TextCodec;
use anyhow::{Context as _, bail};

use crate::context::{Context, fetch_settings};
use crate::error::UsageError;
use crate::full_weights;
use crate::model_args::kind_of_directory;
use crate::progress::FetchProgress;

/// A model on the processor, with adapters and exit heads if a checkpoint was given.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    /// The base model as the user, or the checkpoint, named it.
    pub(crate) source: ModelSource,
    /// Where the base model lies on the disk.
    pub(crate) location: ResolvedSource,
    /// What identifies the base model's weights, start adapter included.
    pub(crate) identity: BaseIdentity,
    /// SHA-256 of the base model's start adapter, if it has one.
    pub(crate) start_adapter_sha256: Option<String>,
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

    /// The model with a start adapter as a part of it.
    pub(crate) fn with_start_adapter(mut self, adapter: Lora) -> anyhow::Result<Self> {
        self.pretrained = self.pretrained.with_start_adapter(adapter)?;
        self.identity.sha256.clone_from(&self.pretrained.identity.sha256);
        Ok(self)
    }

    /// The model with the PEFT adapter in `folder` as its start adapter. Tokenizer and chat template stay the model's own.
    pub(crate) fn with_peft_adapter(self, folder: &Path, context: &Context) -> anyhow::Result<Self> {
        let adapter = load_peft_adapter(folder, &self.pretrained.config)?;
        let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).ok();
        let differs = |name: &&str| {
            let own = read(folder, name);
            own.is_some() && own != read(self.location.path(), name)
        };
        if let Some(name) = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"].into_iter().find(differs)
        {
            let folder = folder.display();
            context.say(&format!(
                "note: {folder} has a {name} of its own; tokenizer and template of {} are used",
                self.source
            ));
        }
        self.with_start_adapter(adapter)
    }
}

/// Finds a model on the disk, or fetches it with a progress bar.
pub(crate) fn resolve(source: &ModelSource, context: &Context) -> anyhow::Result<ResolvedSource> {
    resolve_with(source, &fetch_settings(), context)
}

/// The same with settings of one's own.
pub(crate) fn resolve_with(
    source: &ModelSource,
    settings: &FetchSettings,
    context: &Context,
) -> anyhow::Result<ResolvedSource> {
    if let Some(kind) = kind_of_directory(source)? {
        return Err(UsageError::new(format!("{source} is {kind}, and a base model is needed here")).into());
    }
    // A path has nothing to show: it is there, or it is not.
    let mut progress =
        (!matches!(source, ModelSource::Path(_))).then(|| FetchProgress::new(context, &source.to_string()));
    let mut on_event = |event| progress.iter_mut().for_each(|progress| progress.on_event(&event));
    Ok(source.resolve(settings, &mut on_event)?)
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
        let start_adapter_sha256 = base.pretrained.weights.start_adapter.as_ref().map(Lora::sha256);
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
            start_adapter_sha256,
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
pub(crate) fn check_checkpoint<'a>(
    path: &Path,
    checkpoint: &'a Checkpoint,
    base: &mut BaseModel,
) -> anyhow::Result<Option<&'a Lora>> {
    check_base(path, checkpoint, base)?;
    match &checkpoint.trained {
        Trained::Lora(lora) => {
            lora.check_fits(&base.pretrained.config).with_context(|| format!("checkpoint {}", path.display()))?;
            Ok(Some(lora))
        }
        Trained::Full(tensors) => {
            full_weights::replace(&mut base.pretrained.weights, tensors, &path.join("model.safetensors"))?;
            Ok(None)
        }
    }
}

fn check_base(path: &Path, checkpoint: &Checkpoint, base: &BaseModel) -> anyhow::Result<()> {
    let start = |adapter: Option<&Lora>| adapter.map_or_else(|| "none".to_owned(), Lora::sha256);
    let (found, expected) =
        (start(base.pretrained.weights.start_adapter.as_ref()), start(checkpoint.start_adapter.as_ref()));
    if found != expected {
        bail!(
            "checkpoint {} was trained beside another start adapter (SHA-256: {expected}) than the one given ({found}); it \
             brings its own: name its base model alone",
            path.display()
        );
    }
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
