//! What is asked of a model, as `eval` and `sweep` take it from the command line.

use std::sync::Arc;

use aloud_lab::evaluation::task_choice::TaskChoice;
use aloud_measure::metric_record::Tier;
use aloud_session::tasks::task;
use aloud_tasks::task::Task;
use clap::Args;

use crate::arguments::prompts::TemplateArgs;
use crate::arguments::{Choice, one_of};

/// What is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct TaskArgs {
    /// What is asked: serial (all three of chain, perm and vars), one of them, word-problems, tom, gsm8k:PATH or hf:openai/gsm8k
    #[arg(long, value_name = "TASK", value_parser = task, default_value = "serial")]
    pub(crate) task: Arc<dyn Task>,
    /// How much is asked
    #[arg(long, value_parser = one_of(&TIERS))]
    tier: Option<Tier>,
    /// Number of held-out items, in place of the tier's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    /// Seed of the items and of the exits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    template: TemplateArgs,
    /// Most sequences decoded together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Most traces of a task from which answers are elicited, for early answering and necessity [default: 200]
    #[arg(long, value_name = "N")]
    elicited: Option<u32>,
    /// Number of items that accuracy is measured on, the others included [default: with the controls that verdicts need, at the
    /// tiers standard and full without --n: as many as tell equal accuracies from others; else no more than are evaluated]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    accuracy_items: Option<u32>,
    /// Most tokens of a response [default: 96 for serial tasks, 400 for others]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
}

/// How much is asked.
const TIERS: [Choice<Tier>; 4] = [
    ("toy", "A few small items: whether everything works", Tier::Toy),
    ("smoke", "16 items a task", Tier::Smoke),
    ("standard", "200 items a task", Tier::Standard),
    ("full", "Everything there is; of the serial tasks 200 items of every number of steps", Tier::Full),
];

impl TaskArgs {
    /// What the arguments ask for.
    pub(crate) fn choice(&self) -> TaskChoice {
        TaskChoice {
            task: Arc::clone(&self.task),
            tier: self.tier,
            n: self.n,
            seed: self.seed,
            template: self.template.choice(),
            batch: self.batch,
            elicited: self.elicited,
            accuracy_items: self.accuracy_items,
            max_new_tokens: self.max_new_tokens,
        }
    }
}
