//! A data source by its name on the command line, and the choice of a part of it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::gsm8k::file_of;
use crate::hash::hash;
use crate::stories::{Part, StoryGenerator, StorySettings};
use crate::word_problems::MAX_STEPS;
use crate::{
    Annotations, Item, MAX_SERIAL_STEPS, SerialSource, SerialTask, Split, TasksError, generate, read_csv, read_gsm8k,
    read_jsonl,
};

const NAMES: &str = "expected `word-problems`, `word-problems:steps=N`, `serial`, `chain`, `perm` or `vars` (each also \
                     with `:steps=N`), `tom`, `gsm8k:PATH`, `hf:openai/gsm8k`, `FILE.jsonl`, `FILE.json` or `FILE.csv`";

/// Word problems of the held-out split are numbered from here, so that no training problem is among them.
const FIRST_TEST_INDEX: u64 = 1 << 40;

/// Where items come from. Parsed from, and written as: `word-problems[:steps=N]`, `serial[:steps=N]` (all serial tasks),
/// `chain[:steps=N]`, `perm[:steps=N]`, `vars[:steps=N]`, `tom`, `gsm8k:PATH`, `hf:openai/gsm8k`, `FILE.jsonl`, `FILE.json`, `FILE.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// The built-in generator of arithmetic word problems, without end.
    WordProblems {
        /// The number of steps of each problem, 1 to [`MAX_STEPS`]; mixed if `None`.
        steps: Option<usize>,
    },
    /// The built-in serial-chain tasks, without end.
    Serial(SerialSource),
    /// The built-in generator of theory-of-mind stories, one question about each, without end.
    Stories,
    /// GSM8K as JSON Lines: a file, or a folder with `train.jsonl` and `test.jsonl`.
    Gsm8k(PathBuf),
    /// GSM8K in the local cache of the Hugging Face hub. Nothing is downloaded.
    Gsm8kCache,
    /// A prompt file in JSON Lines, or in JSON as one array.
    Jsonl(PathBuf),
    /// A prompt file in CSV.
    Csv(PathBuf),
}

impl FromStr for DataSource {
    type Err = TasksError;

