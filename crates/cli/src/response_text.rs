//! The text of a response as it grows: whole characters, cut at stop texts, each piece with the depth of its token.

use aloud_model::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};

/// A piece of text and the depth (blocks) of the token that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text.
    pub(crate) text: String,
    /// The depth.
    pub(crate) depth: usize,
}

/// Text of tokens that come one at a time. What may be the beginning of a stop text is held back.
#[derive(Clone, Debug)]
pub(crate) struct ResponseText {
    decoder: StreamDecoder,
    stops: Vec<String>,
    text: String,
    /// Bytes of `text` given out.
    released: usize,
    /// Where the text of each token begins (bytes) and the token's depth.
    starts: Vec<(usize, usize)>,
    stopped: bool,
}

impl ResponseText {
    /// No text yet. Special tokens add none.
    pub(crate) fn new(tokenizer: &Tokenizer, stops: &[String]) -> Self {
        Self {
            decoder: tokenizer.stream_decoder(true),
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            text: String::new(),
            released: 0,
            starts: Vec::new(),
            stopped: false,
        }
    }

    /// Whether a stop text was found.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a token; returns the text that is certain now.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub(crate) fn push(&mut self, id: u32, depth: usize) -> Result<Vec<Piece>, TokenizerError> {
        let text = self.decoder.push(id)?;
        Ok(self.append(&text, depth))
    }

    /// Takes the end: an unfinished character, and what was held back.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub(crate) fn finish(&mut self) -> Result<Vec<Piece>, TokenizerError> {
        let text = self.decoder.finish()?;
        let depth = self.starts.last().map_or(0, |start| start.1);
        let mut pieces = self.append(&text, depth);
        pieces.extend(self.release(self.text.len()));
        Ok(pieces)
    }

    /// The whole text, given out or not.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn append(&mut self, text: &str, depth: usize) -> Vec<Piece> {
        if self.stopped {
            return Vec::new();
        }
        self.starts.push((self.text.len(), depth));
        self.text.push_str(text);
        let fresh = self.text.get(self.released..).unwrap_or_default();
        if let Some(at) = self.stops.iter().filter_map(|stop| fresh.find(stop.as_str())).min() {
            self.stopped = true;
            self.text.truncate(self.released + at);
            return self.release(self.text.len());
        }
        let held = fresh.char_indices().map(|(at, _)| at).find(|at| {
            let tail = fresh.get(*at..).unwrap_or_default();
            self.stops.iter().any(|stop| stop.starts_with(tail))
        });
        self.release(self.released + held.unwrap_or(fresh.len()))
    }

    /// Gives out the text up to `end`, split where the depth changes hands.
    fn release(&mut self, end: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (i, (start, depth)) in self.starts.iter().enumerate() {
            let next = self.starts.get(i + 1).map_or(self.text.len(), |next| next.0);
            let range = (*start).max(self.released)..next.min(end);
            if let Some(text) = self.text.get(range).filter(|text| !text.is_empty()) {
                pieces.push(Piece { text: text.to_owned(), depth: *depth });
            }
        }
        self.released = self.released.max(end);
        // Only tokens that still hold text back are looked at again.
        let pending = self.starts.partition_point(|start| start.0 <= self.released).saturating_sub(1);
        self.starts.drain(..pending);
        pieces
    }
}
