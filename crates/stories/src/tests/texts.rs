//! Stories as texts, rows and files: nothing is lost in telling, answers are gradable, classes are balanced, files go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use crate::action::{Deed, Message};
use crate::cast::Cast;
use crate::dataset::{StoryFile, StoryFormat};
use crate::entity::{Container, Entity, Object, Person, Room, StateKey, Topic};
use crate::examination::GROUPS;
use crate::generator::{StoryGenerator, StorySettings};
use crate::part::Part;
use crate::question::Time;
use crate::row::StoryRow;
use crate::scoring::{story_answer, story_reward};
use crate::story::Story;
use crate::task::Stories;
use crate::template::{Pattern, TEMPLATES};
use crate::trace::{Role, trace};
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::Split;
use aloud_tasks::prompt_file::PromptFile;
use aloud_tasks::reward::Completion;
use aloud_tasks::task::{Amount, Task as _};

fn stories(n: u64) -> Vec<Story> {
    let generator = StoryGenerator::new(StorySettings::default(), 5).unwrap();
    (0..n).map(|index| generator.story(index, None).unwrap()).collect()
}

/// Names of a slot with their numbers.
fn names(cast: &Cast, slot: &str) -> Vec<(String, u8)> {
    let scope = cast.scope();
    let list = |n: usize, name: &dyn Fn(u8) -> String| (0..n as u8).map(|number| (name(number), number)).collect();
    match slot {
        "actor" | "listener" | "others" => list(scope.people, &|n| cast.person(Person(n)).to_owned()),
        "room" | "origin" | "place" => list(scope.rooms, &|n| cast.room(Room(n)).to_owned()),
        "container" => list(scope.containers, &|n| cast.container(Container(n)).to_owned()),
        "object" | "thing" => list(scope.objects, &|n| cast.object(Object(n)).to_owned()),
        "entity" => list(scope.objects, &|n| format!("the {}", cast.object(Object(n)))),
        "topic" => list(scope.topics, &|n| cast.topic(Topic(n)).to_owned()),
        "does" => list(scope.states.len(), &|n| cast.does(StateKey(n)).to_owned()),
        "was" => vec![("was".to_owned(), 0)],
        other => panic!("unknown slot {other}"),
    }
}

type Slots = BTreeMap<String, u8>;

/// All ways to read a sentence by a template.
fn read(template: &str, sentence: &str, cast: &Cast, slots: &Slots) -> Vec<Slots> {
    let Some((literal, rest)) = template.split_once('{') else {
        return if template == sentence { vec![slots.clone()] } else { Vec::new() };
    };
    let (Some(after), Some((slot, rest))) = (sentence.strip_prefix(literal), rest.split_once('}')) else {
        return Vec::new();
    };
    let mut readings = Vec::new();
    for (name, number) in names(cast, slot) {
        let is_same = slots.get(slot).is_none_or(|known| *known == number);
        if let Some(after) = after.strip_prefix(name.as_str()).filter(|_| is_same) {
            let mut slots = slots.clone();
            slots.insert(slot.to_owned(), number);
            readings.extend(read(rest, after, cast, &slots));
        }
    }
    readings
}

/// What a sentence says, read back by the templates; every reading.
fn deeds(sentence: &str, cast: &Cast) -> BTreeSet<Deed> {
    let mut deeds = BTreeSet::new();
    for (pattern, templates) in &*TEMPLATES {
        for template in templates {
            for slots in read(&template.replace(['[', ']'], ""), sentence, cast, &Slots::new()) {
                deeds.extend(deed(*pattern, &slots));
            }
        }
    }
    deeds
}

