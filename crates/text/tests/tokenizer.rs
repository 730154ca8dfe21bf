//! Tokenizers against the reference library, and properties that hold for any text. Reference data: see
//! `golden/make_tokenizer_golden.py`.
#![expect(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use aloud_model::gguf::GgufFile;
use aloud_tasks::item::Message;
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::{GgufVocabulary, Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name)
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// The vocabulary in `tokenizer.ggml.*` metadata written as JSON.
#[derive(Clone, Deserialize)]
struct Metadata {
    tokens: Vec<String>,
    token_type: Vec<i64>,
    #[serde(default)]
    scores: Vec<f32>,
    #[serde(default)]
    merges: Vec<String>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    unknown_token_id: Option<u32>,
}

impl Metadata {
    fn vocabulary(self, model: &str, pre: Option<&str>) -> GgufVocabulary {
        GgufVocabulary {
            path: "test.gguf".into(),
            model: model.to_owned(),
            pre: pre.map(str::to_owned),
            tokens: self.tokens,
            token_types: self.token_type,
            scores: self.scores,
            merges: self.merges,
            bos_id: self.bos_token_id,
            eos_id: self.eos_token_id,
            unknown_id: self.unknown_token_id,
            ..GgufVocabulary::default()
        }
    }
}

#[derive(Deserialize)]
struct Expected {
    ids: BTreeMap<String, Vec<Vec<u32>>>,
    decoded: Vec<Decoded>,
}

#[derive(Deserialize)]
struct Decoded {
    ids: Vec<u32>,
    text: String,
    without_special: String,
}

#[derive(Deserialize)]
struct SentencePiece {
    metadata: Metadata,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| read("texts.json"));
static DIRECTORY: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::from_directory(&golden("byte_level")).unwrap());
static SENTENCE_PIECE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let reference: SentencePiece = read("sentence_piece.json");
    reference.metadata.vocabulary("llama", None).build().unwrap()
});

fn byte_level_metadata() -> Metadata {
    read("byte_level/gguf_metadata.json")
}

#[track_caller]
fn assert_encodes(tokenizer: &Tokenizer, texts: &[String], expected: &[Vec<u32>]) {
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(&tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn tokenizer_json_encodes_as_the_reference() {
    let expected: Expected = read("byte_level/expected.json");
    assert_encodes(&DIRECTORY, &TEXTS, &expected.ids["smollm"]);
}

#[test]
fn gguf_byte_level_encodes_as_the_reference_with_every_pre_tokenizer() {
    let expected: Expected = read("byte_level/expected.json");
    assert_eq!(expected.ids.len(), 6);
    for (pre, ids) in &expected.ids {
        let tokenizer = byte_level_metadata().vocabulary("gpt2", Some(pre)).build().unwrap();
        println!("{pre}");
        assert_encodes(&tokenizer, &TEXTS, ids);
    }
}

#[test]
fn decoding_is_as_the_reference() {
    let expected: Expected = read("byte_level/expected.json");
    let rebuilt = byte_level_metadata().vocabulary("gpt2", Some("smollm")).build().unwrap();
    for tokenizer in [&*DIRECTORY, &rebuilt] {
        for row in &expected.decoded {
            assert_eq!(tokenizer.decode(&row.ids, false).unwrap(), row.text, "{:?}", row.ids);
            assert_eq!(tokenizer.decode(&row.ids, true).unwrap(), row.without_special, "{:?}", row.ids);
        }
    }
}

#[test]
fn gguf_sentence_piece_encodes_and_decodes_as_the_reference() {
    let reference: SentencePiece = read("sentence_piece.json");
    assert_encodes(&SENTENCE_PIECE, &TEXTS, &reference.ids);
    for (ids, text) in reference.ids.iter().zip(&reference.decoded) {
        assert_eq!(&SENTENCE_PIECE.decode(ids, false).unwrap(), text);
    }
    assert_eq!(SENTENCE_PIECE.encode("a", true).unwrap()[0], 1, "texts begin with BOS by default");
}

#[test]
fn special_ids_and_texts() {
    let rebuilt = byte_level_metadata().vocabulary("gpt2", Some("smollm")).build().unwrap();
    for tokenizer in [&*DIRECTORY, &rebuilt] {
        assert_eq!(tokenizer.bos_token_id(), Some(1));
        assert_eq!(tokenizer.eos_token_id(), Some(2));
        assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(2));
        assert_eq!(tokenizer.token_to_id("no such token"), None);
        assert_eq!(tokenizer.token_text(2), "<|im_end|>");
        assert!(tokenizer.is_special(2));
        let user_defined = tokenizer.token_to_id("<tool_call>").unwrap();
        assert!(!tokenizer.is_special(user_defined));
        assert_eq!(tokenizer.decode(&[2, user_defined, 2], true).unwrap(), "<tool_call>");
        let space = tokenizer.token_to_id("Ġ").unwrap();
        assert_eq!(tokenizer.token_text(space), " ");
        assert_eq!(tokenizer.token_bytes(space).unwrap(), b" ");
        let beyond = u32::try_from(tokenizer.vocab_size()).unwrap();
        assert_eq!(tokenizer.token_bytes(beyond), None);
        assert_eq!(tokenizer.token_text(beyond), format!("[id {beyond}]"));
        assert!(!tokenizer.adds_bos_token());
    }
    assert_eq!(DIRECTORY.eos_token_ids(), [2]);
    assert_eq!(rebuilt.eos_token_ids(), [0, 2], "<|endoftext|> is a control token that ends generation");
    assert_eq!(SENTENCE_PIECE.token_bytes(3 + 0x0A).unwrap(), b"\n");
}

#[test]
fn bos_and_eos_are_added_where_the_file_says_so() {
    let mut vocabulary = byte_level_metadata().vocabulary("gpt2", Some("smollm"));
    vocabulary.add_bos = Some(true);
    vocabulary.add_eos = Some(true);
    let tokenizer = vocabulary.build().unwrap();
    let plain = tokenizer.encode("Hello", false).unwrap();
    let expected: Vec<u32> = [1].into_iter().chain(plain).chain([2]).collect();
    assert_eq!(tokenizer.encode("Hello", true).unwrap(), expected);
    assert!(tokenizer.adds_bos_token());

    let llama = byte_level_metadata().vocabulary("gpt2", Some("llama-bpe"));
    assert!(llama.build().unwrap().adds_bos_token());
    let silenced = GgufVocabulary { add_bos: Some(false), ..llama };
    assert!(!silenced.build().unwrap().adds_bos_token());
}

/// A copy of the directory with the small byte-level tokenizer, its files changed by `edit`.
fn directory_with(edit: impl Fn(&str, &mut Value)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let bytes = std::fs::read(golden("byte_level").join(name)).unwrap_or_else(|_| b"{}".to_vec());
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        edit(name, &mut value);
        std::fs::write(directory.path().join(name), value.to_string()).unwrap();
    }
    directory
}

