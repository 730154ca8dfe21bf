//! Text and token ids: tokenizers, chat templates, and text as it streams. Knows the files of a model that say how text
//! becomes tokens; knows nothing of decoders.

pub mod chat_template;
mod files;
pub mod text_codec;
pub mod tokenizer;
