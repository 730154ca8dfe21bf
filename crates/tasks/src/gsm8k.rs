//! GSM8K (Cobbe et al. 2021, arXiv 2110.14168): grade-school word problems, one JSON object a line with `question` and
//! `answer`; the last line of the answer is `#### ` and the gold number.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::json_rows::for_each_row;
use crate::{Item, Number, Split, TasksError};

/// An instruction that asks for the answer in the data set's format; to be written below the question.
pub const GSM8K_INSTRUCTION: &str =
    "Think step by step. Write the final answer as a number on its own last line, after \"#### \".";

/// What happens to the calculator annotations (`<<48/2=24>>`) of the worked solutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Annotations {
    /// They are removed; the text around them reads on (`48/2 = <<48/2=24>>24` becomes `48/2 = 24`).
    #[default]
    Strip,
    /// They stay.
    Keep,
}

#[derive(Deserialize)]
struct Line {
    question: String,
    answer: String,
}

/// Reads GSM8K from a JSON Lines file, or from a folder that holds `train.jsonl` and `test.jsonl`. Items are named by split
/// and position (`gsm8k-test-0`, in the order of the file); a file that is named directly is taken whatever `split` says.
///
/// # Errors
/// If the file cannot be read, holds no problem, or a line is not JSON, lacks a field or has no number after `#### `.
pub fn read_gsm8k(path: &Path, split: Split, annotations: Annotations) -> Result<Vec<Item>, TasksError> {
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
            solution: Some(match annotations {
                Annotations::Strip => strip_annotations(&line.answer),
                Annotations::Keep => line.answer,
            }),
            ..Item::new(format!("gsm8k-{stem}-{}", items.len()), line.question)
        });
        Ok(())
    })?;
    if items.is_empty() {
        return Err(TasksError::Empty { path: file });
    }
    Ok(items)
}

/// Removes calculator annotations, `<<` to the next `>>` on the same line.
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
    let about = std::fs::metadata(path).map_err(|source| TasksError::Read { path: path.to_path_buf(), source })?;
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
        let items = read_gsm8k(folder.path(), Split::Test, Annotations::Strip).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].id, "gsm8k-test-0");
        assert_eq!(items[0].solution.as_deref(), Some("She has 4+8=12 pens.\n#### 12"));
        assert_eq!(items[1].answer.as_deref(), Some("2500"));
        let kept = read_gsm8k(&folder.path().join("test.jsonl"), Split::Train, Annotations::Keep).unwrap();
        assert_eq!(kept[1].solution.as_deref(), Some("2*1250=$<<2*1250=2500>>2500\n#### 2,500"));
        let error = read_gsm8k(folder.path(), Split::Train, Annotations::Strip).unwrap_err().to_string();
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
            let error = read_gsm8k(&path, Split::Test, Annotations::Strip).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = read_gsm8k(&folder.path().join("none"), Split::Test, Annotations::Strip).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("none"), "{error}");
    }

    #[test]
    fn annotations_are_cut_only_where_they_close() {
        assert_eq!(strip_annotations("a <<1+1=2>>2, <<b\nc>> <<d"), "a 2, <<b\nc>> <<d");
        assert_eq!(strip_annotations("none"), "none");
    }
}
