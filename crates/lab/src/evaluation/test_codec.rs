//! A tokenizer for tests: one token a byte, and the marks of a trace.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use aloud_text::chat_template::ChatTemplate;
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::Tokenizer;
use serde_json::json;

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
