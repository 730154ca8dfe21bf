//! Prompt files: JSON and CSV.
//!
//! Fields of a row (or columns of the header): one of `prompt`, `question` (a user message) or, in JSON, `messages` (a
//! conversation; `prompt` may be one too). A conversation ends with the user's turn, or with the assistant's answer, which is the reference
//! response then. Optional: `id`, `story_text` (what the question is about, written above it as
//! [`story_question`] does; `infilled_text` in its place, if there is one), `system`, `raw` (true: the prompt is taken as it is, without
//! chat template), `response`, `completion` or `solution` (a reference response), `answer` (the gold answer, or a worked solution whose last line is
//! `#### ` and the gold answer). Other fields are ignored. A byte order mark, CRLF and blank lines are fine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::conversation::{Conversation, completion, conversation};
use crate::error::TasksError;
use crate::gsm8k::gold_of;
use crate::item::{Item, Message, Role, Split, story_question};
use crate::json_rows::{Place, for_each_row};
use crate::task::Task;

/// A prompt file: its items are both splits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFile {
    path: PathBuf,
    is_csv: bool,
}

impl PromptFile {
    /// The file at a path, by its ending: `.jsonl`, `.json` or `.csv`; `None` if it has another.
    pub fn at(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        let is_csv = ending == "csv";
        (is_csv || matches!(ending, "jsonl" | "json")).then(|| Self { path: path.to_owned(), is_csv })
    }
}

impl Task for PromptFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn short_name(&self) -> &'static str {
        "prompts"
    }

    fn has_one_part(&self) -> bool {
        true
    }

    fn file(&self, _split: Split) -> Result<Option<PathBuf>, TasksError> {
        Ok(Some(self.path.clone()))
    }

    fn all_items(&self, _split: Split) -> Result<Vec<Item>, TasksError> {
        if self.is_csv { read_csv(&self.path) } else { read_jsonl(&self.path) }
    }
}

/// Reads a prompt file in JSON Lines, or in JSON as one array. Rows without `id` are named by their line, or by their place in
/// the array.
///
/// # Errors
/// If the file cannot be read or is empty, or a row is not an object, lacks a prompt, or has a field of the wrong type;
/// also if an id occurs twice.
pub fn read_jsonl(path: &Path) -> Result<Vec<Item>, TasksError> {
    let mut items = Vec::new();
    for_each_row(path, &mut |place, value| {
        let Value::Object(fields) = value else { return Err(place.error(path, "not a JSON object")) };
        items.push((place, item_of(&fields, place).map_err(|reason| place.error(path, reason))?));
        Ok(())
    })?;
    finish(path, items)
}