fn deed(pattern: Pattern, slots: &Slots) -> Option<Deed> {
    let slot = |name: &str| slots.get(name).copied().unwrap_or(u8::MAX);
    let (actor, listener) = (Person(slot("actor")), Person(slot("listener")));
    let (object, container) = (Object(slot("object")), Container(slot("container")));
    let told_room = || Message::RoomOf(Entity::Object(Object(slot("entity"))), Room(slot("place")));
    Some(match pattern {
        Pattern::PlacePerson => Deed::Place(Entity::Person(actor), Room(slot("room"))),
        Pattern::PlaceThing => Deed::Place(Entity::Object(Object(slot("thing"))), Room(slot("room"))),
        Pattern::Enter | Pattern::EnterFrom => Deed::Enter(actor, Room(slot("room"))),
        Pattern::Leave => Deed::Leave(actor, Room(slot("room"))),
        Pattern::Put => Deed::Put(actor, object, container),
        Pattern::CarryOpen | Pattern::CarryFrom => Deed::Carry(actor, object, Room(slot("room"))),
        Pattern::SetState => Deed::SetState(actor, StateKey(slot("does"))),
        Pattern::TellTopic => Deed::Tell(actor, listener, Message::Topic(Topic(slot("topic")))),
        Pattern::AnnounceTopic => Deed::Announce(actor, Message::Topic(Topic(slot("topic")))),
        Pattern::TellBox => Deed::Tell(actor, listener, Message::BoxOf(object, container)),
        Pattern::AnnounceBox => Deed::Announce(actor, Message::BoxOf(object, container)),
        Pattern::TellRoom => Deed::Tell(actor, listener, told_room()),
        Pattern::AnnounceRoom => Deed::Announce(actor, told_room()),
        Pattern::PeekSight | Pattern::PeekSpeech | Pattern::Distraction => return None,
    })
}

/// Property 34.
#[test]
fn sentences_can_be_read_back() {
    for story in stories(150) {
        for (event, sentences) in story.world.events().iter().zip(&story.telling.sentences) {
            let read_back: Vec<Deed> = deeds(&sentences[0], &story.cast).into_iter().collect();
            assert_eq!(read_back, [event.action.deed], "{}", sentences[0]);
            assert_eq!(sentences.len(), event.action.n_sentences());
            let mut modifiers = sentences[1..].iter();
            let is_speech = event.action.deed.is_speech();
            let peek = if is_speech { Pattern::PeekSpeech } else { Pattern::PeekSight };
            for (pattern, people) in [(peek, event.action.peekers), (Pattern::Distraction, event.action.distracted)] {
                let Some(person) = people.iter().next() else { continue };
                let sentence = modifiers.next().unwrap();
                let mut readings = pattern
                    .templates()
                    .iter()
                    .flat_map(|template| read(template, sentence, &story.cast, &Slots::new()));
                assert_eq!(readings.next().map(|slots| slots["others"]), Some(person.0), "{sentence}");
            }
        }
    }
}

