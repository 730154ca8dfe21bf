//! A training run's directory: resolved configuration, metrics, checkpoints, and where to go on.
//!
//! ```text
//! config.toml               RunConfig: command, version, seed, base model, numerics, inputs and their digests, complete recipe
//! metrics.jsonl             one JSON object a line, each with the `step` it belongs to
//! checkpoints/step-000123/  after 123 optimiser steps
//! latest                    name of the newest complete checkpoint
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use aloud_base::numerics::Numerics;
use aloud_model::checkpoint::BaseIdentity;
use aloud_model::checkpoint::files::{self, FileError};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::lock::{WriterLock, first_foreign_file};
use crate::numerics;

/// Version of the layout that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const LATEST: &str = "latest";
const CHECKPOINTS: &str = "checkpoints";

/// `config.toml`: everything that a run can be repeated from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// [`FORMAT_VERSION`] of the program that started the run.
    pub format_version: u32,
    /// What the run does: `distill`, `reinforce`.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// Git revision of the program, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_revision: Option<String>,
    /// Seed of the run.
    pub seed: u64,
    /// The model that is trained.
    pub base_model: BaseIdentity,
    /// Number formats, device and instructions; absent in runs that were started before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<Numerics>,
    /// Where the data came from, by name: paths, identities. For people; not compared.
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 (hexadecimal) of the content of every input, by the same names; absent in runs that were started before it was
    /// recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<BTreeMap<String, String>>,
    /// The complete recipe.
    pub recipe: Table,
}

/// Where an interrupted run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Optimiser steps done.
    pub step: u64,
    /// The checkpoint saved after them.
    pub checkpoint: PathBuf,
}

/// A run directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file is missing, damaged or cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory holds something that is not a run.
    #[error("`{}` holds other files and no `{CONFIG}`; choose an empty directory", .0.display())]
    Foreign(PathBuf),
    /// The directory holds a run with other settings.
    #[error(
        "`{}` holds a run with another {field}: it has {found}, this one has {expected}; choose another directory, or \
         resume with the run's own settings", path.display()
    )]
    OtherRun {
        /// The directory.
        path: PathBuf,
        /// Field that differs, dotted.
        field: String,
        /// The value of this run.
        expected: String,
        /// The value of the run that is there.
        found: String,
    },
    /// The run was started on an input with other content.
    #[error(
        "`{}` holds a run that was started with another `{input}`: its content had SHA-256 {found}, now ({source_name}) it \
         has {expected}; give the input as it was, or choose another directory to start a new run", path.display()
    )]
    OtherInput {
        /// The directory.
        path: PathBuf,
        /// Name of the input.
        input: String,
        /// Where the input of this run came from.
        source_name: String,
        /// Digest of the input of this run.
        expected: String,
        /// Digest of the input that the run was started with.
        found: String,
    },
    /// Nobody knows what the run was started on.
    #[error(
        "`{}` holds a run that was started before digests of its inputs were recorded, so it cannot be checked that they are \
         the same; choose another directory to start a new run", .0.display()
    )]
    NoDigests(PathBuf),
    /// A checkpoint is to be marked as the latest, but is not there.
    #[error("there is no checkpoint `{}` to mark as the latest; save it first", .0.display())]
    NoCheckpoint(PathBuf),
}

/// The directory of a run, held by its one writer.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    config: RunConfig,
    metrics: File,
    _lock: WriterLock,
}

