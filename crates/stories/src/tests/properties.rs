//! Properties over random stories, numbered as in the specification. Every test draws its own seeds; together more than
//! ten thousand stories.

use super::random_stories::{chains_of_three, everybody, play, scope, short_chains};
use crate::action::{Action, Deed, Message};
use crate::entity::{Container, Entity, Object, People, Person, Room, StateKey, Topic};
use crate::log::{Record, fold};
use crate::question::{Answer, Catalogue, Property, questions};
use crate::view::{BoxView, Fact, RoomView, View};
use crate::world::World;
use aloud_tasks::draw::draws;

/// A way to derive a belief from records: the right one, or one with a mistake.
type Tracker<'a> = &'a dyn Fn(&World, &[Record], &[Person]) -> View;

fn right(world: &World, records: &[Record], chain: &[Person]) -> View {
    fold(records, chain, world.scope(), world.homes())
}

fn objects() -> impl Iterator<Item = Object> {
    Object::first(scope().objects)
}

fn topics() -> impl Iterator<Item = Topic> {
    Topic::first(scope().topics)
}

/// The records of the last action.
fn last_records(world: &World) -> impl Iterator<Item = &Record> {
    let last = world.events().len() - 1;
    world.records().iter().filter(move |record| record.action == last)
}

/// Properties 1, 3, 4, 18, 19, 20 and 22: what one action may change. (2 is checked by [`play`].)
#[test]
fn steps_change_only_what_they_may() {
    let chains: Vec<Vec<Person>> = short_chains().into_iter().chain(chains_of_three()).collect();
    for seed in 0..2500 {
        play(seed, seed % 2 == 1, &mut |before, action, after| {
            one_place(after, seed);
            for chain in &chains {
                let (old, new) = (before.view(chain), after.view(chain));
                let is_aware = last_records(after).any(|record| record.aware().contains(chain[0]));
                assert!(is_aware || old == new, "3, seed {seed}: {chain:?} changed by {action:?}");
                assert!(
                    topics().all(|topic| new.knows(topic) || !old.knows(topic)),
                    "20, seed {seed}: {chain:?} forgot"
                );
                if matches!(action.deed, Deed::Enter(..)) {
                    blind(&old, &new, seed);
                }
            }
            match action.deed {
                Deed::Put(actor, object, _) | Deed::Carry(actor, object, _) => actor_truth(after, actor, object, seed),
                Deed::SetState(actor, key, value) => {
                    actor_truth(after, actor, after.scope().states[key.index()].object, seed);
                    assert_eq!(after.view(&[actor]).state(key), Some(value), "4, seed {seed}");
                }
                Deed::Tell(speaker, listener, message) => {
                    assert_eq!(before.truth(), after.truth(), "18, seed {seed}");
                    echo(after, speaker, listener, message, action, seed);
                }
                Deed::Announce(..) => assert_eq!(before.truth(), after.truth(), "18, seed {seed}"),
                Deed::Place(..) | Deed::Enter(..) | Deed::Leave(..) => {}
            }
        });
    }
}

fn one_place(world: &World, seed: u64) {
    for object in objects() {
        if let BoxView::In(container) = world.truth().container(object) {
            let home = world.home(container).map(RoomView::In);
            assert_eq!(Some(world.truth().room(Entity::Object(object))), home, "1, seed {seed}");
        }
    }
}

fn blind(old: &View, new: &View, seed: u64) {
    for object in objects() {
        let is_learned =
            matches!(new.container(object), BoxView::In(_)) && new.container(object) != old.container(object);
        assert!(!is_learned, "22, seed {seed}: a container was seen through");
    }
    let invisible = StateKey::first(3).filter(|key| !scope().states[key.index()].is_visible);
    for key in invisible {
        assert_eq!(old.state(key), new.state(key), "22, seed {seed}");
    }
    assert!(topics().all(|topic| old.knows(topic) == new.knows(topic)), "22, seed {seed}");
}

fn actor_truth(world: &World, actor: Person, object: Object, seed: u64) {
    let (view, thing) = (world.view(&[actor]), Entity::Object(object));
    assert_eq!(view.room(thing), world.truth().room(thing), "4, seed {seed}");
    let last = world.events().last().map(|event| event.action.deed);
    if !matches!(last, Some(Deed::SetState(..))) {
        assert_eq!(view.container(object), world.truth().container(object), "4, seed {seed}");
    }
}

fn echo(world: &World, speaker: Person, listener: Person, message: Message, action: &Action, seed: u64) {
    let again = Action::open(Deed::Tell(speaker, listener, message));
    assert!(world.check(&again).is_err(), "19, seed {seed}");
    let back = Action::open(Deed::Tell(listener, speaker, message));
    assert!(world.check(&back).is_err() || action.distracted.contains(listener), "19, seed {seed}");
}

