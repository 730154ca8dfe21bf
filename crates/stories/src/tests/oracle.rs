//! A second tracker that shares nothing with the first but the types of actions: it stores every view of the first and
//! second order and updates them at once, loop by loop.

use std::collections::{BTreeMap, BTreeSet};

use super::random_stories::{everybody, play, scope, short_chains};
use crate::action::{Action, Deed, Message};
use crate::entity::{Container, Entity, Object, Person, Room, StateKey, Topic};
use crate::view::{BoxView, RoomView};
use crate::world::World;

#[derive(Clone, Default)]
struct Mind {
    room: BTreeMap<Entity, RoomView>,
    boxed: BTreeMap<Object, BoxView>,
    state: BTreeSet<StateKey>,
    known: BTreeSet<Topic>,
}

impl Mind {
    fn room_of(&self, entity: Entity) -> RoomView {
        self.room.get(&entity).copied().unwrap_or_default()
    }

    fn box_of(&self, object: Object) -> BoxView {
        self.boxed.get(&object).copied().unwrap_or_default()
    }
}

#[derive(Default)]
struct Oracle {
    truth: Mind,
    first: BTreeMap<Person, Mind>,
    second: BTreeMap<(Person, Person), Mind>,
    home: BTreeMap<Container, Room>,
    met: BTreeSet<Person>,
}

impl Oracle {
    fn people_in(&self, room: Room) -> Vec<Person> {
        everybody().filter(|person| self.truth.room_of(Entity::Person(*person)) == RoomView::In(room)).collect()
    }

    fn room_of(&self, person: Person) -> Room {
        match self.truth.room_of(Entity::Person(person)) {
            RoomView::In(room) => room,
            other => panic!("{person:?} acts in {other:?}"),
        }
    }

    /// Changes the minds of those who notice, and their pictures of the minds of those who seem to notice.
    fn notice(
        &mut self,
        witnesses: &[Person],
        action: &Action,
        change: impl Fn(&mut Mind, &BTreeMap<Container, Room>),
    ) {
        self.notice_of(None, witnesses, action, change);
    }

    /// The same; if somebody is named, only that one's mind changes, and the pictures that it has and that others have of it.
    fn notice_of(
        &mut self,
        only: Option<Person>,
        witnesses: &[Person],
        action: &Action,
        change: impl Fn(&mut Mind, &BTreeMap<Container, Room>),
    ) {
        let changes = |who: Person| only.is_none_or(|only| only == who);
        for who in everybody() {
            let is_there = witnesses.contains(&who) && !action.distracted.contains(who);
            if !is_there && !action.peekers.contains(who) {
                continue;
            }
            if changes(who) {
                change(self.first.entry(who).or_default(), &self.home);
            }
            for other in witnesses.iter().filter(|other| **other != who && (changes(who) || changes(**other))) {
                change(self.second.entry((who, *other)).or_default(), &self.home);
            }
        }
    }

    fn look_around(&mut self, person: Person, room: Room, action: &Action) {
        let present = self.people_in(room);
        self.notice(&present, action, |mind, _| {
            mind.room.insert(Entity::Person(person), RoomView::In(room));
        });
        let mut others: Vec<Entity> = Vec::new();
        others.extend(self.met.iter().filter(|other| **other != person).map(|other| Entity::Person(*other)));
        others.extend(self.home.keys().map(|container| Entity::Container(*container)));
        others.extend(self.truth.boxed.keys().map(|object| Entity::Object(*object)));
        let truth = self.truth.clone();
        let look = |mind: &mut Mind| {
            for entity in &others {
                let hidden = matches!(entity, Entity::Object(x) if matches!(truth.box_of(*x), BoxView::In(_)));
                if truth.room_of(*entity) == RoomView::In(room) && !hidden {
                    mind.room.insert(*entity, RoomView::In(room));
                    if let Entity::Object(object) = entity {
                        mind.boxed.insert(*object, BoxView::Out);
                        see_states(mind, &truth, *object);
                    }
                } else if mind.room_of(*entity) == RoomView::In(room) {
                    let was_open = match entity {
                        Entity::Person(_) => true,
                        Entity::Container(_) => false,
                        Entity::Object(object) => mind.box_of(*object) == BoxView::Out,
                    };
                    if was_open {
                        mind.room.insert(*entity, RoomView::Unknown);
                    }
                }
            }
        };
        // Only the one who came in looks around; of the others' minds, what they think of that one changes.
        self.notice_of(Some(person), &present, action, |mind, _| look(mind));
    }

    fn go(&mut self, person: Person, room: Room, action: &Action) {
        if let RoomView::In(from) = self.truth.room_of(Entity::Person(person)) {
            self.go_out(person, from, action);
        }
        self.truth.room.insert(Entity::Person(person), RoomView::In(room));
        self.met.insert(person);
        self.look_around(person, room, action);
    }

    fn go_out(&mut self, person: Person, from: Room, action: &Action) {
        let present = self.people_in(from);
        self.truth.room.insert(Entity::Person(person), RoomView::NotIn(from));
        self.notice(&present, action, |mind, _| {
            mind.room.insert(Entity::Person(person), RoomView::NotIn(from));
        });
    }

