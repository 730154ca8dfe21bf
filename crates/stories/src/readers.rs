//! Flawed readers: each answers by a shortcut that works on easy stories. A story on which many of them fail needs theory
//! of mind.

use super::action::{Deed, Message};
use super::entity::{Entity, Object, People, Person, Room};
use super::log::Record;
use super::question::{Answer, Minds, Property, Question, answer_in};
use super::world::{Event, World};

/// A shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// Everybody believes what is so; news is known to all if it is known to one.
    Reality,
    /// The place that is named last together with the object; what is mentioned is known.
    LatestMention,
    /// The place that is named first together with the object.
    FirstMention,
    /// Nobody peeks and nobody is distracted.
    NoAsymmetry,
    /// Whoever ever was in a room knows all that ever happens there.
    RoomGossip,
    /// What one thinks that another believes is what the other believes.
    Flattened,
    /// What one thinks that another believes is what one believes.
    Egocentric,
}

impl Shortcut {
    pub(crate) const ALL: [Self; 7] = [
        Self::Reality,
        Self::LatestMention,
        Self::FirstMention,
        Self::NoAsymmetry,
        Self::RoomGossip,
        Self::Flattened,
        Self::Egocentric,
    ];
}

/// The readers, ready to answer about one story.
pub(crate) struct ReaderPanel<'a> {
    world: &'a World,
    right: Minds,
    without_asymmetry: Minds,
    with_gossip: Minds,
}

impl<'a> ReaderPanel<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let open = |record: &Record| Record { peekers: People::NOBODY, distracted: People::NOBODY, ..record.clone() };
        let open: Vec<Record> = world.records().iter().map(open).collect();
        let gossip: Vec<Record> = world.records().iter().map(|record| with_gossip(world, record)).collect();
        Self {
            world,
            right: Minds::new(world, 2),
            without_asymmetry: Minds::of(&open, world, 2),
            with_gossip: Minds::of(&gossip, world, 2),
        }
    }

    /// The answer of one reader to a question about a belief; `None` if it has none.
    pub(crate) fn answer(&self, shortcut: Shortcut, question: &Question) -> Option<Answer> {
        let (chain, property) = (question.chain.as_slice(), question.property);
        match shortcut {
            Shortcut::Reality => match property {
                // News that is asked for is known to somebody.
                Property::Knowledge(_) => Some(Answer::Yes),
                _ => answer_in(self.world.truth(), property),
            },
            Shortcut::LatestMention => mention(self.world.events().iter().rev(), property),
            Shortcut::FirstMention => mention(self.world.events().iter(), property),
            Shortcut::NoAsymmetry => self.without_asymmetry.answer(chain, property),
            Shortcut::RoomGossip => self.with_gossip.answer(chain, property),
            Shortcut::Flattened => self.right.answer(chain.get(chain.len().saturating_sub(1)..)?, property),
            Shortcut::Egocentric => self.right.answer(chain.get(..1)?, property),
        }
    }

    /// The share of readers that are right, averaged over the questions of orders 1 and 2, interesting ones with double
    /// weight. `None` without such questions.
    pub(crate) fn accuracy(&self, questions: &[Question]) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for question in questions.iter().filter(|question| (1..=2).contains(&question.chain.len())) {
            let is_right = |shortcut: &Shortcut| self.answer(*shortcut, question) == Some(question.answer);
            let n_right = Shortcut::ALL.iter().filter(|shortcut| is_right(shortcut)).count();
            let weight = if question.is_interesting { 2.0 } else { 1.0 };
            sum += weight * n_right as f64 / Shortcut::ALL.len() as f64;
            weights += weight;
        }
        (weights > 0.0).then(|| sum / weights)
    }
}

/// The record as it would be if everybody who ever was in its room had noticed it.
fn with_gossip(world: &World, record: &Record) -> Record {
    if matches!(world.events()[record.action].action.deed, Deed::Tell(..)) {
        return record.clone();
    }
    let rooms = |person: Person| Room::first(world.scope().rooms).filter(move |room| was_in(world, person, *room));
    let shares_room = |person: &Person| {
        rooms(*person).any(|room| record.witnesses.iter().any(|witness| was_at(world, record.action, witness, room)))
    };
    let witnesses = world.people().iter().filter(shares_room).collect();
    Record { witnesses: record.witnesses.union(witnesses), ..record.clone() }
}

/// Whether somebody ever was in a room.
fn was_in(world: &World, person: Person, room: Room) -> bool {
    world.events().iter().any(|event| goes_to(event, person) == Some(room))
}

/// Whether somebody was in a room after the action of this number, or right before it.
fn was_at(world: &World, action: usize, person: Person, room: Room) -> bool {
    world.events()[..=action].iter().rev().find_map(|event| goes_to(event, person)) == Some(room)
}

/// The room that somebody goes to in an event.
fn goes_to(event: &Event, person: Person) -> Option<Room> {
    match event.action.deed {
        Deed::Place(Entity::Person(who), room) | Deed::Enter(who, room) | Deed::Carry(who, _, room)
            if who == person =>
        {
            Some(room)
        }
        _ => None,
    }
}

/// The place that the first of the events names together with the object.
fn mention<'e>(mut events: impl Iterator<Item = &'e Event>, property: Property) -> Option<Answer> {
    match property {
        Property::Container(object) => events.find_map(|event| named_container(event, object)),
        Property::Room(object) => events.find_map(|event| named_room(event, object)),
        Property::Knowledge(_) | Property::State(_) => Some(Answer::Yes),
    }
}

fn named_container(event: &Event, object: Object) -> Option<Answer> {
    match event.action.deed {
        Deed::Put(_, what, container)
        | Deed::Tell(_, _, Message::BoxOf(what, container))
        | Deed::Announce(_, Message::BoxOf(what, container))
            if what == object =>
        {
            Some(Answer::Container(container))
        }
        _ => None,
    }
}

fn named_room(event: &Event, object: Object) -> Option<Answer> {
    let told = |message: Message| match message {
        Message::RoomOf(Entity::Object(what), room) if what == object => Some(room),
        _ => None,
    };
    let room = match event.action.deed {
        Deed::Put(_, what, _) if what == object => event.room,
        Deed::Carry(_, what, room) if what == object => Some(room),
        Deed::Place(Entity::Object(what), room) if what == object => Some(room),
        Deed::Tell(_, _, message) | Deed::Announce(_, message) => told(message),
        _ => None,
    };
    room.map(Answer::Room)
}
