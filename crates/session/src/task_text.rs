//! The texts of a task as tokens of a model, and back. A task in words goes through the model's tokenizer; a task in symbols has
//! one token a symbol, so that its texts and its tokens say the same.

use aloud_tasks::task::Task;
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::Tokenizer;

use crate::bail;
use crate::error::SessionError;

/// What stands for a token that is no symbol: itself none, so that no response with it is well formed there.
const NO_SYMBOL: &str = "<unk>";

/// The symbols of a task: a symbol's token is its place among them.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    all: &'static [&'static str],
    /// Ends a response, and is no part of its text.
    end: Option<&'static str>,
}

impl Symbols {
    /// Those of a task; `None` for a task in words.
    pub fn of(task: &dyn Task) -> Option<Self> {
        task.symbols().map(|all| Self { all, end: task.end() })
    }

    /// The token of a symbol; `None` if it is none.
    pub fn id(&self, symbol: &str) -> Option<u32> {
        self.all.iter().position(|known| *known == symbol).map(|place| place as u32)
    }

    /// The tokens of a text, symbols with white space between them; `None` if there is something else in it.
    pub fn tokens(&self, text: &str) -> Option<Vec<u32>> {
        text.split_whitespace().map(|symbol| self.id(symbol)).collect()
    }

    /// The symbols of tokens with spaces between them, without the one that ends a response.
    pub fn text(&self, ids: &[u32]) -> String {
        ids.iter().filter_map(|id| self.symbol(*id)).collect::<Vec<_>>().join(" ")
    }

    /// What a token adds to a text.
    fn symbol(&self, id: u32) -> Option<&'static str> {
        let symbol = self.all.get(id as usize).copied().unwrap_or(NO_SYMBOL);
        (Some(symbol) != self.end).then_some(symbol)
    }

    /// How many bytes of text there are after each token. A space belongs to the token before it.
    fn byte_ends(&self, ids: &[u32]) -> Vec<usize> {
        let whole = self.text(ids).len();
        let mut length = 0;
        let after = |id: &u32| {
            length += self.symbol(*id).map_or(0, |symbol| symbol.len() + 1);
            length.min(whole)
        };
        ids.iter().map(after).collect()
    }

    /// Checks that the model's tokens are the symbols.
    ///
    /// # Errors
    /// Names the first symbol that is another token, or none.
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<(), SessionError> {
        for (expected, symbol) in (0_u32..).zip(self.all) {
            let problem = match tokenizer.token_to_id(symbol) {
                Some(id) if id == expected => continue,
                Some(id) => format!("the symbol `{symbol}` as token {id}, expected {expected}"),
                None => format!("no token `{symbol}`"),
            };
            bail!(
                "the model's tokenizer has {problem}: serial tasks need a model pretrained on them, such as tiny-reasoner \
                 or one made by `aloud pretrain`"
            );
        }
        Ok(())
    }
}

/// How the texts of a task become tokens of a model.
#[derive(Clone, Copy, Debug)]
pub struct TaskText<'a> {
    symbols: Option<Symbols>,
    codec: &'a TextCodec,
}

impl<'a> TaskText<'a> {
    /// For a task and a model with this codec.
    ///
    /// # Errors
    /// If the model lacks a symbol of the task.
    pub fn new(task: &dyn Task, codec: &'a TextCodec) -> Result<Self, SessionError> {
        let symbols = Symbols::of(task);
        symbols.map(|symbols| symbols.check(&codec.tokenizer)).transpose()?;
        Ok(Self { symbols, codec })
    }

    /// The symbols of the task, if it is not in words.
    pub fn symbols(&self) -> Option<Symbols> {
        self.symbols
    }

    /// The text of tokens; those that are marks of the model add none.
    ///
    /// # Errors
    /// If the tokens are no text.
    pub fn text(&self, ids: &[u32]) -> Result<String, SessionError> {
        match &self.symbols {
            Some(symbols) => Ok(symbols.text(ids)),
            None => Ok(self.codec.tokenizer.decode(ids, true)?),
        }
    }

    /// The tokens of a text that stands within a prompt or response; `None` if it cannot be written.
    pub fn tokens(&self, text: &str) -> Option<Vec<u32>> {
        match &self.symbols {
            Some(symbols) => symbols.tokens(text),
            None => self.codec.tokenizer.encode(text, false).ok(),
        }
    }

    /// How many bytes of text there are after each token. A character belongs to the token that completes it.
    pub fn byte_ends(&self, ids: &[u32]) -> Vec<usize> {
        if let Some(symbols) = &self.symbols {
            return symbols.byte_ends(ids);
        }
        let mut decoder = self.codec.tokenizer.stream_decoder(true);
        let mut length = 0;
        let after = |id: &u32| {
            length += decoder.push(*id).map_or(0, |text| text.len());
            length
        };
        ids.iter().map(after).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use aloud_tasks::serial::{ANSWER, END, SERIAL_VOCABULARY, SerialSource, THINK};

    use super::*;

    #[test]
    fn tokens_become_symbols_without_the_end() {
        let symbols = Symbols::of(&SerialSource::ALL).unwrap();
        let ids = [THINK, "7", ANSWER, "2", END].map(|symbol| symbols.id(symbol).unwrap());
        assert_eq!(symbols.text(&ids), "<t> 7 <a> 2");
        assert_eq!(symbols.byte_ends(&ids), [4, 6, 10, 11, 11]);
        assert_eq!(symbols.tokens("<t> 7 <a> 2").unwrap(), ids[..4]);
        assert_eq!(symbols.tokens("<t> seven"), None);
        assert_eq!(symbols.text(&[ids[2], 47]), "<a> <unk>");
        assert!(!SERIAL_VOCABULARY.contains(&NO_SYMBOL));
    }
}
