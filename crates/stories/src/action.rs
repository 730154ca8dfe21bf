//! What can happen in a story.

use super::entity::{Container, Entity, Object, People, Person, Room, StateKey, Topic};

/// What one says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// A piece of news. It needs no source: saying it makes the speaker know it.
    Topic(Topic),
    /// The container that holds an object.
    BoxOf(Object, Container),
    /// The room that somebody or something is in.
    RoomOf(Entity, Room),
}

/// What is done, without who else notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Deed {
    /// Somebody or something is in a room when the story begins.
    Place(Entity, Room),
    Enter(Person, Room),
    Leave(Person, Room),
    Put(Person, Object, Container),
    Carry(Person, Object, Room),
    SetState(Person, StateKey),
    /// Somebody says something to one other, wherever the two are.
    Tell(Person, Person, Message),
    /// Somebody says something to everybody in the room.
    Announce(Person, Message),
}

impl Deed {
    /// Who does it; `None` for a thing that is placed.
    pub(crate) fn actor(self) -> Option<Person> {
        match self {
            Self::Place(Entity::Person(person), _)
            | Self::Enter(person, _)
            | Self::Leave(person, _)
            | Self::Put(person, ..)
            | Self::Carry(person, ..)
            | Self::SetState(person, ..)
            | Self::Tell(person, ..)
            | Self::Announce(person, _) => Some(person),
            Self::Place(..) => None,
        }
    }

    pub(crate) fn message(self) -> Option<Message> {
        match self {
            Self::Tell(_, _, message) | Self::Announce(_, message) => Some(message),
            _ => None,
        }
    }

    /// Whether both are of the same kind and have all parts in common but one.
    pub(crate) fn differs_in_one_part(self, other: Self) -> bool {
        let n_different = |same: &[bool]| same.iter().filter(|same| !**same).count();
        let n = match (self, other) {
            (Self::Enter(who, room), Self::Enter(who2, room2)) | (Self::Leave(who, room), Self::Leave(who2, room2)) => {
                n_different(&[who == who2, room == room2])
            }
            (Self::Put(who, what, holder), Self::Put(who2, what2, holder2)) => {
                n_different(&[who == who2, what == what2, holder == holder2])
            }
            (Self::SetState(who, key), Self::SetState(who2, key2)) => n_different(&[who == who2, key == key2]),
            (Self::Tell(who, whom, message), Self::Tell(who2, whom2, message2)) => {
                n_different(&[who == who2, whom == whom2, message == message2])
            }
            (Self::Announce(who, message), Self::Announce(who2, message2)) => {
                n_different(&[who == who2, message == message2])
            }
            _ => return false,
        };
        n == 1
    }

    /// Whether it is noticed by listening, not by looking.
    pub(crate) fn is_speech(self) -> bool {
        self.message().is_some()
    }
}

/// A deed, with those who notice it secretly and those who miss it although they seem to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Action {
    pub(crate) deed: Deed,
    /// Those who notice it although they are no witnesses.
    pub(crate) peekers: People,
    /// Those of the witnesses who miss it.
    pub(crate) distracted: People,
}

impl Action {
    /// A deed that exactly its witnesses notice.
    pub(crate) fn open(deed: Deed) -> Self {
        Self { deed, peekers: People::NOBODY, distracted: People::NOBODY }
    }

    /// Whether some notice secretly or miss it.
    pub(crate) fn is_asymmetric(&self) -> bool {
        !self.peekers.union(self.distracted).is_empty()
    }

    /// Number of sentences that tell it: one, and one more each for peekers and for distracted people.
    pub(crate) fn n_sentences(&self) -> usize {
        1 + usize::from(!self.peekers.is_empty()) + usize::from(!self.distracted.is_empty())
    }
}
