//! Whether a passage in prose says what its script says: every name of the script is there, those of people, rooms, containers
//! and objects each in the order of the script, and no other; what is said in private, in public, seen in secret or missed
//! is said to be so, and nothing else is; nothing is undone, put off or introduced a second time.
//!
//! The rules are meant to reject good passages rather than to keep a wrong one. They know words, not meaning: a passage
//! that passes may still be wrong in a way that no word shows.

use super::action::{Action, Deed};
use super::cast::{Cast, NameKind};

/// A passage longer than this many times its script, with some room for the shortest, tells more than the script does.
const MAX_LENGTHENING: usize = 4;
const SPARE_BYTES: usize = 80;

/// What is said in private.
#[rustfmt::skip]
const PRIVATE: &[&str] = &[
    "nobody else", "no one else", "private", "privately", "confidence", "confided", "whispered", "just between",
    "only to", "alone",
];
/// What everybody present hears.
const PUBLIC: &[&str] = &["everyone", "everybody", "all who were", "whole room", "all present", "them all"];
/// What somebody notices in secret.
#[rustfmt::skip]
const SECRET: &[&str] = &[
    "secretly", "in secret", "unnoticed", "unseen", "unobserved", "without anyone noticing", "without being noticed",
    "nobody noticed", "no one noticed",
];
/// What somebody misses.
#[rustfmt::skip]
const MISSED: &[&str] = &[
    "missed", "distracted", "lost in thought", "elsewhere", "inattentive", "distraction", "looked away", "daydreaming",
];
/// Somebody notices something.
#[rustfmt::skip]
const NOTICING: &[&str] = &[
    "saw", "seen", "sees", "watched", "watching", "watches", "noticed", "noticing", "witnessed", "observed",
    "overheard", "looked on",
];
/// Undo what is said, put it off, or make it a thought.
#[rustfmt::skip]
const UNDOING: &[&str] = &[
    "not", "n't", "never", "no longer", "nearly", "almost", "tried", "trying", "attempted", "pretended", "planned",
    "planning", "wanted", "intended", "hoped", "wished", "would", "might", "could", "maybe", "perhaps", "imagined",
    "dreamed", "unless", "instead", "except", "already", "earlier", "previously", "yesterday", "tomorrow", "soon",
    "returned", "back",
];
/// Words about the task and not of the story.
const NOTES: &[&str] = &["rewrite", "rewritten", "script", "passage", "here is", "the story"];
/// Words of a change that carry no fact of their own.
#[rustfmt::skip]
const SMALL_WORDS: &[&str] = &[
    "the", "a", "an", "of", "in", "on", "to", "with", "into", "and", "its", "it", "at", "from", "by", "for",
];

/// What a passage says beside names.
#[expect(clippy::struct_excessive_bools, reason = "independent claims")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    is_private: bool,
    is_public: bool,
    is_peeked: bool,
    is_missed: bool,
    /// Words that tell changes.
    changes: Vec<String>,
}

impl Claims {
    /// Those of a passage of these actions.
    pub(super) fn of(actions: impl Iterator<Item = Action>, cast: &Cast) -> Self {
        let mut claims = Self::default();
        for action in actions {
            claims.is_private |= matches!(action.deed, Deed::Tell(..));
            claims.is_public |= matches!(action.deed, Deed::Announce(..));
            claims.is_peeked |= !action.peekers.is_empty();
            claims.is_missed |= !action.distracted.is_empty();
            if let Deed::SetState(_, key) = action.deed {
                let words = cast.does(key).split_whitespace().filter(|word| !SMALL_WORDS.contains(word));
                claims.changes.extend(words.map(str::to_owned));
            }
        }
        claims
    }
}

/// Checks a passage against its script. `so_far` is the prose before it; `names` are those of the whole story.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(
    passage: &str,
    script: &str,
    so_far: &str,
    claims: &Claims,
    names: &[(NameKind, &str)],
) -> Result<(), String> {
    let is_whole = passage.trim_end_matches(['"', '\u{201d}', '\'']).ends_with(['.', '!', '?']);
    let has_marks = passage.contains(['*', '#', '{', '}', '[', ']', '<', '>']);
    if !is_whole || has_marks || passage.len() > MAX_LENGTHENING * script.len() + SPARE_BYTES {
        return Err("it is empty, too long, or no whole sentence".to_owned());
    }
    let (wanted, found) = (mentions(script, names), mentions(passage, names));
    if let Some((_, lost)) = wanted.iter().find(|name| !found.contains(name)) {
        return Err(format!("it does not say `{lost}`"));
    }
    if let Some((_, added)) = found.iter().find(|name| !wanted.contains(name)) {
        return Err(format!("it names `{added}`, which the script does not"));
    }
    for kind in [NameKind::Person, NameKind::Room, NameKind::Container, NameKind::Object] {
        let (wanted, found) = (wanted.iter().filter(|name| name.0 == kind), found.iter().filter(|name| name.0 == kind));
        if let Some((_, (_, name))) = wanted.zip(found).find(|(wanted, found)| wanted != found) {
            return Err(format!("`{name}` is not in the order of the script"));
        }
    }
    check_words(passage, script, claims)?;
    let known = mentions(so_far, names);
    let is_thing = |kind: NameKind| matches!(kind, NameKind::Container | NameKind::Object);
    for (_, name) in wanted.into_iter().filter(|name| is_thing(name.0) && known.contains(name)) {
        if ["a", "an", "another", "a second"].iter().any(|article| has(passage, &format!("{article} {name}"))) {
            return Err(format!("it introduces `{name}` a second time"));
        }
    }
    Ok(())
}

