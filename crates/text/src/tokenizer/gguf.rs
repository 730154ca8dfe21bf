//! A tokenizer rebuilt from the vocabulary in a GGUF file's metadata (keys `tokenizer.ggml.*`).

use std::collections::HashMap;
use std::path::PathBuf;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as NormalizerSequence;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::pre_tokenizer::{self, Recipe};
use super::{AffixIds, Tokenizer, TokenizerError};
use aloud_model::error::ModelError;
use aloud_model::gguf::{GgufArray, GgufFile};

/// Texts that end a turn or a document in published models; tokens with these texts end generation, whether or not the
/// file names them as its end-of-sequence token.
const END_TEXTS: [&str; 9] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
    "</s>",
];

/// SentencePiece's character for a space.
const SPACE_MARK: &str = "▁";

// Token types of the format (`llama_token_type`).
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The vocabulary of a GGUF file: its `tokenizer.ggml.*` metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// The file, for messages.
    pub path: PathBuf,
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `pre`: how text is split into words before merging, for `gpt2`.
    pub pre: Option<String>,
    /// `tokens`: the text of each id.
    pub tokens: Vec<String>,
    /// `token_type`, empty if absent: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i64>,
    /// `scores`, empty if absent: for `llama`, higher merges first.
    pub scores: Vec<f32>,
    /// `merges`: two texts with a space between them, first to be merged first.
    pub merges: Vec<String>,
    /// `bos_token_id`: begins a text.
    pub bos_id: Option<u32>,
    /// `eos_token_id`: ends a text or a turn.
    pub eos_id: Option<u32>,
    /// `eot_token_id`: ends a turn.
    pub eot_id: Option<u32>,
    /// `unknown_token_id`.
    pub unknown_id: Option<u32>,
    /// `add_bos_token`: whether texts begin with BOS.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether texts end with EOS.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: whether a text is read as if a space stood before it, for `llama`.
    pub add_space_prefix: Option<bool>,
}

impl GgufVocabulary {
    /// Reads the vocabulary from a file's metadata.
    ///
    /// # Errors
    /// If a key that is needed is missing or has a value of another type.
    pub fn from_file(file: &GgufFile) -> Result<Self, TokenizerError> {
        let strings =
            |key: &str| {
                array(file, key, "strings", |array| {
                    if let GgufArray::String(texts) = array { Some(texts.clone()) } else { None }
                })
            };
        let id = |key: &str| -> Result<Option<u32>, ModelError> {
            let Some(id) = file.u64(key)? else { return Ok(None) };
            let id = u32::try_from(id).map_err(|_| ModelError::key(&file.path, key, format!("{id} is no token id")))?;
            Ok(Some(id))
        };
        let Some(model) = file.string("tokenizer.ggml.model")? else {
            let problem = "missing: this file carries no tokenizer; use the directory of the model instead";
            return Err(ModelError::key(&file.path, "tokenizer.ggml.model", problem).into());
        };
        Ok(Self {
            path: file.path.clone(),
            model: model.to_owned(),
            pre: file.string("tokenizer.ggml.pre")?.map(str::to_owned),
            tokens: strings("tokenizer.ggml.tokens")?,
            token_types: array(file, "tokenizer.ggml.token_type", "integers", GgufArray::to_i64s)?,
            scores: array(file, "tokenizer.ggml.scores", "f32", |array| {
                if let GgufArray::F32(scores) = array { Some(scores.clone()) } else { None }
            })?,
            merges: strings("tokenizer.ggml.merges")?,
            bos_id: id("tokenizer.ggml.bos_token_id")?,
            eos_id: id("tokenizer.ggml.eos_token_id")?,
            eot_id: id("tokenizer.ggml.eot_token_id")?,
            unknown_id: id("tokenizer.ggml.unknown_token_id")?,
            add_bos: file.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: file.bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: file.bool("tokenizer.ggml.add_space_prefix")?,
        })
    }

