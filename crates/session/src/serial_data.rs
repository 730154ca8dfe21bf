//! The built-in serial tasks as a tiny reasoner sees them: as token ids, and as examples to pretrain on.

use crate::bail;
use crate::error::SessionError;
use aloud_base::random::{Domain, KeyedRandom};
use aloud_tasks::{END, ResponseStyle, SERIAL_VOCABULARY, SerialItem, SerialSource, Split, Symbol};
use aloud_text::tokenizer::{Tokenizer, word_level_files};
use aloud_train::pretrain::pretraining::{PretrainExample, PretrainSource};
use aloud_train::pretrain::recipe::TraceStyle;

/// Examples of serial tasks, thinking aloud and answering at once.
#[derive(Debug)]
pub struct SerialExamples {
    /// Which items: of these sources in turn.
    pub sources: Vec<SerialSource>,
    /// Seed of items and styles.
    pub seed: u64,
    /// Share of the examples that think aloud.
    pub think_share: f64,
    /// What these have for a trace.
    pub trace: TraceStyle,
}

/// The token of a symbol: its place in the vocabulary.
pub fn symbol_id(symbol: Symbol) -> u32 {
    SERIAL_VOCABULARY.iter().position(|known| *known == symbol).map_or(0, |place| place as u32)
}

/// The tokens of an item's prompt.
pub fn prompt_ids(item: &SerialItem) -> Vec<u32> {
    item.question.iter().map(|symbol| symbol_id(symbol)).collect()
}

/// What stands for a token that is no symbol: itself none, so that no response with it is well formed there.
const NO_SYMBOL: &str = "<unk>";

/// The symbols of a response's tokens with spaces between them, without [`END`].
pub fn response_text(token_ids: impl IntoIterator<Item = u32>) -> String {
    let symbol = |id: u32| SERIAL_VOCABULARY.get(id as usize).copied().unwrap_or(NO_SYMBOL);
    token_ids.into_iter().map(symbol).filter(|symbol| *symbol != END).collect::<Vec<_>>().join(" ")
}

/// Checks that the model's tokens are the symbols of the serial tasks.
///
/// # Errors
/// Names the first symbol that is another token, or none.
pub fn check_symbols(tokenizer: &Tokenizer) -> Result<(), SessionError> {
    for symbol in SERIAL_VOCABULARY {
        let problem = match tokenizer.token_to_id(symbol) {
            Some(id) if id == symbol_id(symbol) => continue,
            Some(id) => format!("the symbol `{symbol}` as token {id}, expected {}", symbol_id(symbol)),
            None => format!("no token `{symbol}`"),
        };
        bail!(
            "the model's tokenizer has {problem}: serial tasks need a model pretrained on them, such as tiny-reasoner \
             or one made by `aloud pretrain`"
        );
    }
    Ok(())
}

impl PretrainSource for SerialExamples {
    fn example(&self, index: u64, level: usize) -> Result<PretrainExample, String> {
        let source = &self.sources[(index % self.sources.len() as u64) as usize];
        let source = SerialSource { steps: level..=level, ..source.clone() };
        let item = source.generate(self.seed, index, Split::Train).map_err(|error| error.to_string())?;
        let thinks =
            KeyedRandom::new(self.seed, Domain::PRETRAIN_STYLE, [index, 0]).uniform_at(0, 0) < self.think_share;
        let response = match (thinks, self.trace) {
            (false, _) => item.response(ResponseStyle::Direct),
            (true, TraceStyle::Solve) => item.response(ResponseStyle::Think),
            (true, TraceStyle::Justify) => {
                // Any number of steps, so that the answer stands after each of them.
                let share = KeyedRandom::new(self.seed, Domain::PRETRAIN_STYLE, [index, 1]).uniform_at(0, 0);
                item.justified_response((share * (level + 1) as f64) as usize)
            }
        };
        let mut token_ids = prompt_ids(&item);
        let prompt_len = token_ids.len();
        token_ids.extend(response.into_iter().chain([END]).map(symbol_id));
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use aloud_tasks::{ANSWER, THINK};

    use super::*;

    #[test]
    fn a_trace_is_what_its_style_says() {
        let text = |trace: TraceStyle, think_share: f64, index: u64| {
            let examples = SerialExamples { sources: vec![SerialSource::ALL], seed: 1, think_share, trace };
            let example = examples.example(index, 2).unwrap();
            response_text(example.token_ids[example.prompt_len..].iter().copied())
        };
        let mut n_steps = std::collections::BTreeSet::new();
        for index in 0..40 {
            let direct = text(TraceStyle::Justify, 0.0, index);
            assert_eq!(direct, text(TraceStyle::Solve, 0.0, index));
            let answer = direct.strip_prefix("<a> ").unwrap();
            let solved = text(TraceStyle::Solve, 1.0, index);
            let mut steps: Vec<&str> =
                solved.trim_start_matches("<t> ").split(" <a> ").next().unwrap().split(" ; ").collect();
            steps.push(answer);
            steps.reverse();
            let justified = text(TraceStyle::Justify, 1.0, index);
            let written = justified.split(" ; ").count() - 1;
            assert_eq!(justified, format!("<t> {} {direct}", steps[..=written].join(" ; ")));
            n_steps.insert(written);
        }
        assert_eq!(n_steps, [0, 1, 2].into());
    }

    #[test]
    fn tokens_become_symbols_without_the_end() {
        let ids = [THINK, "7", ANSWER, "2", END].map(symbol_id);
        assert_eq!(response_text(ids), "<t> 7 <a> 2");
        assert_eq!(response_text([symbol_id(ANSWER), 47]), "<a> <unk>");
        assert!(!SERIAL_VOCABULARY.contains(&NO_SYMBOL));
    }
}