/// The part of [`check`] that is about words other than names.
fn check_words(passage: &str, script: &str, claims: &Claims) -> Result<(), String> {
    if let Some(word) = claims.changes.iter().find(|word| !has(passage, word)) {
        return Err(format!("it does not say `{word}`"));
    }
    let is_added = |word: &&&str| has(passage, word) && !has(script, word);
    let marks = [
        (claims.is_private, claims.is_peeked || claims.is_missed, PRIVATE, "said in private"),
        (claims.is_public, claims.is_peeked || claims.is_missed, PUBLIC, "said to everyone"),
        (claims.is_peeked, claims.is_missed, SECRET, "noticed in secret"),
        (claims.is_missed, claims.is_peeked, MISSED, "missed"),
    ];
    for (is_claimed, is_allowed, words, what) in marks {
        match words.iter().find(|word| has(passage, word)) {
            None if is_claimed => return Err(format!("it does not say that something is {what}")),
            Some(word) if !is_claimed && !is_allowed && !has(script, word) => return Err(changed(word)),
            _ => {}
        }
    }
    let is_open = !claims.is_peeked && !claims.is_missed;
    let noticing = if is_open { NOTICING } else { &[] };
    match [UNDOING, NOTES, noticing].into_iter().flatten().find(is_added) {
        Some(word) => Err(changed(word)),
        None => Ok(()),
    }
}

fn changed(word: &str) -> String {
    format!("`{word}` changes what the script says")
}

