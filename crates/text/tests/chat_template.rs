//! Chat templates against the reference library. Reference data: see `golden/make_tokenizer_golden.py`.
#![expect(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use aloud_tasks::item::Message;
use aloud_text::chat_template::{ChatTemplate, ChatTemplateError, SpecialTexts, TemplateSource};
use proptest::prelude::*;
use serde::Deserialize;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat_templates").join(name)
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Expected {
    unix_seconds: i64,
    conversations: Vec<Vec<Message>>,
    templates: Vec<ExpectedTemplate>,
}

#[derive(Deserialize)]
struct ExpectedTemplate {
    template: String,
    bos: Option<String>,
    eos: Option<String>,
    renderings: Vec<Renderings>,
}

#[derive(Deserialize)]
struct Renderings {
    without_prompt: Rendering,
    with_prompt: Rendering,
}

/// A text, or why the reference refused.
#[derive(Deserialize)]
struct Rendering {
    text: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Features {
    unix_seconds: i64,
    bos: Option<String>,
    eos: Option<String>,
    conversation: Vec<Message>,
    #[serde(rename = "features")]
    rows: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    template: String,
    #[serde(flatten)]
    rendering: Rendering,
}

fn source(text: &str) -> TemplateSource {
    TemplateSource { text: text.to_owned(), origin: "test".to_owned() }
}

fn template(text: &str) -> ChatTemplate {
    ChatTemplate::new(source(text), SpecialTexts::default()).unwrap()
}

/// Collects differences instead of stopping at the first.
fn compare(label: &str, found: Result<String, ChatTemplateError>, expected: &Rendering, differences: &mut Vec<String>) {
    match (found, &expected.text, &expected.error) {
        (Ok(found), Some(text), _) if found == *text => {}
        (Err(ChatTemplateError::Refused { message, .. }), None, Some(error))
            if *error == format!("TemplateError: {message}") => {}
        (Err(_), None, Some(error)) if !error.starts_with("TemplateError") => {}
        (found, text, error) => {
            differences.push(format!("{label}\n  found    {found:?}\n  expected {text:?} {error:?}"));
        }
    }
}

#[test]
fn published_templates_render_as_the_reference() {
    let expected: Expected = read("expected.json");
    assert_eq!(expected.templates.len(), 8);
    let mut differences = Vec::new();
    for row in expected.templates {
        let text = std::fs::read_to_string(golden(&format!("{}.jinja", row.template))).unwrap();
        let special = SpecialTexts { bos: row.bos, eos: row.eos };
        let template = ChatTemplate::new(source(&text), special).unwrap().at_time(expected.unix_seconds);
        assert_eq!(row.renderings.len(), expected.conversations.len());
        for (index, (messages, renderings)) in expected.conversations.iter().zip(&row.renderings).enumerate() {
            for (prompt, rendering) in [(false, &renderings.without_prompt), (true, &renderings.with_prompt)] {
                let label = format!("{}, conversation {index}, generation prompt {prompt}", row.template);
                compare(&label, template.render(messages, prompt), rendering, &mut differences);
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn features_of_the_language_are_as_the_reference() {
    let expected: Features = read("features.json");
    let special = SpecialTexts { bos: expected.bos, eos: expected.eos };
    let mut differences = Vec::new();
    for feature in &expected.rows {
        let found = ChatTemplate::new(source(&feature.template), special.clone())
            .and_then(|template| template.at_time(expected.unix_seconds).render(&expected.conversation, true));
        compare(&feature.template, found, &feature.rendering, &mut differences);
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// As Qwen3's template uses it, and one that has a default.
#[test]
fn variables_of_the_users_own_reach_the_template() {
    let text = "{%- if not date is defined %}{%- set date = 'today' %}{%- endif %}{{ date }}: {{ messages[0].content }}\
                {%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}\
                <think></think>{%- endif %}{{ tools }}";
    let messages = [Message::user("Hi")];
    let plain = template(text);
    assert_eq!(plain.render(&messages, true).unwrap(), "today: HiNone");
    let with = |name: &str, value: serde_json::Value| plain.clone().with_variables([(name.to_owned(), value)].into());
    let rendered = |name, value| with(name, value).unwrap().render(&messages, true).unwrap();
    assert_eq!(rendered("enable_thinking", false.into()), "today: Hi<think></think>None");
    assert_eq!(rendered("enable_thinking", true.into()), "today: HiNone");
    assert_eq!(rendered("date", "1 May".into()), "1 May: HiNone");
    assert_eq!(rendered("tools", 3.into()), "today: Hi3");
    for (name, expected) in [
        (
            "enable_thinkng",
            "variable `enable_thinkng` is not used by the template; it uses: date, enable_thinking, tools",
        ),
        ("messages", "variable `messages` is given by this program"),
    ] {
        let error = with(name, true.into()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = ChatTemplate::none().with_variables([("a".to_owned(), true.into())].into()).unwrap_err().to_string();
    assert!(error.contains("is not used by the template; it uses: none"), "{error}");
}

#[test]
fn the_date_is_todays_unless_fixed() {
    let dated = template("{{ strftime_now('%Y') }}");
    let year: i32 = dated.render(&[], true).unwrap().parse().unwrap();
    assert!((2025..3000).contains(&year), "{year}");
    assert_eq!(dated.at_time(0).render(&[], true).unwrap(), "1970");
}

#[test]
fn without_a_template_rendering_is_an_error_or_plain_by_choice() {
    let messages = [Message::system("Be brief."), Message::user("Hi")];
    let error = ChatTemplate::none().render(&messages, true).unwrap_err();
    assert!(matches!(error, ChatTemplateError::Missing));
    assert!(!ChatTemplate::none().is_some());
    assert_eq!(ChatTemplate::plain().render(&messages, true).unwrap(), "Be brief.\nHi");
}

#[test]
fn a_refusal_says_what_the_template_says() {
    let error = template("{{ raise_exception('roles must alternate') }}").render(&[], true).unwrap_err();
    assert_eq!(error.to_string(), "the chat template of test refuses this conversation: roles must alternate");
    let nested = "{% macro check() %}{{ raise_exception('from a macro') }}{% endmacro %}{{ check() }}";
    let error = template(nested).render(&[], true).unwrap_err();
    assert!(matches!(error, ChatTemplateError::Refused { message, .. } if message == "from a macro"));
}

#[test]
fn errors_name_the_template_and_the_line() {
    let error = ChatTemplate::new(source("line one\n{% if %}"), SpecialTexts::default()).unwrap_err();
    assert!(matches!(&error, ChatTemplateError::Syntax { line: 2, origin, .. } if origin == "test"), "{error}");
    let error = template("a\nb\n{{ messages[0].missing.deeper }}").render(&[Message::user("x")], true).unwrap_err();
    assert!(matches!(&error, ChatTemplateError::Render { line: 3, .. }), "{error}");
}

#[test]
fn templates_that_do_not_end_are_stopped() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    let error = template(endless).render(&[], true).unwrap_err();
    assert!(matches!(error, ChatTemplateError::TooLong { .. }), "{error}");

    let recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
    let error = template(recursive).render(&[], true).unwrap_err();
    assert!(error.to_string().contains("recursion"), "{error}");

    let huge = "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}";
    assert!(template(huge).render(&[], true).is_err());
    // As many levels of lists as the steps allow: the engine walks them recursively.
    let (open, close) = ("[".repeat(40), "]".repeat(40));
    let nested =
        format!("{{% set ns = namespace(x=[]) %}}{{% for i in range(99999) %}}{{% set ns.x = {open}ns.x{close} %}}");
    let error = template(&format!("{nested}{{% endfor %}}")).render(&[], true).unwrap_err();
    assert!(matches!(error, ChatTemplateError::TooLong { .. }), "{error}");
    let shown = nested.replace("99999", "600") + "{% endfor %}{{ ns.x }}";
    assert_eq!(template(&shown).render(&[], true).unwrap().len(), 2 * (600 * 40 + 1));
    assert!(template("{{ 'x' * 9999999999 }}").render(&[], true).is_err());
    assert!(template("{{ [[1] * 99999999] | tojson }}").render(&[], true).is_err());

    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(ChatTemplate::new(source(&deep), SpecialTexts::default()).is_err());
    let deep = format!("{{{{ {}1{} | tojson }}}}", "[".repeat(100), "]".repeat(100));
    assert!(ChatTemplate::new(source(&deep), SpecialTexts::default()).and_then(|t| t.render(&[], true)).is_err());
}

#[test]
fn long_conversations_fit_into_the_steps() {
    let content = "<think>\nlong\n</think>\n".to_owned() + &"word ".repeat(1000);
    for name in ["smollm2", "qwen2.5", "qwen3", "llama3.2", "deepseek-r1-distill"] {
        let template = template(&std::fs::read_to_string(golden(&format!("{name}.jinja"))).unwrap());
        let turns = [Message::user(&content), Message::assistant(&content)];
        let messages: Vec<Message> = turns.into_iter().cycle().take(1001).collect();
        assert!(template.render(&messages, true).unwrap().len() > 5_000_000, "{name}");
    }
}

#[test]
fn the_template_of_a_directory_is_found_where_publishers_put_it() {
    let directory = tempfile::tempdir().unwrap();
    let find = || TemplateSource::from_directory(directory.path());
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    assert_eq!(find().unwrap(), None);
    write("tokenizer_config.json", r#"{"bos_token": "<s>", "chat_template": null}"#);
    assert_eq!(find().unwrap(), None);
    write("tokenizer_config.json", r#"{"chat_template": "one"}"#);
    let found = find().unwrap().unwrap();
    assert_eq!(found.text, "one");
    assert!(found.origin.contains("tokenizer_config.json"));
    let named = r#"{"chat_template": [{"name": "rag", "template": "two"}, {"name": "default", "template": "three"}]}"#;
    write("tokenizer_config.json", named);
    assert_eq!(find().unwrap().unwrap().text, "three");
    write("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "two"}]}"#);
    assert!(find().unwrap_err().to_string().contains("rag"));
    for damaged in [r#"{"chat_template": 5}"#, r#"{"chat_template": [1]}"#, "{"] {
        write("tokenizer_config.json", damaged);
        assert!(find().unwrap_err().to_string().contains("tokenizer_config.json"));
    }
    write("chat_template.jinja", "four");
    assert_eq!(find().unwrap().unwrap().text, "four");
    std::fs::write(directory.path().join("chat_template.jinja"), [0xFF]).unwrap();
    assert!(find().unwrap_err().to_string().contains("UTF-8"));
}

proptest! {
    #[test]
    fn damaged_templates_are_errors_or_templates(
        which in 0usize..8,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), "[-{}%#()'\\[\\]|.a0 ]{0,3}"), 1..6),
    ) {
        let names = ["smollm2", "qwen2", "qwen2.5", "qwen3", "llama2", "llama3", "llama3.2", "deepseek-r1-distill"];
        let mut characters: Vec<char> =
            std::fs::read_to_string(golden(&format!("{}.jinja", names[which]))).unwrap().chars().collect();
        for (at, insertion) in edits {
            let at = at.index(characters.len());
            characters.splice(at..=at, insertion.chars());
        }
        let text: String = characters.into_iter().collect();
        if let Ok(template) = ChatTemplate::new(source(&text), SpecialTexts::default()) {
            let _ = template.render(&[Message::user("Hi"), Message::assistant("Hello")], true);
        }
    }

    #[test]
    fn chatml_contents_come_through_unchanged(contents in proptest::collection::vec(any::<String>(), 1..4)) {
        let text = std::fs::read_to_string(golden("smollm2.jinja")).unwrap();
        let messages: Vec<Message> = contents.iter().map(Message::system).collect();
        let expected = contents.iter().map(|c| format!("<|im_start|>system\n{c}<|im_end|>\n")).collect::<Vec<_>>().concat();
        prop_assert_eq!(template(&text).render(&messages, false).unwrap(), expected);
    }
}