#[test]
fn settings_beside_tokenizer_json_are_honoured() {
    let directory = directory_with(|name, value| match name {
        "tokenizer_config.json" => {
            value["add_bos_token"] = true.into();
            value["bos_token"] = serde_json::json!({"content": "<|im_start|>", "lstrip": false});
        }
        "generation_config.json" => value["eos_token_id"] = serde_json::json!([2, 0, 2]),
        _ => {
            value["truncation"] = serde_json::json!(
                {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
            value["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right",
                "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
            value["model"]["dropout"] = 0.5.into();
        }
    });
    let tokenizer = Tokenizer::from_directory(directory.path()).unwrap();
    assert_eq!(tokenizer.eos_token_ids(), [0, 2]);
    let text = "The quick brown fox";
    let ids = tokenizer.encode(text, true).unwrap();
    assert_eq!(ids[0], 1);
    assert_eq!(ids[1..], DIRECTORY.encode(text, false).unwrap(), "no truncation, padding or dropout");
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let missing = Tokenizer::from_directory(Path::new("no-such-directory")).unwrap_err().to_string();
    assert!(missing.contains("no-such-directory"), "{missing}");

    let unknown = directory_with(|name, value| {
        if name == "tokenizer_config.json" {
            value["eos_token"] = "<|nowhere|>".into();
        }
    });
    let error = Tokenizer::from_directory(unknown.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("eos_token"), "{error}");

    let metadata = byte_level_metadata();
    type Damage = fn(&mut GgufVocabulary);
    let cases: [(&str, Damage); 8] = [
        ("tokenizer.ggml.model", |v| v.model = "bert".into()),
        ("`no-such-split`", |v| v.pre = Some("no-such-split".into())),
        ("merge 3", |v| v.merges[3] = "Q Q".into()),
        ("tokenizer.ggml.merges", |v| v.merges.clear()),
        ("tokenizer.ggml.token_type", |v| v.token_types.truncate(5)),
        ("tokenizer.ggml.eos_token_id", |v| v.eos_id = Some(1_000_000)),
        ("tokenizer.ggml.tokens", |v| v.tokens.clear()),
        ("ids 4 and 5", |v| v.tokens[5] = v.tokens[4].clone()),
    ];
    for (expected, damage) in cases {
        let mut vocabulary = metadata.clone().vocabulary("gpt2", Some("smollm"));
        damage(&mut vocabulary);
        let error = vocabulary.build().unwrap_err().to_string();
        assert!(error.contains("test.gguf") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_vocabulary_may_be_smaller_than_the_model_but_not_larger() {
    let size = DIRECTORY.vocab_size();
    DIRECTORY.check_vocabulary(size).unwrap();
    DIRECTORY.check_vocabulary(size + 64).unwrap();
    let error = DIRECTORY.check_vocabulary(size - 1).unwrap_err();
    assert!(matches!(error, TokenizerError::VocabularyMismatch { .. }));
    let message = error.to_string();
    assert!(message.contains(&(size - 1).to_string()), "{message}");
}

#[test]
fn streaming_never_splits_a_character() {
    let text = "é €uro 😀 👨‍👩‍👧‍👦 你好 e\u{301}!";
    let ids = DIRECTORY.encode(text, false).unwrap();
    let mut stream = DIRECTORY.stream_decoder(true);
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{pieces:?}");
    assert!(pieces.iter().any(String::is_empty), "some ids end within a character");
    assert_eq!(pieces.concat(), text);
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn real_smollm2_encodes_as_the_reference() {
    let Some(path) = std::env::var_os("ALOUD_TEST_MODEL") else {
        println!("skipped: ALOUD_TEST_MODEL names no SmolLM2-135M-Instruct .gguf file");
        return;
    };
    let codec = TextCodec::from_gguf(&GgufFile::open(Path::new(&path)).unwrap()).unwrap();
    let expected: Value = read("smollm2.json");
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["ids"].clone()).unwrap();
    assert_encodes(&codec.tokenizer, &TEXTS, &ids);
    let chat: Vec<Message> = serde_json::from_value(expected["chat"].clone()).unwrap();
    let chat_ids: Vec<u32> = serde_json::from_value(expected["chat_ids"].clone()).unwrap();
    assert_eq!(codec.encode_chat(&chat).unwrap(), chat_ids);
    assert_eq!(codec.tokenizer.vocab_size(), 49152);
    assert_eq!(codec.tokenizer.eos_token_ids(), [0, 2]);
    assert!(!codec.tokenizer.adds_bos_token());
}

/// Text with everything that matters: letters of many scripts, digits, white space, marks, emoji, special tokens.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC{0,8}",
        "[ \t\r\n]{0,6}",
        "[0-9a-zA-Z' .,]{0,12}",
        proptest::collection::vec(any::<char>(), 0..6).prop_map(|characters| characters.into_iter().collect()),
        Just("<|im_end|>".to_owned()),
        Just("<tool_call>".to_owned()),
        Just("👨‍👩‍👧‍👦".to_owned()),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// JSON pointers to every value outside the long lists of the vocabulary, and to a few within them.
fn paths(value: &Value, prefix: &str) -> Vec<String> {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (escape(key), child)).take(40).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, child)| (i.to_string(), child)).take(5).collect(),
        _ => Vec::new(),
    };
    let mut found = vec![prefix.to_owned()];
    found.extend(children.iter().flat_map(|(key, child)| paths(child, &format!("{prefix}/{key}"))));
    found
}

fn any_ids(vocab_size: u32) -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0..vocab_size + 4, 0..40)
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let mut stream = tokenizer.stream_decoder(skip_special);
    let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    text.push_str(&stream.finish().unwrap());
    text
}