/// Properties 27, 28 and the mix of the questions.
#[test]
fn questions_are_distinct_answerable_and_balanced() {
    let mut counts: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    let (mut n_orders, mut n_interesting, mut n_beliefs) = ([0_u32; 3], 0, 0);
    let (mut n_places, mut n_unknown) = (0, 0);
    let mut ids = BTreeSet::new();
    for story in stories(900) {
        let rows = story.rows();
        assert!(!rows.is_empty() && rows.len() <= 6);
        let texts: BTreeSet<(i8, &str)> = rows.iter().map(|row| (row.order, row.question.as_str())).collect();
        assert_eq!(texts.len(), rows.len(), "{rows:#?}");
        for row in &rows {
            assert!(ids.insert(row.id.clone()));
            assert!(row.answer_space.contains(&row.answer), "{row:?}");
            assert!(row.question.ends_with(['?', ')', '.']) && row.story_text.ends_with('.'));
            assert!(!row.story_text.contains("  ") && !row.story_text.contains(['{', '[']), "{}", row.story_text);
            n_orders[usize::try_from(row.order.max(0)).unwrap()] += 1;
            if row.order > 0 {
                n_beliefs += 1;
                n_interesting += u32::from(row.interesting);
            }
            if row.kind.is_binary() {
                *counts.entry(row.kind.to_string()).or_default().entry(row.answer.clone()).or_default() += 1;
            } else {
                n_places += 1;
                n_unknown += u32::from(row.answer == "unknown");
            }
        }
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    for (kind, answers) in &counts {
        let (n, most) = (answers.values().sum::<u32>(), answers.values().max().unwrap());
        assert!(f64::from(*most) <= 0.55 * f64::from(n), "{kind}: {answers:?}");
    }
    assert!(f64::from(n_unknown) <= 0.12 * f64::from(n_places), "{n_unknown} of {n_places}");
    assert!(f64::from(n_interesting) >= 0.6 * f64::from(n_beliefs), "{n_interesting} of {n_beliefs}");
    let n: u32 = n_orders.iter().sum();
    for (count, low, high) in [(n_orders[0], 0.15, 0.25), (n_orders[1], 0.35, 0.45), (n_orders[2], 0.35, 0.45)] {
        let share = f64::from(count) / f64::from(n);
        assert!((low..=high).contains(&share), "{n_orders:?}");
    }
}

/// Property 29.
#[test]
fn traces_end_at_the_answer() {
    for story in stories(150) {
        for question in &story.questions {
            let steps = trace(&story.world, question);
            let at_asked_time = match question.time {
                Time::End => steps.last(),
                Time::Before(event) => steps.get(event - 1),
                Time::Beginning => steps.iter().find(|step| step.is_changed),
            };
            assert_eq!(at_asked_time.and_then(|step| step.answer), Some(question.answer), "{question:?}");
            for step in &steps {
                if let [(_, role)] = step.roles[..] {
                    let is_unnoticed = matches!(role, Role::DidNotWitness | Role::Distracted);
                    assert!(!(is_unnoticed && step.is_changed), "{}", story.explained());
                }
            }
        }
    }
}

/// Property 33, and the parts of the data.
#[test]
fn stories_are_repeatable_and_parts_share_nothing() {
    let generator = || StoryGenerator::new(StorySettings::default(), 9).unwrap();
    let (first, again) = (generator(), generator());
    let mut structures: BTreeMap<u64, Part> = BTreeMap::new();
    let mut settings: BTreeMap<String, Part> = BTreeMap::new();
    for part in Part::ALL {
        for index in (0..60).rev() {
            let story = first.story(index, Some(part)).unwrap();
            assert_eq!(story.rows(), again.story(index, Some(part)).unwrap().rows());
            assert_eq!(*structures.entry(story.structure).or_insert(part), part);
            assert_eq!(*settings.entry(story.cast.setting.clone()).or_insert(part), part);
        }
    }
    let mixed: BTreeSet<Part> = (0..360).map(|index| first.story(index, None).unwrap().part).collect();
    assert_eq!(mixed.len(), 3);
}

#[test]
fn the_stories_of_a_seed_stay_what_they_are() {
    // Recorded from this program: files named by a seed must not change silently. If it changes, so must the version.
    let rows: Vec<StoryRow> = stories(200).iter().flat_map(Story::rows).collect();
    let digest = aloud_tasks::hash::hash(0, &serde_json::to_string(&rows).unwrap());
    assert_eq!((rows[0].version, digest), (2, 0x2640_607a_d2c6_a811), "{digest:#x}");
}

#[test]
fn unknown_is_not_asked_for_if_it_is_not_wanted() {
    let settings = StorySettings { asks_unknown: false, max_order: 3, questions: 2, ..StorySettings::default() };
    let generator = StoryGenerator::new(settings, 1).unwrap();
    let rows: Vec<StoryRow> = (0..100).flat_map(|index| generator.story(index, None).unwrap().rows()).collect();
    assert!(rows.len() <= 200 && rows.iter().all(|row| row.answer != "unknown"));
    let third: Vec<&StoryRow> = rows.iter().filter(|row| row.order == 3).collect();
    assert!(!third.is_empty());
    assert!(third.iter().all(|row| row.question.contains(" thinks that ") && row.chain.len() == 3));
}

#[test]
fn items_explain_their_answers() {
    let items = Stories.load(Some(40), 2, Split::Train).unwrap();
    assert_eq!(Stories.load(Some(10), 2, Split::Train).unwrap(), items[..10]);
    for item in &items {
        let (solution, answer) = (item.solution.as_deref().unwrap(), item.answer.as_deref());
        let completion = Completion { id: &item.id, prompt: "", response: solution, answer, truncated: false };
        for scoring in [Scoring::Strict, Scoring::Flexible] {
            assert_eq!(story_reward(&completion, scoring).unwrap(), 1.0, "{solution}");
        }
        assert!(item.question.contains("\n\nStory: ") && item.question.contains("\n\nQuestion: "));
        let cut = Completion { truncated: true, ..completion };
        assert_eq!(story_reward(&cut, Scoring::Flexible).unwrap(), 0.0);
    }
}

/// (gold, response, strict, lenient)
const SCORED: &[(&str, &str, f64, f64)] = &[
    ("tin trunk", "<think>ANSWER: box</think>\nANSWER: tin trunk", 1.0, 1.0),
    ("tin trunk", "answer:  Tin   Trunk.", 1.0, 1.0),
    ("tin trunk", "ANSWER: the tin trunk", 0.0, 1.0),
    ("tin trunk", "ANSWER: in the tin trunk!", 0.0, 1.0),
    ("tin trunk", "ANSWER: \"tin trunk\"", 0.0, 1.0),
    ("tin trunk", "ANSWER: tin trunk or box", 0.0, 0.0),
    ("tin trunk", "tin trunk", 0.0, 0.0),
    ("tin trunk", "ANSWER: box\nANSWER: tin trunk\nDone.", 1.0, 1.0),
    ("tin trunk", "ANSWER:\ntin trunk", 0.0, 0.0),
    ("yes", "ANSWER: Yes", 1.0, 1.0),
    ("yes", "ANSWER: yes, she does", 0.0, 1.0),
    ("no", "ANSWER: knows", 0.0, 0.0),
    ("no", "ANSWER: nobody", 0.0, 0.0),
    ("knows about it", "ANSWER: does not know about it", 0.0, 0.0),
    ("does not know about it", "ANSWER: doesn\u{2019}t know", 0.0, 1.0),
    ("does not know about it", "ANSWER: does not know about it.", 1.0, 1.0),
    ("knows about it", "ANSWER: knows", 0.0, 1.0),
    ("unknown", "ANSWER: Unknown", 1.0, 1.0),
];

#[test]
fn scored_table() {
    for &(gold, response, strict, lenient) in SCORED {
        let completion = Completion { id: "a", prompt: "", response, answer: Some(gold), truncated: false };
        assert_eq!(story_reward(&completion, Scoring::Strict).unwrap(), strict, "strict: {gold}: {response}");
        assert_eq!(story_reward(&completion, Scoring::Flexible).unwrap(), lenient, "lenient: {gold}: {response}");
    }
    let completion = Completion { id: "a7", prompt: "", response: "", answer: None, truncated: true };
    let error = story_reward(&completion, Scoring::Strict).unwrap_err().to_string();
    assert!(error.contains("item `a7` has no gold answer"), "{error}");
}

proptest! {
    #[test]
    fn any_response_can_be_scored(response in "(answer:|ANSWER: |the |yes|no|\\PC|\n|</think>){0,20}", gold in "yes|tin|knows about it") {
        let answer = Some(gold.as_str());
        let completion = Completion { id: "a", prompt: "", response: &response, answer, truncated: false };
        let strict = story_reward(&completion, Scoring::Strict).unwrap();
        let lenient = story_reward(&completion, Scoring::Flexible).unwrap();
        prop_assert!(lenient >= strict);
        prop_assert!(strict == 0.0 || story_answer(&response).is_some());
    }
}

fn write_stories(path: &Path, n: u64) -> StoryFile {
    let generator = StoryGenerator::new(StorySettings::default(), 4).unwrap();
    let mut file = StoryFile::open(path, "settings").unwrap();
    while file.n_stories() < n {
        file.write(&generator.story(file.next_index(), None).unwrap()).unwrap();
    }
    file
}

#[test]
fn an_interrupted_file_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["jsonl", "csv"] {
        let whole = folder.path().join(format!("whole.{ending}"));
        let card = write_stories(&whole, 40).finish().unwrap();
        // A file of stories is a prompt file: each question comes with its story.
        let items = PromptFile::at(&whole).unwrap().load(None, 0, Split::Train).unwrap();
        assert_eq!(items.len() as u64, card.n_questions());
        assert!(items.iter().all(|item| item.question.contains("\n\nStory: ") && item.answer.is_some()));
        let bytes = std::fs::read(&whole).unwrap();
        assert_eq!(StoryFormat::of(&whole).unwrap() == StoryFormat::Csv, ending == "csv");
        for cut in [0, 1, 100, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let path = folder.path().join(format!("cut-{cut}.{ending}"));
            let name = |more: &str| folder.path().join(format!("cut-{cut}.{ending}{more}"));
            std::fs::write(name(".partial.settings"), "settings").unwrap();
            std::fs::write(name(".partial"), &bytes[..cut]).unwrap();
            let resumed = write_stories(&path, 40).finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{ending}, cut at {cut}");
            assert_eq!(resumed.to_string(), card.to_string());
            assert!(!name(".partial").exists() && !name(".partial.settings").exists());
        }
    }
    let other = folder.path().join("other.jsonl");
    drop(write_stories(&other, 3));
    let error = StoryFile::open(&other, "others").err().unwrap().to_string();
    assert!(error.contains("other.jsonl.partial: an unfinished file of other settings"), "{error}");
    assert!(StoryFormat::of(Path::new("stories.txt")).unwrap_err().to_string().contains("`.jsonl` or `.csv`"));
}

