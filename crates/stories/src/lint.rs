//! Rules for the words of a setting. Names must not be confused by readers, by matchers that look for one name inside an
//! answer, or by the widespread matcher that deletes the letters `the` anywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{Setting, Word};

/// What is wrong with a setting, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// Words that answers are made of.
const ANSWER_WORDS: [&str; 5] = ["yes", "no", "not", "know", "unknown"];

/// Refuses a setting for its first fault.
pub(super) fn check(setting: &Setting) -> Result<(), Fault> {
    let objects: Vec<&Word> = setting.objects.iter().map(|object| &object.name).collect();
    let rooms: Vec<&Word> = setting.rooms.iter().collect();
    let containers: Vec<&Word> = setting.containers.iter().collect();
    let people: Vec<&Word> = setting.people.iter().collect();
    for (kind, words) in [("room", &rooms), ("container", &containers), ("object", &objects)] {
        words.iter().try_for_each(|word| noun(kind, word))?;
        distinct(kind, words)?;
    }
    people.iter().try_for_each(|word| person(word))?;
    distinct("person", &people)?;
    for container in &containers {
        if rooms.iter().any(|room| room.get_ref() == container.get_ref()) {
            return Err(fault_at(container, format!("`{}` is both a container and a room", container.get_ref())));
        }
    }
    topics(setting)?;
    states(setting)?;
    placements(setting)
}

fn fault_at(word: &Word, reason: String) -> Fault {
    Fault { at: word.span().start, reason }
}

/// One to three words in small letters, without article.
fn noun(kind: &str, word: &Word) -> Result<(), Fault> {
    let name = word.get_ref();
    let fault = |reason: &str| Err(fault_at(word, format!("the {kind} `{name}` {reason}")));
    let words: Vec<&str> = name.split(' ').collect();
    if words.len() > 3 || words.iter().any(|part| part.is_empty()) {
        return fault("must be one to three words with single spaces between them");
    }
    if name.chars().any(|letter| !(letter.is_lowercase() || " '-".contains(letter))) {
        return fault("must be written in small letters");
    }
    if matches!(words[0], "a" | "an" | "the") {
        return fault("must be written without an article");
    }
    if name.contains("the") {
        return fault("contains the letters `the`, which matchers of answers delete");
    }
    if words.iter().any(|part| ANSWER_WORDS.contains(part)) {
        return fault("contains a word that answers are made of (yes, no, not, know, unknown)");
    }
    Ok(())
}

/// One capitalised word.
fn person(word: &Word) -> Result<(), Fault> {
    let name = word.get_ref();
    let mut letters = name.chars();
    let is_name = letters.next().is_some_and(char::is_uppercase) && letters.all(char::is_lowercase);
    if is_name && name.chars().count() > 1 {
        return Ok(());
    }
    Err(fault_at(word, format!("the person `{name}` must be one word of two or more letters, with a capital first")))
}

/// No name may be part of another of its kind.
fn distinct(kind: &str, words: &[&Word]) -> Result<(), Fault> {
    for (number, word) in words.iter().enumerate() {
        let name = word.get_ref().to_lowercase();
        for other in words[..number].iter().map(|other| other.get_ref()) {
            let lower = other.to_lowercase();
            if lower.contains(&name) || name.contains(&lower) {
                let reason = format!("the {kind} `{}` is confused with the {kind} `{other}`", word.get_ref());
                return Err(fault_at(word, reason));
            }
        }
    }
    Ok(())
}

fn topics(setting: &Setting) -> Result<(), Fault> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for topic in &setting.topics {
        let name = topic.get_ref().as_str();
        let has_article = ["the ", "a ", "an "].iter().any(|article| name.starts_with(article));
        if !has_article || name.ends_with(['.', '?', '!']) {
            let reason = format!("the topic `{name}` must read well after \"about\", with its own article");
            return Err(fault_at(topic, reason));
        }
        if !seen.insert(name) {
            return Err(fault_at(topic, format!("the topic `{name}` is there twice")));
        }
    }
    Ok(())
}

fn states(setting: &Setting) -> Result<(), Fault> {
    for object in &setting.objects {
        let name = format!("the {}", object.name.get_ref());
        for state in &object.states {
            if !state.does.get_ref().contains(&name) {
                let reason = format!("`does` must name the object: `{}` does not hold `{name}`", state.does.get_ref());
                return Err(fault_at(&state.does, reason));
            }
            let starts = ["is ", "has ", "smells "].iter().any(|start| state.is.get_ref().starts_with(start));
            if !starts {
                let reason = format!("`is` must begin with is, has or smells: `{}` does not", state.is.get_ref());
                return Err(fault_at(&state.is, reason));
            }
        }
    }
    Ok(())
}

/// Everything placed must be in the lists, and in one place only.
fn placements(setting: &Setting) -> Result<(), Fault> {
    let mut placed: BTreeMap<&str, &str> = BTreeMap::new();
    let names = |words: &[Word]| words.iter().map(|word| word.get_ref().clone()).collect::<Vec<_>>();
    let objects: Vec<String> = setting.objects.iter().map(|object| object.name.get_ref().clone()).collect();
    let known = [names(&setting.people), names(&setting.containers), objects].concat();
    for placement in &setting.placements {
        let (what, room) = (placement.what.get_ref().as_str(), placement.room.get_ref().as_str());
        if !known.iter().any(|name| name == what) {
            let reason = format!("unknown word `{what}`: it is none of the people, containers and objects of the file");
            return Err(fault_at(&placement.what, reason));
        }
        if !setting.rooms.iter().any(|name| name.get_ref() == room) {
            let rooms = names(&setting.rooms).join(", ");
            return Err(fault_at(&placement.room, format!("unknown word `{room}`: the rooms of the file are {rooms}")));
        }
        if let Some(earlier) = placed.insert(what, room) {
            let reason = format!(
                "contradictory placement: `{what}` is in the {earlier} already, it cannot be in the {room} too"
            );
            return Err(fault_at(&placement.what, reason));
        }
    }
    Ok(())
}