proptest! {
    #[test]
    fn byte_level_decoding_inverts_encoding(text in any_text()) {
        let ids = DIRECTORY.encode(&text, false).unwrap();
        prop_assert_eq!(DIRECTORY.decode(&ids, false).unwrap(), text.clone());
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| DIRECTORY.token_bytes(id).unwrap()).collect();
        prop_assert_eq!(bytes, text.into_bytes());
    }

    #[test]
    fn streamed_pieces_are_the_decoded_text(ids in any_ids(906), skip_special in any::<bool>()) {
        prop_assert_eq!(streamed(&DIRECTORY, &ids, skip_special), DIRECTORY.decode(&ids, skip_special).unwrap());
    }

    #[test]
    fn streamed_pieces_of_a_sentence_piece_text_are_the_text(text in any_text()) {
        let ids = SENTENCE_PIECE.encode(&text, false).unwrap();
        prop_assert_eq!(streamed(&SENTENCE_PIECE, &ids, false), SENTENCE_PIECE.decode(&ids, false).unwrap());
    }

    #[test]
    fn tokenizer_json_with_other_values_is_an_error_or_a_tokenizer(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12), 1..5),
    ) {
        let mut value: Value = read("byte_level/tokenizer.json");
        for (at, replacement) in edits {
            let count = paths(&value, "").len();
            let path = paths(&value, "").swap_remove(at.index(count));
            let replacements = [
                Value::Null, true.into(), 0.into(), (-1).into(), u64::MAX.into(), 1e300.into(), "".into(), "é".into(),
                "ByteFallback".into(), "Unigram".into(), serde_json::json!([]), serde_json::json!({}),
            ];
            *value.pointer_mut(&path).unwrap() = replacements[replacement].clone();
        }
        if let Ok(tokenizer) = Tokenizer::from_json(value.to_string().as_bytes(), Path::new("damaged.json")) {
            let ids = tokenizer.encode("Hello, world 123!\n<|im_end|> é", true).unwrap_or_default();
            let _ = tokenizer.decode(&ids, true);
        }
    }

    #[test]
    fn damaged_tokenizer_json_is_an_error_or_a_tokenizer(
        cut in 0usize..20_000,
        flips in proptest::collection::vec((0usize..20_000, any::<u8>()), 0..6),
    ) {
        let mut bytes = std::fs::read(golden("byte_level/tokenizer.json")).unwrap();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if cut % 3 == 0 {
            bytes.truncate(cut);
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes, Path::new("damaged.json")) {
            let ids = tokenizer.encode("Hello, world 123!\n", true).unwrap_or_default();
            let _ = tokenizer.decode(&ids, true);
        }
    }
}
