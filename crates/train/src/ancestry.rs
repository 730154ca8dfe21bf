//! What a checkpoint of a run descends from: the stages so far, and the items that they were trained on.

use std::collections::BTreeSet;

use aloud_model::checkpoint::Checkpoint;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, Lineage, Stage, TrainedItems};

use crate::run_directory::RunConfig;

/// Items that a stage trains on, with their keys; the reason where nobody knows.
pub type StageItems = Result<(ItemSet, BTreeSet<ItemKey>), String>;

/// The stages so far; of a run that starts from the base model, none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ancestry {
    lineage: Lineage,
    trained_items: Option<BTreeSet<ItemKey>>,
}

impl Ancestry {
    /// That of a checkpoint from which a run starts.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        Self { lineage: checkpoint.history(), trained_items: checkpoint.trained_items.clone() }
    }

    /// Lineage and keys of items of a checkpoint of the run `config`, which has trained on `items`.
    pub(crate) fn then(&self, config: &RunConfig, items: StageItems) -> (Lineage, Option<BTreeSet<ItemKey>>) {
        let mut trained_items = self.trained_items.clone();
        let items = match items {
            Ok((set, keys)) => {
                trained_items.get_or_insert_default().extend(keys);
                TrainedItems::Known(vec![set])
            }
            Err(reason) => TrainedItems::Unknown(reason),
        };
        let stage = Stage {
            command: config.command.clone(),
            version: config.version.clone(),
            settings: serde_json::to_value(&config.recipe).unwrap_or_default(),
            inputs: config.digests.clone().unwrap_or_default(),
            items,
        };
        (self.lineage.clone().then(stage), trained_items)
    }
}
