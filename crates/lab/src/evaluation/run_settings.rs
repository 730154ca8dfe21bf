//! What an evaluation does, and what it asks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::accuracy_items::AccuracyItems;
use super::examination::Examination;
use super::subject::ModelKey;
use aloud_measure::metric_record::Tier;
use aloud_method::exit_policy::ExitPolicy;
use aloud_session::error::SessionError;

/// What an evaluation does.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Folder of the evaluation.
    pub output: PathBuf,
    /// Folder of the base model, if several evaluations share it; else it is in `output`.
    pub base_folder: Option<PathBuf>,
    /// How much.
    pub tier: Tier,
    /// How the trained model's exits are decided.
    pub exits: ExitPolicy,
    /// Which controls beside the model.
    pub controls: Vec<ModelKey>,
    /// Seed of all draws.
    pub seed: u64,
    /// Most sequences decoded together; changes speed, never results.
    pub max_sequences: usize,
    /// Most traces of a task from which answers are elicited.
    pub n_elicited: usize,
    /// How many items accuracy is measured on.
    pub accuracy: AccuracyItems,
    /// What is known of the items that the models were trained on, in words.
    pub trained_items: String,
}

impl RunSettings {
    /// The model that is evaluated, `main`, then its controls.
    pub fn models(&self, main: ModelKey) -> Vec<ModelKey> {
        [main].into_iter().chain(self.controls.iter().copied().filter(|key| *key != main)).collect()
    }

    /// The folder of one model.
    pub fn folder(&self, key: ModelKey) -> PathBuf {
        match &self.base_folder {
            Some(folder) if key == ModelKey::Base => folder.clone(),
            _ => self.output.join(key.name()),
        }
    }
}

/// What is asked in an evaluation.
pub struct AskedItems<'a> {
    /// The items.
    pub family: &'a Examination<'a>,
    /// Training items, for controls that have to be tuned.
    pub tuning: Option<&'a Examination<'a>>,
    /// About `n` items in all, with those of `family` among them: of which accuracy alone is measured. As many as the largest
    /// tier has, if these are fewer.
    pub further: &'a dyn Fn(usize) -> Result<Examination<'a>, SessionError>,
    /// Name of the part of the data that the items are of.
    pub split: &'static str,
    /// Items that were left out because the model was trained on them, by task.
    pub trained_on: BTreeMap<String, usize>,
}