#[test]
fn structures_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stories.jsonl");
    let generator = StoryGenerator::new(StorySettings::default(), 4).unwrap();
    let mut file = StoryFile::open(&path, "").unwrap();
    let story = generator.story(0, None).unwrap();
    assert!(file.write(&story).unwrap());
    assert!(!file.write(&story).unwrap());
    assert_eq!(file.n_stories(), 1);
}

#[test]
fn an_examination_is_balanced_and_grows_at_its_end() {
    let items = Stories.examination(Amount::InAll(48), 5, Split::Test).unwrap();
    assert_eq!(items.len(), 48);
    assert_eq!(items[..20], Stories.examination(Amount::InAll(20), 5, Split::Test).unwrap());
    for (kind, _) in GROUPS {
        let answers: Vec<&str> = items
            .iter()
            .filter(|item| item.kind == Some(kind))
            .filter_map(|item| item.item.answer.as_deref())
            .collect();
        assert_eq!(answers.len(), 12, "{kind:?}");
        let positive = answers.iter().filter(|answer| matches!(**answer, "yes" | "knows about it")).count();
        let negative = answers.iter().filter(|answer| matches!(**answer, "no" | "does not know about it")).count();
        assert_eq!([positive, negative], if kind.is_binary { [6, 6] } else { [0, 0] }, "{kind:?}");
    }
    for item in &items {
        let is_second = item.kind.unwrap().name == "second-order-place";
        assert_eq!(item.item.question.contains(" think that "), is_second, "{item:?}");
    }
    let ids: BTreeSet<&str> = items.iter().map(|item| item.item.id.as_str()).collect();
    assert_eq!(ids.len(), 48);
    assert!(ids.iter().all(|id| id.starts_with("tom-test-5-")));
}

