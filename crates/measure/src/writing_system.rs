//! Which writing system a letter belongs to, as far as it takes to notice that a text has changed its language.

use std::collections::BTreeMap;

/// A writing system, by the Unicode blocks of its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WritingSystem {
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    Devanagari,
    Thai,
    Hangul,
    /// Chinese characters and Japanese kana, which stand in the same texts.
    HanAndKana,
    Other,
}

/// First and last character of the blocks that hold a system's letters (Unicode 16, Blocks.txt).
const BLOCKS: [(char, char, WritingSystem); 19] = [
    ('\u{0041}', '\u{024F}', WritingSystem::Latin),
    ('\u{0250}', '\u{02AF}', WritingSystem::Latin),
    ('\u{0370}', '\u{03FF}', WritingSystem::Greek),
    ('\u{0400}', '\u{052F}', WritingSystem::Cyrillic),
    ('\u{0590}', '\u{05FF}', WritingSystem::Hebrew),
    ('\u{0600}', '\u{077F}', WritingSystem::Arabic),
    ('\u{08A0}', '\u{08FF}', WritingSystem::Arabic),
    ('\u{0900}', '\u{097F}', WritingSystem::Devanagari),
    ('\u{0E00}', '\u{0E7F}', WritingSystem::Thai),
    ('\u{1100}', '\u{11FF}', WritingSystem::Hangul),
    ('\u{1E00}', '\u{1EFF}', WritingSystem::Latin),
    ('\u{1F00}', '\u{1FFF}', WritingSystem::Greek),
    ('\u{3005}', '\u{3007}', WritingSystem::HanAndKana),
    ('\u{3040}', '\u{30FF}', WritingSystem::HanAndKana),
    ('\u{3130}', '\u{318F}', WritingSystem::Hangul),
    ('\u{3400}', '\u{9FFF}', WritingSystem::HanAndKana),
    ('\u{AC00}', '\u{D7AF}', WritingSystem::Hangul),
    ('\u{FF21}', '\u{FF5A}', WritingSystem::Latin),
    ('\u{20000}', '\u{323AF}', WritingSystem::HanAndKana),
];

impl WritingSystem {
    /// The system of a letter; `None` for what is none: digits, punctuation, spaces, symbols.
    pub(crate) fn of(character: char) -> Option<Self> {
        if !character.is_alphabetic() {
            return None;
        }
        let block = BLOCKS.iter().find(|(first, last, _)| (*first..=*last).contains(&character));
        Some(block.map_or(Self::Other, |(_, _, system)| *system))
    }

    /// The system of most letters of a text; of equally many, the first in the order of this list. `None` without a letter.
    pub(crate) fn of_most(text: &str) -> Option<Self> {
        let mut counts: BTreeMap<Self, usize> = BTreeMap::new();
        for system in text.chars().filter_map(Self::of) {
            *counts.entry(system).or_default() += 1;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(system, _)| system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_a_system_and_other_characters_none() {
        for (text, expected) in [
            ("aZéßĐＡ", WritingSystem::Latin),
            ("αΩ", WritingSystem::Greek),
            ("Жя", WritingSystem::Cyrillic),
            ("漢字かなカナ々", WritingSystem::HanAndKana),
            ("한글", WritingSystem::Hangul),
            ("ሀ", WritingSystem::Other),
        ] {
            for letter in text.chars() {
                assert_eq!(WritingSystem::of(letter), Some(expected), "{letter}");
            }
        }
        assert!("7 +=<>.,\n\u{FFFD}€×".chars().all(|character| WritingSystem::of(character).is_none()));
    }

    #[test]
    fn most_letters_decide() {
        assert_eq!(WritingSystem::of_most("Wort и слово и"), Some(WritingSystem::Cyrillic));
        assert_eq!(WritingSystem::of_most("ab жз"), Some(WritingSystem::Latin));
        assert_eq!(WritingSystem::of_most("1 + 1 = 2"), None);
    }
}
