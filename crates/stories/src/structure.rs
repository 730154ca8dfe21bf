//! What a story is without its names: two stories with the same structure differ in vocabulary alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::action::{Deed, Message};
use super::entity::Entity;
use super::world::World;
use aloud_tasks::hash::hash;

/// A hash of the actions with people, places and things numbered in order of appearance.
pub(crate) fn structure_hash(world: &World) -> u64 {
    hash(0, &anonymous(world))
}

/// Numbers of one kind in order of appearance.
#[derive(Default)]
struct Numbering(BTreeMap<(char, u8), usize>);

impl Numbering {
    fn name(&mut self, kind: char, number: u8) -> String {
        let next = self.0.keys().filter(|(other, _)| *other == kind).count();
        let at = *self.0.entry((kind, number)).or_insert(next);
        format!("{kind}{at}")
    }

    fn entity(&mut self, entity: Entity) -> String {
        match entity {
            Entity::Person(person) => self.name('p', person.0),
            Entity::Container(container) => self.name('c', container.0),
            Entity::Object(object) => self.name('o', object.0),
        }
    }

    fn message(&mut self, message: Message) -> String {
        match message {
            Message::Topic(topic) => self.name('t', topic.0),
            Message::BoxOf(object, container) => {
                format!("{} {}", self.name('o', object.0), self.name('c', container.0))
            }
            Message::RoomOf(entity, room) => format!("{} {}", self.entity(entity), self.name('r', room.0)),
        }
    }
}

/// The actions in a canonical notation.
fn anonymous(world: &World) -> String {
    let mut numbering = Numbering::default();
    let mut text = String::new();
    for event in world.events() {
        let n = &mut numbering;
        let told = match event.action.deed {
            Deed::Place(entity, room) => format!("place {} {}", n.entity(entity), n.name('r', room.0)),
            Deed::Enter(person, room) => format!("enter {} {}", n.name('p', person.0), n.name('r', room.0)),
            Deed::Leave(person, room) => format!("leave {} {}", n.name('p', person.0), n.name('r', room.0)),
            Deed::Put(person, object, container) => {
                format!("put {} {} {}", n.name('p', person.0), n.name('o', object.0), n.name('c', container.0))
            }
            Deed::Carry(person, object, room) => {
                format!("carry {} {} {}", n.name('p', person.0), n.name('o', object.0), n.name('r', room.0))
            }
            Deed::SetState(person, key) => {
                let visibility = if world.scope().states[key.index()].is_visible { "open" } else { "hidden" };
                let (person, key) = (n.name('p', person.0), n.name('s', key.0));
                format!("set {person} {key} 0 {visibility}")
            }
            Deed::Tell(speaker, listener, message) => {
                format!("tell {} {} {}", n.name('p', speaker.0), n.name('p', listener.0), n.message(message))
            }
            Deed::Announce(speaker, message) => {
                format!("announce {} {}", n.name('p', speaker.0), n.message(message))
            }
        };
        text.push_str(&told);
        for (mark, others) in [('+', event.action.peekers), ('-', event.action.distracted)] {
            for person in others.iter() {
                // Writing to a string cannot fail.
                let _ = write!(text, " {mark}{}", numbering.name('p', person.0));
            }
        }
        text.push('\n');
    }
    text
}
