//! Base models and checkpoints, put together to a model that runs.

use std::path::{Path, PathBuf};

use aloud_base::numerics::Numerics;
use aloud_kernels::cpu::Cpu;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, CheckpointError, Trained, load_peft_adapter};
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::load::{PretrainedModel, load};
use aloud_model::lora::Lora;
use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};
use aloud_text::text_codec::TextCodec;

use crate::bail;
use crate::error::{Context as _, SessionError};
use crate::full_weights;
use crate::host::Host;
use crate::model_kind::kind_of_directory;
use crate::numerics::{ActivationChoice, of_model};

/// A model on the processor, with adapters and exit heads if a checkpoint was given.
#[derive(Debug)]
pub struct LoadedModel {
    /// The base model as the user, or the checkpoint, named it.
    pub source: ModelSource,
    /// Where the base model lies on the disk.
    pub location: ResolvedSource,
    /// What identifies the base model's weights, start adapter included.
    pub identity: BaseIdentity,
    /// SHA-256 of the base model's start adapter, if it has one.
    pub start_adapter_sha256: Option<String>,
    /// The weights on the processor.
    pub decoder: Decoder<Cpu>,
    /// Adapters and exit heads.
    pub policy: Option<Policy<Cpu>>,
    /// Where they came from.
    pub checkpoint: Option<PathBuf>,
    /// The exit offset that the checkpoint recommends.
    pub recommended_offset: Option<f32>,
    /// What numbers it runs with.
    pub numerics: Numerics,
}

/// A base model in memory.
#[derive(Clone, Debug)]
pub struct BaseModel {
    /// As the user named it.
    pub source: ModelSource,
    /// Where it lies on the disk.
    pub location: ResolvedSource,
    /// Configuration and weights.
    pub pretrained: PretrainedModel,
    /// What identifies the weights: source as named, and hash.
    pub identity: BaseIdentity,
}

impl BaseModel {
    /// Finds, fetches if need be, and reads a base model.
    ///
    /// # Errors
    /// If it cannot be had or read.
    pub fn load(source: &ModelSource, host: &dyn Host) -> Result<Self, SessionError> {
        let location = resolve(source, host)?;
        tracing::info!(path = %location.path().display(), "reading weights");
        let pretrained = load(&location)?;
        let identity = BaseIdentity { source: source.to_string(), sha256: pretrained.identity.sha256.clone() };
        tracing::info!(sha256 = identity.sha256, parameters = pretrained.identity.parameters, "read weights");
        Ok(Self { source: source.clone(), location, pretrained, identity })
    }

    /// The model with a start adapter as a part of it.
    ///
    /// # Errors
    /// If the adapter does not fit the model.
    pub fn with_start_adapter(mut self, adapter: Lora) -> Result<Self, SessionError> {
        self.pretrained = self.pretrained.with_start_adapter(adapter)?;
        self.identity.sha256.clone_from(&self.pretrained.identity.sha256);
        Ok(self)
    }

    /// The model with the PEFT adapter in `folder` as its start adapter. Tokenizer and chat template stay the model's own.
    ///
    /// # Errors
    /// If the adapter cannot be read, or does not fit the model.
    pub fn with_peft_adapter(self, folder: &Path, host: &dyn Host) -> Result<Self, SessionError> {
        let adapter = load_peft_adapter(folder, &self.pretrained.config)?;
        let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).ok();
        let differs = |name: &&str| {
            let own = read(folder, name);
            own.is_some() && own != read(self.location.path(), name)
        };
        if let Some(name) = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"].into_iter().find(differs)
        {
            let folder = folder.display();
            host.say(&format!(
                "note: {folder} has a {name} of its own; tokenizer and template of {} are used",
                self.source
            ));
        }
        self.with_start_adapter(adapter)
    }
}

/// Finds a model on the disk, or fetches it with a progress bar.
///
/// # Errors
/// If it cannot be had, or is no base model (a usage error).
pub fn resolve(source: &ModelSource, host: &dyn Host) -> Result<ResolvedSource, SessionError> {
    resolve_with(source, &host.fetch_settings(), host)
}

