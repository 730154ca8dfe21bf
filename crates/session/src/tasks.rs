//! The tasks that there are, by their names on the command line. A new task is one file, which implements [`Task`], and one row
//! here.

use std::path::Path;
use std::sync::Arc;

use aloud_stories::task::Stories;
use aloud_tasks::error::TasksError;
use aloud_tasks::gsm8k::Gsm8k;
use aloud_tasks::prompt_file::PromptFile;
use aloud_tasks::serial::SerialSource;
use aloud_tasks::task::Task;
use aloud_tasks::word_problems::task::WordProblems;

/// A task by its name; `None` if the name is that of another one.
type Named = Option<Result<Arc<dyn Task>, TasksError>>;

/// One kind of task.
struct Row {
    /// Its names, as a message lists them.
    names: &'static str,
    /// Those of them that name something to be evaluated.
    evaluated: &'static [&'static str],
    /// Reads a name.
    named: fn(&str) -> Named,
}

static TASKS: [Row; 5] = [
    Row {
        names: "`word-problems`, `word-problems:steps=N`",
        evaluated: &["word-problems"],
        named: |name| shared(WordProblems::named(name)),
    },
    Row {
        names: "`serial`, `chain`, `perm` or `vars` (each also with `:steps=N`)",
        evaluated: &["serial", "chain", "perm", "vars"],
        named: |name| shared(SerialSource::named(name)),
    },
    Row { names: "`tom`", evaluated: &["tom"], named: |name| shared(Stories::named(name)) },
    Row {
        names: "`gsm8k:PATH`, `hf:openai/gsm8k`",
        evaluated: &["gsm8k:PATH", "hf:openai/gsm8k"],
        named: |name| shared(Gsm8k::named(name)),
    },
    Row {
        names: "`FILE.jsonl`, `FILE.json` or `FILE.csv`",
        evaluated: &[],
        named: |name| shared(PromptFile::at(Path::new(name)).map(Ok)),
    },
];

fn shared<T: Task + 'static>(named: Option<Result<T, TasksError>>) -> Named {
    named.map(|task| task.map(|task| Arc::new(task) as Arc<dyn Task>))
}

/// The task of a name: `word-problems[:steps=N]`, `serial[:steps=N]` (all serial tasks), `chain`, `perm` and `vars` alike, `tom`,
/// `gsm8k:PATH`, `hf:openai/gsm8k`, `FILE.jsonl`, `FILE.json`, `FILE.csv`.
///
/// # Errors
/// If there is none, with the names that there are, or its options are wrong.
pub fn task(name: &str) -> Result<Arc<dyn Task>, TasksError> {
    let unknown = || {
        let names: Vec<&str> = TASKS.iter().map(|row| row.names).collect();
        TasksError::name(name, format!("expected {}", names.join(", ")))
    };
    TASKS.iter().find_map(|row| (row.named)(name)).ok_or_else(unknown)?
}

/// Names of the tasks that can be evaluated, as a message lists them.
pub fn evaluated_tasks() -> String {
    let names: Vec<&str> = TASKS.iter().flat_map(|row| row.evaluated).copied().collect();
    names.split_last().map_or_else(String::new, |(last, names)| format!("{} or {last}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
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
            assert_eq!(task(name).unwrap().to_string(), name);
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
            let error = task(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let all = "expected `word-problems`, `word-problems:steps=N`, `serial`, `chain`, `perm` or `vars` (each also with \
                   `:steps=N`), `tom`, `gsm8k:PATH`, `hf:openai/gsm8k`, `FILE.jsonl`, `FILE.json` or `FILE.csv`";
        assert!(task("prompts.txt").unwrap_err().to_string().ends_with(all));
    }

    #[test]
    fn what_is_listed_can_be_evaluated_and_nothing_else() {
        for name in TASKS.iter().flat_map(|row| row.evaluated) {
            assert!(task(name).unwrap().examination_size().is_some(), "{name}");
        }
        for name in ["word-problems:steps=2", "chain:steps=3", "a.jsonl"] {
            assert_eq!(task(name).unwrap().examination_size(), None, "{name}");
        }
        assert!(evaluated_tasks().ends_with("tom, gsm8k:PATH or hf:openai/gsm8k"));
    }
}
