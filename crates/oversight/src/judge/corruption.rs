//! Responses that were spoilt on purpose: a judge that does not notice measures nothing.

use super::run::JudgeItem;
use aloud_base::random::KeyedRandom;

/// How often a looped sentence is said in all.
const LOOP_LENGTH: usize = 9;

/// The name of the responses as they were, among those of [`ladder_items`].
pub(super) const LADDER_CLEAN: &str = "clean";

/// A way to spoil a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Corruption {
    /// The sentences in another order.
    SentenceShuffle,
    /// One sentence said nine times.
    LoopInsertion,
    /// The first half alone.
    CutHalf,
    /// The response to another task.
    OtherResponse,
}

impl Corruption {
    pub(super) const ALL: [Self; 4] = [Self::SentenceShuffle, Self::LoopInsertion, Self::CutHalf, Self::OtherResponse];

    /// Its name in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SentenceShuffle => "sentence_shuffle",
            Self::LoopInsertion => "loop_insertion",
            Self::CutHalf => "cut_half",
            Self::OtherResponse => "other_response",
        }
    }

    /// The criterion of the quality rubric that must notice.
    pub(super) fn criterion(self) -> &'static str {
        match self {
            Self::SentenceShuffle => "coherence",
            Self::LoopInsertion => "no_repetition",
            Self::CutHalf | Self::OtherResponse => "completeness",
        }
    }
}

/// The response spoilt, by seed and the item's name. `None` if that would change nothing: too few sentences to shuffle, or
/// no other response.
fn corrupt(corruption: Corruption, item: &JudgeItem, others: &[JudgeItem], seed: u64) -> Option<String> {
    let mut random = KeyedRandom::named(seed, &format!("corruption {} {}", corruption.name(), item.item));
    let text = item.response.as_str();
    match corruption {
        Corruption::SentenceShuffle => shuffled(text, &mut random),
        Corruption::LoopInsertion => looped(text, &mut random),
        Corruption::CutHalf => {
            let n_chars = text.chars().count();
            (n_chars >= 2).then(|| text.chars().take(n_chars / 2).collect())
        }
        Corruption::OtherResponse => {
            let others: Vec<&JudgeItem> =
                others.iter().filter(|other| other.task != item.task && other.response != text).collect();
            others.get(random.below(others.len())).map(|other| other.response.clone())
        }
    }
}

/// The responses of a sanity ladder: every clean one, and each corruption of it that changes something. The corruption's
/// name stands in the place of the model.
pub(super) fn ladder_items(clean: &[JudgeItem], seed: u64) -> Vec<JudgeItem> {
    let mut items = Vec::new();
    for item in clean {
        items.push(JudgeItem { model: LADDER_CLEAN.to_owned(), ..item.clone() });
        for corruption in Corruption::ALL {
            if let Some(response) = corrupt(corruption, item, clean, seed) {
                let model = corruption.name().to_owned();
                items.push(JudgeItem { model, response, n_tokens: None, ..item.clone() });
            }
        }
    }
    items
}

/// A sentence, and the white space behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sentence<'a> {
    text: &'a str,
    space: &'a str,
}

/// The sentences of a text: they end with a line, or with `.`, `!`, `?` or `;` before white space.
fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut sentences = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let ends_here = |(at, character): (usize, char)| {
            let behind = &rest[at + character.len_utf8()..];
            match character {
                '\n' => Some(at),
                '.' | '!' | '?' | ';' if behind.starts_with(char::is_whitespace) => Some(at + character.len_utf8()),
                _ => None,
            }
        };
        let end = rest.char_indices().find_map(ends_here).unwrap_or(rest.len());
        let (sentence, behind) = rest.split_at(end);
        let next = behind.trim_start();
        sentences.push(Sentence { text: sentence.trim_end(), space: &behind[..behind.len() - next.len()] });
        rest = next;
    }
    sentences
}

/// The sentences change places, the white space between them does not.
fn shuffled(text: &str, random: &mut KeyedRandom) -> Option<String> {
    let sentences = sentences(text);
    let mut texts: Vec<&str> = sentences.iter().map(|sentence| sentence.text).collect();
    random.shuffle(&mut texts);
    let unchanged = |texts: &[&str]| texts.iter().zip(&sentences).all(|(text, sentence)| *text == sentence.text);
    if unchanged(&texts) && !texts.is_empty() {
        texts.rotate_left(1);
    }
    if texts.len() < 3 || unchanged(&texts) {
        return None;
    }
    Some(texts.iter().zip(&sentences).flat_map(|(text, sentence)| [*text, sentence.space]).collect())
}