/// Properties 5, 6, 7, 11, 12, 13, 17 and the second half of 20: what holds of every finished story.
#[test]
fn beliefs_hang_together() {
    for seed in 0..2500 {
        let world = play(seed, seed % 2 == 1, &mut |_, _, _| {});
        for person in everybody() {
            let view = world.view(&[person]);
            let own = Entity::Person(person);
            assert_eq!(view.room(own), world.truth().room(own), "5, seed {seed}");
            for object in objects() {
                last_witness(&world, person, &view, object, seed);
            }
            for topic in topics() {
                let shares = |record: &Record| {
                    record.facts.contains(&Fact::Learn(topic))
                        && record.witnesses.union(record.peekers).contains(person)
                };
                assert!(world.records().iter().any(shares) || !view.knows(topic), "20, seed {seed}");
            }
        }
        for chain in short_chains() {
            let view = world.view(&chain);
            for object in objects() {
                grounded(&world, &chain, &view, object, seed);
            }
            let first = world.view(&chain[..1]);
            assert!(topics().all(|topic| !view.knows(topic) || first.knows(topic)), "11, seed {seed}");
            let doubled: Vec<Person> = chain.iter().flat_map(|person| [*person, *person]).collect();
            assert_eq!(world.view(&doubled), view, "13, seed {seed}");
        }
        for record in world.records() {
            for pair in short_chains().iter().filter(|chain| chain.len() == 2) {
                let both_peek = pair.iter().all(|person| record.peekers.contains(*person));
                assert!(!both_peek || !record.reaches(pair), "17, seed {seed}");
            }
        }
    }
}

fn last_witness(world: &World, person: Person, view: &View, object: Object, seed: u64) {
    let changes = |record: &&Record| record.facts.iter().any(|fact| matches!(fact, Fact::Box(x, _) if *x == object));
    let last = world.records().iter().rev().find(changes);
    let real = world.truth().container(object);
    if last.is_some_and(|record| record.aware().contains(person)) && matches!(real, BoxView::In(_)) {
        assert_eq!(view.container(object), real, "6, seed {seed}");
    }
}

fn grounded(world: &World, chain: &[Person], view: &View, object: Object, seed: u64) {
    let BoxView::In(container) = view.container(object) else { return };
    let was_there = world.containers_of(object).iter().any(|(_, held)| *held == BoxView::In(container));
    assert!(was_there, "7, seed {seed}: {chain:?} believes what never was");
    let (first, thing) = (world.view(&chain[..1]), Entity::Object(object));
    let has_entry = first.container(object) != BoxView::Unset || first.room(thing) != RoomView::Unset;
    assert!(has_entry, "11, seed {seed}");
    if let RoomView::In(room) = view.room(thing) {
        assert_eq!(world.home(container), Some(room), "12, seed {seed}: {chain:?}");
    }
}

/// Properties 8, 9, 10, 23 and 24, which hold where nobody peeks or is distracted.
#[test]
fn open_stories_leave_nobody_wrong_about_what_they_see() {
    for seed in 10_000..12_500 {
        let world = play(seed, false, &mut |_, _, _| {});
        assert_eq!(ghost(&world, &right), None, "9, seed {seed}");
        for person in everybody() {
            let Some(room) = world.room_of(person) else { continue };
            let view = world.view(&[person]);
            for entity in scope().entities().filter(|entity| *entity != Entity::Person(person)) {
                if world.truth().room(entity) == RoomView::In(room) && world.truth().is_visible(entity) {
                    assert_eq!(view.room(entity), RoomView::In(room), "8, seed {seed}: {entity:?}");
                }
            }
            let mut returned = world.clone();
            returned.act(Action::open(Deed::Leave(person, room))).unwrap();
            returned.act(Action::open(Deed::Enter(person, room))).unwrap();
            let after = returned.view(&[person]);
            for object in objects() {
                let thing = Entity::Object(object);
                assert_eq!(after.room(thing), view.room(thing), "23, seed {seed}");
                assert_eq!(after.container(object), view.container(object), "23, seed {seed}");
            }
        }
        for chain in short_chains() {
            if let [a, b] = chain[..] {
                assert_eq!(world.view(&[a, b]), world.view(&[b, a]), "10, seed {seed}");
                assert_eq!(world.view(&[a, b, a]), world.view(&[a, b]), "24, seed {seed}");
            }
        }
    }
}