#[test]
fn what_happened_before_is_not_given_away() {
    let generator = StoryGenerator::new(StorySettings::default(), 7).unwrap();
    let mut n_asked = 0;
    for index in 0..400 {
        for row in generator.story(index, None).unwrap().rows() {
            if let Some(question) = row.question.strip_prefix("Right before ") {
                n_asked += 1;
                let clause = question.split(", in which ").next().unwrap();
                assert!(!clause.contains(&row.answer), "{} {}", row.question, row.answer);
            }
        }
    }
    assert!(n_asked > 50, "{n_asked}");
}

#[test]
fn one_who_saw_another_go_with_a_thing_does_not_take_the_other_for_ignorant() {
    let generator = StoryGenerator::new(StorySettings::default(), 7).unwrap();
    let rows = (0..400).flat_map(|index| generator.story(index, None).unwrap().rows());
    let unknown: Vec<StoryRow> = rows.filter(|row| row.answer == "unknown").collect();
    assert!(unknown.iter().any(|row| row.order == 2) && unknown.iter().any(|row| row.order == 1));
    for row in unknown {
        let end = row.trace.last().unwrap();
        let expected = if row.order == 2 { " cannot tell in which " } else { " does not know in which " };
        assert!(end.contains(expected), "{end}");
    }
}