    /// Rebuilds the tokenizer.
    ///
    /// # Errors
    /// If the vocabulary contradicts itself (a merge of tokens that are not there, an id out of range, a text twice), or
    /// names a tokenizer model or pre-tokenizer that is not supported.
    pub fn build(&self) -> Result<Tokenizer, TokenizerError> {
        let ids = self.checked_ids()?;
        let (mut inner, add_bos_default) = match self.model.as_str() {
            "gpt2" => self.byte_level_bpe(&ids)?,
            "llama" => self.sentence_piece_bpe(&ids)?,
            other => {
                let problem =
                    format!("`{other}` is not supported (`gpt2` and `llama` are); use the directory of the model");
                return Err(ModelError::key(&self.path, "tokenizer.ggml.model", problem).into());
            }
        };
        let added = self.tokens.iter().zip(&self.token_types).filter_map(|(text, &token_type)| {
            let special = match token_type {
                UNKNOWN | CONTROL => true,
                USER_DEFINED => false,
                _ => return None,
            };
            Some(AddedToken::from(text.clone(), special).normalized(false))
        });
        inner.add_tokens(added).map_err(|error| self.unusable(error.as_ref()))?;

        let named = [self.eos_id, self.eot_id].into_iter().flatten();
        let by_text = END_TEXTS.iter().filter_map(|text| {
            let id = inner.token_to_id(text)?;
            (self.token_type(id) == Some(CONTROL)).then_some(id)
        });
        let eos_ids = named.chain(by_text).collect();
        let affixes = AffixIds {
            before: self.bos_id.filter(|_| self.add_bos.unwrap_or(add_bos_default)),
            after: self.eos_id.filter(|_| self.add_eos.unwrap_or(false)),
        };
        Ok(Tokenizer::assemble(inner, self.bos_id, self.eos_id, eos_ids, Some(affixes)))
    }