    fn say(&mut self, listeners: &[Person], message: Message, action: &Action) {
        self.notice(listeners, action, |mind, home| match message {
            Message::Topic(topic) => {
                mind.known.insert(topic);
            }
            Message::BoxOf(object, container) => {
                mind.boxed.insert(object, BoxView::In(container));
                let thing = Entity::Object(object);
                let place = RoomView::In(home[&container]);
                if mind.room_of(thing) != place {
                    if mind.room_of(Entity::Container(container)) == place {
                        mind.room.insert(thing, place);
                    } else if mind.room_of(thing) != RoomView::Unset {
                        mind.room.insert(thing, RoomView::Unknown);
                    }
                }
            }
            Message::RoomOf(entity, room) => {
                if mind.room_of(entity) == RoomView::In(room) {
                    return;
                }
                mind.room.insert(entity, RoomView::In(room));
                if let Entity::Object(object) = entity {
                    let is_there = matches!(mind.box_of(object), BoxView::In(holder) if home[&holder] == room);
                    if !is_there {
                        mind.boxed.remove(&object);
                    }
                }
            }
        });
    }

    fn act(&mut self, action: &Action) {
        self.met.extend(action.peekers.iter());
        match action.deed {
            Deed::Place(..) => {}
            Deed::Enter(person, room) => self.go(person, room, action),
            Deed::Leave(person, room) => self.go_out(person, room, action),
            Deed::Put(person, object, container) => {
                let room = self.room_of(person);
                self.home.insert(container, room);
                let change = move |mind: &mut Mind| {
                    mind.room.insert(Entity::Object(object), RoomView::In(room));
                    mind.room.insert(Entity::Container(container), RoomView::In(room));
                    mind.boxed.insert(object, BoxView::In(container));
                };
                change(&mut self.truth);
                let present = self.people_in(room);
                self.notice(&present, action, |mind, _| change(mind));
            }
            Deed::Carry(person, object, room) => {
                let from = self.room_of(person);
                let left_behind = self.people_in(from);
                let gone = move |mind: &mut Mind| {
                    mind.boxed.insert(object, BoxView::Out);
                    mind.room.insert(Entity::Object(object), RoomView::NotIn(from));
                    mind.room.insert(Entity::Person(person), RoomView::NotIn(from));
                };
                gone(&mut self.truth);
                self.notice(&left_behind, action, |mind, _| gone(mind));
                self.truth.room.insert(Entity::Object(object), RoomView::In(room));
                self.go(person, room, action);
                let (present, truth) = (self.people_in(room), self.truth.clone());
                self.notice(&present, action, |mind, _| {
                    mind.room.insert(Entity::Object(object), RoomView::In(room));
                    mind.boxed.insert(object, BoxView::Out);
                    see_states(mind, &truth, object);
                });
            }
            Deed::SetState(person, key) => {
                let (room, object) = (self.room_of(person), scope().states[key.index()].object);
                let is_held = matches!(self.truth.box_of(object), BoxView::In(_));
                let home = self.home.clone();
                let change = move |mind: &mut Mind| {
                    mind.state.insert(key);
                    let was_here = mind.room_of(Entity::Object(object)) == RoomView::In(room);
                    mind.room.insert(Entity::Object(object), RoomView::In(room));
                    if !is_held {
                        mind.boxed.insert(object, BoxView::Out);
                    } else if !was_here {
                        let fits = matches!(mind.box_of(object), BoxView::In(holder) if home[&holder] == room);
                        if !fits {
                            mind.boxed.remove(&object);
                        }
                    }
                };
                change(&mut self.truth);
                let present = self.people_in(room);
                self.notice(&present, action, |mind, _| change(mind));
            }
            Deed::Tell(speaker, listener, message) => {
                self.met.extend([speaker, listener]);
                self.say(&[speaker, listener], message, action);
            }
            Deed::Announce(speaker, message) => {
                let listeners = self.people_in(self.room_of(speaker));
                self.say(&listeners, message, action);
            }
        }
    }

    fn mind(&self, chain: &[Person]) -> Mind {
        let mind = match *chain {
            [a] => self.first.get(&a),
            [a, b] => self.second.get(&(a, b)),
            _ => None,
        };
        mind.cloned().unwrap_or_default()
    }
}

fn see_states(mind: &mut Mind, truth: &Mind, object: Object) {
    for (key, state) in StateKey::first(3).zip(&scope().states) {
        if state.object == object && state.is_visible && truth.state.contains(&key) {
            mind.state.insert(key);
        }
    }
}

fn agrees(world: &World, oracle: &Oracle, seed: u64) {
    let beliefs = short_chains().into_iter().map(|chain| (world.view(&chain), oracle.mind(&chain), chain));
    // Without a chain: what is so. News has no truth of its own.
    let truth = (world.truth().clone(), oracle.truth.clone(), Vec::new());
    for (view, mind, chain) in beliefs.chain([truth]) {
        for entity in scope().entities() {
            assert_eq!(view.room(entity), mind.room_of(entity), "seed {seed}: room of {entity:?} for {chain:?}");
        }
        for object in Object::first(2) {
            assert_eq!(view.container(object), mind.box_of(object), "seed {seed}: box of {object:?} for {chain:?}");
        }
        for key in StateKey::first(3) {
            assert_eq!(view.state(key), mind.state.contains(&key), "seed {seed}: {key:?} for {chain:?}");
        }
        for topic in Topic::first(2) {
            assert_eq!(view.knows(topic), mind.known.contains(&topic), "seed {seed}: {topic:?} for {chain:?}");
        }
    }
}

/// Property 25: after every action, what is so and all beliefs of the first and second order.
#[test]
fn an_eager_tracker_agrees_with_the_log() {
    for seed in 0..2000 {
        let mut oracle = Oracle::default();
        let mut world = World::new(scope());
        for event in play(seed, seed % 2 == 1, &mut |_, _, _| {}).events() {
            world.act(event.action).unwrap();
            oracle.act(&event.action);
            agrees(&world, &oracle, seed);
        }
    }
}
