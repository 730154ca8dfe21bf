//! The text of a response as it grows: whole characters, cut at stop texts, each piece with the depth of its token.

use aloud_text::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};

/// A piece of text and the depth (blocks) of the token that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// The depth.
    pub depth: usize,
}

/// Text of tokens that come one at a time. What may be the beginning of a stop text is held back.
#[derive(Clone, Debug)]
pub struct ResponseText {
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
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Self {
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
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a token; returns the text that is certain now.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32, depth: usize) -> Result<Vec<Piece>, TokenizerError> {
        let text = self.decoder.push(id)?;
        Ok(self.append(&text, depth))
    }

    /// Takes the end: an unfinished character, and what was held back.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<Vec<Piece>, TokenizerError> {
        let text = self.decoder.finish()?;
        let depth = self.starts.last().map_or(0, |start| start.1);
        let mut pieces = self.append(&text, depth);
        pieces.extend(self.release(self.text.len()));
        Ok(pieces)
    }

    /// The whole text, given out or not.
    pub fn into_text(self) -> String {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::path::Path;

    use super::*;

    /// Byte-level tokens `a`, `b`, `c`, `ab`, the two bytes of `é`, and a special token.
    fn tokenizer() -> Tokenizer {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [{"id": 6, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
                              "rstrip": false, "normalized": false}],
            "pre_tokenizer": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "merges": [],
                      "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "Ã": 4, "©": 5, "<end>": 6}}
        });
        Tokenizer::from_json(json.to_string().as_bytes(), Path::new("tokenizer.json")).unwrap()
    }

    /// Pieces after each token and after the end, as `text@depth`, and the whole text. Token `i` has depth `i + 1`.
    fn pieces(ids: &[u32], stops: &[&str]) -> (Vec<Vec<String>>, String) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut text = ResponseText::new(&tokenizer(), &stops);
        let shown = |pieces: Vec<Piece>| pieces.iter().map(|piece| format!("{}@{}", piece.text, piece.depth)).collect();
        let mut all: Vec<Vec<String>> =
            ids.iter().enumerate().map(|(i, id)| shown(text.push(*id, i + 1).unwrap())).collect();
        all.push(shown(text.finish().unwrap()));
        (all, text.into_text())
    }

    #[test]
    fn text_comes_at_once_and_special_tokens_add_none() {
        let (pieces, text) = pieces(&[0, 1, 3, 6], &[]);
        assert_eq!(pieces, [vec!["a@1"], vec!["b@2"], vec!["ab@3"], vec![], vec![]]);
        assert_eq!(text, "abab");
    }

    #[test]
    fn characters_are_whole() {
        let (split, text) = pieces(&[4, 5, 0], &[]);
        assert_eq!(split, [vec![], vec!["é@2"], vec!["a@3"], vec![]]);
        assert_eq!(text, "éa");
        // Half a character at the end becomes a replacement character.
        assert_eq!(pieces(&[0, 4], &[]).1, "a\u{fffd}");
    }

    #[test]
    fn what_may_become_a_stop_text_is_held_back() {
        // `b` may begin `bc`; it turns out not to.
        let (held, text) = pieces(&[0, 1, 0], &["bc"]);
        assert_eq!(held, [vec!["a@1"], vec![], vec!["b@2", "a@3"], vec![]]);
        assert_eq!(text, "aba");
        // It is given out at the end.
        assert_eq!(pieces(&[0, 1], &["bc"]).0, [vec!["a@1".to_owned()], vec![], vec!["b@2".to_owned()]]);
    }

    #[test]
    fn a_stop_text_is_cut_wherever_tokens_end() {
        for ids in [&[2, 0, 1, 2, 0][..], &[2, 3, 2, 0]] {
            let (cut, text) = pieces(ids, &["bc", "abc"]);
            assert_eq!(text, "c", "{ids:?}");
            assert_eq!(cut.concat(), ["c@1"], "{ids:?}");
        }
        // The earliest wins, and nothing follows it.
        assert_eq!(pieces(&[0, 1, 2, 0, 0], &["ca", "b"]).1, "a");
    }
}
