//! What an evaluation does, and what it asks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aloud_method::exit_policy::ExitPolicy;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_tasks::item::Split;
use aloud_text::text_codec::TextCodec;

use super::accuracy_items::AccuracyItems;
use super::examination::Examination;
use super::leave_out::TrainedOn;
use super::subject::{ModelKey, Models};
use super::task_choice::TaskChoice;

/// What an evaluation does.
#[derive(Clone, Debug)]
pub struct RunSettings<'a> {
    /// What is asked.
    pub task: &'a TaskChoice,
    /// Folder of the evaluation.
    pub output: PathBuf,
    /// Folder of the base model, if several evaluations share it; else it is in `output`.
    pub base_folder: Option<PathBuf>,
    /// How the trained model's exits are decided.
    pub exits: ExitPolicy,
    /// Which controls beside the model.
    pub controls: Vec<ModelKey>,
}

impl RunSettings<'_> {
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

    /// How many items accuracy is measured on.
    pub(crate) fn accuracy(&self) -> AccuracyItems {
        let has = |key| self.controls.contains(&key);
        let has_verdicts = has(ModelKey::BaseNoise) && (has(ModelKey::ExitsOff) || has(ModelKey::SameTraining));
        self.task.accuracy_items(has_verdicts)
    }
}

/// What is asked in an evaluation.
pub(crate) struct AskedItems<'a> {
    /// The items.
    pub(crate) exam: Examination<'a>,
    /// Training items, for controls that have to be tuned.
    pub(crate) tuning: Option<Examination<'a>>,
    /// What is known of the items that the models were trained on.
    pub(crate) trained_on: TrainedOn,
    /// Items that were left out because the model was trained on them, by task.
    pub(crate) left_out: BTreeMap<String, usize>,
}

impl<'a> AskedItems<'a> {
    /// What the settings ask of these models.
    pub(crate) fn new(
        models: &Models,
        codec: &'a TextCodec,
        settings: &RunSettings<'_>,
        host: &dyn Host,
    ) -> Result<Self, SessionError> {
        let (task, decoder) = (settings.task, &models.trained.decoder);
        let trained_on = TrainedOn::of(models, host);
        let is_tuned = settings.controls.iter().any(|key| key.is_tuned());
        let tuning = is_tuned.then(|| task.tuning_exam(codec, decoder)).transpose()?;
        let mut exam = task.exam(Split::Test, codec, decoder)?;
        let left_out = trained_on.leave_out(&mut exam, host)?;
        Ok(Self { exam, tuning, trained_on, left_out })
    }
}
