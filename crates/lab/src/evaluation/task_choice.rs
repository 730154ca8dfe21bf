//! What is asked of a model: which task, how many items of it, and how they are written.

use std::sync::Arc;

use aloud_kernels::cpu::Cpu;
use aloud_measure::metric_record::Tier;
use aloud_model::decoder::Decoder;
use aloud_session::error::SessionError;
use aloud_session::tasks::evaluated_tasks;
use aloud_tasks::item::Split;
use aloud_tasks::task::{Amount, Task};
use aloud_text::text_codec::TextCodec;

use super::accuracy_items::AccuracyItems;
use super::examination::{Examination, Extent};
use super::matching::NOISE_ITEMS;
use aloud_session::prompts::{Template, stop_tokens};

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct TaskChoice {
    /// The task.
    pub task: Arc<dyn Task>,
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

impl TaskChoice {
    /// How much is asked.
    pub(crate) fn tier(&self) -> Tier {
        self.tier.unwrap_or(Tier::Standard)
    }

    /// Most traces of a task from which answers are elicited.
    pub(crate) fn n_elicited(&self) -> usize {
        const DEFAULT: usize = 200;
        self.elicited.map_or(DEFAULT, |n| n as usize)
    }

    /// How many items accuracy is measured on, where verdicts on the model need to know that controls are as accurate or not.
    pub(crate) fn accuracy_items(&self, has_verdicts: bool) -> AccuracyItems {
        match self.accuracy_items {
            Some(n) => AccuracyItems::Number(n as usize),
            None if has_verdicts && self.n.is_none() && self.tier() >= Tier::Standard => AccuracyItems::AsNeeded,
            None => AccuracyItems::Own,
        }
    }

    /// Name of the part of the data that is evaluated: `all` where the source has one part only.
    pub(crate) fn split_name(&self) -> &'static str {
        self.task.part(Split::Test)
    }

    /// Most tokens of a response.
    pub fn max_new_tokens(&self) -> usize {
        self.max_new_tokens.map_or_else(|| self.task.max_response_tokens(), |n| n as usize)
    }

    /// Number of items of the task's largest examination.
    ///
    /// # Errors
    /// If the task is none that can be evaluated (a usage error).
    pub fn largest(&self) -> Result<usize, SessionError> {
        let problem = || SessionError::usage(format!("--task {}: expected {}", self.task, evaluated_tasks()));
        self.task.examination_size().ok_or_else(problem)
    }

    /// Items of a part of the data, ready to be asked.
    pub(crate) fn exam<'a>(
        &self,
        split: Split,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Examination<'a>, SessionError> {
        let amount = self.n.map_or_else(|| amount_of(self.tier()), |n| Amount::InAll(n as usize));
        self.examination(amount, split, codec, decoder)
    }

    /// About `n` held-out items, those of fewer items among them: as many as the largest tier has, if these are fewer.
    pub(crate) fn further_exam<'a>(
        &self,
        n: usize,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Examination<'a>, SessionError> {
        self.examination(Amount::InAll(n.min(self.largest()?)), Split::Test, codec, decoder)
    }

    /// Training items for controls that are tuned: at the tiers that give verdicts as many as noise may need, else as many as are
    /// evaluated.
    pub(crate) fn tuning_exam<'a>(
        &self,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Examination<'a>, SessionError> {
        if self.tier() < Tier::Standard {
            return self.exam(Split::Train, codec, decoder);
        }
        self.examination(Amount::InAll(NOISE_ITEMS), Split::Train, codec, decoder)
    }

    fn examination<'a>(
        &self,
        amount: Amount,
        split: Split,
        codec: &'a TextCodec,
        decoder: &Decoder<Cpu>,
    ) -> Result<Examination<'a>, SessionError> {
        self.largest()?;
        let extent = Extent { amount, split, seed: self.seed, max_new_tokens: self.max_new_tokens() };
        let stops = stop_tokens(codec, &decoder.config().eos_token_ids);
        Examination::new(&self.task, extent, codec, &self.template, stops)
    }
}

/// How many items a tier asks.
fn amount_of(tier: Tier) -> Amount {
    aloud_measure::statistics::items_of_tier(tier).map_or(Amount::All, Amount::OfEachTask)
}
