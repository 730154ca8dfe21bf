//! `aloud data`.

use crate::fixtures::{Folder, aloud, json_lines};

#[test]
fn word_problems_are_repeatable() {
    let folder = Folder::new();
    let out = folder.path("problems.jsonl");
    let printed = aloud(&["data", "word-problems", "--n", "5", "--seed", "7", "--steps", "3"]).ok();
    assert_eq!(aloud(&["data", "word-problems", "--n", "5", "--seed", "7", "--steps", "3", "--out", &out]).ok(), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), printed);
    let items = json_lines(&printed);
    assert_eq!(items.len(), 5);
    for item in &items {
        let (answer, solution) = (item["answer"].as_str().unwrap(), item["solution"].as_str().unwrap());
        assert!(solution.ends_with(&format!("#### {answer}")), "{item}");
        assert!(item["question"].as_str().unwrap().ends_with('?') && item["id"].is_string());
    }
    let other = |arguments: &[&str]| aloud(&[&["data", "word-problems", "--n", "5"], arguments].concat()).ok();
    assert_ne!(other(&["--seed", "8", "--steps", "3"]), printed);
    assert_ne!(other(&["--seed", "7", "--steps", "3", "--split", "test"]), printed);
    // A smaller number is the beginning of a larger one.
    let fewer = aloud(&["data", "word-problems", "--n", "2", "--seed", "7", "--steps", "3"]).ok();
    assert!(printed.starts_with(&fewer));
}

#[test]
fn gsm8k_is_read_from_a_path() {
    let folder = Folder::new();
    let line = |question: &str, answer: &str| serde_json::json!({"question": question, "answer": answer}).to_string();
    let content = format!("{}\n{}\n", line("a?", "1+1=<<1+1=2>>2\n#### 2"), line("b?", "#### 1,200"));
    let file = folder.file("test.jsonl", content);
    let items = json_lines(&aloud(&["data", "gsm8k", &file]).ok());
    assert_eq!((items.len(), &items[0]["solution"]), (2, &"1+1=2\n#### 2".into()));
    assert_eq!(items[1]["answer"], "1200");
    assert_eq!(json_lines(&aloud(&["data", "gsm8k", &file, "--n", "1"]).ok()).len(), 1);
    let folder_given = aloud(&["data", "gsm8k", &folder.path(""), "--split", "test"]).ok();
    assert_eq!(json_lines(&folder_given), items);
    aloud(&["data", "gsm8k", &folder.path("")]).fails(1, &["train.jsonl"]);
}

#[test]
fn wrong_arguments() {
    aloud(&["data", "word-problems", "--n", "1", "--steps", "7"]).fails(2, &["1 to 6 steps"]);
    assert_eq!(aloud(&["data", "word-problems"]).code, 2);
    aloud(&["data", "gsm8k", "/nonexistent/x"]).fails(1, &["/nonexistent/x"]);
    aloud(&["data", "word-problems", "--n", "1", "--out", "/nonexistent/x.jsonl"]).fails(1, &["/nonexistent/x.jsonl"]);
}

#[test]
fn stories_are_repeatable_and_described() {
    let folder = Folder::new();
    let out = folder.path("stories.jsonl");
    let arguments = ["data", "tom", "--n", "12", "--seed", "3"];
    let printed = aloud(&arguments).ok();
    assert_eq!(aloud(&[&arguments[..], &["--out", &out]].concat()).ok(), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), printed);
    let card = std::fs::read_to_string(folder.path("stories.card.md")).unwrap();
    assert!(card.contains("- stories: 12, questions: ") && card.contains("majority baseline"), "{card}");
    let rows = json_lines(&printed);
    assert!(rows.iter().all(|row| row["story_text"].is_string() && row["answer"].is_string()));
    let csv = folder.path("stories.csv");
    aloud(&["data", "tom", "--n", "3", "--split", "test", "--out", &csv]).ok();
    let text = std::fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with("id,version,seed,") && text.contains(",test,"), "{text}");
    let told = aloud(&["data", "tom", "--n", "2", "--seed", "3", "--explain"]).ok();
    assert!(told.contains(rows[0]["story_text"].as_str().unwrap()) && told.contains("  ANSWER: "), "{told}");
}

#[test]
fn impossible_stories_and_wrong_words_are_refused() {
    let tom = |arguments: &[&str]| aloud(&[&["data", "tom", "--n", "1"], arguments].concat());
    tom(&["--people", "1"]).fails(2, &["needs two people, found 1"]);
    tom(&["--rooms", "0"]).fails(2, &["need 1, found 0"]);
    tom(&["--families", "relocation"]).fails(2, &["no family of stories `relocation`"]);
    tom(&["--out", "/nonexistent/x.jsonl"]).fails(1, &["/nonexistent/x.jsonl"]);
    tom(&["--out", "x.txt"]).fails(1, &["`.jsonl` or `.csv`"]);
    let folder = Folder::new();
    let words = "name = \"attic\"\nrooms = [\"loft\"]\ncontainers = [\"hamper\"]\ntopics = []\nobjects = [{ name = \"kite\" }]\n";
    let file = folder.file("my.toml", format!("{words}placements = [{{ what = \"kite\", room = \"roof\" }}]\n"));
    tom(&["--words", &file]).fails(1, &["my.toml, line 6: unknown word `roof`: the rooms of the file are loft"]);
}