/// Reads a CSV prompt file: a header with the same names (without `messages`), fields quoted where needed.
///
/// # Errors
/// If the file cannot be read or is empty, the header has neither `prompt` nor `question`, or a row is damaged; also if
/// an id occurs twice.
pub fn read_csv(path: &Path) -> Result<Vec<Item>, TasksError> {
    let text = read_text(path)?;
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
    let mut lines = LineCounter { text: text.as_bytes(), byte: 0, line: 1 };
    let header = reader.headers().map_err(|e| csv_error(path, &e, &mut lines))?.clone();
    if header.is_empty() {
        return Err(TasksError::empty(path));
    }
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    if !names.iter().any(|name| matches!(*name, "prompt" | "question")) {
        let reason = format!("no column `prompt` or `question`; the header has: {}", names.join(", "));
        return Err(TasksError::line(path, 1, reason));
    }
    let mut items = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| csv_error(path, &e, &mut lines))?;
        let line = lines.line_at(row.position());
        if row.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        // An empty cell is an absent field.
        let fields: Map<String, Value> = names
            .iter()
            .zip(row.iter())
            .filter(|(name, field)| !field.is_empty() && **name != "messages")
            .map(|(name, field)| {
                let value = match (*name, field.trim()) {
                    ("raw", "true" | "1") => Value::Bool(true),
                    ("raw", "false" | "0") => Value::Bool(false),
                    _ => Value::String(field.to_owned()),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        let place = Place::Line(line);
        items.push((place, item_of(&fields, place).map_err(|reason| place.error(path, reason))?));
    }
    finish(path, items)
}

/// The text of a file without a byte order mark; an error names the line that is not UTF-8.
fn read_text(path: &Path) -> Result<String, TasksError> {
    let bytes = std::fs::read(path).map_err(TasksError::read(path))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.as_bytes().iter().take(e.utf8_error().valid_up_to());
        let line = 1 + good.filter(|b| **b == b'\n').count() as u64;
        TasksError::line(path, line, "not UTF-8 text")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Counts the lines of a CSV file. (The reader's own count is off by one after CRLF and blank lines.)
struct LineCounter<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// The line of the record that starts at `position` or after the line ends that stand there. Positions have to grow.
    fn line_at(&mut self, position: Option<&csv::Position>) -> u64 {
        let start = position.map_or(0, |position| position.byte() as usize);
        while let Some(byte) = self.text.get(self.byte)
            && (self.byte < start || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(*byte == b'\n');
            self.byte += 1;
        }
        self.line
    }
}

fn csv_error(path: &Path, error: &csv::Error, lines: &mut LineCounter<'_>) -> TasksError {
    let line = lines.line_at(error.position());
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            TasksError::line(path, line, format!("{len} fields, the header has {expected_len}"))
        }
        _ => TasksError::line(path, line, error.to_string()),
    }
}

