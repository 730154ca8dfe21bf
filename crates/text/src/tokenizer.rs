//! Text to token ids and back: a tokenizer read from a model directory or rebuilt from a GGUF file's metadata.

mod byte_level;
mod directory;
mod error;
mod gguf;
mod pre_tokenizer;
mod stream;
mod word_level;
mod written;

use std::path::Path;
use std::sync::Arc;

use tokenizers::{DecoderWrapper, ModelWrapper};

pub use error::TokenizerError;
pub use gguf::GgufVocabulary;
pub use stream::StreamDecoder;
pub use word_level::word_level_files;

use aloud_model::gguf::GgufFile;

/// A tokenizer. Cloning is cheap: clones share the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    pieces: Pieces,
    /// What is put around a text; `None` leaves it to the post-processor of `tokenizer.json`.
    affixes: Option<AffixIds>,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
    eos_ids: Arc<[u32]>,
    vocab_size: usize,
}

/// Ids put before and after a text when special tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AffixIds {
    before: Option<u32>,
    after: Option<u32>,
}

/// How the texts of a vocabulary stand for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    /// In the byte alphabet of byte-level BPE.
    ByteLevel,
    /// Whole words: no decoder joins them, so that spaces come between.
    Words,
    /// Otherwise: `▁` for a space and `<0x0A>` for a byte, as SentencePiece does.
    Other,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, and if present `tokenizer_config.json`,
    /// `generation_config.json` and `config.json` for the tokens that begin and end texts.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or names tokens that the vocabulary lacks.
    pub fn from_directory(directory: &Path) -> Result<Self, TokenizerError> {
        directory::load(directory)
    }

    /// Rebuilds the tokenizer of a GGUF file from its metadata.
    ///
    /// # Errors
    /// If the metadata hold no tokenizer, a damaged one, or one of a kind that is not supported.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        GgufVocabulary::from_file(file)?.build()
    }

    /// A tokenizer from the bytes of a `tokenizer.json` alone; without its neighbours no token ends generation. `path`
    /// is for messages.
    ///
    /// # Errors
    /// If the bytes are no tokenizer.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self, TokenizerError> {
        Ok(Self::assemble(directory::parse(bytes, path)?, None, None, Vec::new(), None))
    }

    fn assemble(
        mut inner: tokenizers::Tokenizer,
        bos_id: Option<u32>,
        eos_id: Option<u32>,
        mut eos_ids: Vec<u32>,
        affixes: Option<AffixIds>,
    ) -> Self {
        // A text is encoded whole and the same way every time, whatever its publisher stored for training.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some()
        {
            let mut model = model.clone();
            model.dropout = None;
            inner.with_model(model);
        }
        let pieces = match inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => Pieces::ByteLevel,
            None => Pieces::Words,
            _ => Pieces::Other,
        };
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        eos_ids.sort_unstable();
        eos_ids.dedup();
        Self { inner: Arc::new(inner), pieces, affixes, bos_id, eos_id, eos_ids: eos_ids.into(), vocab_size }
    }

    /// The ids of `text`. The texts of special and added tokens within it become these tokens. With
    /// `add_special_tokens`, what the model expects around a text (BOS, EOS) is added.
    ///
    /// # Errors
    /// If the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let by_post_processor = add_special_tokens && self.affixes.is_none();
        let encoding = self
            .inner
            .encode_fast(text, by_post_processor)
            .map_err(|error| TokenizerError::Encode { length: text.len(), problem: error.to_string() })?;
        let mut ids = encoding.get_ids().to_vec();
        if let Some(AffixIds { before, after }) = self.affixes.filter(|_| add_special_tokens) {
            ids.splice(0..0, before);
            ids.extend(after);
        }
        Ok(ids)
    }

    /// The text of `ids`; with `skip_special`, special tokens (BOS, EOS, turn marks) are left out. Ids outside the
    /// vocabulary are left out too. Bytes that are no character become U+FFFD.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| TokenizerError::Decode { count: ids.len(), problem: error.to_string() })
    }

    /// A decoder for ids that come one at a time.
    pub fn stream_decoder(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special)
    }

    /// The bytes that one token stands for within a text, the space before a whole word included; `None` for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.inner.id_to_token(id)?;
        Some(match self.pieces {
            Pieces::ByteLevel => byte_level::bytes_of(&text),
            Pieces::Words => format!(" {text}").into_bytes(),
            Pieces::Other => match byte_token(&text) {
                Some(byte) => vec![byte],
                None => text.replace('▁', " ").into_bytes(),
            },
        })
    }

    /// One token as a reader sees it: its bytes as text, with U+FFFD for parts of characters; `[id 123]` for an id
    /// outside the vocabulary.
    pub fn token_text(&self, id: u32) -> String {
        let bytes = self.token_bytes(id);
        bytes.map_or_else(|| format!("[id {id}]"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The id of the token written `text` in the vocabulary.
    pub fn token_to_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The token that stands for text which the vocabulary cannot express, if there is one.
    pub fn unknown_token_id(&self) -> Option<u32> {
        match self.inner.get_model() {
            ModelWrapper::BPE(model) => self.token_to_id(model.get_unk_token().as_deref()?),
            ModelWrapper::WordLevel(model) => self.token_to_id(&model.unk_token),
            ModelWrapper::WordPiece(model) => self.token_to_id(&model.unk_token),
            // It keeps the id to itself, and names it in this way where it has one.
            ModelWrapper::Unigram(_) => self.token_to_id("<unk>"),
        }
    }

    /// Whether `id` is a special token: one that structures text and is no part of it.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.simple_id_to_token(id).is_some_and(|text| added.is_special_token(&text))
    }

    /// Number of ids: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token that begins a text, if the model has one.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The token that ends a text or a turn, if the model has one.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// All tokens that end generation, in ascending order.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Whether [`encode`](Self::encode) with special tokens begins with BOS.
    pub fn adds_bos_token(&self) -> bool {
        let Some(bos) = self.bos_id else { return false };
        self.encode("", true).is_ok_and(|ids| ids.first() == Some(&bos))
    }

    /// Checks that the model has an embedding for every id. A model with more rows than the tokenizer has ids (padding)
    /// is fine.
    ///
    /// # Errors
    /// [`TokenizerError::VocabularyMismatch`], with both numbers.
    pub fn check_vocabulary(&self, model_vocab_size: usize) -> Result<(), TokenizerError> {
        if self.vocab_size <= model_vocab_size {
            return Ok(());
        }
        Err(TokenizerError::VocabularyMismatch { tokenizer_vocab_size: self.vocab_size, model_vocab_size })
    }
}

/// The byte of a token written like `<0x0A>`.
fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
