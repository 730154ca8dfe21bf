//! One way to name a model, a checkpoint and its base: which files are meant, and that they belong together.

use std::path::{Path, PathBuf};

use aloud_kernels::cpu::Cpu;
use aloud_model::checkpoint::{Checkpoint, CheckpointError, Trained, peft_base};
use aloud_model::source::ModelSource;

use crate::error::{Context as _, SessionError};
use crate::host::Host;
use crate::loaded_model::{BaseModel, LoadedModel, check_checkpoint};
use crate::model_kind::{Named, kind_of_directory, what_is};
use crate::numerics::ActivationChoice;

/// How models are named, for messages.
const FORMS: &str = "use one of: --model MODEL; --model DIR [--base MODEL]; --checkpoint DIR [--base MODEL]; --model MODEL \
                     --checkpoint DIR, where DIR is a checkpoint, a run or a PEFT adapter";

/// Which model to run, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct ModelChoice {
    /// A model, or a checkpoint, a run or a PEFT adapter.
    pub model: Option<ModelSource>,
    /// Adapters and exit heads: a checkpoint, or a training run (its latest checkpoint).
    pub checkpoint: Option<PathBuf>,
    /// Base model of the checkpoint or PEFT adapter, if it is not where it was at training.
    pub base: Option<ModelSource>,
}

/// What the arguments name together.
struct Choice {
    base: ModelSource,
    /// Where the base is named, if not in the arguments: for a message if it is not there any more.
    recorded_by: Option<PathBuf>,
    start_adapter: Option<PathBuf>,
    checkpoint: Option<(PathBuf, Checkpoint)>,
}

impl ModelChoice {
    /// The arguments that name a model, checkpoint or run by itself, and the base model of a checkpoint.
    pub fn of(model: &ModelSource, base: Option<&ModelSource>) -> Self {
        Self { model: Some(model.clone()), checkpoint: None, base: base.cloned() }
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.checkpoint.is_none() && self.base.is_none()
    }

    /// Loads what the arguments name, to take activations so.
    ///
    /// # Errors
    /// If nothing is named or the weights do not allow these activations (usage errors), a file is missing or damaged, or model
    /// and checkpoint do not belong together.
    pub fn load(&self, cpu: &Cpu, activations: ActivationChoice, host: &dyn Host) -> Result<LoadedModel, SessionError> {
        Ok(self.load_with_base(cpu, activations, host)?.0)
    }

    /// Loads what the arguments name, and the base model (with its start adapter) as it was before it was trained.
    ///
    /// # Errors
    /// As [`ModelChoice::load`].
    pub fn load_with_base(
        &self,
        cpu: &Cpu,
        activations: ActivationChoice,
        host: &dyn Host,
    ) -> Result<(LoadedModel, BaseModel), SessionError> {
        let choice = self.choose()?;
        let base = choice.load_base(host)?;
        Ok((LoadedModel::assemble(base.clone(), choice.checkpoint, cpu, activations)?, base))
    }

    /// Loads a base model (with its start adapter) and, if one is named, the checkpoint that was trained for it, as they are.
    ///
    /// # Errors
    /// As [`ModelChoice::load`].
    pub fn load_parts(&self, host: &dyn Host) -> Result<(BaseModel, Option<(PathBuf, Checkpoint)>), SessionError> {
        let choice = self.choose()?;
        let base = choice.load_base(host)?;
        Ok((base, choice.checkpoint))
    }

    /// Loads a base model and the checkpoint that was trained for it, to go on training.
    ///
    /// # Errors
    /// If no checkpoint is named or it is a merged one (usage errors), or they do not belong together.
    pub fn load_to_train(&self, host: &dyn Host) -> Result<(BaseModel, PathBuf, Checkpoint), SessionError> {
        let choice = self.choose()?;
        let Some((path, checkpoint)) = choice.checkpoint.clone() else {
            return Err(SessionError::usage("name a checkpoint of stage 1 with --checkpoint: distil one first"));
        };
        if matches!(checkpoint.trained, Trained::Merged) {
            return Err(SessionError::usage(format!(
                "{} is a merged model, and its adapters cannot be trained any more: go on from the checkpoint that it was made of",
                path.display()
            )));
        }
        let base = choice.load_base(host)?;
        check_checkpoint(&path, &checkpoint, &mut base.clone())?;
        Ok((base, path, checkpoint))
    }

    /// Loads the base model (with its start adapter) that the arguments name, or that of the checkpoint that they name: the
    /// teacher.
    ///
    /// # Errors
    /// As [`ModelChoice::load`].
    pub fn load_teacher(&self, host: &dyn Host) -> Result<BaseModel, SessionError> {
        let choice = self.choose()?;
        if let Some((path, _)) = &choice.checkpoint {
            host.say(&format!("the teacher is the base model of {}, at full depth", path.display()));
        }
        choice.load_base(host)
    }

