//! Words: those of the program keep the rules; those of users are refused with the line at fault.

use std::collections::BTreeSet;
use std::path::Path;

use crate::generator::{StoryGenerator, StorySettings};
use crate::names::NAMES;
use crate::part::Part;
use crate::words::Setting;

const GOOD: &str = r#"name = "attic"
people = ["Ada", "Bela", "Cleo", "Dario"]
rooms = ["loft", "landing"]
containers = ["hamper", "biscuit tin", "toy chest", "satchel"]
topics = ["the parrot"]

[[objects]]
name = "kite"

[[placements]]
what = "kite"
room = "loft"
"#;

fn refusal(text: &str) -> String {
    Setting::parse(Path::new("my.toml"), text).unwrap_err().to_string()
}

#[test]
fn settings_of_the_program_keep_the_rules() {
    let settings = Setting::shipped();
    assert_eq!(settings.len(), 14, "a setting of the program cannot be read");
    for setting in settings {
        let name = setting.name.get_ref();
        assert!(setting.rooms.len() >= 2 && setting.containers.len() >= 6 && setting.topics.len() >= 6, "{name}");
        for object in &setting.objects {
            for is_visible in [true, false] {
                let n = object.states.iter().filter(|state| state.visible == is_visible).count();
                assert!(n >= 2, "{name}: {}", object.name.get_ref());
            }
        }
    }
    let names: BTreeSet<&str> = settings.iter().map(|setting| setting.name.get_ref().as_str()).collect();
    assert_eq!(names.len(), settings.len());
    assert_eq!(Part::ALL.map(|part| Setting::of_part(part).len()), [8, 3, 3]);
}

#[test]
fn names_of_people_are_not_part_of_each_other() {
    assert!(NAMES.len() >= 200);
    for (number, name) in NAMES.iter().enumerate() {
        let lower = name.to_lowercase();
        assert!(!lower.contains("the"), "{name}");
        let mut letters = name.chars();
        assert!(letters.next().unwrap().is_uppercase() && letters.all(char::is_lowercase), "{name}");
        for other in &NAMES[..number] {
            let other = other.to_lowercase();
            assert!(!other.contains(&lower) && !lower.contains(&other), "{name}, {other}");
        }
    }
    // No name is a word of the stories.
    for setting in Setting::shipped() {
        let words: BTreeSet<String> = setting
            .topics
            .iter()
            .chain(&setting.containers)
            .chain(&setting.rooms)
            .flat_map(|word| word.get_ref().split(' '))
            .map(str::to_lowercase)
            .collect();
        assert!(NAMES.iter().all(|name| !words.contains(&name.to_lowercase())));
    }
}

#[test]
fn good_words_are_read() {
    let setting = Setting::parse(Path::new("my.toml"), GOOD).unwrap();
    assert_eq!(setting.people(), ["Ada", "Bela", "Cleo", "Dario"]);
}

#[test]
fn bad_words_are_refused_with_their_line() {
    for (from, to, expected) in [
        ("\"loft\", ", "\"the loft\", ", "my.toml, line 3: the room `the loft` must be written without an article"),
        ("\"loft\", ", "\"Loft\", ", "line 3: the room `Loft` must be written in small letters"),
        ("biscuit tin", "hat hamper", "line 4: the container `hat hamper` is confused with the container `hamper`"),
        ("biscuit tin", "leather bag", "line 4: the container `leather bag` contains the letters `the`"),
        ("biscuit tin", "no box", "line 4: the container `no box` contains a word that answers are made of"),
        ("biscuit tin", "landing", "line 4: `landing` is both a container and a room"),
        ("\"Bela\"", "\"bela\"", "line 2: the person `bela` must be one word"),
        ("\"Bela\"", "\"Adam\"", "line 2: the person `Adam` is confused with the person `Ada`"),
        ("the parrot", "parrots", "line 5: the topic `parrots` must read well after \"about\""),
        ("what = \"kite\"", "what = \"kit\"", "line 11: unknown word `kit`"),
        ("room = \"loft\"", "room = \"roof\"", "line 12: unknown word `roof`: the rooms of the file are loft, landing"),
        ("rooms =", "romes =", "line 3: unknown field `romes`"),
        ("topics = [\"the parrot\"]", "topics = [", "line"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = refusal(&GOOD.replace(from, to));
        assert!(error.contains(expected), "{to}: {error}");
    }
    let twice = format!("{GOOD}\n[[placements]]\nwhat = \"kite\"\nroom = \"landing\"\n");
    let expected = "my.toml, line 15: contradictory placement: `kite` is in the loft already";
    assert!(refusal(&twice).contains(expected), "{}", refusal(&twice));
}

#[test]
fn impossible_settings_are_refused() {
    let default = StorySettings::default;
    for (settings, expected) in [
        (StorySettings { people: 1..=1, ..default() }, "a question of the second order needs two people, found 1"),
        (StorySettings { people: 1..=3, max_order: 1, ..default() }, "with one person everybody knows everything"),
        (StorySettings { rooms: Some(0), ..default() }, "stories of `relocate` need 1, found 0"),
        (StorySettings { rooms: Some(1), ..default() }, "stories of `relocate+carry` need 2, found 1"),
        (StorySettings { people: 2..=2, ..default() }, "`topic-private` with 3 people or more"),
        (StorySettings { moves: 0..=3, ..default() }, "expected 1 to 6, found 0 to 3"),
        (StorySettings { questions: 7, ..default() }, "expected 1 to 6, found 7"),
        (StorySettings { max_order: 0, ..default() }, "expected 1 to 4, found 0"),
        (StorySettings { families: Vec::new(), ..default() }, "there must be at least one"),
    ] {
        let error = StoryGenerator::new(settings, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn own_words_make_stories_that_begin_with_their_placements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.toml");
    std::fs::write(&path, GOOD).unwrap();
    let families = vec![crate::family::Family::RelocateCarry, crate::family::Family::Relocate];
    let settings = StorySettings { words: Some(path.clone()), families, ..StorySettings::default() };
    let generator = StoryGenerator::new(settings.clone(), 3).unwrap();
    for index in 0..20 {
        let rows = generator.story(index, None).unwrap().rows();
        assert!(rows[0].story_text.starts_with("At the outset, the kite was in the loft."), "{}", rows[0].story_text);
    }
    std::fs::write(&path, GOOD.replace("[\"loft\", \"landing\"]", "[\"loft\"]")).unwrap();
    let error = StoryGenerator::new(settings, 3).unwrap_err().to_string();
    assert!(error.contains("need 2 rooms, found 1"), "{error}");
}
