//! Tokenizers for tests: one token a byte and the marks of a trace, and one token a symbol.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aloud_session::prompts::Template;
use aloud_tasks::item::Split;
use aloud_tasks::serial::{END, SERIAL_VOCABULARY, SerialSource, SerialTask};
use aloud_tasks::task::{Amount, Task};
use aloud_text::chat_template::ChatTemplate;
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::{Tokenizer, word_level_files};
use serde_json::json;

use super::examination::{Examination, Extent};

/// Byte-level BPE without merges, so that every character of several bytes is several tokens; `marks` are tokens too.
pub(crate) fn byte_codec(marks: &[&str]) -> TextCodec {
    // The byte alphabet of byte-level BPE: bytes that cannot be printed are written as the characters from U+0100.
    let mut next = 0x100_u32;
    let mut vocabulary: BTreeMap<String, usize> = BTreeMap::new();
    for byte in 0..=255_u8 {
        let is_shown = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let character = if is_shown { char::from(byte) } else { char::from_u32(next).unwrap() };
        next += u32::from(!is_shown);
        vocabulary.insert(character.to_string(), usize::from(byte));
    }
    let added: Vec<serde_json::Value> = (256..)
        .zip(marks)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": false, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []}
    });
    let tokenizer = Tokenizer::from_json(tokenizer.to_string().as_bytes(), Path::new("tokenizer.json")).unwrap();
    TextCodec { tokenizer, chat_template: ChatTemplate::plain() }
}

/// A tokenizer whose tokens are the symbols of the serial tasks.
pub(crate) fn symbol_codec() -> TextCodec {
    let files = word_level_files(&SERIAL_VOCABULARY, END);
    let (name, json) = files.iter().find(|(name, _)| name == "tokenizer.json").unwrap();
    TextCodec { tokenizer: Tokenizer::from_json(json, Path::new(name)).unwrap(), chat_template: ChatTemplate::none() }
}

/// Held-out items of the serial tasks, or of one of them.
pub(crate) fn serial_examination(codec: &TextCodec, task: Option<SerialTask>, amount: Amount) -> Examination<'_> {
    let task: Arc<dyn Task> = Arc::new(SerialSource { task, ..SerialSource::ALL });
    let extent = Extent { amount, split: Split::Test, seed: 0, max_new_tokens: 96 };
    Examination::new(&task, extent, codec, &Template::default(), Vec::new()).unwrap()
}
