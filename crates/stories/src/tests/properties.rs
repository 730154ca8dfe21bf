//! Properties over random stories, numbered as in the specification: those that [`super::oracle`], which compares all beliefs of
//! the first and second order, does not see. Every test draws its own seeds.

use super::random_stories::{chains_of_three, play, scope, short_chains};
use crate::action::{Action, Deed, Message};
use crate::entity::{Container, Entity, Object, People, Person, Room, StateKey, Topic};
use crate::log::{Record, fold};
use crate::question::{Answer, Catalogue, Property, questions};
use crate::view::View;
use crate::world::World;
use aloud_tasks::draw::draws;

fn topics() -> impl Iterator<Item = Topic> {
    Topic::first(scope().topics)
}

fn chains() -> impl Iterator<Item = Vec<Person>> {
    short_chains().into_iter().chain(chains_of_three())
}

/// Properties 3, 18, 19, 20 and 22: what one action may change. (2 is checked by [`play`].)
#[test]
fn steps_change_only_what_they_may() {
    for seed in 0..2500 {
        play(seed, seed % 2 == 1, &mut |before, action, after| {
            let last = after.events().len() - 1;
            for chain in chains() {
                let (old, new) = (before.view(&chain), after.view(&chain));
                let mut records = after.records().iter().filter(|record| record.action == last);
                let is_aware = records.any(|record| record.aware().contains(chain[0]));
                assert!(is_aware || old == new, "3, seed {seed}: {chain:?} changed by {action:?}");
                let forgets = |topic| old.knows(topic) && !new.knows(topic);
                assert!(!topics().any(forgets), "20, seed {seed}: {chain:?} forgot");
                if matches!(action.deed, Deed::Enter(..)) {
                    blind(&old, &new, seed);
                }
            }
            if action.deed.is_speech() {
                assert_eq!(before.truth(), after.truth(), "18, seed {seed}");
            }
            if let Deed::Tell(speaker, listener, message) = action.deed {
                let tells = |from, to| after.check(&Action::open(Deed::Tell(from, to, message))).is_ok();
                assert!(!tells(speaker, listener), "19, seed {seed}");
                assert!(!tells(listener, speaker) || action.distracted.contains(listener), "19, seed {seed}");
            }
        });
    }
}

fn blind(old: &View, new: &View, seed: u64) {
    for object in Object::first(scope().objects) {
        let is_learned = new.container(object).known().is_some() && new.container(object) != old.container(object);
        assert!(!is_learned, "22, seed {seed}: a container was seen through");
    }
    for key in StateKey::first(3).filter(|key| !scope().states[key.index()].is_visible) {
        assert_eq!(old.state(key), new.state(key), "22, seed {seed}");
    }
    assert!(topics().all(|topic| old.knows(topic) == new.knows(topic)), "22, seed {seed}");
}

/// Properties 10 and 24.
#[test]
fn in_open_stories_two_think_the_same_of_each_other() {
    for seed in 10_000..12_500 {
        let world = play(seed, false, &mut |_, _, _| {});
        for chain in short_chains() {
            if let [a, b] = chain[..] {
                assert_eq!(world.view(&[a, b]), world.view(&[b, a]), "10, seed {seed}");
                assert_eq!(world.view(&[a, b, a]), world.view(&[a, b]), "24, seed {seed}");
            }
        }
    }
}

/// Properties 13, 14 and 15: who is changed by peeking and by distraction.
#[test]
fn peeking_and_distraction_change_only_those_who_peek_or_miss() {
    for seed in 20_000..22_500 {
        let world = play(seed, true, &mut |_, _, _| {});
        let peekers = world.records().iter().fold(People::NOBODY, |all, record| all.union(record.peekers));
        let distracted = world.records().iter().fold(People::NOBODY, |all, record| all.union(record.distracted));
        let unseen = |record: &Record| Record { peekers: People::NOBODY, ..record.clone() };
        let attentive = |record: &Record| Record { distracted: People::NOBODY, ..record.clone() };
        let without_peeking: Vec<Record> = world.records().iter().map(unseen).collect();
        let without_distraction: Vec<Record> = world.records().iter().map(attentive).collect();
        for chain in chains() {
            let view = |records: &[Record]| fold(records, &chain, world.scope(), world.homes());
            let believed = world.view(&chain);
            let doubled: Vec<Person> = chain.iter().flat_map(|person| [*person, *person]).collect();
            assert_eq!(world.view(&doubled), believed, "13, seed {seed}: {chain:?}");
            assert!(peekers.contains(chain[0]) || view(&without_peeking) == believed, "14, seed {seed}: {chain:?}");
            let is_distracted = distracted.contains(chain[0]);
            assert!(is_distracted || view(&without_distraction) == believed, "15, seed {seed}: {chain:?}");
            let missed = |record: &&Record| record.distracted.contains(chain[0]);
            let noticed: Vec<Record> = world.records().iter().filter(|record| !missed(record)).cloned().collect();
            assert_eq!(view(&noticed), believed, "15, seed {seed}: {chain:?} learns what it misses");
        }
    }
}