/// Somebody who believes something to be in the open in their own room that is not there.
fn ghost(world: &World, tracker: Tracker<'_>) -> Option<(Person, Entity)> {
    everybody().find_map(|person| {
        let room = RoomView::In(world.room_of(person)?);
        let view = tracker(world, world.records(), &[person]);
        let is_ghost = |entity: &Entity| {
            let seems_open = match *entity {
                Entity::Person(other) => other != person,
                Entity::Object(object) => view.container(object) == BoxView::Out,
                Entity::Container(_) => false,
            };
            let is_open = world.truth().room(*entity) == room && world.truth().is_visible(*entity);
            seems_open && view.room(*entity) == room && !is_open
        };
        scope().entities().find(is_ghost).map(|entity| (person, entity))
    })
}

/// Properties 14, 15 and 24 (order 3): who is changed by peeking and by distraction.
#[test]
fn peeking_and_distraction_change_only_those_who_peek_or_miss() {
    for seed in 20_000..22_500 {
        let world = play(seed, true, &mut |_, _, _| {});
        assert_eq!(stray_peek(&world, &right), None, "14, seed {seed}");
        assert_eq!(stray_distraction(&world, &right), None, "15, seed {seed}");
    }
}

/// A chain that does not start with a peeker and changes when nobody peeks.
fn stray_peek(world: &World, tracker: Tracker<'_>) -> Option<Vec<Person>> {
    let peekers = world.records().iter().fold(People::NOBODY, |all, record| all.union(record.peekers));
    let without = |record: &Record| Record { peekers: People::NOBODY, ..record.clone() };
    let without: Vec<Record> = world.records().iter().map(without).collect();
    let chains = short_chains().into_iter().chain(chains_of_three());
    let is_stray = |chain: &Vec<Person>| {
        !peekers.contains(chain[0]) && tracker(world, world.records(), chain) != tracker(world, &without, chain)
    };
    chains.into_iter().find(is_stray)
}

/// A chain that does not start with a distracted person and changes when nobody is distracted; or a record that changes
/// the mind of somebody who misses it.
fn stray_distraction(world: &World, tracker: Tracker<'_>) -> Option<Vec<Person>> {
    let distracted = world.records().iter().fold(People::NOBODY, |all, record| all.union(record.distracted));
    let without = |record: &Record| Record { distracted: People::NOBODY, ..record.clone() };
    let without: Vec<Record> = world.records().iter().map(without).collect();
    let is_stray = |chain: &Vec<Person>| {
        let is_changed = tracker(world, world.records(), chain) != tracker(world, &without, chain);
        let missed = |record: &&Record| !record.distracted.contains(chain[0]);
        let noticed: Vec<Record> = world.records().iter().filter(missed).cloned().collect();
        let learns = tracker(world, world.records(), chain) != tracker(world, &noticed, chain);
        (is_changed && !distracted.contains(chain[0])) || learns
    };
    short_chains().into_iter().chain(chains_of_three()).find(is_stray)
}

/// Property 35: each of these mistakes is caught by the property that forbids it.
#[test]
fn mistakes_are_caught() {
    let stories = |is_asymmetric| (0..300).map(move |seed| play(seed, is_asymmetric, &mut |_, _, _| {}));
    let without_absence = |world: &World, records: &[Record], chain: &[Person]| {
        let mut records = records.to_vec();
        for record in &mut records {
            record.facts.retain(|fact| !matches!(fact, Fact::Absent(..)));
        }
        right(world, &records, chain)
    };
    assert!(stories(false).any(|world| ghost(&world, &without_absence).is_some()));
    let nobody_misses = |world: &World, records: &[Record], chain: &[Person]| {
        let attentive = |record: &Record| Record { distracted: People::NOBODY, ..record.clone() };
        right(world, &records.iter().map(attentive).collect::<Vec<_>>(), chain)
    };
    assert!(stories(true).any(|world| stray_distraction(&world, &nobody_misses).is_some()));
    let peekers_are_credited = |world: &World, records: &[Record], chain: &[Person]| {
        let credit = |record: &Record| Record { witnesses: record.witnesses.union(record.peekers), ..record.clone() };
        right(world, &records.iter().map(credit).collect::<Vec<_>>(), chain)
    };
    assert!(stories(true).any(|world| stray_peek(&world, &peekers_are_credited).is_some()));
}

/// Property 21.
#[test]
fn nothing_is_interesting_to_somebody_alone() {
    for seed in 0..300 {
        let mut draw = draws(seed, 7);
        let mut alone = (*scope()).clone();
        alone.people = 1;
        let mut world = World::new(alone.into());
        for _ in 0..300 {
            let action = super::random_stories::any_action(&mut draw, true);
            let result = world.act(action);
            assert!(result.is_err() || !matches!(action.deed, Deed::Announce(..)), "seed {seed}");
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
        Deed::SetState(who, key, value) => Deed::SetState(person(who), key, value),
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
