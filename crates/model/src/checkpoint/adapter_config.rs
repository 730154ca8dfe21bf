//! PEFT's `adapter_config.json`: what an adapter is added to, and the options that this program computes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use fancy_regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::CheckpointError;
use super::files::{self, FileError};
use crate::config::MAX_LAYERS;
use crate::lora::Projection;

/// Most steps of matching a module's name against a regular expression.
const MATCH_STEPS: usize = 10_000;
/// Most characters of a value that a message quotes.
const QUOTED: usize = 120;

/// Keys that say how an adapter was trained, saved or begun, and nothing about what it computes.
const INERT_KEYS: &str = "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config inference_mode \
    loftq_config lora_dropout lora_ga_config megatron_config megatron_core peft_version qalora_group_size \
    revision runtime_config task_type";

/// First values of the factors that leave the base's weights as they are. Others (`pissa`, `olora`, ...) change them.
const PLAIN_STARTS: [&str; 3] = ["eva", "gaussian", "orthogonal"];

/// An adapter's configuration.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    /// Rank of every factor.
    pub(super) rank: usize,
    /// What `alpha` must be so that `alpha / r` is the adapter's scale (`use_rslora` divides by the root of `r`).
    pub(super) alpha: f32,
    /// What it says its base model is.
    pub(super) base: Option<String>,
    targets: Modules,
    excluded: Option<Modules>,
    blocks: Option<BTreeSet<usize>>,
}

/// A set of modules, as PEFT names them.
#[derive(Debug)]
enum Modules {
    /// `all-linear`: all but the unembedding.
    AllLinear,
    /// A regular expression that must match the whole name, such as `model.layers.3.mlp.up_proj`.
    Pattern(Box<Regex>),
    /// Whole names, or their last parts.
    Names(HashSet<String>),
}

/// The file as PEFT writes it.
#[derive(Deserialize)]
struct ConfigFile {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    target_modules: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl AdapterConfig {
    /// Reads the file at `path`. What this program does not compute is refused by key and value.
    pub(super) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let config: ConfigFile = files::read_json(path)?;
        let unsupported = |key: &str, expected: &str, found: String| {
            CheckpointError::UnsupportedAdapter(FileError::content(path, key, expected, found))
        };
        if config.peft_type != "LORA" {
            return Err(unsupported("peft_type", "LORA", config.peft_type));
        }
        if config.r == 0 {
            return Err(FileError::content(path, "r", "at least 1", config.r).into());
        }
        if !config.lora_alpha.is_finite() {
            return Err(FileError::content(path, "lora_alpha", "a finite number", config.lora_alpha).into());
        }
        for (key, value) in &config.others {
            if let Some(expected) = refused(key, value) {
                return Err(unsupported(key, expected, quoted(value)));
            }
        }
        let other = |key: &str| config.others.get(key).filter(|value| !is_empty(value));
        let rslora = other("use_rslora").is_some();
        Ok(Self {
            rank: config.r,
            alpha: if rslora { config.lora_alpha * (config.r as f32).sqrt() } else { config.lora_alpha },
            base: other("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            targets: Modules::read(path, "target_modules", &config.target_modules)?,
            excluded: other("exclude_modules")
                .map(|value| Modules::read(path, "exclude_modules", value))
                .transpose()?,
            blocks: other("layers_to_transform").map(|value| blocks_of(path, value)).transpose()?,
        })
    }