/// The names that occur as whole words, in the order of their first places. Of names that hold others the longer one counts;
/// people are written with capitals, other names in any.
fn mentions<'n>(text: &str, names: &[(NameKind, &'n str)]) -> Vec<(NameKind, &'n str)> {
    let mut by_length = names.to_vec();
    by_length.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    let mut rest = text.to_owned();
    let mut found: Vec<(usize, (NameKind, &str))> = Vec::new();
    for (kind, name) in by_length {
        let mut first = None;
        while let Some(at) = place_of(&rest, name, kind == NameKind::Person) {
            first.get_or_insert(at);
            // Of the same length, and no letters: places stay what they are.
            rest.replace_range(at..at + name.len(), &"|".repeat(name.len()));
        }
        found.extend(first.map(|at| (at, (kind, name))));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Whether the words occur as whole words, in any capitals. A word that begins with `n'` is the end of one.
fn has(text: &str, words: &str) -> bool {
    if words.starts_with("n'") {
        return text.to_lowercase().replace('\u{2019}', "'").contains(words);
    }
    place_of(text, words, false).is_some()
}

/// Where the words first occur as whole words (bytes).
fn place_of(text: &str, words: &str, is_exact: bool) -> Option<usize> {
    if words.is_empty() {
        return None;
    }
    // Letters outside ASCII keep their length, so places in the copy are places in the text.
    let (text, words) = if is_exact {
        (text.to_owned(), words.to_owned())
    } else {
        (text.to_ascii_lowercase(), words.to_ascii_lowercase())
    };
    let is_border = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric() && letter != '-');
    text.match_indices(&words)
        .map(|(at, _)| at)
        .find(|at| is_border(text[..*at].chars().next_back()) && is_border(text[at + words.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(NameKind, &str); 12] = [
        (NameKind::Person, "Ines"),
        (NameKind::Person, "Omar"),
        (NameKind::Person, "Will"),
        (NameKind::Room, "studio"),
        (NameKind::Room, "hall"),
        (NameKind::Container, "tin"),
        (NameKind::Container, "studio chest"),
        (NameKind::Object, "lens"),
        (NameKind::Topic, "the bus strike"),
        (NameKind::Topic, "the new well"),
        (NameKind::Object, "pear"),
        (NameKind::Container, "crate"),
    ];

    fn checked(passage: &str, script: &str, so_far: &str, claims: &Claims) -> Result<(), String> {
        check(passage, script, so_far, claims, &NAMES)
    }

    /// All of these passages are refused so.
    fn refused(script: &str, so_far: &str, claims: &Claims, cases: &[(&str, &str)]) {
        for (bad, expected) in cases {
            let fault = checked(bad, script, so_far, claims).err().unwrap_or_default();
            assert!(fault.contains(expected), "{bad}: {fault}");
        }
    }

    #[test]
    fn prose_of_a_move() {
        let (script, so_far) = ("Ines put the lens into the tin in the studio.", "There was a lens in the hall.");
        let open = Claims::default();
        let check = |passage: &str| checked(passage, script, so_far, &open);
        for good in [
            "With a quick motion, Ines slid the lens into the tin that stood in the studio.",
            "In the studio, Ines's hand let the Lens slip into the tin!",
            "Ines, as she will, slid the lens into the tin in the studio.",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let cases = [
            ("", "it is empty"),
            ("Ines put the lens into the tin in the studio", "no whole sentence"),
            ("Ines put it into the tin in the studio.", "it does not say `lens`"),
            ("Ines put the lenses into the tin in the studio.", "it does not say `lens`"),
            ("Ines put the lens into the tin in the studio chest.", "it does not say `studio`"),
            ("Ines put the lens into the tin, not the crate, in the studio.", "it names `crate`"),
            ("Ines put the lens into the tin in the studio, as Omar had asked.", "it names `Omar`"),
            ("Ines did not put the lens into the tin in the studio.", "`not` changes"),
            ("Ines didn\u{2019}t put the lens into the tin in the studio.", "`n't` changes"),
            ("Ines tried to put the lens into the tin in the studio.", "`tried` changes"),
            ("While everyone slept, Ines put the lens into the tin in the studio.", "`everyone` changes"),
            ("Secretly, Ines put the lens into the tin in the studio.", "`secretly` changes"),
            ("Alone, Ines put the lens into the tin in the studio.", "`alone` changes"),
            ("Ines put the lens into the tin in the studio and watched it.", "`watched` changes"),
            ("Ines put a lens into the tin in the studio.", "it introduces `lens` a second time"),
            ("Here is the passage: Ines put the lens into the tin in the studio.", "`passage` changes"),
            ("**Ines** put the lens into the tin in the studio.", "no whole sentence"),
        ];
        refused(script, so_far, &open, &cases);
        let long = format!("Ines put the lens into the tin in the studio{}.", " and so on".repeat(40));
        assert!(check(&long).is_err());
    }

    #[test]
    fn who_tells_whom_and_in_which_order() {
        let script = "Ines told Omar, and nobody else, about the bus strike.";
        let private = Claims { is_private: true, ..Claims::default() };
        assert_eq!(checked("Ines whispered to Omar about the bus strike.", script, "", &private), Ok(()));
        let cases = [
            ("Omar whispered to Ines about the bus strike.", "`Omar` is not in the order of the script"),
            ("Ines told Omar about the bus strike.", "does not say that something is said in private"),
            ("Ines whispered to Omar about the strike.", "it does not say `the bus strike`"),
            ("Ines whispered to Omar about the bus strike and the new well.", "it names `the new well`"),
        ];
        refused(script, "", &private, &cases);
        let script = "Ines told everyone in the hall about the bus strike.";
        let public = Claims { is_public: true, ..Claims::default() };
        assert_eq!(checked("Ines brought the bus strike up with everybody in the hall.", script, "", &public), Ok(()));
        assert!(checked("Ines brought the bus strike up in the hall.", script, "", &public).is_err());
        assert!(checked("Ines whispered to everybody in the hall about the bus strike.", script, "", &public).is_err());
    }

    #[test]
    fn secrets_and_distraction_are_said() {
        let script = "Ines put the lens into the tin in the hall. Unnoticed by everyone, Omar secretly saw just this happen. \
                      Nobody noticed that Will was distracted for just that moment and missed it completely.";
        let claims = Claims { is_peeked: true, is_missed: true, ..Claims::default() };
        let good = "Ines put the lens into the tin in the hall. Omar, unseen, saw it, while Will was lost in thought.";
        assert_eq!(checked(good, script, "", &claims), Ok(()));
        let cases = [
            ("Ines put the lens into the tin in the hall. Omar saw it, while Will was lost in thought.", "in secret"),
            ("Ines put the lens into the tin in the hall. Omar, unseen, saw it, and so did Will.", "is missed"),
            ("Ines put the lens into the tin in the hall. Will, unseen, saw it, and Omar missed it.", "order"),
        ];
        refused(script, "", &claims, &cases);
    }

    #[test]
    fn changes_keep_their_words() {
        let script = "Ines cut the pear into slices in the hall.";
        let claims =
            Claims { changes: vec!["cut".to_owned(), "pear".to_owned(), "slices".to_owned()], ..Claims::default() };
        assert_eq!(checked("In the hall Ines cut the ripe pear into thin slices.", script, "", &claims), Ok(()));
        assert!(checked("In the hall Ines cut the ripe pear in half.", script, "", &claims).is_err());
    }
}
