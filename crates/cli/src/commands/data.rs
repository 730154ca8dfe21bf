//! `aloud data`: problems as JSON Lines, from the built-in generators or from GSM8K.

mod stories;
mod story_models;

use std::path::{Path, PathBuf};

use aloud_base::durable_file;
use aloud_tasks::gsm8k::Gsm8k;
use aloud_tasks::item::{Item, Split};
use aloud_tasks::task::Task;
use aloud_tasks::word_problems::MAX_STEPS;
use aloud_tasks::word_problems::task::WordProblems;
use clap::{Args, Subcommand};

use crate::arguments::one_of;
use crate::arguments::prompts::SPLITS;
use crate::context::{Context, print};
use aloud_session::error::SessionError;
use aloud_session::host::Host;

use stories::StoryArgs;

#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// Arithmetic word problems with worked solutions, made up from a seed
    WordProblems {
        /// Number of steps of each problem, 1 to 6 [default: mixed]
        #[arg(long, value_name = "K")]
        steps: Option<usize>,
        /// Number of problems
        #[arg(long, value_name = "N")]
        n: usize,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Theory-of-mind stories with questions and true answers: who believes what, and what they believe of others
    Tom(Box<StoryArgs>),
    /// GSM8K from a JSON Lines file, or a folder with train.jsonl and test.jsonl
    Gsm8k {
        /// The file or folder
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Number of problems, chosen by the seed [default: all]
        #[arg(long, value_name = "N")]
        n: Option<usize>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Args, Debug)]
struct OutputArgs {
    /// Which part of the data
    #[arg(long, value_parser = one_of(&SPLITS), default_value = "train")]
    split: Split,
    /// The same seed gives the same problems
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// File to write; `-` for stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &DataArgs, context: &Context) -> anyhow::Result<()> {
    let (task, n, output): (Box<dyn Task>, _, _) = match &arguments.source {
        Source::Tom(arguments) => return stories::run(arguments, context),
        Source::WordProblems { steps, n, output } => {
            if let Some(steps) = steps.filter(|steps| !(1..=MAX_STEPS).contains(steps)) {
                return Err(
                    SessionError::usage(format!("--steps {steps}: a problem has 1 to {MAX_STEPS} steps")).into()
                );
            }
            (Box::new(WordProblems { steps: *steps }), Some(*n), output)
        }
        Source::Gsm8k { path, n, output } => (Box::new(Gsm8k { path: Some(path.clone()) }), *n, output),
    };
    let items = task.load(n, output.seed, output.split)?;
    let line = |item: &Item| Ok(serde_json::to_string(item)? + "\n");
    let lines = items.iter().map(line).collect::<serde_json::Result<String>>()?;
    if output.out == Path::new("-") {
        print(&lines)?;
    } else {
        durable_file::write(&output.out, lines.as_bytes())?;
        context.say(&format!("{} problems in {}", items.len(), output.out.display()));
    }
    Ok(())
}
