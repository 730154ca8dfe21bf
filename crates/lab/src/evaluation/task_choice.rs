//! What is asked of a model: which task, how many items of it, and how they are written.

use aloud_kernels::Cpu;
use aloud_measure::metric_record::Tier;
use aloud_model::decoder::Decoder;
use aloud_session::error::SessionError;
use aloud_tasks::{DataSource, MAX_SERIAL_STEPS, SerialSource, SerialTask, Split};
use aloud_text::text_codec::TextCodec;

use super::accuracy_items::AccuracyItems;
use super::family::TaskFamily;
use super::matching::NOISE_ITEMS;
use super::number_family::NumberFamily;
use super::serial_family::SerialFamily;
use super::story_family::StoryFamily;
use aloud_session::prompts::{Template, stop_tokens};

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct TaskChoice {
    /// Where the items come from.
    pub task: DataSource,
    /// How much is asked; `None` where nothing was said.
    pub tier: Option<Tier>,
    /// Number of held-out items, in place of the tier's.
    pub n: Option<u32>,
    /// Seed of the items and of the exits.
    pub seed: u64,
    /// How prompts are written.
    pub template: Template,
    /// Most sequences decoded together; changes speed, never results.
    pub batch: u16,
    /// Most traces of a task from which answers are elicited.
    pub elicited: Option<u32>,
    /// Number of items that accuracy is measured on, the others included.
    pub accuracy_items: Option<u32>,
    /// Most tokens of a response.
    pub max_new_tokens: Option<u32>,
}

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedKind {
    /// One of the serial tasks, or all of them.
    Serial(Option<SerialTask>),
    /// Problems with a number for an answer.
    Numbers,
    /// Questions about theory-of-mind stories.
    Stories,
}

/// Most tokens of a response to a serial item: the longest right one has fewer.
const SERIAL_TOKENS: usize = 96;

/// Most tokens of any other response.
const OTHER_TOKENS: usize = 400;

impl TaskChoice {
    /// How much is asked.
    pub fn tier(&self) -> Tier {
        self.tier.unwrap_or(Tier::Standard)
    }

    /// Most traces of a task from which answers are elicited.
    pub fn n_elicited(&self) -> usize {
        const DEFAULT: usize = 200;
        self.elicited.map_or(DEFAULT, |n| n as usize)
    }

    /// How many items accuracy is measured on, where verdicts on the model need to know that controls are as accurate or not.
    pub fn accuracy_items(&self, has_verdicts: bool) -> AccuracyItems {
        match self.accuracy_items {
            Some(n) => AccuracyItems::Number(n as usize),
            None if has_verdicts && self.n.is_none() && self.tier() >= Tier::Standard => AccuracyItems::AsNeeded,
            None => AccuracyItems::Own,
        }
    }

    /// Name of the part of the data that is evaluated: `all` where the source has one part only.
    pub fn split_name(&self) -> &'static str {
        self.task.part(Split::Test)
    }

    /// Most tokens of a response.
    pub fn max_new_tokens(&self) -> usize {
        let default = if matches!(self.task, DataSource::Serial(_)) { SERIAL_TOKENS } else { OTHER_TOKENS };
        self.max_new_tokens.map_or(default, |n| n as usize)
    }

    /// Which kind of task is asked.
    ///
    /// # Errors
    /// If it is none that can be evaluated (a usage error).
    pub fn kind(&self) -> Result<AskedKind, SessionError> {
        match &self.task {
            DataSource::Serial(SerialSource { task, steps }) if *steps == (1..=MAX_SERIAL_STEPS) => {
                Ok(AskedKind::Serial(*task))
            }
            DataSource::WordProblems { steps: None } | DataSource::Gsm8k(_) | DataSource::Gsm8kCache => {
                Ok(AskedKind::Numbers)
            }
            DataSource::Stories => Ok(AskedKind::Stories),
            other => Err(SessionError::usage(format!(
                "--task {other}: expected serial, chain, perm, vars, word-problems, tom, gsm8k:PATH or hf:openai/gsm8k"
            ))),
        }
    }

    /// Items of a part of the data, ready to be asked.
    ///
    /// # Errors
    /// If they cannot be read or made.
    pub fn family<'a>(
        &self,
        split: Split,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Box<dyn TaskFamily + 'a>, SessionError> {
        self.family_of(self.tier(), self.n.map(|n| n as usize), split, codec, decoder)
    }

    /// About `n` held-out items, those of fewer items among them: as many as the largest tier has, if these are fewer.
    ///
    /// # Errors
    /// If they cannot be read or made.
    pub fn further_family<'a>(
        &self,
        n: usize,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Box<dyn TaskFamily + 'a>, SessionError> {
        let largest = match self.kind()? {
            AskedKind::Serial(task) => n_kinds(task) * items_of_each_step(Tier::Full),
            AskedKind::Numbers => NumberFamily::ENDLESS,
            AskedKind::Stories => StoryFamily::ALL_QUESTIONS,
        };
        self.family_of(Tier::Full, Some(n.min(largest)), Split::Test, codec, decoder)
    }

    /// Training items for controls that are tuned: at the tiers that give verdicts as many as noise may need, else as many as are
    /// evaluated.
    ///
    /// # Errors
    /// If they cannot be read or made.
    pub fn tuning_family<'a>(
        &self,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Box<dyn TaskFamily + 'a>, SessionError> {
        if self.tier() < Tier::Standard {
            return self.family(Split::Train, codec, decoder);
        }
        self.family_of(Tier::Full, Some(NOISE_ITEMS), Split::Train, codec, decoder)
    }

    fn family_of<'a>(
        &self,
        tier: Tier,
        n: Option<usize>,
        split: Split,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Box<dyn TaskFamily + 'a>, SessionError> {
        let max_new_tokens = self.max_new_tokens();
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
                let n_of_each = n.map_or(items_of_each_step(tier), |n| n.div_ceil(n_kinds(task)));
                Box::new(SerialFamily::new(task, n_of_each, split, seed, max_new_tokens)?)
            }
        })
    }
}

/// Numbers of steps of all the serial tasks that are asked.
fn n_kinds(task: Option<SerialTask>) -> usize {
    MAX_SERIAL_STEPS * if task.is_some() { 1 } else { SerialTask::ALL.len() }
}

/// Items of a task; `None` for all of them.
fn items_of_a_task(tier: Tier) -> Option<usize> {
    aloud_measure::statistics::items_of_tier(tier)
}

/// Items of each serial task and number of steps: of all numbers together the tier's items of a task, but for the largest
/// tier, of which every number has as many.
pub fn items_of_each_step(tier: Tier) -> usize {
    const LARGEST: usize = 200;
    items_of_a_task(tier).map_or(LARGEST, |n| n / MAX_SERIAL_STEPS)
}