    /// Ids by text, after checking that lengths, texts and special ids fit together.
    fn checked_ids(&self) -> Result<HashMap<&str, u32>, TokenizerError> {
        let count = self.tokens.len();
        if count == 0 || u32::try_from(count).is_err() {
            return Err(self.key("tokens", format!("expected the texts of the tokens, found {count}")));
        }
        for (key, length) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            if length != 0 && length != count {
                return Err(self.key(key, format!("has {length} entries, but there are {count} tokens")));
            }
        }
        let special = [
            ("bos_token_id", self.bos_id),
            ("eos_token_id", self.eos_id),
            ("eot_token_id", self.eot_id),
            ("unknown_token_id", self.unknown_id),
        ];
        for (key, id) in special {
            if let Some(id) = id.filter(|&id| id as usize >= count) {
                return Err(self.key(key, format!("is {id}, but there are only {count} tokens")));
            }
        }
        let mut ids = HashMap::with_capacity(count);
        for (id, text) in (0u32..).zip(&self.tokens) {
            if let Some(earlier) = ids.insert(text.as_str(), id) {
                return Err(self.key("tokens", format!("ids {earlier} and {id} have the same text {text:?}")));
            }
        }
        Ok(ids)
    }

    /// Byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM use it, and whether its texts begin with BOS by default.
    fn byte_level_bpe(&self, ids: &HashMap<&str, u32>) -> Result<(tokenizers::Tokenizer, bool), TokenizerError> {
        let name = self.pre.as_deref().unwrap_or_else(|| {
            tracing::warn!(
                "{}: it has no `tokenizer.ggml.pre`; words are split by llama.cpp's default rule, which need not be this \
                 model's: compare some texts, or use the directory of the model",
                self.path.display()
            );
            "default"
        });
        let Some(recipe) = pre_tokenizer::recipe(name) else {
            let problem = format!(
                "pre-tokenizer `{name}` is not supported; use the directory of the model, or one of: {}",
                pre_tokenizer::SUPPORTED
            );
            return Err(ModelError::key(&self.path, "tokenizer.ggml.pre", problem).into());
        };
        let Recipe { pre_tokenizer, ignore_merges, add_bos } = recipe.map_err(|error| self.unusable(error.as_ref()))?;
        if self.merges.is_empty() {
            return Err(self.key("merges", "missing: a byte-level BPE vocabulary needs its merges"));
        }
        let merges = self.checked_merges(ids)?;
        let model = BPE::builder()
            .vocab_and_merges(vocabulary(ids), merges)
            .ignore_merges(ignore_merges)
            .build()
            .map_err(|error| self.unusable(error.as_ref()))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(pre_tokenizer)).with_decoder(Some(ByteLevel::default()));
        Ok((inner, add_bos))
    }

    /// The merges as pairs, after checking that both parts and the whole are tokens.
    fn checked_merges(&self, ids: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, TokenizerError> {
        let pairs = self.merges.iter().enumerate().map(|(index, merge)| {
            let problem = |what: String| self.key("merges", format!("merge {index} ({merge:?}) {what}"));
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
                .ok_or_else(|| problem("is not two texts with one space between them".to_owned()))?;
            let whole = [left, right].concat();
            if let Some(absent) = [left, right, &whole].into_iter().find(|text| !ids.contains_key(text)) {
                return Err(problem(format!("needs {absent:?}, which is not a token")));
            }
            Ok((left.to_owned(), right.to_owned()))
        });
        pairs.collect()
    }

    /// SentencePiece BPE, as Llama 2 uses it: spaces are written as `▁`, what is not in the vocabulary as bytes, and
    /// merges are ordered by the score of what they make.
    fn sentence_piece_bpe(&self, ids: &HashMap<&str, u32>) -> Result<(tokenizers::Tokenizer, bool), TokenizerError> {
        if self.scores.is_empty() {
            return Err(self.key("scores", "missing: a SentencePiece vocabulary needs its scores"));
        }
        let mut scored = Vec::new();
        for (text, score) in self.tokens.iter().zip(&self.scores) {
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                    scored.push((*score, left_id, right_id, left, right));
                }
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let merges = scored.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect();
        let mut builder = BPE::builder().vocab_and_merges(vocabulary(ids), merges).byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = self.unknown_id.and_then(|id| self.tokens.get(id as usize)) {
            builder = builder.unk_token(unknown.clone());
        }
        let model = builder.build().map_err(|error| self.unusable(error.as_ref()))?;
        let mut inner = tokenizers::Tokenizer::new(model);

        let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|error| self.unusable(error.as_ref()));
        let add_space = self.add_space_prefix.unwrap_or(true);
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        if add_space {
            normalizers.push(Prepend::new(SPACE_MARK.to_owned()).into());
        }
        normalizers.push(replace(" ", SPACE_MARK)?.into());
        let mut decoders: Vec<DecoderWrapper> =
            vec![replace(SPACE_MARK, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if add_space {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        inner
            .with_normalizer(Some(NormalizerSequence::new(normalizers)))
            .map_err(|error| self.unusable(error.as_ref()))?
            .with_decoder(Some(DecoderSequence::new(decoders)));
        Ok((inner, true))
    }

    fn token_type(&self, id: u32) -> Option<i64> {
        self.token_types.get(id as usize).copied()
    }

    fn key(&self, key: &str, problem: impl Into<String>) -> TokenizerError {
        ModelError::key(&self.path, &format!("tokenizer.ggml.{key}"), problem).into()
    }

    fn unusable(&self, error: &(dyn std::error::Error + Send + Sync)) -> TokenizerError {
        ModelError::damaged(&self.path, format!("its vocabulary cannot be used: {error}")).into()
    }
}

/// The elements of the array under `key`, none if there is no such key.
fn array<T>(
    file: &GgufFile,
    key: &str,
    of: &str,
    view: impl FnOnce(&GgufArray) -> Option<Vec<T>>,
) -> Result<Vec<T>, ModelError> {
    let Some(array) = file.array(key)? else { return Ok(Vec::new()) };
    view(array).ok_or_else(|| ModelError::key(&file.path, key, format!("expected an array of {of}")))
}

/// The ids as the map that the library takes.
fn vocabulary(ids: &HashMap<&str, u32>) -> Vocab {
    ids.iter().map(|(&text, &id)| (text.to_owned(), id)).collect()
}
