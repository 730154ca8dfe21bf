//! A model's tokenizer and chat template together: conversations to ids, ids to text.

use crate::chat_template::{ChatTemplate, ChatTemplateError, SpecialTexts, TemplateSource};
use crate::tokenizer::{Tokenizer, TokenizerError};
use aloud_model::error::ModelError;
use aloud_model::gguf::GgufFile;
use aloud_model::source::ResolvedSource;
use aloud_tasks::item::Message;

/// An error while loading or using a [`TextCodec`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextCodecError {
    /// The file could not be opened as a model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer is damaged, or cannot handle a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is damaged, or cannot handle a conversation.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
}

/// Tokenizer and chat template of one model. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TextCodec {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template; [`ChatTemplate::none`] if the model has none.
    pub chat_template: ChatTemplate,
}

impl TextCodec {
    /// Reads tokenizer and chat template of a model.
    ///
    /// # Errors
    /// If either is damaged or of a kind that is not supported. A missing chat template is no error here.
    pub fn load(source: &ResolvedSource) -> Result<Self, TextCodecError> {
        match source {
            ResolvedSource::Directory(directory) => {
                let tokenizer = Tokenizer::from_directory(directory)?;
                Self::with_template(tokenizer, TemplateSource::from_directory(directory)?)
            }
            ResolvedSource::Gguf(path) => Self::from_gguf(&GgufFile::open(path)?),
        }
    }

    /// Reads tokenizer and chat template from the metadata of a GGUF file.
    ///
    /// # Errors
    /// As [`TextCodec::load`].
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TextCodecError> {
        Self::with_template(Tokenizer::from_gguf(file)?, TemplateSource::from_gguf(file)?)
    }

    /// The ids of a conversation, ready for the model's answer: rendered with the generation prompt, and encoded as it
    /// stands, since the template has already written the special tokens.
    ///
    /// # Errors
    /// If the model has no chat template, the template refuses the conversation or fails, or the text cannot be encoded.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, TextCodecError> {
        let prompt = self.chat_template.render(messages, true)?;
        Ok(self.tokenizer.encode(&prompt, false)?)
    }

    fn with_template(tokenizer: Tokenizer, source: Option<TemplateSource>) -> Result<Self, TextCodecError> {
        let text = |id: Option<u32>| id.map(|id| tokenizer.token_text(id));
        let special = SpecialTexts { bos: text(tokenizer.bos_token_id()), eos: text(tokenizer.eos_token_id()) };
        let chat_template = match source {
            Some(source) => ChatTemplate::new(source, special)?,
            None => ChatTemplate::none(),
        };
        Ok(Self { tokenizer, chat_template })
    }
}
