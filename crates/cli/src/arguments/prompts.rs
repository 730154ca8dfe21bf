//! Prompts and how they are written for the model, as arguments.

use std::path::PathBuf;
use std::sync::Arc;

use aloud_session::prompts::{PromptChoice, Template, TemplateVariables, template_variable};
use aloud_session::tasks::task;
use aloud_tasks::item::Split;
use aloud_tasks::task::Task;
use clap::Args;
use serde_json::Value;

use crate::arguments::{Choice, one_of};

/// Parts of a data set.
pub(crate) const SPLITS: [Choice<Split>; 2] =
    [("train", "For training and for tuning settings", Split::Train), ("test", "Held out", Split::Test)];

/// Where prompts come from.
#[derive(Args, Clone, Debug)]
pub(crate) struct PromptArgs {
    /// A prompt; may be given several times
    #[arg(long, short, value_name = "TEXT", conflicts_with_all = ["data", "prompts"])]
    prompt: Vec<String>,
    /// A data source: word-problems, serial, chain, perm, vars (all also with :steps=N), tom, gsm8k:PATH, hf:openai/gsm8k, FILE.jsonl, FILE.json, FILE.csv
    #[arg(long, value_name = "SOURCE", value_parser = task, conflicts_with = "prompts")]
    data: Option<Arc<dyn Task>>,
    /// A prompt file: JSON Lines, one JSON array, or CSV
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Number of prompts to take from a data source or file
    #[arg(long, value_name = "N")]
    n: Option<usize>,
    /// Part of the data source [default: train where something is trained or tuned (trace, dial), else test]
    #[arg(long, value_parser = one_of(&SPLITS))]
    split: Option<Split>,
    /// Seed of the choice of prompts
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    data_seed: u64,
    #[command(flatten)]
    template: TemplateArgs,
}

impl PromptArgs {
    /// What the arguments ask for.
    pub(crate) fn choice(&self) -> PromptChoice {
        PromptChoice {
            prompt: self.prompt.clone(),
            data: self.data.clone(),
            prompts: self.prompts.clone(),
            n: self.n,
            split: self.split,
            data_seed: self.data_seed,
            template: self.template.choice(),
        }
    }
}

/// Variables of the chat template.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TemplateVariableArgs {
    /// A variable of the model's chat template, such as enable_thinking=false (JSON, or else a text); may be given several times
    #[arg(long = "template-arg", value_name = "KEY=VALUE", value_parser = template_variable)]
    template_args: Vec<(String, Value)>,
}

impl TemplateVariableArgs {
    /// The variables.
    pub(crate) fn choice(&self) -> TemplateVariables {
        TemplateVariables(self.template_args.clone())
    }
}

/// How prompts are written for the model.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TemplateArgs {
    /// Prompts are texts to be continued: no chat template
    #[arg(long)]
    raw: bool,
    /// System message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Written below each question [default: the answer format of word-problems, gsm8k and tom, else nothing]
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    variables: TemplateVariableArgs,
}

impl TemplateArgs {
    /// What the arguments ask for.
    pub(crate) fn choice(&self) -> Template {
        Template {
            raw: self.raw,
            system: self.system.clone(),
            instruction: self.instruction.clone(),
            variables: self.variables.choice(),
        }
    }
}
