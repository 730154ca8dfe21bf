//! What is asked of a model, as `eval` and `sweep` take it from the command line.

use aloud_eval::Tier;
use aloud_kernels::Cpu;
use aloud_model::decoder::Decoder;
use aloud_model::text_codec::TextCodec;
use aloud_tasks::{DataSource, MAX_SERIAL_STEPS, SerialSource, SerialTask, Split};
use clap::{Args, ValueEnum};

use super::family::TaskFamily;
use super::number_family::NumberFamily;
use super::serial_family::SerialFamily;
use super::story_family::StoryFamily;
use crate::error::UsageError;
use crate::prompts::{TemplateArgs, stop_tokens};

/// What is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct AskedArgs {
    /// What is asked: serial (all three of chain, perm and vars), one of them, word-problems, tom, gsm8k:PATH or hf:openai/gsm8k
    #[arg(long, value_name = "TASK", default_value = "serial")]
    pub(crate) task: DataSource,
    /// How much is asked
    #[arg(long, value_enum)]
    pub(crate) tier: Option<TierArg>,
    /// Number of held-out items, in place of the tier's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) n: Option<u32>,
    /// Seed of the items and of the exits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Most sequences decoded together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// Most traces of a task from which answers are elicited, for D1 and D4 [default: 200; with --preset source-table: 0]
    #[arg(long, value_name = "N")]
    pub(crate) elicited: Option<u32>,
    /// Most tokens of a response [default: 96 for serial tasks, 400 for others]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
}

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedKind {
    /// One of the serial tasks, or all of them.
    Serial(Option<SerialTask>),
    /// Problems with a number for an answer.
    Numbers,
    /// Questions about theory-of-mind stories.
    Stories,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArg {
    /// A few small items: whether everything works
    Toy,
    /// 16 items a task
    Smoke,
    /// 200 items a task
    Standard,
    /// Everything there is; of the serial tasks 200 items of every number of steps
    Full,
}

impl From<TierArg> for Tier {
    fn from(tier: TierArg) -> Self {
        match tier {
            TierArg::Toy => Self::Toy,
            TierArg::Smoke => Self::Smoke,
            TierArg::Standard => Self::Standard,
            TierArg::Full => Self::Full,
        }
    }
}

/// Most tokens of a response to a serial item: the longest right one has fewer.
const SERIAL_TOKENS: usize = 96;

/// Most tokens of any other response.
const OTHER_TOKENS: usize = 400;

impl AskedArgs {
    /// How much is asked.
    pub(crate) fn tier(&self) -> Tier {
        self.tier.map_or(Tier::Standard, Tier::from)
    }

    /// Most traces of a task from which answers are elicited.
    pub(crate) fn n_elicited(&self) -> usize {
        const DEFAULT: usize = 200;
        self.elicited.map_or(DEFAULT, |n| n as usize)
    }

    /// Most tokens of a response.
    pub(crate) fn max_new_tokens(&self) -> usize {
        let default = if matches!(self.task, DataSource::Serial(_)) { SERIAL_TOKENS } else { OTHER_TOKENS };
        self.max_new_tokens.map_or(default, |n| n as usize)
    }

    /// Which kind of task is asked.
    ///
    /// # Errors
    /// If it is none that can be evaluated (a usage error).
    pub(crate) fn kind(&self) -> Result<AskedKind, UsageError> {
        match &self.task {
            DataSource::Serial(SerialSource { task, steps }) if *steps == (1..=MAX_SERIAL_STEPS) => {
                Ok(AskedKind::Serial(*task))
            }
            DataSource::WordProblems { steps: None } | DataSource::Gsm8k(_) | DataSource::Gsm8kCache => {
                Ok(AskedKind::Numbers)
            }
            DataSource::Stories => Ok(AskedKind::Stories),
            other => Err(UsageError::new(format!(
                "--task {other}: expected serial, chain, perm, vars, word-problems, tom, gsm8k:PATH or hf:openai/gsm8k"
            ))),
        }
    }

    /// Items of a part of the data, ready to be asked.
    ///
    /// # Errors
    /// If they cannot be read or made.
    pub(crate) fn family<'a>(
        &self,
        split: Split,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> anyhow::Result<Box<dyn TaskFamily + 'a>> {
        let (n, tier, max_new_tokens) = (self.n.map(|n| n as usize), self.tier(), self.max_new_tokens());
        let n_of_task = n.or(items_of_a_task(tier));
        let stops = || stop_tokens(codec, &decoder.config().eos_token_ids);
        let (seed, template) = (self.seed, &self.template);
        Ok(match self.kind()? {
            AskedKind::Numbers => Box::new(NumberFamily::new(
                &self.task,
                n_of_task,
                split,
                seed,
                codec,
                template,
                stops(),
                max_new_tokens,
            )?),
            AskedKind::Stories => {
                Box::new(StoryFamily::new(n_of_task, split, seed, codec, template, stops(), max_new_tokens)?)
            }
            AskedKind::Serial(task) => {
                let n_kinds = MAX_SERIAL_STEPS * if task.is_some() { 1 } else { SerialTask::ALL.len() };
                let n_of_each = n.map_or(items_of_each_step(tier), |n| n.div_ceil(n_kinds));
                Box::new(SerialFamily::new(task, n_of_each, split, seed, max_new_tokens)?)
            }
        })
    }
}

/// Items of a task; `None` for all of them.
fn items_of_a_task(tier: Tier) -> Option<usize> {
    aloud_eval::items_of_tier(tier)
}

/// Items of each serial task and number of steps: of all numbers together the tier's items of a task, but for the largest
/// tier, of which every number has as many.
pub(super) fn items_of_each_step(tier: Tier) -> usize {
    const LARGEST: usize = 200;
    items_of_a_task(tier).map_or(LARGEST, |n| n / MAX_SERIAL_STEPS)
}
