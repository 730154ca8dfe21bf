//! The built-in serial tasks as a tiny reasoner sees them: as token ids, and as examples to pretrain on.

use aloud_model::tokenizer::word_level_files;
use aloud_tasks::{END, ResponseStyle, SERIAL_VOCABULARY, SerialItem, SerialSource, Split, Symbol};
use aloud_train::pretrain::{PretrainExample, PretrainSource};
use aloud_train::random::{Purpose, uniform};

/// Examples of serial tasks in both styles.
#[derive(Debug)]
pub(crate) struct SerialExamples {
    /// Which items.
    pub(crate) source: SerialSource,
    /// Seed of items and styles.
    pub(crate) seed: u64,
    /// Share of the examples that think aloud.
    pub(crate) think_share: f64,
}

/// The token of a symbol: its place in the vocabulary.
pub(crate) fn symbol_id(symbol: Symbol) -> u32 {
    SERIAL_VOCABULARY.iter().position(|known| *known == symbol).map_or(0, |place| place as u32)
}

/// The tokens of an item's prompt.
pub(crate) fn prompt_ids(item: &SerialItem) -> Vec<u32> {
    item.question.iter().map(|symbol| symbol_id(symbol)).collect()
}

impl PretrainSource for SerialExamples {
    fn example(&self, index: u64, level: usize) -> Result<PretrainExample, String> {
        let source = SerialSource { steps: level..=level, ..self.source.clone() };
        let item = source.generate(self.seed, index, Split::Train).map_err(|error| error.to_string())?;
        let thinks = uniform(self.seed, Purpose::PretrainStyle, index, 0, 0, 0, 0) < self.think_share;
        let style = if thinks { ResponseStyle::Think } else { ResponseStyle::Direct };
        let mut token_ids = prompt_ids(&item);
        let prompt_len = token_ids.len();
        token_ids.extend(item.response(style).into_iter().chain([END]).map(symbol_id));
        Ok(PretrainExample { token_ids, prompt_len })
    }

    fn vocab_size(&self) -> usize {
        SERIAL_VOCABULARY.len()
    }

    fn end_token(&self) -> u32 {
        symbol_id(END)
    }

    fn companion_files(&self) -> Vec<(String, Vec<u8>)> {
        word_level_files(&SERIAL_VOCABULARY, END)
    }
}