/// Property 21: one who acts alone, and never hears of the others.
#[test]
fn nothing_is_interesting_to_somebody_alone() {
    for seed in 0..300 {
        let mut draw = draws(seed, 7);
        let mut world = World::new(scope());
        for _ in 0..1200 {
            let action = super::random_stories::any_action(&mut draw, false);
            if action.deed.actor() == Some(Person(0)) && !matches!(action.deed, Deed::Tell(..)) {
                let result = world.act(action);
                assert!(result.is_err() || !matches!(action.deed, Deed::Announce(..)), "seed {seed}");
            }
        }
        for question in questions(&world, Catalogue::default()) {
            assert!(question.chain.len() <= 1, "seed {seed}");
            assert!(question.chain.is_empty() || !question.is_interesting, "seed {seed}");
        }
    }
}

/// Property 26: names do not matter.
#[test]
fn renaming_commutes_with_all_answers() {
    // Object 0 and 1 have different properties, so they stay.
    let person = |person: Person| Person(3 - person.0);
    let room = |room: Room| Room(1 - room.0);
    let container = |container: Container| Container((container.0 + 1) % 4);
    let topic = |topic: Topic| Topic(1 - topic.0);
    let entity = |entity: Entity| match entity {
        Entity::Person(who) => Entity::Person(person(who)),
        Entity::Container(which) => Entity::Container(container(which)),
        Entity::Object(which) => Entity::Object(which),
    };
    let message = |message: Message| match message {
        Message::Topic(what) => Message::Topic(topic(what)),
        Message::BoxOf(object, holder) => Message::BoxOf(object, container(holder)),
        Message::RoomOf(what, place) => Message::RoomOf(entity(what), room(place)),
    };
    let deed = |deed: Deed| match deed {
        Deed::Place(what, place) => Deed::Place(entity(what), room(place)),
        Deed::Enter(who, place) => Deed::Enter(person(who), room(place)),
        Deed::Leave(who, place) => Deed::Leave(person(who), room(place)),
        Deed::Put(who, object, holder) => Deed::Put(person(who), object, container(holder)),
        Deed::Carry(who, object, place) => Deed::Carry(person(who), object, room(place)),
        Deed::SetState(who, key) => Deed::SetState(person(who), key),
        Deed::Tell(who, to, what) => Deed::Tell(person(who), person(to), message(what)),
        Deed::Announce(who, what) => Deed::Announce(person(who), message(what)),
    };
    for seed in 30_000..30_500 {
        let world = play(seed, true, &mut |_, _, _| {});
        let rename = |action: Action| Action {
            deed: deed(action.deed),
            peekers: action.peekers.iter().map(person).collect(),
            distracted: action.distracted.iter().map(person).collect(),
        };
        let actions: Vec<Action> = world.events().iter().map(|event| rename(event.action)).collect();
        let renamed = World::replay(scope(), &actions).unwrap();
        let mut expected: Vec<_> = questions(&world, Catalogue::default())
            .into_iter()
            .map(|question| {
                let answer = match question.answer {
                    Answer::Container(holder) => Answer::Container(container(holder)),
                    Answer::Room(place) => Answer::Room(room(place)),
                    other => other,
                };
                let property = match question.property {
                    Property::Knowledge(what) => Property::Knowledge(topic(what)),
                    other => other,
                };
                let chain: Vec<Person> = question.chain.iter().copied().map(person).collect();
                (chain, property, question.time, answer, question.is_interesting)
            })
            .collect();
        let mut found: Vec<_> = questions(&renamed, Catalogue::default())
            .into_iter()
            .map(|q| (q.chain, q.property, q.time, q.answer, q.is_interesting))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "seed {seed}");
    }
}
