//! Settings of a command: the defaults, then a TOML file, then overrides `a.b=value`; unknown keys are errors.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Settings that are wrong, with the key at fault.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{origin} is not TOML: {problem}")]
    Syntax {
        /// The file or override.
        origin: String,
        /// What the parser says.
        problem: String,
    },
    /// An override has no `=`.
    #[error("override `{0}`: write KEY=VALUE, for example `seed=1`")]
    Override(String),
    /// There is no such key.
    #[error("{origin}: unknown key `{key}`; {advice}")]
    UnknownKey {
        /// The file or override.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The nearest valid key, or all of them.
        advice: String,
    },
    /// The value does not fit the key.
    #[error("{origin}: `{key}` cannot be {value}: {problem}")]
    Value {
        /// The file or override.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The value given.
        value: String,
        /// Why it does not fit.
        problem: String,
    },
    /// A value is out of range, or two values contradict each other.
    #[error("{keys}: {problem}")]
    Rule {
        /// The keys at fault, dotted, in backticks.
        keys: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl SettingsError {
    /// A broken rule about `keys`.
    pub fn rule(keys: &[&str], problem: impl Into<String>) -> Self {
        let keys = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
        Self::Rule { keys, problem: problem.into() }
    }
}

/// Settings that [`resolve`] can build. The defaults must serialise every key: their keys are the valid ones.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Keys of earlier versions that have another name or meaning now, and what to write instead.
    const RENAMED: &[(&str, &str)] = &[];

    /// Checks ranges and keys that depend on each other.
    ///
    /// # Errors
    /// The first broken rule, with the keys at fault.
    fn check(&self) -> Result<(), SettingsError>;
}

/// Builds settings from the defaults, then `file`, then `overrides` in order (`a.b=value`, the value in TOML; what is no
/// TOML value is taken as a string, so that quotes are not needed on a command line).
///
/// # Errors
/// If the file cannot be read, a key is unknown, a value has the wrong type, or [`Settings::check`] finds a broken rule.
pub fn resolve<T: Settings>(file: Option<&Path>, overrides: &[String]) -> Result<T, SettingsError> {
    let Some(path) = file else { return resolve_text("", "", overrides) };
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    resolve_text(&format!("`{}`", path.display()), &text, overrides)
}

/// As [`resolve`], from a text instead of a file; `name` is what errors call it.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_text<T: Settings>(name: &str, text: &str, overrides: &[String]) -> Result<T, SettingsError> {
    let mut builder = Builder::<T>::new()?;
    builder.merge_text(name, text)?;
    for text in overrides {
        builder.merge_override(text)?;
    }
    builder.finish()
}

/// All valid keys of settings, dotted and sorted.
///
/// # Errors
/// If the defaults do not serialise as TOML.
pub fn keys<T: Settings>() -> Result<Vec<String>, SettingsError> {
    let mut keys = Vec::new();
    collect_keys(&Builder::<T>::new()?.table, "", &mut keys);
    Ok(keys)
}

struct Builder<T> {
    table: Table,
    settings: T,
}

impl<T: Settings> Builder<T> {
    fn new() -> Result<Self, SettingsError> {
        let settings = T::default();
        let table = Table::try_from(&settings)
            .map_err(|error| SettingsError::Syntax { origin: "the defaults".to_owned(), problem: error.to_string() })?;
        Ok(Self { table, settings })
    }

    fn merge_text(&mut self, origin: &str, text: &str) -> Result<(), SettingsError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
            origin: origin.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })?;
        self.merge_table(origin, "", table)
    }

    fn merge_override(&mut self, text: &str) -> Result<(), SettingsError> {
        let origin = format!("override `{text}`");
        let (key, value) = text.split_once('=').ok_or_else(|| SettingsError::Override(text.to_owned()))?;
        let value = value.trim();
        let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| value.into());
        self.set(&origin, key.trim(), &value)
    }

    fn merge_table(&mut self, origin: &str, prefix: &str, table: Table) -> Result<(), SettingsError> {
        for (key, value) in table {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            let is_group = find(&mut self.table, &key).is_some_and(|value| value.is_table());
            match value {
                Value::Table(table) if is_group => self.merge_table(origin, &key, table)?,
                value => self.set(origin, &key, &value)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, origin: &str, key: &str, value: &Value) -> Result<(), SettingsError> {
        let origin = origin.to_owned();
        let wrong = |value: &Value, problem: &str| SettingsError::Value {
            origin: origin.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            problem: problem.to_owned(),
        };
        let mut table = self.table.clone();
        let Some(place) = find(&mut table, key) else {
            let mut keys = Vec::new();
            collect_keys(&self.table, "", &mut keys);
            let renamed = T::RENAMED.iter().find(|(old, _)| *old == key).map(|(_, advice)| (*advice).to_owned());
            let advice = renamed.unwrap_or_else(|| advice(key, &keys));
            return Err(SettingsError::UnknownKey { origin, key: key.to_owned(), advice });
        };
        if let Value::Table(group) = place {
            let keys = group.keys().map(|name| format!("`{key}.{name}`")).collect::<Vec<_>>().join(", ");
            return Err(wrong(value, &format!("it is a group of keys; set {keys}")));
        }
        *place = value.clone();
        self.settings = table.clone().try_into().map_err(|error| wrong(value, error.message()))?;
        self.table = table;
        Ok(())
    }

    fn finish(self) -> Result<T, SettingsError> {
        self.settings.check()?;
        Ok(self.settings)
    }
}

/// The value at a dotted key.
fn find<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((group, rest)) => find(table.get_mut(group)?.as_table_mut()?, rest),
    }
}

fn collect_keys(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) => collect_keys(table, &key, keys),
            _ => keys.push(key),
        }
    }
}

/// Names the valid key that is nearest in spelling: by the whole key, or by its last part if the group is wrong.
fn advice(key: &str, keys: &[String]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |valid: &String| edit_distance(key, valid).min(edit_distance(&last(key), &last(valid)) + 1);
    match keys.iter().min_by_key(|valid| distance(valid)) {
        Some(nearest) if distance(nearest) <= 1 + key.chars().count() / 3 => format!("did you mean `{nearest}`?"),
        _ => format!("valid keys: {}", keys.join(", ")),
    }
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (to, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
