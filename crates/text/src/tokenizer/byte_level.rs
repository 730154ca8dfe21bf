//! The byte alphabet of byte-level BPE: each of the 256 bytes is written as one printable character (Radford et al.
//! 2019, "Language Models are Unsupervised Multitask Learners", `bytes_to_unicode` of the published code).

/// The byte that `character` stands for. Printable Latin-1 characters stand for themselves, the other 68 bytes are
/// numbered from U+0100 in their order.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The bytes of a token's text in a byte-level vocabulary. A text with a character outside the alphabet (added tokens
/// may have such) is taken as it is, as the reference decoder does.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut seen = [false; 256];
        for character in (0..0x200).filter_map(char::from_u32) {
            if let Some(byte) = byte_of(character) {
                assert!(!seen[usize::from(byte)], "byte {byte} twice");
                seen[usize::from(byte)] = true;
            }
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn known_characters() {
        assert_eq!(bytes_of("Ġa"), b" a");
        assert_eq!(bytes_of("Ċ"), b"\n");
        assert_eq!(bytes_of("Ã©"), "é".as_bytes());
        assert_eq!(bytes_of("<｜User｜>"), "<｜User｜>".as_bytes());
    }
}