fn finish(path: &Path, items: Vec<(Place, Item)>) -> Result<Vec<Item>, TasksError> {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (place, item) in &items {
        if let Some(first) = seen.insert(&item.id, *place) {
            return Err(place.error(path, format!("the id `{}` is already on {first}", item.id)));
        }
    }
    if items.is_empty() {
        return Err(TasksError::empty(path));
    }
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

/// An item of the fields of a row, or what is wrong with them.
fn item_of(fields: &Map<String, Value>, place: Place) -> Result<Item, String> {
    let id = match given(fields, "id") {
        None => place.to_string().replace(' ', "-"),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => return Err("`id` is neither text nor a number".to_owned()),
    };
    let raw = match given(fields, "raw") {
        None => false,
        Some(Value::Bool(raw)) => *raw,
        Some(_) => return Err("`raw` is neither true nor false".to_owned()),
    };
    let Conversation { mut context, question, response } = asked(fields)?;
    if let Some(system) = text_of(fields, "system")? {
        if context.iter().any(|message| message.role == Role::System) {
            return Err("a system message both in `system` and in the conversation".to_owned());
        }
        context.insert(0, Message::system(system));
    }
    if raw && !context.is_empty() {
        return Err("`raw` text has no chat template: it cannot have `system` or earlier messages".to_owned());
    }
    let mut solution = match text_of(fields, "response")? {
        Some(response) => Some(response),
        None => given(fields, "completion").map(|value| completion(value, "completion")).transpose()?,
    };
    if solution.is_some() && response.is_some() {
        return Err("two responses: the last turn of the conversation, and `response` or `completion`".to_owned());
    }
    solution = solution.or(response).or(text_of(fields, "solution")?);
    let answer = match given(fields, "answer") {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => text_of(fields, "answer")?,
    };
    let answer = match answer {
        Some(answer) => match gold_of(&answer) {
            Some(gold) => {
                solution.get_or_insert(answer);
                Some(gold.to_string())
            }
            None => Some(answer),
        },
        None => None,
    };
    Ok(Item { id, question, context, raw, solution, answer })
}

/// What a row asks, in whichever of its fields.
fn asked(fields: &Map<String, Value>) -> Result<Conversation, String> {
    let mut names =
        ["prompt", "question", "messages"].into_iter().filter_map(|name| Some((name, given(fields, name)?)));
    let Some((name, value)) = names.next() else {
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        return Err(format!("no field `prompt`, `question` or `messages`; the fields are: {}", names.join(", ")));
    };
    if names.next().is_some() {
        return Err("more than one of `prompt`, `question` and `messages`: only one can be asked".to_owned());
    }
    if name == "messages" || (name == "prompt" && value.is_array()) {
        return conversation(value, name);
    }
    let Some(question) = text_of(fields, name)? else { return Err(format!("`{name}` is not text")) };
    // A story that is there in prose too was meant to be read so.
    let story = text_of(fields, "infilled_text")?.or(text_of(fields, "story_text")?);
    let question = story.map_or_else(|| question.clone(), |story| story_question(&story, &question));
    Ok(Conversation { context: Vec::new(), question, response: None })
}

/// A field that is there and is not null.
fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn text_of(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() && matches!(name, "prompt" | "question") => {
            Err(format!("`{name}` is empty"))
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{name}` is not text")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    type Reader = fn(&Path) -> Result<Vec<Item>, TasksError>;

    fn read(reader: Reader, content: &[u8]) -> Result<Vec<Item>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts");
        std::fs::write(&path, content).unwrap();
        reader(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn prompt_files_load_by_their_ending() {
        let folder = tempfile::tempdir().unwrap();
        let jsonl = folder.path().join("p.jsonl");
        std::fs::write(&jsonl, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n").unwrap();
        let task = PromptFile::at(&jsonl).unwrap();
        assert_eq!(task.load(None, 0, Split::Test).unwrap().len(), 2);
        assert_eq!(task.load(Some(1), 0, Split::Test).unwrap().len(), 1);
        assert_eq!((task.has_one_part(), task.part(Split::Train)), (true, "all"));
        let csv = folder.path().join("p.csv");
        std::fs::write(&csv, "prompt\na\n").unwrap();
        assert_eq!(PromptFile::at(&csv).unwrap().load(None, 0, Split::Test).unwrap().len(), 1);
        assert_eq!(PromptFile::at(Path::new("prompts.txt")), None);
    }

    #[test]
    fn jsonl_with_mark_crlf_and_blank_lines() {
        let content = "\u{feff}{\"prompt\": \"a\", \"colour\": 3}\r\n\r\n{\"id\": 7, \"question\": \"b\", \"system\": \"s\", \
                       \"answer\": 4}\r\n{\"id\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}, \
                       {\"role\": \"assistant\", \"content\": \"y\"}, {\"role\": \"user\", \"content\": \"z\"}]}\n\
                       {\"prompt\": \"go on\", \"raw\": true, \"response\": \"and on\"}";
        let items = read(read_jsonl, content.as_bytes()).unwrap();
        assert_eq!(items[0], Item::new("line-1", "a"));
        assert_eq!(items[1].id, "7");
        assert_eq!(items[1].context, vec![Message::system("s")]);
        assert_eq!(items[1].answer.as_deref(), Some("4"));
        assert_eq!(items[2].question, "z");
        assert_eq!(items[2].context, vec![Message::user("x"), Message::assistant("y")]);
        assert!(items[3].raw);
        assert_eq!(items[3].solution.as_deref(), Some("and on"));
    }

    #[test]
    fn a_solution_with_a_marked_answer_gives_both() {
        let items = read(read_jsonl, b"{\"question\": \"?\", \"answer\": \"1+1=2\\n#### 2\"}").unwrap();
        assert_eq!(items[0].answer.as_deref(), Some("2"));
        assert_eq!(items[0].solution.as_deref(), Some("1+1=2\n#### 2"));
    }

    /// All of these are refused so.
    fn refused(reader: Reader, contents: &[(&str, &str)]) {
        for (content, expected) in contents {
            let error = read(reader, content.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{content}: {error}");
        }
    }

    #[test]
    fn json_errors_name_the_row_and_the_field() {
        refused(
            read_jsonl,
            &[
                ("{\"text\": \"a\"}", "line 1: no field `prompt`, `question` or `messages`; the fields are: text"),
                ("\n{\"prompt\": 3}", "line 2: `prompt` is not text"),
                (r#"{"prompt": " "}"#, "line 1: `prompt` is empty"),
                (r#"{"prompt": "a", "question": "b"}"#, "line 1: more than one of"),
                (r#"{"messages": []}"#, "line 1: `messages` is empty"),
                (r#"{"messages": {}}"#, "line 1: `messages` is neither text nor a list"),
                (
                    r#"{"messages": [{"role": "robot", "content": ""}]}"#,
                    "message 1 of `messages`: unknown `role` `robot`",
                ),
                (r#"{"messages": [{"role": "assistant", "content": ""}]}"#, "holds an answer and no question"),
                (r#"{"prompt": "a", "system": "s", "raw": true}"#, "line 1: `raw` text has no chat template"),
                (r#"{"prompt": "a", "raw": "yes"}"#, "line 1: `raw` is neither"),
                (r#"{"prompt": "a", "id": []}"#, "line 1: `id` is neither"),
                ("[1]", "row 1: not a JSON object"),
                ("{\"prompt\": \"a\"", "line 1: not a JSON object: EOF"),
                (
                    "{\"prompt\": \"a\", \"id\": 1}\n{\"prompt\": \"b\", \"id\": 1}",
                    "line 2: the id `1` is already on line 1",
                ),
                ("", "the data set is empty"),
                (" \r\n\n", "the data set is empty"),
                // Arrays.
                ("[]", "the data set is empty"),
                (r#"[{"prompt": "a"}, {"prompt": 3}]"#, "row 2: `prompt` is not text"),
                (r#"[{"id": 1, "prompt": "a"},{"id": 1, "prompt": "a"}]"#, "row 2: the id `1` is already on row 1"),
                ("[{\"prompt\": \"a\"},\n", "line 2: not an array of JSON objects: EOF"),
                ("[{\"prompt\": \"a\"}]\n{\"prompt\": \"b\"}", "line 2: not an array of JSON objects: trailing"),
                // Conversations.
                (
                    r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}"#,
                    "line 1: message 1 of `messages`: part 2 of `content`: it is of type `image_url`: only `text` is read",
                ),
                (
                    r#"{"messages": [{"role": "user", "content": null}]}"#,
                    "line 1: message 1 of `messages`: `content` is neither text nor a list of parts",
                ),
                (
                    r#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
                    "part 1 of `content`: it has no `text`",
                ),
                (r#"{"messages": [{"role": "user", "content": ["a"]}]}"#, "part 1 of `content`: it has no `type`"),
                (r#"{"prompt": [{"content": "a"}]}"#, "line 1: message 1 of `prompt`: it has no `role`"),
                (r#"{"prompt": [{"role": "tool", "content": "a"}]}"#, "unknown `role` `tool`: expected"),
                (r#"{"prompt": [{"role": "system", "content": "a"}]}"#, "message 1 is of role `system`"),
                (r#"{"prompt": "a", "completion": 3}"#, "line 1: `completion` is neither text nor a list"),
                (r#"{"prompt": "a", "completion": []}"#, "`completion` is neither text nor one message"),
                (
                    r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}], "response": "d"}"#,
                    "line 1: two responses",
                ),
            ],
        );
        let error = read(read_jsonl, b"{\"prompt\": \"a\"}\n\xff\n").unwrap_err();
        assert!(error.contains("line 2: not UTF-8"), "{error}");
    }

    #[test]
    fn csv_with_quotes_mark_crlf_and_blank_lines() {
        let content = "\u{feff}id,prompt, system ,other,answer\r\na,\"two\nlines, \"\"quoted\"\"\",be brief,x,12\r\n\r\n,plain,,,\r\n";
        let items = read(read_csv, content.as_bytes()).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].question, "two\nlines, \"quoted\"");
        assert_eq!(items[0].context, vec![Message::system("be brief")]);
        assert_eq!(items[0].answer.as_deref(), Some("12"));
        assert_eq!(items[1], Item::new("line-5", "plain"));
        assert!(read(read_csv, b"prompt,raw\na,true\n").unwrap()[0].raw);
    }

    #[test]
    fn csv_errors_name_the_line_and_the_column() {
        let contents = [
            ("id,text\n1,a\n", "line 1: no column `prompt` or `question`; the header has: id, text"),
            ("id,prompt\n1,a\n2\n", "line 3: 1 fields, the header has 2"),
            ("id,prompt\n1,\n", "line 2: no field `prompt`"),
            ("id,prompt\r\n1,\"a\r\na\"\r\n\r\n2\r\n", "line 5: 1 fields"),
            ("id,prompt\n1,a\n1,b\n", "line 3: the id `1` is already on line 2"),
            ("prompt\n", "the data set is empty"),
            ("", "the data set is empty"),
        ];
        refused(read_csv, &contents);
    }

    const CONVERSATION: &str = r#"[{"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}"#;

    fn one(row: &str) -> Result<Item, String> {
        Ok(read(read_jsonl, row.replace('\n', " ").as_bytes())?.remove(0))
    }

    #[test]
    fn rows_as_other_trainers_write_them() {
        let answered = format!(r#"{CONVERSATION}, {{"role": "assistant", "content": "c"}}]"#);
        let expected =
            Item { context: vec![Message::system("s")], solution: Some("c".to_owned()), ..Item::new("line-1", "ab") };
        for row in [
            format!(r#"{{"messages": {answered}}}"#),
            format!(r#"{{"prompt": {answered}}}"#),
            format!(r#"{{"prompt": {CONVERSATION}], "completion": "c"}}"#),
            format!(r#"{{"prompt": {CONVERSATION}], "completion": [{{"role": "assistant", "content": "c"}}]}}"#),
            r#"{"prompt": "ab", "system": "s", "completion": "c"}"#.to_owned(),
        ] {
            assert_eq!(one(&row), Ok(expected.clone()), "{row}");
        }
        let open = one(&format!(r#"{{"prompt": {CONVERSATION}]}}"#)).unwrap();
        assert_eq!((open.question.as_str(), open.solution), ("ab", None));
        // An earlier answer is no response.
        let turns = r#"{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
            {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]}"#;
        let item = one(turns).unwrap();
        assert_eq!(item.context, [Message::user("1"), Message::assistant("2")]);
        assert_eq!((item.question.as_str(), item.solution.as_deref()), ("3", Some("4")));
    }

    #[test]
    fn a_file_may_be_one_array() {
        for content in [
            "[{\"prompt\": \"a\"}, {\"id\": \"x\", \"prompt\": \"b\"}]",
            "\u{feff}\r\n[\n{\"prompt\":\n\"a\"},{\"id\":\"x\",\"question\":\"b\"}\n]\n",
        ] {
            let items = read(read_jsonl, content.as_bytes()).unwrap();
            assert_eq!(items, [Item::new("row-1", "a"), Item::new("x", "b")], "{content}");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(content: Vec<u8>) {
            let _ = read(read_jsonl, &content);
            let _ = read(read_csv, &content);
        }

        #[test]
        fn any_prompt_survives_both_formats(prompt in "\\PC{1,40}") {
            prop_assume!(!prompt.trim().is_empty());
            let json = serde_json::json!({ "prompt": prompt }).to_string();
            prop_assert_eq!(&read(read_jsonl, json.as_bytes()).unwrap()[0].question, &prompt);
            let csv = format!("prompt\n\"{}\"\n", prompt.replace('"', "\"\""));
            prop_assert_eq!(&read(read_csv, csv.as_bytes()).unwrap()[0].question, &prompt);
        }
    }
}
