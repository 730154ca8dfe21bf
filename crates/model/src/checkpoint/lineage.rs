//! The lineage of a checkpoint: every stage of its training so far, what went into each, and which items it was trained on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    str::FromStr,
};

use aloud_base::digest::{sha256, sha256_digits};
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError,
    files::{self, FileError},
};

/// Why a figure that needs the factor of the targets is null.
pub const KL_FACTOR_UNKNOWN: &str = "kl_factor_unknown";
/// Why there is no target: the heads were trained on what stopping is expected to cost.
pub const NO_TARGET: &str = "no_target";
/// Why a target is not compared with: it was made of the lens through translators, and evaluations read the plain one.
pub const TRANSLATED_TARGET: &str = "target_of_translated_lens";

/// What is said of a checkpoint that has no lineage.
pub const BEFORE_LINEAGE: &str = "trained before lineage was recorded";

const TRAINED_ITEMS: &str = "trained_items.txt";

/// How a checkpoint came to be: every stage so far, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The stages, oldest first.
    pub stages: Vec<Stage>,
}

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// `finetune`, `distill`, `reinforce`; `unrecorded` of a run before lineage was recorded.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// The complete recipe.
    pub settings: serde_json::Value,
    /// SHA-256 (hexadecimal) of the content of every input, by name: `traces`, `checkpoint`, `data`.
    pub inputs: BTreeMap<String, String>,
    /// What items it was trained on.
    pub items: TrainedItems,
}

/// The items that a stage was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainedItems {
    /// These; their keys are among those of [`Checkpoint::trained_items`].
    Known(Vec<ItemSet>),
    /// Nobody knows, for this reason.
    Unknown(String),
}

/// Items of one part of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemSet {
    /// Name of the source, such as `chain` or a path.
    pub source: String,
    /// Part of the source: `train`, `test`, or `all` of a source that has one part only.
    pub split: String,
    /// Seed of the choice of items.
    pub seed: u64,
    /// Items that were trained on.
    pub n: usize,
    /// Items of the same part that the stage kept for its own evaluation. They were not trained on.
    #[serde(default)]
    pub held_out: usize,
    /// SHA-256 (hexadecimal) of the sorted keys of the items trained on, each followed by a newline.
    pub sha256: String,
}

impl ItemSet {
    /// The set of these items; `held_out` more of the same part were not trained on.
    pub fn new(source: String, split: String, seed: u64, keys: &BTreeSet<ItemKey>, held_out: usize) -> Self {
        let sha256 = sha256_digits(lines(keys));
        Self { source, split, seed, n: keys.len(), held_out, sha256 }
    }
}

/// Key of an item: the first 64 bits of the SHA-256 of its question (before template and instruction), whatever its source
/// is called. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ItemKey(u64);

impl ItemKey {
    /// The key of the item with this question.
    pub fn of_question(question: &str) -> Self {
        let digest = sha256(question);
        Self(digest.iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte)))
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl From<ItemKey> for String {
    fn from(key: ItemKey) -> Self {
        key.to_string()
    }
}

impl FromStr for ItemKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = u64::from_str_radix(text, 16).ok().map(Self);
        key.filter(|key| key.to_string() == text)
            .ok_or_else(|| format!("expected 16 lower-case hexadecimal digits, found `{text}`"))
    }
}

impl TryFrom<String> for ItemKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What exits were distilled towards.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Factor of the KL in the target hazard.
    pub kl_factor: f64,
    /// Rule of the target depths: `exact` or `compat`.
    pub policy: String,
}

impl Lineage {
    /// Why the items of some stage are not known, if there is such a stage.
    pub fn unknown_items(&self) -> Option<&str> {
        self.stages.iter().find_map(|stage| match &stage.items {
            TrainedItems::Known(_) => None,
            TrainedItems::Unknown(reason) => Some(reason.as_str()),
        })
    }

    /// Whether the items of any stage are known: then the checkpoint has their keys.
    fn knows_items(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage.items, TrainedItems::Known(_)))
    }

    /// The lineage with one more stage.
    #[must_use]
    pub fn then(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }
}

impl Checkpoint {
    /// The lineage; of a checkpoint without one, a single stage of which nothing is known but its settings.
    pub fn history(&self) -> Lineage {
        let unrecorded = || Stage {
            command: "unrecorded".to_owned(),
            version: "unknown".to_owned(),
            settings: self.training.clone(),
            inputs: BTreeMap::new(),
            items: TrainedItems::Unknown(BEFORE_LINEAGE.to_owned()),
        };
        self.lineage.clone().unwrap_or_else(|| Lineage { stages: vec![unrecorded()] })
    }

    /// What exits were distilled towards: the target of the newest stage that had one, whatever came after it.
    ///
    /// # Errors
    /// [`KL_FACTOR_UNKNOWN`] if no stage says it, [`NO_TARGET`] if the newest trained heads on the expected cost, [`TRANSLATED_TARGET`]
    /// if its targets were made through translators.
    pub fn target(&self) -> Result<Target, &'static str> {
        let target = |stage: &Stage| {
            let target = stage.settings.get("target")?;
            let kl_factor = target.get("kl_factor")?.as_f64()?;
            let target = Target { kl_factor, policy: target.get("policy")?.as_str()?.to_owned() };
            let setting = |key: &str, default: &str| stage.settings.get(key).is_some_and(|value| value != default);
            Some(if setting("exit_objective", "cross_entropy") {
                Err(NO_TARGET)
            } else if setting("exit_readout", "none") {
                Err(TRANSLATED_TARGET)
            } else {
                Ok(target)
            })
        };
        self.history().stages.iter().rev().find_map(target).unwrap_or(Err(KL_FACTOR_UNKNOWN))
    }
}

/// `trained_items.txt`: the keys, sorted, one a line.
fn lines(keys: &BTreeSet<ItemKey>) -> String {
    keys.iter().flat_map(|key| [key.to_string(), "\n".to_owned()]).collect()
}

/// Writes the keys into the folder of a checkpoint that is being prepared.
pub(super) fn write_items(folder: &Path, keys: &BTreeSet<ItemKey>) -> Result<(), FileError> {
    files::write_synced(&folder.join(TRAINED_ITEMS), lines(keys).as_bytes())
}

/// Reads the keys of a checkpoint with this lineage, `None` if no stage of it knows its items.
pub(super) fn read_items(folder: &Path, lineage: Option<&Lineage>) -> Result<Option<BTreeSet<ItemKey>>, FileError> {
    if !lineage.is_some_and(Lineage::knows_items) {
        return Ok(None);
    }
    let path = folder.join(TRAINED_ITEMS);
    let text = files::read_text(&path)?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(FileError::content(&path, "last line", "a final newline", "a cut line"));
    }
    let key = |(number, line): (usize, &str)| {
        line.parse().map_err(|_: String| {
            let expected = "the key of an item: 16 lower-case hexadecimal digits";
            FileError::content(&path, format!("line {}", number + 1), expected, format!("`{line}`"))
        })
    };
    text.lines().enumerate().map(key).collect::<Result<_, _>>().map(Some)
}

/// Checks that a checkpoint has keys of items exactly if some stage of its lineage knows its items.
pub(super) fn check(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let knows = checkpoint.lineage.as_ref().is_some_and(Lineage::knows_items);
    let (expected, found) = match (knows, checkpoint.trained_items.is_some()) {
        (true, false) => ("the keys of the items that the lineage knows of", "nothing"),
        (false, true) => ("nothing, since no stage of the lineage knows its items", "keys"),
        _ => return Ok(()),
    };
    Err(CheckpointError::invalid("trained_items", expected, found))
}
