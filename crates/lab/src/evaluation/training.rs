//! What a checkpoint says of its training, as far as an evaluation has to know it.

use aloud_session::error::SessionError;
use std::collections::BTreeSet;
use std::path::Path;

use aloud_model::checkpoint::Checkpoint;
use aloud_model::checkpoint::lineage::{BEFORE_LINEAGE, ItemKey, Lineage, Stage};
use serde_json::{Value, json};

/// What a model was trained for and on.
#[derive(Clone, Debug)]
pub(crate) struct Training {
    /// SHA-256 of the checkpoint.
    pub sha256: String,
    /// Where the checkpoint is, for people.
    pub(crate) source: String,
    /// The targets of stage 1, or why they are not known.
    pub(crate) target: Result<Target, &'static str>,
    /// Price of depth of the last stage, if it had one.
    pub(crate) depth_penalty: Option<f64>,
    /// Every item that it was trained on; `Err` says why that is not known.
    pub(crate) trained_items: Result<BTreeSet<ItemKey>, String>,
    /// Every stage; `None`: trained before lineage was recorded.
    lineage: Option<Lineage>,
    /// Optimiser steps of the last stage, where the checkpoint says them.
    n_steps: Option<u64>,
}

/// The rule of the targets of stage 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    /// Factor of the lens KL.
    pub(crate) kl_factor: f64,
    /// Whether hazards below the compatible policy's cut are 0.
    pub(crate) is_cut: bool,
}

/// [`Training::target`] of a policy that this program does not know.
const POLICY_UNKNOWN: &str = "target_policy_unknown";

impl Training {
    /// Reads the checkpoint at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, SessionError> {
        let checkpoint = Checkpoint::load(path, None)?;
        let target = checkpoint.target().and_then(|target| match target.policy.as_str() {
            "exact" => Ok(Target { kl_factor: target.kl_factor, is_cut: false }),
            "compat" => Ok(Target { kl_factor: target.kl_factor, is_cut: true }),
            _ => Err(POLICY_UNKNOWN),
        });
        let unknown = match &checkpoint.lineage {
            None => Some(BEFORE_LINEAGE.to_owned()),
            Some(lineage) => lineage.unknown_items().map(str::to_owned),
        };
        let trained_items = match (unknown, checkpoint.trained_items) {
            (Some(reason), _) => Err(reason),
            (None, items) => Ok(items.unwrap_or_default()),
        };
        Ok(Self {
            sha256: Checkpoint::digest(path)?,
            source: path.display().to_string(),
            target,
            depth_penalty: checkpoint.training.pointer(DEPTH_PENALTY).and_then(Value::as_f64),
            trained_items,
            lineage: checkpoint.lineage,
            n_steps: checkpoint.metrics.pointer("/step/step").and_then(Value::as_u64),
        })
    }

    /// Whether `control` is this model trained by the same recipe for as many steps, but without a price of depth and without
    /// exits.
    pub(crate) fn check_same_training(&self, control: &Self) -> Result<(), String> {
        let stages = |training: &Self| match &training.lineage {
            Some(lineage) => Ok(lineage.stages.clone()),
            None => Err(format!("{}: {BEFORE_LINEAGE}, so its recipe cannot be compared", training.source)),
        };
        let (of_model, of_control) = (stages(self)?, stages(control)?);
        let Some((last, earlier)) = of_model.split_last().filter(|(last, _)| last.command == STAGE_2) else {
            return Err(format!(
                "{} is a model of stage 1 alone: without exits its training changes nothing, so it has no control of the same \
                 training; evaluate a model of `aloud reinforce`, or leave --same-training out",
                self.source
            ));
        };
        let Some((control_last, control_earlier)) = of_control.split_last().filter(|(last, _)| last.command == STAGE_2)
        else {
            return Err(format!("{} was not trained by `aloud reinforce`", control.source));
        };
        let settings = &control_last.settings;
        if settings.pointer(EXITS).and_then(Value::as_str) != Some("off") {
            return Err(format!(
                "{}: rollouts.exits is {}, expected \"off\": train it with `aloud reinforce --set rollouts.exits=off --set \
                 reward.depth_penalty=0`",
                control.source,
                settings.pointer(EXITS).unwrap_or(&Value::Null)
            ));
        }
        let price = settings.pointer(DEPTH_PENALTY).unwrap_or(&Value::Null);
        if price.as_f64() != Some(0.0) {
            return Err(format!("{}: reward.depth_penalty is {price}, expected 0", control.source));
        }
        let comparable = |earlier: &[Stage], last: &Stage| -> Vec<Value> {
            let mut stages: Vec<Value> = earlier.iter().chain([last]).map(as_compared).collect();
            for pointer in [EXITS, EXIT_OFFSET, DEPTH_PENALTY] {
                let of_last = stages.last_mut().and_then(|stage| stage.get_mut("settings"));
                remove(of_last, pointer);
            }
            stages
        };
        let expected = json!({"stages": comparable(earlier, last), "steps": self.n_steps});
        let found = json!({"stages": comparable(control_earlier, control_last), "steps": control.n_steps});
        match first_difference(&found, &expected) {
            None => Ok(()),
            Some((field, found, expected)) => Err(format!(
                "{} has another recipe than {}: {field} is {found}, expected {expected}; train it again with the same settings \
                 but for reward.depth_penalty=0 and rollouts.exits=off",
                control.source, self.source
            )),
        }
    }
}

