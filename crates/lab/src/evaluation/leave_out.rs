//! Items that a model was trained on are no part of its evaluation.

use aloud_session::bail;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use std::collections::{BTreeMap, BTreeSet};

use aloud_model::checkpoint::lineage::ItemKey;

use super::examination::Examination;
use super::subject::Models;

/// What is known of the items that a model was trained on.
#[derive(Clone, Debug)]
pub(crate) struct TrainedOn {
    /// Their keys; of a model whose items are not known, none.
    keys: BTreeSet<ItemKey>,
    /// Why they are not known, if they are not.
    unknown: Option<String>,
}

impl TrainedOn {
    /// What the checkpoints of these models say. Says what is not known.
    pub(crate) fn of(models: &Models, host: &dyn Host) -> Self {
        let mut known = Self { keys: BTreeSet::new(), unknown: None };
        for training in models.trainings() {
            match &training.trained_items {
                Ok(keys) => known.keys.extend(keys),
                Err(reason) => {
                    host.say(&format!(
                        "warning: which items {} was trained on is not known ({reason}): none can be left out",
                        training.source
                    ));
                    known.unknown.get_or_insert_with(|| reason.clone());
                }
            }
        }
        known
    }

    /// In words, for the manifest of a run.
    pub(crate) fn description(&self) -> String {
        self.unknown.as_ref().map_or_else(|| "known".to_owned(), |reason| format!("unknown: {reason}"))
    }

    /// Whether the item with this question was trained on.
    pub(crate) fn has(&self, question: &str) -> bool {
        self.keys.contains(&ItemKey::of_question(question))
    }

    /// Leaves the items that were trained on out of those to be evaluated. Returns how many, by task, and says so.
    pub(crate) fn leave_out(
        &self,
        exam: &mut Examination<'_>,
        host: &dyn Host,
    ) -> Result<BTreeMap<String, usize>, SessionError> {
        let keep: Vec<bool> = exam.items().iter().map(|item| !self.has(&item.asked.item.question)).collect();
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        for (item, _) in exam.items().iter().zip(&keep).filter(|(_, keep)| !**keep) {
            *left_out.entry(item.asked.task.to_owned()).or_default() += 1;
        }
        check_enough_left(left_out.values().sum(), keep.len(), host)?;
        exam.retain(&keep);
        Ok(left_out)
    }
}

/// Says how many of `n_items` are left out because the model was trained on them.
pub(crate) fn check_enough_left(n_left_out: usize, n_items: usize, host: &dyn Host) -> Result<(), SessionError> {
    if 2 * n_left_out > n_items {
        bail!(
            "the model was trained on {n_left_out} of the {n_items} items to be evaluated, so fewer than half are left: name \
             other items with --task, or another seed with --seed"
        );
    }
    if n_left_out > 0 {
        host.say(&format!("{n_left_out} of {n_items} items are left out: the model was trained on them"));
    }
    Ok(())
}