/// The same with settings of one's own.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(
    source: &ModelSource,
    settings: &FetchSettings,
    host: &dyn Host,
) -> Result<ResolvedSource, SessionError> {
    if let Some(kind) = kind_of_directory(source)? {
        return Err(SessionError::usage(format!("{source} is {kind}, and a base model is needed here")));
    }
    // A path has nothing to show: it is there, or it is not.
    let mut progress = (!matches!(source, ModelSource::Path(_))).then(|| host.fetching(&source.to_string()));
    let mut on_event = |event| progress.iter_mut().for_each(|on_fetch| on_fetch(&event));
    Ok(source.resolve(settings, &mut on_event)?)
}

impl LoadedModel {
    /// Puts a base model, and a checkpoint trained for it, on the processor.
    ///
    /// # Errors
    /// If they do not belong together, or the weights do not allow these activations (a usage error).
    pub fn assemble(
        mut base: BaseModel,
        checkpoint: Option<(PathBuf, Checkpoint)>,
        cpu: &Cpu,
        activations: ActivationChoice,
    ) -> Result<Self, SessionError> {
        let start_adapter_sha256 = base.pretrained.weights.start_adapter.as_ref().map(Lora::sha256);
        let trained = match &checkpoint {
            Some((path, checkpoint)) => Some((check_checkpoint(path, checkpoint, &mut base)?, checkpoint)),
            None => None,
        };
        let weights = &base.pretrained.weights;
        let cpu = &cpu.with_activations(activations.resolve(weights, &base.source)?);
        let policy = trained.map(|(lora, Checkpoint { exit_heads, exit_translators, exit_propagation, .. })| {
            Policy::new(cpu, lora, exit_heads.clone())
                .with_translators(exit_translators.as_ref())
                .with_propagation(exit_propagation.as_ref())
        });
        let recommended_offset = checkpoint.as_ref().and_then(|(_, checkpoint)| checkpoint.exit_offset);
        let decoder = Decoder::new(cpu, &base.pretrained.config, weights);
        let mut numerics = of_model(&decoder, policy.as_ref());
        numerics.merged =
            checkpoint.as_ref().is_some_and(|(_, checkpoint)| matches!(checkpoint.trained, Trained::Merged));
        Ok(Self {
            source: base.source,
            location: base.location,
            identity: base.identity,
            start_adapter_sha256,
            decoder,
            policy,
            checkpoint: checkpoint.map(|(path, _)| path),
            recommended_offset,
            numerics,
        })
    }

    /// Number of blocks `L`, the full depth.
    pub fn n_blocks(&self) -> usize {
        self.decoder.n_blocks()
    }

    /// Depths of the exit heads, if there are any.
    pub fn head_depths(&self) -> Option<&[usize]> {
        self.policy.as_ref().map(|policy| policy.heads.candidates.as_slice())
    }

    /// Exits as the checkpoint recommends them; none without exit heads.
    pub fn recommended_exits(&self) -> ExitPolicy {
        match self.policy {
            Some(_) => ExitPolicy::Sampled { offset: self.recommended_offset.unwrap_or(0.0).into() },
            None => ExitPolicy::Off,
        }
    }

    /// Reads the tokenizer and chat template, and checks that the tokenizer belongs to the weights.
    ///
    /// # Errors
    /// If they cannot be read, or do not belong to the weights.
    pub fn text_codec(&self) -> Result<TextCodec, SessionError> {
        let codec = TextCodec::load(&self.location)?;
        codec.tokenizer.check_vocabulary(self.decoder.config().vocab_size)?;
        Ok(codec)
    }
}

/// Checks that a checkpoint belongs to a base model, and puts its full weights, if it has them, in the place of the base
/// model's; returns its adapters otherwise.
///
/// # Errors
/// If they do not belong together, or a tensor is missing or of another shape.
pub fn check_checkpoint<'a>(
    path: &Path,
    checkpoint: &'a Checkpoint,
    base: &mut BaseModel,
) -> Result<Option<&'a Lora>, SessionError> {
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
        Trained::Merged | Trained::Exits => Ok(None),
    }
}

fn check_base(path: &Path, checkpoint: &Checkpoint, base: &BaseModel) -> Result<(), SessionError> {
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
