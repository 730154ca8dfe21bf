//! A written trace within its response, and its steps: lines, and sentences within a line.

use std::collections::BTreeMap;

use aloud_measure::run_files::Extracted;
use aloud_text::text_codec::TextCodec;

use super::family::{ReadResponse, TraceSteps};

/// Pieces shorter than this many tokens are no steps of their own.
pub(crate) const MIN_STEP_TOKENS: usize = 3;

/// Byte offsets at which pieces of `text` end, ascending, the last at its end: after every line break, and after `.`, `!` or
/// `?` before white space. A point inside a number has none behind it.
pub(crate) fn piece_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let ends_sentence = matches!(character, '.' | '!' | '?') && next.is_some_and(char::is_whitespace);
        if character == '\n' || ends_sentence {
            ends.push(at + character.len_utf8());
        }
    }
    if ends.last() != Some(&text.len()) && !text.is_empty() {
        ends.push(text.len());
    }
    ends
}

/// Numbers of tokens at which steps end, beginning with 0 for no step: `ends` without those that would make a step of fewer
/// than [`MIN_STEP_TOKENS`] tokens. The last end stays, and takes a short piece before it in.
pub(crate) fn step_ends(ends: &[usize]) -> Vec<usize> {
    let mut steps = vec![0];
    for &end in ends {
        if steps.last().is_some_and(|last| end >= last + MIN_STEP_TOKENS) {
            steps.push(end);
        }
    }
    if let Some(&whole) = ends.last()
        && steps.last() != Some(&whole)
    {
        if steps.len() > 1 {
            steps.pop();
        }
        steps.push(whole);
    }
    steps
}

/// The steps of a trace, the text at the beginning of a response of tokens `ids`; `None` if there is no step.
pub(crate) fn trace_steps(codec: &TextCodec, ids: &[u32], trace: &str) -> Option<TraceSteps> {
    let pieces = piece_ends(trace.trim_end());
    let bytes = byte_ends(codec, ids);
    let ends: Vec<usize> = pieces.into_iter().map(|end| tokens_of(&bytes, end)).collect();
    Some(TraceSteps { ends: step_ends(&ends) }).filter(|steps| steps.ends.len() > 1)
}

/// A response cut in two at `end`: where its trace ends, and where what follows begins (bytes); `None`: it is not closed.
pub(crate) fn split_response(
    codec: &TextCodec,
    ids: &[u32],
    completion: String,
    end: Option<(usize, usize)>,
    extracted: Extracted,
    correct: BTreeMap<String, bool>,
) -> ReadResponse {
    let (trace_end, answer_start) = end.unwrap_or((completion.len(), completion.len()));
    ReadResponse {
        trace: completion[..trace_end].to_owned(),
        answer_text: completion[answer_start..].to_owned(),
        closed: end.is_some(),
        n_trace: if end.is_some() { tokens_of(&byte_ends(codec, ids), answer_start) } else { ids.len() },
        extracted,
        correct,
        completion,
    }
}

/// How many bytes of text there are after each token. A character belongs to the token that completes it.
fn byte_ends(codec: &TextCodec, ids: &[u32]) -> Vec<usize> {
    let mut decoder = codec.tokenizer.stream_decoder(true);
    let mut length = 0;
    let after = |id: &u32| {
        length += decoder.push(*id).map_or(0, |text| text.len());
        length
    };
    ids.iter().map(after).collect()
}

/// The smallest number of tokens whose text has at least `length` bytes; all of them if there is none.
fn tokens_of(byte_ends: &[usize], length: usize) -> usize {
    if length == 0 { 0 } else { (byte_ends.partition_point(|end| *end < length) + 1).min(byte_ends.len()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::test_codec::byte_codec;
    use super::*;

    /// The definition, by decoding every beginning: half a character is not there yet.
    fn by_decoding(codec: &TextCodec, ids: &[u32], length: usize) -> usize {
        let reaches = |n: &usize| {
            let text = codec.tokenizer.decode(&ids[..*n], true).unwrap();
            text.trim_end_matches(char::REPLACEMENT_CHARACTER).len() >= length
        };
        (0..=ids.len()).find(reaches).unwrap_or(ids.len())
    }

    #[test]
    fn tokens_are_counted_in_one_decoding() {
        let codec = byte_codec(&["</think>"]);
        let text = "It costs 3 €. 🎉 Größe: ½.\nSo 数字 is 5.</think> #### 5";
        let ids = codec.tokenizer.encode(text, false).unwrap();
        let ends = byte_ends(&codec, &ids);
        // One step of one decoder a token; the text of a mark comes at once.
        assert_eq!((ends.len(), ends.last()), (ids.len(), Some(&text.len())));
        assert_eq!(ids.len(), text.len() - "</think>".len() + 1);
        for length in (0..=text.len() + 1).filter(|length| *length > text.len() || text.is_char_boundary(*length)) {
            assert_eq!(tokens_of(&ends, length), by_decoding(&codec, &ids, length), "{length}");
        }
        assert_eq!(tokens_of(&[], 3), 0);
    }

    #[test]
    fn long_traces_are_cut_in_linear_time() {
        let codec = byte_codec(&[]);
        let line = "Zwei mal zwei ist vier, größer wird es nicht.\n";
        let trace = line.repeat(4000);
        let ids = codec.tokenizer.encode(&trace, false).unwrap();
        let start = std::time::Instant::now();
        let steps = trace_steps(&codec, &ids, &trace).unwrap();
        // Decoding a beginning for every look at one took a minute for this.
        assert!(start.elapsed().as_secs() < 10);
        assert_eq!(steps.ends.len(), 4001);
        // The line break is too short for a step of its own, and joins the next line.
        assert_eq!(steps.ends[1], line.trim_end().len());
    }

    #[test]
    fn pieces_are_lines_and_sentences() {
        let text = "It costs 3.50 each. So 2 * 3.5 = 7!\nDone";
        let ends = piece_ends(text);
        let pieces: Vec<&str> =
            std::iter::once(0).chain(ends.iter().copied()).zip(&ends).map(|(start, end)| &text[start..*end]).collect();
        assert_eq!(pieces, ["It costs 3.50 each.", " So 2 * 3.5 = 7!", "\n", "Done"]);
        assert_eq!(piece_ends("ä. b"), [3, 5]);
        assert!(piece_ends("").is_empty());
    }

    #[test]
    fn short_pieces_join_the_step_before_or_after() {
        assert_eq!(step_ends(&[5, 6, 12]), [0, 5, 12]);
        assert_eq!(step_ends(&[1, 5, 9, 10]), [0, 5, 10]);
        assert_eq!(step_ends(&[2]), [0, 2]);
        assert_eq!(step_ends(&[]), [0]);
    }
}