    fn from_str(name: &str) -> Result<Self, TasksError> {
        let error = |reason: &str| TasksError::SourceName { name: name.to_owned(), reason: reason.to_owned() };
        if name == "word-problems" {
            return Ok(Self::WordProblems { steps: None });
        }
        if name == "tom" {
            return Ok(Self::Stories);
        }
        if let Some(options) = name.strip_prefix("word-problems:") {
            let steps = options
                .strip_prefix("steps=")
                .and_then(|steps| steps.parse().ok())
                .ok_or_else(|| error("the only option is `steps=N`, for instance `word-problems:steps=3`"))?;
            if !(1..=MAX_STEPS).contains(&steps) {
                return Err(TasksError::Steps { given: steps, max: MAX_STEPS });
            }
            return Ok(Self::WordProblems { steps: Some(steps) });
        }
        let (kind, options) = name.split_once(':').map_or((name, None), |(kind, options)| (kind, Some(options)));
        let task = kind.parse::<SerialTask>().ok();
        if kind == "serial" || task.is_some() {
            let steps = match options {
                None => 1..=MAX_SERIAL_STEPS,
                Some(options) => options
                    .strip_prefix("steps=")
                    .and_then(|steps| steps.parse().ok())
                    .map(|steps: usize| steps..=steps)
                    .ok_or_else(|| error("the only option is `steps=N`, for instance `chain:steps=3`"))?,
            };
            let given = *steps.start();
            if !(1..=MAX_SERIAL_STEPS).contains(&given) {
                return Err(TasksError::SerialSteps { given, max: MAX_SERIAL_STEPS });
            }
            return Ok(Self::Serial(SerialSource { task, steps }));
        }
        if let Some(path) = name.strip_prefix("gsm8k:") {
            if path.is_empty() {
                return Err(error("`gsm8k:` needs the path of a file or folder, for instance `gsm8k:data/gsm8k`"));
            }
            return Ok(Self::Gsm8k(PathBuf::from(path)));
        }
        match name {
            "gsm8k" => return Err(error("say where it is: `gsm8k:PATH`, or `hf:openai/gsm8k` for the hub's cache")),
            "hf:openai/gsm8k" | "hf:gsm8k" => return Ok(Self::Gsm8kCache),
            _ => {}
        }
        if name.starts_with("hf:") {
            return Err(error(
                "the only data set read from the hub's cache is `hf:openai/gsm8k`; give others as a file",
            ));
        }
        match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "json") => Ok(Self::Jsonl(PathBuf::from(name))),
            Some("csv") => Ok(Self::Csv(PathBuf::from(name))),
            _ => Err(error(NAMES)),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WordProblems { steps: None } => formatter.write_str("word-problems"),
            Self::WordProblems { steps: Some(steps) } => write!(formatter, "word-problems:steps={steps}"),
            Self::Serial(SerialSource { task, steps }) => {
                formatter.write_str(task.map_or("serial", SerialTask::name))?;
                if steps.start() == steps.end() { write!(formatter, ":steps={}", steps.start()) } else { Ok(()) }
            }
            Self::Stories => formatter.write_str("tom"),
            Self::Gsm8k(path) => write!(formatter, "gsm8k:{}", path.display()),
            Self::Gsm8kCache => formatter.write_str("hf:openai/gsm8k"),
            Self::Jsonl(path) | Self::Csv(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl DataSource {
    /// Whether there is no last item: `n` has to be given.
    pub fn is_endless(&self) -> bool {
        matches!(self, Self::WordProblems { .. } | Self::Serial(_) | Self::Stories)
    }

    /// Whether both splits are the same items: then nothing of this source can be tuned or trained on and evaluated too.
    pub fn has_one_part(&self) -> bool {
        match self {
            Self::Jsonl(_) | Self::Csv(_) => true,
            Self::Gsm8k(path) => !path.is_dir(),
            Self::WordProblems { .. } | Self::Serial(_) | Self::Stories | Self::Gsm8kCache => false,
        }
    }

    /// Name of the part that the items of a split are: `train`, `test`, or `all` of a source with one part.
    pub fn part(&self, split: Split) -> &'static str {
        if self.has_one_part() { "all" } else { split.as_str() }
    }

    /// The file that the items of a split are read from, `None` of a generator.
    ///
    /// # Errors
    /// If it cannot be found.
    pub fn file(&self, split: Split) -> Result<Option<PathBuf>, TasksError> {
        match self {
            Self::WordProblems { .. } | Self::Serial(_) | Self::Stories => Ok(None),
            Self::Gsm8k(path) => file_of(path, split).map(Some),
            Self::Gsm8kCache => self.cached_file(split).map(Some),
            Self::Jsonl(path) | Self::Csv(path) => Ok(Some(path.clone())),
        }
    }

    /// The file of the hub's cache.
    fn cached_file(&self, split: Split) -> Result<PathBuf, TasksError> {
        let cache = hub_cache().ok_or_else(|| TasksError::SourceName {
            name: self.to_string(),
            reason:
                "none of HF_HUB_CACHE, HF_HOME and HOME is set, so the hub's cache cannot be found; use `gsm8k:PATH`"
                    .to_owned(),
        })?;
        cached_gsm8k(&cache, split)
    }

    /// Up to `n` items; all of them if `None`. The generators make exactly `n`. Of a file the choice is random but fixed by
    /// `seed`, and a smaller choice is the beginning of a larger one; a prompt file has one split, which is both. Worked
    /// solutions come without calculator annotations.
    ///
    /// # Errors
    /// If the source cannot be read (the error names file and line), or has no end and `n` is `None`.
    pub fn load(&self, n: Option<usize>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        self.load_with(n, seed, split, Annotations::Strip)
    }

    /// As [`DataSource::load`], with or without the calculator annotations of worked solutions.
    ///
    /// # Errors
    /// As [`DataSource::load`].
    pub fn load_with(
        &self,
        n: Option<usize>,
        seed: u64,
        split: Split,
        annotations: Annotations,
    ) -> Result<Vec<Item>, TasksError> {
        let items = match self {
            Self::WordProblems { steps } => {
                let n = n.ok_or_else(|| TasksError::Endless { name: self.to_string() })?;
                return word_problems(0..n as u64, seed, split, *steps, annotations);
            }
            Self::Serial(_) | Self::Stories => {
                let n = n.ok_or_else(|| TasksError::Endless { name: self.to_string() })?;
                return self.range(0..n as u64, seed, split);
            }
            Self::Gsm8k(path) => read_gsm8k(path, split, annotations)?,
            Self::Gsm8kCache => read_gsm8k(&self.cached_file(split)?, split, annotations)?,
            Self::Jsonl(path) => read_jsonl(path)?,
            Self::Csv(path) => read_csv(path)?,
        };
        Ok(match n {
            Some(n) => choose(items, n, seed),
            None => items,
        })
    }

    /// Items of these numbers of a source without an end ([`DataSource::is_endless`]).
    ///
    /// # Errors
    /// If the source has an end, or cannot make such items.
    pub fn range(&self, numbers: Range<u64>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        match self {
            Self::WordProblems { steps } => word_problems(numbers, seed, split, *steps, Annotations::Strip),
            Self::Serial(source) => {
                let kind = source.task.map_or("serial", SerialTask::name);
                let item = |index| {
                    let id = format!("{kind}-{}-{seed}-{index}", split.as_str());
                    Ok(source.generate(seed, index, split)?.to_item(id))
                };
                numbers.map(item).collect()
            }
            Self::Stories => {
                let generator = StoryGenerator::new(StorySettings::default(), seed)?;
                numbers.map(|index| generator.item(index, Part::from(split))).collect()
            }
            _ => Err(TasksError::SourceName { name: self.to_string(), reason: "it has an end".to_owned() }),
        }
    }
}

/// Up to `n` of the items: those with the smallest hashes of (seed, id), in that order. So a smaller choice is the beginning
/// of a larger one, and does not depend on the order of the items.
pub fn choose(mut items: Vec<Item>, n: usize, seed: u64) -> Vec<Item> {
    items.sort_by_cached_key(|item| (hash(seed, &item.id), item.id.clone()));
    items.truncate(n);
    items
}

fn word_problems(
    numbers: Range<u64>,
    seed: u64,
    split: Split,
    steps: Option<usize>,
    annotations: Annotations,
) -> Result<Vec<Item>, TasksError> {
    let first = match split {
        Split::Train => 0,
        Split::Test => FIRST_TEST_INDEX,
    };
    numbers
        .map(|index| {
            let problem = generate(seed, first + index, steps)?;
            Ok(Item {
                solution: Some(match annotations {
                    Annotations::Keep => problem.solution,
                    Annotations::Strip => crate::strip_annotations(&problem.solution),
                }),
                answer: Some(problem.answer.to_string()),
                ..Item::new(format!("word-problem-{}-{seed}-{index}", split.as_str()), problem.question)
            })
        })
        .collect()
}

/// The folder in which Hugging Face tools keep what they downloaded, by their own rules.
fn hub_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// The newest `train.jsonl` or `test.jsonl` of GSM8K under `cache`.
fn cached_gsm8k(cache: &Path, split: Split) -> Result<PathBuf, TasksError> {
    let repository = cache.join("datasets--openai--gsm8k");
    let name = format!("{}.jsonl", split.as_str());
    let advice = format!(
        "get `{name}` from the repository openai/grade-school-math (folder grade_school_math/data), put it into a folder \
         and use `gsm8k:FOLDER`"
    );
    let snapshots: Vec<PathBuf> = match std::fs::read_dir(repository.join("snapshots")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => return Err(TasksError::file(&repository, format!("GSM8K is not in the hub's cache; {advice}"))),
    };
    let found = snapshots
        .iter()
        .flat_map(|snapshot| [snapshot.join(&name), snapshot.join("main").join(&name)])
        .filter_map(|file| Some((std::fs::metadata(&file).ok()?.modified().ok()?, file)))
        .max();
    match found {
        Some((_, file)) => Ok(file),
        None => Err(TasksError::file(
            &repository,
            format!("the cached copy holds no `{name}` (Parquet files are not read); {advice}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "word-problems",
            "word-problems:steps=3",
            "serial",
            "chain",
            "perm:steps=1",
            "vars:steps=8",
            "serial:steps=2",
            "tom",
            "gsm8k:some/where",
            "hf:openai/gsm8k",
            "a/b.jsonl",
            "a/b.json",
            "a b.csv",
        ] {
            assert_eq!(name.parse::<DataSource>().unwrap().to_string(), name);
        }
        for (name, expected) in [
            ("word-problems:step=3", "the only option is `steps=N`"),
            ("word-problems:steps=0", "1 to 6 steps, 0 were asked for"),
            ("word-problems:steps=7", "1 to 6 steps, 7 were asked for"),
            ("chain:k=3", "the only option is `steps=N`"),
            ("perm:steps=0", "1 to 8 steps, 0 were asked for"),
            ("serial:steps=9", "1 to 8 steps, 9 were asked for"),
            ("gsm8k", "say where it is"),
            ("gsm8k:", "needs the path"),
            ("hf:someone/data", "the only data set read from the hub's cache"),
            ("prompts.txt", "expected `word-problems`"),
            ("", "expected `word-problems`"),
        ] {
            let error = name.parse::<DataSource>().unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn splits_of_the_generator_are_disjoint() {
        let source = DataSource::WordProblems { steps: Some(2) };
        let train = source.load(Some(200), 0, Split::Train).unwrap();
        let test = source.load(Some(200), 0, Split::Test).unwrap();
        let questions: HashSet<&str> = train.iter().chain(&test).map(|item| item.question.as_str()).collect();
        assert_eq!(questions.len(), 400);
        assert!(train[0].gold().is_some());
        assert!(!train[0].solution.as_deref().unwrap().contains("<<"));
        assert_eq!(source.load(Some(20), 0, Split::Train).unwrap(), train[..20]);
        assert!(source.load(None, 0, Split::Train).unwrap_err().to_string().contains("has no end"));
    }

    #[test]
    fn a_smaller_choice_is_the_beginning_of_a_larger_one() {
        let items: Vec<Item> = (0..50).map(|i| Item::new(format!("{i}"), "?")).collect();
        let reversed: Vec<Item> = items.iter().rev().cloned().collect();
        let large = choose(items.clone(), 30, 7);
        assert_eq!(choose(reversed, 10, 7), large[..10]);
        assert_ne!(choose(items.clone(), 30, 8), large);
        assert_eq!(choose(items, 100, 7).len(), 50);
    }

    #[test]
    fn prompt_files_load_through_their_ending() {
        let folder = tempfile::tempdir().unwrap();
        let jsonl = folder.path().join("p.jsonl");
        std::fs::write(&jsonl, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n").unwrap();
        let source: DataSource = jsonl.to_str().unwrap().parse().unwrap();
        assert_eq!(source.load(None, 0, Split::Test).unwrap().len(), 2);
        assert_eq!(source.load(Some(1), 0, Split::Test).unwrap().len(), 1);
        let csv = folder.path().join("p.csv");
        std::fs::write(&csv, "prompt\na\n").unwrap();
        let source: DataSource = csv.to_str().unwrap().parse().unwrap();
        assert_eq!(source.load(None, 0, Split::Test).unwrap().len(), 1);
    }

    #[test]
    fn files_have_one_part_and_folders_two() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let source = |name: String| name.parse::<DataSource>().unwrap();
        let file = source(format!("gsm8k:{}", path("test.jsonl").display()));
        assert_eq!((file.has_one_part(), file.part(Split::Test)), (true, "all"));
        let both = source(format!("gsm8k:{}", folder.path().display()));
        assert_eq!((both.has_one_part(), both.part(Split::Test)), (false, "test"));
        assert_eq!(source("a.csv".to_owned()).part(Split::Train), "all");
        assert_eq!(source("chain".to_owned()).part(Split::Train), "train");

        for name in ["train.jsonl", "test.jsonl"] {
            std::fs::write(path(name), "{}").unwrap();
        }
        for (source, split, expected) in [
            (&file, Split::Train, Some(path("test.jsonl"))),
            (&both, Split::Test, Some(path("test.jsonl"))),
            (&both, Split::Train, Some(path("train.jsonl"))),
            (&source("chain".to_owned()), Split::Train, None),
        ] {
            assert_eq!(source.file(split).ok().flatten(), expected);
        }
    }

    #[test]
    fn the_cache_of_the_hub_is_searched_for_json_lines() {
        let cache = tempfile::tempdir().unwrap();
        let error = cached_gsm8k(cache.path(), Split::Test).unwrap_err().to_string();
        assert!(error.contains("not in the hub's cache; get `test.jsonl`"), "{error}");
        let folder = cache.path().join("datasets--openai--gsm8k/snapshots/abc/main");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("test-00000-of-00001.parquet"), "PAR1").unwrap();
        let error = cached_gsm8k(cache.path(), Split::Test).unwrap_err().to_string();
        assert!(error.contains("holds no `test.jsonl` (Parquet files are not read)"), "{error}");
        std::fs::write(folder.join("test.jsonl"), "").unwrap();
        assert_eq!(cached_gsm8k(cache.path(), Split::Test).unwrap(), folder.join("test.jsonl"));
    }
}
