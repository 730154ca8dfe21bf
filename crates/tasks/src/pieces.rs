//! The pieces of a written text: lines, and sentences within a line.

/// Byte offsets at which pieces of `text` end, ascending, the last at its end: after every line break, and after `.`, `!` or
/// `?` before white space. A point inside a number has none behind it.
pub fn piece_ends(text: &str) -> Vec<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
