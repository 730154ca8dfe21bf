//! GSM8K (Cobbe et al. 2021, arXiv 2110.14168): grade-school word problems, one JSON object a line with `question` and
//! `answer`; the last line of the answer is `#### ` and the gold number.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::TasksError;
use crate::item::{Item, Split};
use crate::json_rows::for_each_row;
use crate::number::Number;
use crate::task::{Amount, ExaminationItem, Task};

/// Items of its test part.
pub const TEST_ITEMS: usize = 1319;

/// An instruction that asks for the answer in the data set's format; to be written below the question.
pub const GSM8K_INSTRUCTION: &str =
    "Think step by step. Write the final answer as a number on its own last line, after \"#### \".";

#[derive(Deserialize)]
struct Line {
    question: String,
    answer: String,
}

/// Reads GSM8K from a JSON Lines file, or from a folder that holds `train.jsonl` and `test.jsonl`. Items are named by split
/// and position (`gsm8k-test-0`, in the order of the file); a file that is named directly is taken whatever `split` says. Worked
/// solutions keep their calculator annotations (`<<48/2=24>>`).
///
/// # Errors
/// If the file cannot be read, holds no problem, or a line is not JSON, lacks a field or has no number after `#### `.
pub fn read_gsm8k(path: &Path, split: Split) -> Result<Vec<Item>, TasksError> {
    let file = file_of(path, split)?;
    let stem = file.file_stem().map_or_else(|| split.as_str().to_owned(), |stem| stem.to_string_lossy().into_owned());
    let mut items = Vec::new();
    for_each_row(&file, &mut |place, value| {
        let line: Line = serde_json::from_value(value)
            .map_err(|e| place.error(&file, format!("{e}; expected text in `question` and `answer`")))?;
        let gold = gold_of(&line.answer)
            .ok_or_else(|| place.error(&file, "the last line of `answer` is not `#### ` followed by a number"))?;
        items.push(Item {
            answer: Some(gold.to_string()),
            solution: Some(line.answer),
            ..Item::new(format!("gsm8k-{stem}-{}", items.len()), line.question)
        });
        Ok(())
    })?;
    if items.is_empty() {
        return Err(TasksError::empty(&file));
    }
    Ok(items)
}

/// Items whose worked solutions have no calculator annotations.
pub(crate) fn without_annotations(items: Vec<Item>) -> Vec<Item> {
    let stripped = |item: Item| Item { solution: item.solution.as_deref().map(strip_annotations), ..item };
    items.into_iter().map(stripped).collect()
}