impl RunDirectory {
    /// Creates the directory of a run, or opens it to go on: then the point to go on from is given, if a checkpoint was
    /// completed, and metrics of later steps are dropped. Command, seed, base model (by hash), recipe, numerics and the digests of all
    /// inputs must be the same; version, revision and the inputs' places may have changed.
    ///
    /// # Errors
    /// If the directory holds something else or another run, is damaged, has another writer, or cannot be written.
    pub fn create_or_resume(path: &Path, config: &RunConfig) -> Result<(Self, Option<ResumePoint>), RunError> {
        let config_path = path.join(CONFIG);
        if !config_path.exists() && path.is_dir() && first_foreign_file(path)?.is_some() {
            return Err(RunError::Foreign(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(FileError::io("create", path))?;
        let lock = WriterLock::acquire(path)?;
        let mut resume_point = None;
        if config_path.exists() {
            compare(path, &Self::read_config(path)?, config)?;
            resume_point = Self::latest(path)?;
            keep_metrics(&path.join(METRICS), resume_point.as_ref().map_or(0, |point| point.step))?;
        } else {
            let text = toml::to_string_pretty(config)
                .map_err(|error| FileError::content(&config_path, "configuration", "TOML", error))?;
            files::write_atomic(&config_path, text.as_bytes())?;
        }
        let metrics_path = path.join(METRICS);
        let metrics = File::options()
            .append(true)
            .create(true)
            .open(&metrics_path)
            .map_err(FileError::io("open", &metrics_path))?;
        Ok((Self { path: path.to_owned(), config: config.clone(), metrics, _lock: lock }, resume_point))
    }

    /// Reads the configuration of the run in `path`.
    ///
    /// # Errors
    /// If it is missing, damaged or of another version.
    pub fn read_config(path: &Path) -> Result<RunConfig, RunError> {
        let path = path.join(CONFIG);
        let text = files::read_text(&path)?;
        let config: RunConfig = toml::from_str(&text)
            .map_err(|error| FileError::content(&path, "TOML", "the configuration of a run", error.message()))?;
        if config.format_version != FORMAT_VERSION {
            let expected = FORMAT_VERSION.to_string();
            return Err(FileError::content(&path, "format_version", expected, config.format_version).into());
        }
        Ok(config)
    }

    /// The newest complete checkpoint of the run in `path`, `None` if there is none yet.
    ///
    /// # Errors
    /// If `latest` is damaged or names a checkpoint that is not there.
    pub fn latest(path: &Path) -> Result<Option<ResumePoint>, RunError> {
        let latest_path = path.join(LATEST);
        if !latest_path.exists() {
            return Ok(None);
        }
        let text = files::read_text(&latest_path)?;
        let name = text.trim_end();
        let step = name.strip_prefix("step-").and_then(|step| step.parse().ok());
        let step = step.filter(|&step| checkpoint_name(step) == name).ok_or_else(|| {
            FileError::content(&latest_path, "name", "a checkpoint such as `step-000123`", format!("`{name}`"))
        })?;
        let checkpoint = path.join(CHECKPOINTS).join(name);
        if !checkpoint.is_dir() {
            let expected = format!("the directory `{}`", checkpoint.display());
            let found = "nothing there; restore it, or write the name of another checkpoint to `latest`";
            return Err(FileError::content(&latest_path, "name", expected, found).into());
        }
        Ok(Some(ResumePoint { step, checkpoint }))
    }

    /// What the run is made from, as it was given to this call.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The run's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoint after `step` optimiser steps belongs.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(checkpoint_name(step))
    }

    /// Makes the saved checkpoint of `step` the one to go on from. Metrics written so far are on the disk before.
    ///
    /// # Errors
    /// If it is not there, or the operating system refuses.
    pub fn mark_latest(&self, step: u64) -> Result<(), RunError> {
        let path = self.checkpoint_path(step);
        if !path.is_dir() {
            return Err(RunError::NoCheckpoint(path));
        }
        self.metrics.sync_data().map_err(FileError::io("write", &self.path.join(METRICS)))?;
        Ok(files::write_atomic(&self.path.join(LATEST), format!("{}\n", checkpoint_name(step)).as_bytes())?)
    }

    /// Appends a line to `metrics.jsonl`: `metrics` must serialise as an object with a `step`, optimiser steps done.
    ///
    /// # Errors
    /// If it has none, or the operating system refuses.
    pub fn append_metrics<T: Serialize>(&mut self, metrics: &T) -> Result<(), RunError> {
        let path = self.path.join(METRICS);
        let mut line =
            serde_json::to_string(metrics).map_err(|error| FileError::content(&path, "metrics", "JSON", error))?;
        step_of(&line).map_err(|problem| FileError::content(&path, "metrics", "an object with a `step`", problem))?;
        line.push('\n');
        let written = self.metrics.write_all(line.as_bytes()).and_then(|()| self.metrics.flush());
        Ok(written.map_err(FileError::io("write", &path))?)
    }

    /// Reads the metrics of the run in `path`, line by line; a cut last line is left out.
    ///
    /// # Errors
    /// If a line is not what `T` needs.
    pub fn read_metrics<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunError> {
        let path = path.join(METRICS);
        let text = files::read_text(&path)?;
        let mut metrics = Vec::new();
        for (number, line) in whole_lines(&text).enumerate() {
            metrics.push(
                serde_json::from_str(line)
                    .map_err(|error| FileError::content(&path, format!("line {}", number + 1), "metrics", error))?,
            );
        }
        Ok(metrics)
    }
}

fn checkpoint_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The lines that end with a newline.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.rsplit_once('\n').map_or("", |(whole, _cut)| whole).lines()
}

/// The `step` of a line of metrics.
fn step_of(line: &str) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct WithStep {
        step: u64,
    }
    serde_json::from_str(line).map(|WithStep { step }| step).map_err(|error| error.to_string())
}