    /// The projections (by block) that the adapter is added to in a model of `n_blocks` blocks, at least one; every name
    /// stands for some.
    pub(super) fn targeted(
        &self,
        path: &Path,
        n_blocks: usize,
    ) -> Result<BTreeSet<(usize, Projection)>, CheckpointError> {
        if n_blocks > MAX_LAYERS {
            let expected = format!("at most {MAX_LAYERS} blocks of the base model");
            return Err(FileError::content(path, "target_modules", expected, n_blocks).into());
        }
        if let Some(block) = self.blocks.iter().flatten().find(|block| **block >= n_blocks) {
            let expected = format!("blocks below {n_blocks}");
            return Err(FileError::content(path, "layers_to_transform", expected, block).into());
        }
        let mut targeted = BTreeSet::new();
        let mut used = HashSet::new();
        for block in 0..n_blocks {
            for projection in Projection::ALL {
                let module = format!("model.layers.{block}.{}", projection.path());
                let Some(name) = self.targets.matching(path, "target_modules", &module)? else { continue };
                used.insert(name.to_owned());
                let excluded = self.excluded.as_ref().map(|modules| modules.matching(path, "exclude_modules", &module));
                // As in PEFT, a regular expression says the blocks itself.
                let chosen = matches!(self.targets, Modules::Pattern(_))
                    || self.blocks.as_ref().is_none_or(|blocks| blocks.contains(&block));
                if chosen && excluded.transpose()?.flatten().is_none() {
                    targeted.insert((block, projection));
                }
            }
        }
        let known = || format!("names among {}", Projection::ALL.map(Projection::name).join(", "));
        if let Modules::Names(names) = &self.targets
            && let Some(name) = names.iter().filter(|name| !used.contains(*name)).min()
        {
            let error = FileError::content(path, "target_modules", known(), name);
            return Err(CheckpointError::UnsupportedAdapter(error));
        }
        if targeted.is_empty() {
            let found = "modules of which the model has none";
            return Err(FileError::content(path, "target_modules", known(), found).into());
        }
        Ok(targeted)
    }
}

/// What is expected of an option, if it has a value that this program does not compute.
fn refused(key: &str, value: &Value) -> Option<&'static str> {
    if is_empty(value) || INERT_KEYS.split(' ').any(|inert| inert == key) {
        return None;
    }
    match key {
        "exclude_modules" | "layers_to_transform" => None,
        "use_rslora" => (*value != true).then_some("true or false"),
        "bias" => (value != "none").then_some("none"),
        "layers_pattern" => {
            let is_layers = |value: &Value| value == "layers";
            let known = is_layers(value) || value.as_array().is_some_and(|values| values.iter().all(is_layers));
            (!known).then_some("layers")
        }
        "init_lora_weights" => {
            let is_plain = *value == true || value.as_str().is_some_and(|name| PLAIN_STARTS.contains(&name));
            (!is_plain)
                .then_some("true, false, gaussian, eva or orthogonal, which leave the base's weights as they are")
        }
        "fan_in_fan_out" | "lora_bias" | "use_dora" | "use_qalora" => Some("false"),
        _ => Some("nothing (null, false, or empty)"),
    }
}

/// PEFT writes options that are not used in any of these ways.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A value for a message.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// `layers_to_transform`: a number or a list of numbers.
fn blocks_of(path: &Path, value: &Value) -> Result<BTreeSet<usize>, CheckpointError> {
    let block = |value: &Value| value.as_u64().and_then(|block| usize::try_from(block).ok());
    let blocks = match value {
        Value::Array(values) => values.iter().map(block).collect(),
        number => block(number).map(|block| BTreeSet::from([block])),
    };
    blocks.ok_or_else(|| {
        FileError::content(path, "layers_to_transform", "a block's number or a list of them", quoted(value)).into()
    })
}

impl Modules {
    fn read(path: &Path, key: &str, value: &Value) -> Result<Self, CheckpointError> {
        let foreign = || {
            let expected = "a list of names, a regular expression, or all-linear";
            FileError::content(path, key, expected, quoted(value)).into()
        };
        match value {
            Value::String(text) if text == "all-linear" => Ok(Self::AllLinear),
            Value::String(text) => {
                let pattern = RegexBuilder::new(&format!(r"\A(?:{text})\z")).backtrack_limit(MATCH_STEPS).build();
                pattern.map(|pattern| Self::Pattern(Box::new(pattern))).map_err(|error| {
                    let expected = "a regular expression that this program can read, or a list of names";
                    FileError::content(path, key, expected, format!("{}: {error}", quoted(value))).into()
                })
            }
            Value::Array(values) => {
                let names = values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>();
                names.map(Self::Names).ok_or_else(foreign)
            }
            _ => Err(foreign()),
        }
    }

    /// What of the set stands for `module`, if something does.
    fn matching<'a>(&self, path: &Path, key: &str, module: &'a str) -> Result<Option<&'a str>, CheckpointError> {
        match self {
            Self::AllLinear => Ok(Some(module)),
            Self::Pattern(pattern) => {
                pattern.is_match(module).map(|matches| matches.then_some(module)).map_err(|error| {
                    let expected = "a regular expression that is quick to match (or a list of names)";
                    FileError::content(path, key, expected, format!("{}: {error}", pattern.as_str())).into()
                })
            }
            Self::Names(names) => {
                let tails = module.match_indices('.').map(|(dot, _)| &module[dot + 1..]);
                Ok(std::iter::once(module).chain(tails).find(|tail| names.contains(*tail)))
            }
        }
    }
}
