//! Tokenizer and chat template of one model together.
#![expect(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};
use aloud_tasks::item::Message;
use aloud_text::chat_template::ChatTemplateError;
use aloud_text::text_codec::{TextCodec, TextCodecError};
use serde_json::{Value, json};

/// A model directory with the small byte-level tokenizer of `golden/make_tokenizer_golden.py`; `tokenizer_config.json`
/// and the post-processor are as given.
fn directory(config: &Value, post_processor: Value) -> tempfile::TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer/byte_level/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    tokenizer["post_processor"] = post_processor;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    directory
}

fn load(path: PathBuf) -> Result<TextCodec, TextCodecError> {
    TextCodec::load(&ResolvedSource::Directory(path))
}

/// Puts BOS before a text, as the post-processors of Llama 3 do.
fn bos_template() -> Value {
    json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    })
}

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}";

#[test]
fn a_chat_has_the_special_tokens_that_its_template_writes_and_no_more() {
    let config =
        json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE});
    let directory = directory(&config, bos_template());
    let codec = load(directory.path().to_owned()).unwrap();
    assert!(codec.tokenizer.adds_bos_token());
    assert_eq!(codec.tokenizer.encode("a", true).unwrap()[0], 1);

    let ids = codec.encode_chat(&[Message::user("Hi"), Message::assistant("")]).unwrap();
    assert_eq!(codec.tokenizer.decode(&ids, false).unwrap(), "<|im_start|>Hi<|im_end|><|im_end|>>");
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 1);
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 2);
}

#[test]
fn an_explicit_setting_replaces_the_post_processor() {
    let config = json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": false});
    let directory = directory(&config, bos_template());
    let codec = load(directory.path().to_owned()).unwrap();
    assert!(!codec.tokenizer.adds_bos_token());
    assert_eq!(codec.tokenizer.encode("a", true).unwrap(), codec.tokenizer.encode("a", false).unwrap());
}

#[test]
fn a_base_model_loads_and_refuses_conversations() {
    let directory = directory(&json!({}), Value::Null);
    let codec = load(directory.path().to_owned()).unwrap();
    assert_eq!(codec.tokenizer.bos_token_id(), None);
    let error = codec.encode_chat(&[Message::user("Hi")]).unwrap_err();
    assert!(matches!(error, TextCodecError::ChatTemplate(ChatTemplateError::Missing)));
    assert!(error.to_string().contains("no chat template"));
}

#[test]
fn errors_say_which_file_is_wrong() {
    let broken = directory(&json!({"chat_template": "{% if %}"}), Value::Null);
    let error = load(broken.path().to_owned()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("line 1"), "{error}");
    let error = TextCodec::load(&ResolvedSource::Gguf("no-such-file.gguf".into())).unwrap_err().to_string();
    assert!(error.contains("no-such-file.gguf"), "{error}");
}

#[test]
fn the_built_in_model_has_a_tokenizer_of_its_vocabulary() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().to_str().unwrap().to_owned();
    let settings = FetchSettings::from_environment(|name| (name == "ALOUD_CACHE").then(|| folder.clone()));
    let location = ModelSource::TinyReasoner.resolve(&settings, &mut |_| {}).unwrap();
    let (codec, model) = (TextCodec::load(&location).unwrap(), aloud_model::load::load(&location).unwrap());
    assert_eq!(codec.tokenizer.vocab_size(), model.config.vocab_size);
}