/// Drops the lines of steps after `last_step`, and a line that was cut.
fn keep_metrics(path: &Path, last_step: u64) -> Result<(), FileError> {
    if !path.exists() {
        return Ok(());
    }
    let text = files::read_text(path)?;
    let mut kept = String::new();
    for (number, line) in whole_lines(&text).enumerate() {
        let step = step_of(line).map_err(|error| {
            FileError::content(path, format!("line {}", number + 1), "metrics with a `step`", error)
        })?;
        if step <= last_step {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    if kept == text { Ok(()) } else { files::write_atomic(path, kept.as_bytes()) }
}

/// Names the first field in which the run in a directory differs from the one that wants to go on.
fn compare(path: &Path, found: &RunConfig, expected: &RunConfig) -> Result<(), RunError> {
    let other = |field: &str, expected: String, found: String| RunError::OtherRun {
        path: path.to_owned(),
        field: field.to_owned(),
        expected,
        found,
    };
    for (field, expected, found) in [
        ("command", &expected.command, &found.command),
        ("base_model.sha256", &expected.base_model.sha256, &found.base_model.sha256),
    ] {
        if !expected.eq_ignore_ascii_case(found) {
            return Err(other(field, expected.clone(), found.clone()));
        }
    }
    if expected.seed != found.seed {
        return Err(other("seed", expected.seed.to_string(), found.seed.to_string()));
    }
    if let Some((field, expected, found)) = first_difference("recipe", &expected.recipe, &found.recipe) {
        return Err(other(&field, expected, found));
    }
    let numerics = numerics::difference(expected.numerics.as_ref(), found.numerics.as_ref());
    if let Some((field, expected, found)) = numerics {
        return Err(other(&field, expected, found));
    }
    compare_digests(path, found, expected)
}

/// Names the first input whose content differs.
fn compare_digests(path: &Path, found: &RunConfig, expected: &RunConfig) -> Result<(), RunError> {
    let none = BTreeMap::new();
    let digests = expected.digests.as_ref().unwrap_or(&none);
    let Some(found) = &found.digests else {
        return if digests.is_empty() { Ok(()) } else { Err(RunError::NoDigests(path.to_owned())) };
    };
    let names = digests.keys().chain(found.keys().filter(|name| !digests.contains_key(*name)));
    match names.into_iter().find(|name| digests.get(*name) != found.get(*name)) {
        None => Ok(()),
        Some(name) => {
            let text = |value: Option<&String>| value.map_or("nothing".to_owned(), Clone::clone);
            Err(RunError::OtherInput {
                path: path.to_owned(),
                input: name.clone(),
                source_name: text(expected.inputs.get(name)),
                expected: text(digests.get(name)),
                found: text(found.get(name)),
            })
        }
    }
}

/// The dotted key at which two tables first differ, with both values there.
fn first_difference(path: &str, expected: &Table, found: &Table) -> Option<(String, String, String)> {
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    keys.into_iter().find_map(|key| {
        let path = format!("{path}.{key}");
        match (expected.get(key), found.get(key)) {
            (Some(Value::Table(expected)), Some(Value::Table(found))) => first_difference(&path, expected, found),
            (expected, found) if expected == found => None,
            (expected, found) => {
                let text = |value: Option<&Value>| value.map_or("no such key".to_owned(), ToString::to_string);
                Some((path, text(expected), text(found)))
            }
        }
    })
}
