//! Decoding of a growing sequence of ids: text as soon as it is complete, never half a character.

use std::str;

use super::{Pieces, Tokenizer, TokenizerError};

/// Decodes ids one at a time. The pieces returned by [`push`](Self::push) and [`finish`](Self::finish), one after the
/// other, are the text that [`Tokenizer::decode`] gives for all ids together; no piece ends within a character.
///
/// One exception, which cannot be helped: a run of SentencePiece byte tokens that turns out not to be UTF-8 is replaced
/// as a whole by [`Tokenizer::decode`], but characters of it were given out before the damage showed.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Byte-level vocabularies: bytes of a character that has not ended yet (at most three).
    Bytes(Vec<u8>),
    /// Other vocabularies, where the text of an id depends on its neighbours: the last ids, of which the first
    /// `context` were already given out as the text `given`.
    Window { ids: Vec<u32>, context: usize, given: String },
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let state = match tokenizer.pieces {
            Pieces::ByteLevel => State::Bytes(Vec::new()),
            Pieces::Words | Pieces::Other => State::Window { ids: Vec::new(), context: 0, given: String::new() },
        };
        Self { tokenizer, skip_special, state }
    }

    /// Takes the next id and returns the text that is complete with it, possibly none. Ids outside the vocabulary and,
    /// if so asked for, special tokens add no text.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        match &mut self.state {
            State::Bytes(pending) => {
                if !(self.skip_special && self.tokenizer.is_special(id)) {
                    pending.extend(self.tokenizer.token_bytes(id).unwrap_or_default());
                }
                Ok(take_complete(pending))
            }
            State::Window { ids, context, given } => {
                ids.push(id);
                let text = self.tokenizer.decode(ids, self.skip_special)?;
                if text.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new()); // perhaps a character whose last bytes are still to come
                }
                let piece = after_common_prefix(&text, given).to_owned();
                if !piece.is_empty() {
                    ids.drain(..*context); // ids of this piece are the context of the next
                    *context = ids.len();
                    *given = self.tokenizer.decode(ids, self.skip_special)?;
                }
                Ok(piece)
            }
        }
    }

    /// The text of an unfinished character at the end, as replacement characters. The decoder is then as new.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, TokenizerError> {
        match &mut self.state {
            State::Bytes(pending) => Ok(String::from_utf8_lossy(&std::mem::take(pending)).into_owned()),
            State::Window { ids, context, given } => {
                *context = 0;
                let text = self.tokenizer.decode(&std::mem::take(ids), self.skip_special)?;
                Ok(after_common_prefix(&text, &std::mem::take(given)).to_owned())
            }
        }
    }
}

/// Takes everything but an unfinished character at the end out of `bytes`; what can never become a character is replaced
/// as `String::from_utf8_lossy` replaces it.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match str::from_utf8(bytes) {
            Ok(valid) => {
                text.push_str(valid);
                bytes.clear();
                return text;
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(invalid) = error.error_len() else {
                    *bytes = rest.to_vec();
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                *bytes = rest.get(invalid..).unwrap_or_default().to_vec();
            }
        }
    }
}

/// What `text` has beyond the characters it shares with the beginning of `given`.
fn after_common_prefix<'a>(text: &'a str, given: &str) -> &'a str {
    let shared: usize = text.chars().zip(given.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    text.get(shared..).unwrap_or_default()
}
