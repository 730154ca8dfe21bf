//! Random worlds for the property tests: four people, two rooms, two objects, four containers, visible and invisible
//! properties, news; openly, or with peekers and distracted people.

use std::sync::Arc;

use crate::action::{Action, Deed, Message};
use crate::entity::{Container, Entity, Object, Person, Room, Scope, StateKey, StateScope, Topic};
use crate::view::BoxView;
use crate::world::World;
use aloud_base::random::KeyedRandom;
use aloud_tasks::draw::draws;

/// Actions of a story.
const N_ACTIONS: usize = 14;

pub(super) fn scope() -> Arc<Scope> {
    let state = |object, is_visible| StateScope { object: Object(object), is_visible };
    let states = vec![state(0, true), state(0, false), state(1, true)];
    Arc::new(Scope { people: 4, rooms: 2, containers: 4, objects: 2, topics: 2, states })
}

/// An action of any kind, allowed or not.
pub(super) fn any_action(draw: &mut KeyedRandom, is_asymmetric: bool) -> Action {
    let mut number = |n: i64| draw.between(0, n - 1) as u8;
    let person = Person(number(4));
    let message = match number(4) {
        0 | 1 => Message::Topic(Topic(number(2))),
        2 => Message::BoxOf(Object(number(2)), Container(number(4))),
        _ => match number(3) {
            0 => Message::RoomOf(Entity::Person(Person(number(4))), Room(number(2))),
            1 => Message::RoomOf(Entity::Container(Container(number(4))), Room(number(2))),
            _ => Message::RoomOf(Entity::Object(Object(number(2))), Room(number(2))),
        },
    };
    let deed = match number(9) {
        0 | 1 => Deed::Enter(person, Room(number(2))),
        2 => Deed::Leave(person, Room(number(2))),
        3 | 4 => Deed::Put(person, Object(number(2)), Container(number(4))),
        5 => Deed::Carry(person, Object(number(2)), Room(number(2))),
        6 => Deed::SetState(person, StateKey(number(3))),
        7 => Deed::Tell(person, Person(number(4)), message),
        _ => Deed::Announce(person, message),
    };
    let mut action = Action::open(deed);
    if is_asymmetric {
        for _ in 0..number(3) {
            action.peekers.insert(Person(number(4)));
        }
        for _ in 0..number(2) {
            action.distracted.insert(Person(number(4)));
        }
    }
    action
}

/// The deed; where news is told, what is told is where the object really is, if it is in a container. Left to chance, such
/// news is almost always false, and refused.
fn told_truly(world: &World, deed: Deed) -> Deed {
    let object = Object((world.events().len() % 2) as u8);
    let BoxView::In(container) = world.truth().container(object) else { return deed };
    match deed {
        Deed::Tell(speaker, listener, Message::Topic(_)) => {
            Deed::Tell(speaker, listener, Message::BoxOf(object, container))
        }
        Deed::Announce(speaker, Message::Topic(_)) => Deed::Announce(speaker, Message::BoxOf(object, container)),
        other => other,
    }
}

/// Plays a random story; `observe` sees the world before and after each accepted action.
pub(super) fn play(seed: u64, is_asymmetric: bool, observe: &mut dyn FnMut(&World, &Action, &World)) -> World {
    let mut draw = draws(seed, u64::from(is_asymmetric));
    let mut world = World::new(scope());
    for person in 0..draw.between(2, 4) {
        world.act(Action::open(Deed::Enter(Person(person as u8), Room(draw.between(0, 1) as u8)))).unwrap();
    }
    let mut n_tries = 0;
    while world.events().len() < N_ACTIONS && n_tries < 2000 {
        n_tries += 1;
        // Entries and departures have no peekers: what is tested of moving holds for those who look around.
        let mut action = any_action(&mut draw, is_asymmetric);
        if matches!(action.deed, Deed::Enter(..) | Deed::Leave(..)) {
            action = Action::open(action.deed);
        }
        if draw.between(0, 1) == 1 {
            action.deed = told_truly(&world, action.deed);
        }
        let before = world.clone();
        match world.act(action) {
            Ok(()) => observe(&before, &action, &world),
            // Atomicity.
            Err(_) => assert_eq!(world, before, "seed {seed}: a refused {action:?} changed something"),
        }
    }
    world
}

/// Everybody of the scope, registered or not.
pub(super) fn everybody() -> impl Iterator<Item = Person> {
    Person::first(4)
}

/// All chains of one and two people.
pub(super) fn short_chains() -> Vec<Vec<Person>> {
    let pairs = everybody().flat_map(|a| everybody().filter(move |b| *b != a).map(move |b| vec![a, b]));
    everybody().map(|person| vec![person]).chain(pairs).collect()
}

/// All chains of three people without neighbours that are equal.
pub(super) fn chains_of_three() -> Vec<Vec<Person>> {
    let mut chains = Vec::new();
    for pair in short_chains().iter().filter(|chain| chain.len() == 2) {
        chains.extend(everybody().filter(|next| pair[1] != *next).map(|next| vec![pair[0], pair[1], next]));
    }
    chains
}