/// Removes calculator annotations: the text around them reads on (`48/2 = <<48/2=24>>24` becomes `48/2 = 24`). They are `<<` to the next `>>` on the same line.
pub fn strip_annotations(solution: &str) -> String {
    let mut kept = String::with_capacity(solution.len());
    let mut rest = solution;
    while let Some((before, after)) = rest.split_once("<<") {
        kept.push_str(before);
        match after.split_once(">>") {
            Some((inside, next)) if !inside.contains('\n') => rest = next,
            _ => {
                kept.push_str("<<");
                rest = after;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// The number after `#### ` on the last line that is not blank.
pub(crate) fn gold_of(answer: &str) -> Option<Number> {
    let last = answer.lines().rev().find(|line| !line.trim().is_empty())?;
    Number::parse(last.trim().strip_prefix("####")?)
}

/// The file of GSM8K at `path` that the items of a split are read from.
pub(crate) fn file_of(path: &Path, split: Split) -> Result<PathBuf, TasksError> {
    let about = std::fs::metadata(path).map_err(TasksError::read(path))?;
    if !about.is_dir() {
        return Ok(path.to_path_buf());
    }
    let name = format!("{}.jsonl", split.as_str());
    let file = path.join(&name);
    if file.is_file() {
        return Ok(file);
    }
    Err(TasksError::file(path, format!("the folder holds no `{name}`; expected `train.jsonl` and `test.jsonl`")))
}

/// GSM8K, from a file or from the cache of the Hugging Face hub. Nothing is downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gsm8k {
    /// JSON Lines: a file, or a folder with `train.jsonl` and `test.jsonl`; `None` for the hub's cache.
    pub path: Option<PathBuf>,
}

impl Gsm8k {
    /// Reads `gsm8k:PATH` or `hf:openai/gsm8k`; `None` if it is the name of another task.
    pub fn named(name: &str) -> Option<Result<Self, TasksError>> {
        let error = |reason: &str| Some(Err(TasksError::name(name, reason)));
        match (name, name.split_once(':')) {
            ("gsm8k", _) => error("say where it is: `gsm8k:PATH`, or `hf:openai/gsm8k` for the hub's cache"),
            ("hf:openai/gsm8k" | "hf:gsm8k", _) => Some(Ok(Self { path: None })),
            (_, Some(("gsm8k", ""))) => {
                error("`gsm8k:` needs the path of a file or folder, for instance `gsm8k:data/gsm8k`")
            }
            (_, Some(("gsm8k", path))) => Some(Ok(Self { path: Some(path.into()) })),
            (_, Some(("hf", _))) => {
                error("the only data set read from the hub's cache is `hf:openai/gsm8k`; give others as a file")
            }
            _ => None,
        }
    }

    /// The file or folder that is read.
    fn place(&self, split: Split) -> Result<PathBuf, TasksError> {
        let Some(path) = &self.path else {
            let reason =
                "none of HF_HUB_CACHE, HF_HOME and HOME is set, so the hub's cache cannot be found; use `gsm8k:PATH`";
            let cache = hub_cache().ok_or_else(|| TasksError::name(&self.name(), reason))?;
            return cached_gsm8k(&cache, split);
        };
        Ok(path.clone())
    }
}

impl Task for Gsm8k {
    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "hf:openai/gsm8k".to_owned(), |path| format!("gsm8k:{}", path.display()))
    }

    fn short_name(&self) -> &'static str {
        "gsm8k"
    }

    fn has_one_part(&self) -> bool {
        self.path.as_ref().is_some_and(|path| !path.is_dir())
    }

    fn file(&self, split: Split) -> Result<Option<PathBuf>, TasksError> {
        let place = self.place(split)?;
        if self.path.is_some() { file_of(&place, split).map(Some) } else { Ok(Some(place)) }
    }

    fn all_items(&self, split: Split) -> Result<Vec<Item>, TasksError> {
        read_gsm8k(&self.place(split)?, split).map(without_annotations)
    }

    fn instruction(&self) -> Option<&'static str> {
        Some(GSM8K_INSTRUCTION)
    }

    fn examination_size(&self) -> Option<usize> {
        Some(TEST_ITEMS)
    }

    fn examination(&self, _amount: Amount, _seed: u64, split: Split) -> Result<Vec<ExaminationItem>, TasksError> {
        let items = read_gsm8k(&self.place(split)?, split)?;
        Ok((0..).zip(items).map(|(number, item)| ExaminationItem::of(item, self.short_name(), number)).collect())
    }
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
    use super::*;

    // Two problems in the data set's format, written for this test.
    const TWO: &str = concat!(
        r#"{"question": "Ana has 4 pens and buys 8. How many?", "answer": "She has 4+8=<<4+8=12>>12 pens.\n#### 12"}"#,
        "\n",
        r#"{"question": "A car costs $1,250. Two cars?", "answer": "2*1250=$<<2*1250=2500>>2500\n#### 2,500"}"#,
        "\n"
    );

    #[test]
    fn folder_and_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("test.jsonl"), TWO).unwrap();
        let items = Gsm8k { path: Some(folder.path().to_owned()) }.all_items(Split::Test).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].id, "gsm8k-test-0");
        assert_eq!(items[0].solution.as_deref(), Some("She has 4+8=12 pens.\n#### 12"));
        assert_eq!(items[1].answer.as_deref(), Some("2500"));
        let kept = read_gsm8k(&folder.path().join("test.jsonl"), Split::Train).unwrap();
        assert_eq!(kept[1].solution.as_deref(), Some("2*1250=$<<2*1250=2500>>2500\n#### 2,500"));
        let error = read_gsm8k(folder.path(), Split::Train).unwrap_err().to_string();
        assert!(error.contains("no `train.jsonl`"), "{error}");
    }

    #[test]
    fn errors_name_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        for (content, expected) in [
            (format!("{TWO}\n{{\"question\": \"a\"}}\n"), "p.jsonl, line 4: missing field `answer`"),
            (format!("{TWO}not json\n"), "p.jsonl, line 3: not a JSON object"),
            ("{\"question\": \"a\", \"answer\": \"12\"}".to_owned(), "p.jsonl, line 1: the last line of `answer`"),
            ("{\"question\": \"a\", \"answer\": \"#### twelve\"}".to_owned(), "p.jsonl, line 1: the last line"),
            ("{\"question\": 3, \"answer\": \"#### 2\"}".to_owned(), "p.jsonl, line 1: invalid type"),
            ("\n\n".to_owned(), "p.jsonl: the data set is empty"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_gsm8k(&path, Split::Test).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = read_gsm8k(&folder.path().join("none"), Split::Test).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("none"), "{error}");
    }

    #[test]
    fn annotations_are_cut_only_where_they_close() {
        assert_eq!(strip_annotations("a <<1+1=2>>2, <<b\nc>> <<d"), "a 2, <<b\nc>> <<d");
        assert_eq!(strip_annotations("none"), "none");
    }

    #[test]
    fn files_have_one_part_and_folders_two() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = Gsm8k { path: Some(path("test.jsonl")) };
        assert_eq!((file.has_one_part(), file.part(Split::Test)), (true, "all"));
        let both = Gsm8k { path: Some(folder.path().to_owned()) };
        assert_eq!((both.has_one_part(), both.part(Split::Test)), (false, "test"));
        for name in ["train.jsonl", "test.jsonl"] {
            std::fs::write(path(name), "{}").unwrap();
        }
        for (task, split, expected) in [
            (&file, Split::Train, path("test.jsonl")),
            (&both, Split::Test, path("test.jsonl")),
            (&both, Split::Train, path("train.jsonl")),
        ] {
            assert_eq!(task.file(split).unwrap(), Some(expected));
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
