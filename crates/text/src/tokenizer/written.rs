//! A tokenizer as the files of a model directory, for one that was rebuilt from a GGUF file.

use serde_json::{Map, Value, json};

use aloud_model::error::ModelError;

use super::{AffixIds, Tokenizer, TokenizerError};

impl Tokenizer {
    /// The files `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, by name, as transformers and this program
    /// read them; with a chat template, if the model has one.
    ///
    /// # Errors
    /// If the tokenizer cannot be written as JSON.
    pub fn files(&self, chat_template: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, TokenizerError> {
        let text = self
            .inner
            .to_string(false)
            .map_err(|error| ModelError::damaged("tokenizer".as_ref(), error.to_string()))?;
        let mut tokenizer: Value = serde_json::from_str(&text)
            .map_err(|error| ModelError::damaged("tokenizer".as_ref(), error.to_string()))?;
        if let Some(affixes) = self.affixes
            && let Some(processor) = self.post_processor(affixes)
        {
            tokenizer["post_processor"] = processor;
        }
        let named = |id: Option<u32>| id.and_then(|id| self.inner.id_to_token(id));
        let mut config = Map::from_iter([
            ("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast")),
            ("clean_up_tokenization_spaces".to_owned(), json!(false)),
        ]);
        for (key, value) in [
            ("bos_token", named(self.bos_id)),
            ("eos_token", named(self.eos_id)),
            ("chat_template", chat_template.map(str::to_owned)),
        ] {
            config.extend(value.map(|value| (key.to_owned(), Value::String(value))));
        }
        let generation = json!({ "bos_token_id": self.bos_id, "eos_token_id": &self.eos_ids[..] });
        let files = [
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", config.into()),
            ("generation_config.json", generation),
        ];
        Ok(files.map(|(name, value)| (name.to_owned(), format!("{value:#}\n").into_bytes())).to_vec())
    }

    /// What puts BOS and EOS around a text, `None` if neither is.
    fn post_processor(&self, affixes: AffixIds) -> Option<Value> {
        let special = |id: Option<u32>| id.and_then(|id| Some((id, self.inner.id_to_token(id)?)));
        let (before, after) = (special(affixes.before), special(affixes.after));
        if before.is_none() && after.is_none() {
            return None;
        }
        let token = |(_, text): &(u32, String)| json!({"SpecialToken": {"id": text, "type_id": 0}});
        let around = |sequences: &[&str]| -> Value {
            let sequences = sequences.iter().map(|id| json!({"Sequence": {"id": id, "type_id": 0}}));
            before.iter().map(token).chain(sequences).chain(after.iter().map(token)).collect()
        };
        let tokens: Map<String, Value> = (before.iter().chain(&after))
            .map(|(id, text)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .collect();
        let (single, pair) = (around(&["A"]), around(&["A", "B"]));
        Some(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}))
    }
}