/// One sentence is said again and again.
fn looped(text: &str, random: &mut KeyedRandom) -> Option<String> {
    let sentences = sentences(text);
    let chosen = random.below(sentences.len());
    if sentences.is_empty() {
        return None;
    }
    let mut looped = String::new();
    for (index, Sentence { text, space }) in sentences.into_iter().enumerate() {
        let space_between = if space.is_empty() { " " } else { space };
        for _ in 1..if index == chosen { LOOP_LENGTH } else { 1 } {
            looped.extend([text, space_between]);
        }
        looped.extend([text, space]);
    }
    Some(looped)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Start with 3.5 apples. Add 2; that makes 5.5!\nIs it right? Yes.\n#### 5.5";

    fn item(name: &str, response: &str) -> JudgeItem {
        JudgeItem {
            item: name.to_owned(),
            task: format!("task {name}"),
            response: response.to_owned(),
            ..JudgeItem::default()
        }
    }

    fn sorted_words(text: &str) -> Vec<&str> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.sort_unstable();
        words
    }

    #[test]
    fn sentences_end_where_a_reader_says() {
        let found: Vec<&str> = sentences(TEXT).iter().map(|sentence| sentence.text).collect();
        assert_eq!(found, ["Start with 3.5 apples.", "Add 2;", "that makes 5.5!", "Is it right?", "Yes.", "#### 5.5"]);
    }

    #[test]
    fn each_corruption_does_what_its_name_says() {
        let items = [item("a", TEXT), item("b", "Another one."), item("c", TEXT)];
        let spoilt = |corruption| corrupt(corruption, &items[0], &items, 7).unwrap();
        let shuffled = spoilt(Corruption::SentenceShuffle);
        assert!(shuffled != TEXT && sorted_words(&shuffled) == sorted_words(TEXT), "{shuffled}");
        let looped = spoilt(Corruption::LoopInsertion);
        assert_eq!(sentences(&looped).len(), sentences(TEXT).len() + LOOP_LENGTH - 1, "{looped}");
        assert!(TEXT.starts_with(&spoilt(Corruption::CutHalf)));
        assert_eq!(spoilt(Corruption::CutHalf).len(), TEXT.len() / 2);
        assert_eq!(spoilt(Corruption::OtherResponse), "Another one.");
        // By the seed, and by nothing else.
        assert_eq!(shuffled, spoilt(Corruption::SentenceShuffle));
        let with_seed = |seed| corrupt(Corruption::SentenceShuffle, &items[0], &items, seed).unwrap();
        assert!((0..5).any(|seed| with_seed(seed) != shuffled));
    }

    #[test]
    fn what_cannot_be_spoilt_is_left_out() {
        let single = [item("a", "One. Two.")];
        assert_eq!(corrupt(Corruption::SentenceShuffle, &single[0], &single, 0), None);
        assert_eq!(corrupt(Corruption::OtherResponse, &single[0], &single, 0), None);
        let same = [item("a", "No.\nNo.\nNo.")];
        assert_eq!(corrupt(Corruption::SentenceShuffle, &same[0], &same, 0), None);
        let empty = [item("a", "")];
        assert!(Corruption::ALL.iter().all(|corruption| corrupt(*corruption, &empty[0], &empty, 0).is_none()));
        let names: Vec<String> = ladder_items(&single, 0).into_iter().map(|item| item.model).collect();
        assert_eq!(names, ["clean", "loop_insertion", "cut_half"]);
    }

    proptest! {
        #[test]
        fn sentences_are_the_text_without_spaces_between(text in "([a-z0-9.!?; \n\u{a0}é]{0,12}){0,4}", seed: u64) {
            let joined: String = sentences(&text).iter().flat_map(|sentence| [sentence.text, sentence.space]).collect();
            let letters = |text: &str| text.chars().filter(|character| !character.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&joined), letters(&text));
            for corruption in Corruption::ALL {
                if let Some(spoilt) = corrupt(corruption, &item("a", &text), &[], seed) {
                    prop_assert_ne!(spoilt, text.clone());
                }
            }
        }
    }
}
