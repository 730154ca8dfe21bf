//! Writing of the tokenizer of a closed vocabulary: one token a word, words with spaces between them.

use serde_json::{Map, Value, json};

/// The files `tokenizer.json` and `tokenizer_config.json`, by name, of a vocabulary whose words have their places as ids;
/// `end` is the one that ends a text. Transformers and this program read them as any others.
///
/// A word that is not in the vocabulary cannot be encoded: that is an error, no unknown token stands for it.
pub fn word_level_files(vocabulary: &[&str], end: &str) -> Vec<(String, Vec<u8>)> {
    let ids: Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let end_id = vocabulary.iter().position(|word| *word == end);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": end_id, "content": end, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true
        }],
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": ids, "unk_token": "<unk>" }
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "clean_up_tokenization_spaces": false,
    });
    [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)]
        .map(|(name, value)| (name.to_owned(), format!("{value:#}\n").into_bytes()))
        .to_vec()
}