/// The command of stage 2.
const STAGE_2: &str = "reinforce";

/// Where a recipe of stage 2 has its price of depth, and whether its rollouts exit.
const DEPTH_PENALTY: &str = "/reward/depth_penalty";
const EXITS: &str = "/rollouts/exits";
/// Not used without exits.
const EXIT_OFFSET: &str = "/rollouts/exit_offset";

/// What has to be the same of a stage: the version of the program is not part of a recipe.
fn as_compared(stage: &Stage) -> Value {
    json!({"command": stage.command, "settings": stage.settings, "inputs": stage.inputs})
}

fn remove(settings: Option<&mut Value>, pointer: &str) {
    let Some((table, key)) = pointer.rsplit_once('/') else { return };
    if let Some(table) = settings.and_then(|settings| settings.pointer_mut(table)).and_then(Value::as_object_mut) {
        table.remove(key);
    }
}

/// The first field in which two values differ, with both: its keys and places, with points between them.
fn first_difference(found: &Value, expected: &Value) -> Option<(String, Value, Value)> {
    if found == expected {
        return None;
    }
    let within = |key: &str, found: Option<&Value>, expected: Option<&Value>| {
        let [found, expected] = [found, expected].map(|value| value.unwrap_or(&Value::Null));
        first_difference(found, expected).map(|(field, found, expected)| {
            (if field.is_empty() { key.to_owned() } else { format!("{key}.{field}") }, found, expected)
        })
    };
    let of_fields = match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| within(key, a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|at| within(&at.to_string(), a.get(at), b.get(at)))
        }
        _ => None,
    };
    of_fields.or_else(|| Some((String::new(), found.clone(), expected.clone())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use aloud_model::checkpoint::lineage::TrainedItems;

    use super::*;

    fn stage(command: &str, settings: Value, data: &str) -> Stage {
        Stage {
            command: command.to_owned(),
            version: "0".to_owned(),
            settings,
            inputs: BTreeMap::from([("data".to_owned(), data.to_owned())]),
            items: TrainedItems::Known(Vec::new()),
        }
    }

    fn training(stages: Option<Vec<Stage>>, n_steps: u64) -> Training {
        Training {
            sha256: String::new(),
            source: "DIR".to_owned(),
            target: Ok(Target { kl_factor: 1.0, is_cut: false }),
            depth_penalty: None,
            trained_items: Ok(BTreeSet::new()),
            lineage: stages.map(|stages| Lineage { stages }),
            n_steps: Some(n_steps),
        }
    }

    fn reinforced(exits: &str, price: f64, rate: f64, data: &str) -> Stage {
        let settings = json!({
            "rollouts": {"exits": exits}, "reward": {"depth_penalty": price}, "optimizer": {"learning_rate": rate},
        });
        stage("reinforce", settings, data)
    }

    #[test]
    fn the_same_training_differs_in_price_and_exits_alone() {
        let first = || stage("distill", json!({"target": {"kl_factor": 2.0}}), "aa");
        let of = |last: Stage| training(Some(vec![first(), last]), 50);
        let model = of(reinforced("on", 0.3, 1e-4, "bb"));
        assert_eq!(model.check_same_training(&of(reinforced("off", 0.0, 1e-4, "bb"))), Ok(()));
        for (control, expected) in [
            (of(reinforced("on", 0.0, 1e-4, "bb")), "rollouts.exits is \"on\""),
            (of(reinforced("off", 0.3, 1e-4, "bb")), "reward.depth_penalty is 0.3"),
            (of(reinforced("off", 0.0, 2e-4, "bb")), "stages.1.settings.optimizer.learning_rate is 0.0002"),
            (of(reinforced("off", 0.0, 1e-4, "cc")), "stages.1.inputs.data is \"cc\""),
            (training(Some(vec![reinforced("off", 0.0, 1e-4, "bb")]), 50), "stages.0.command is \"reinforce\""),
            (training(Some(vec![first(), reinforced("off", 0.0, 1e-4, "bb")]), 49), "steps is 49, expected 50"),
            (training(Some(vec![first()]), 50), "was not trained by `aloud reinforce`"),
            (training(None, 50), "trained before lineage was recorded"),
        ] {
            let error = model.check_same_training(&control).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = training(Some(vec![first()]), 50).check_same_training(&model).unwrap_err();
        assert!(error.contains("stage 1 alone"), "{error}");
    }
}