    /// Loads the base model (with its start adapter) that stage 1 starts from.
    ///
    /// # Errors
    /// As [`ModelChoice::load`]; if a checkpoint is named (a usage error).
    pub fn load_to_distill(&self, host: &dyn Host) -> Result<BaseModel, SessionError> {
        let choice = self.choose()?;
        if let Some((path, _)) = &choice.checkpoint {
            return Err(SessionError::usage(format!(
                "{} is a checkpoint: stage 1 starts from a base model (--model MODEL) or from a PEFT adapter (--model DIR \
                 --base MODEL); stage 2, aloud reinforce, goes on from a checkpoint",
                path.display()
            )));
        }
        choice.load_base(host)
    }

    /// The base model that the arguments name, without loading it.
    ///
    /// # Errors
    /// As [`ModelChoice::load`].
    pub fn base_source(&self) -> Result<ModelSource, SessionError> {
        Ok(self.choose()?.base)
    }

    fn choose(&self) -> Result<Choice, SessionError> {
        let (mut model, mut checkpoint, mut adapter) = (None, None, None);
        let checkpoint_source = self.checkpoint.clone().map(ModelSource::Path);
        for (flag, source) in [("--model", &self.model), ("--checkpoint", &checkpoint_source)] {
            let Some(source) = source else { continue };
            let taken = match what_is(source)? {
                Named::Checkpoint(path) => checkpoint.replace(path).map(|_| "a checkpoint"),
                Named::Adapter(path) => adapter.replace(path).map(|_| "a PEFT adapter"),
                Named::Model(source) if flag == "--model" => model.replace(source).map(|_| "a model"),
                Named::Model(source) => {
                    return Err(CheckpointError::NotACheckpoint { path: source.to_string().into() }.into());
                }
            };
            if let Some(kind) = taken {
                return Err(refused(&format!("--model and --checkpoint both name {kind}: give one of them")));
            }
        }
        if let Some(base) = &self.base {
            check_base_argument(base, model.as_ref(), checkpoint.is_some() || adapter.is_some())?;
        }
        let checkpoint =
            checkpoint.map(|path| Ok::<_, SessionError>((path.clone(), Checkpoint::load(&path, None)?))).transpose()?;
        let named = self.base.clone().or(model);
        let (base, recorded_by) = match (named, &checkpoint, &adapter) {
            (Some(base), ..) => (base, None),
            (None, Some((path, Checkpoint { trained: Trained::Merged, .. })), _) => {
                (ModelSource::Path(path.clone()), None)
            }
            (None, Some((path, checkpoint)), _) => {
                let base = checkpoint.base.source.parse().with_context(|| {
                    format!("the base model of checkpoint {} is not known: name it with --base", path.display())
                })?;
                (base, Some(path.clone()))
            }
            (None, None, Some(path)) => (local_base(path)?, Some(path.clone())),
            (None, None, None) => return Err(refused("name a model")),
        };
        Ok(Choice { base, recorded_by, start_adapter: adapter, checkpoint })
    }
}

impl Choice {
    /// The base model, with the start adapter of the arguments or of the checkpoint.
    fn load_base(&self, host: &dyn Host) -> Result<BaseModel, SessionError> {
        let mut base = BaseModel::load(&self.base, host);
        if let Some(path) = &self.recorded_by {
            let (path, base_name) = (path.display(), &self.base);
            base = base.with_context(|| {
                format!("{path} names the base model {base_name}; if it has moved, name it with --base")
            });
        }
        let start_adapter = self.checkpoint.as_ref().and_then(|(_, checkpoint)| checkpoint.start_adapter.clone());
        match (&self.start_adapter, start_adapter) {
            (Some(folder), _) => base?.with_peft_adapter(folder, host),
            (None, Some(adapter)) => base?.with_start_adapter(adapter),
            (None, None) => base,
        }
    }
}

/// Refuses a `--base` that is not one, that nothing was trained on, or that another argument names too.
fn check_base_argument(base: &ModelSource, model: Option<&ModelSource>, has_trained: bool) -> Result<(), SessionError> {
    if !has_trained {
        return Err(refused("--base names the base model of a checkpoint or PEFT adapter, and none is given"));
    }
    if let Some(model) = model {
        return Err(refused(&format!("--model {model} and --base {base} both name the base model: give one of them")));
    }
    if let Some(kind) = kind_of_directory(base)? {
        return Err(refused(&format!("--base {base} is {kind}, not a base model")));
    }
    Ok(())
}

/// A usage error with the forms that are accepted.
fn refused(problem: &str) -> SessionError {
    SessionError::usage(format!("{problem}; {FORMS}"))
}

/// The base model that a PEFT adapter names, if it is on this machine's disk: an adapter never starts a download.
fn local_base(adapter: &Path) -> Result<ModelSource, SessionError> {
    let Some(name) = peft_base(adapter)? else {
        return Err(refused(&format!(
            "the PEFT adapter {} does not name its base model: give --base",
            adapter.display()
        )));
    };
    match name.parse() {
        Ok(ModelSource::TinyReasoner) => Ok(ModelSource::TinyReasoner),
        Ok(ModelSource::Path(path)) if path.exists() => Ok(ModelSource::Path(path)),
        _ => {
            let example = if name.contains(':') { name.clone() } else { format!("hf:{name}") };
            Err(refused(&format!(
                "the PEFT adapter {} was trained on `{name}` (base_model_name_or_path), which is no path on this machine, and \
                 an adapter never starts a download: name its base model, such as --base {example}",
                adapter.display()
            )))
        }
    }
}
