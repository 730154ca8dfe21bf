//! What is so, or what somebody believes to be so: reality and every belief, however nested, are records of one type.

use super::action::Message;
use super::entity::{Container, Entity, Object, Room, Scope, StateKey, Topic};

/// Where somebody or something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum RoomView {
    /// Nothing was ever noticed.
    #[default]
    Unset,
    In(Room),
    /// Last seen to go from there.
    NotIn(Room),
    /// Was believed to be somewhere, and evidence speaks against it.
    Unknown,
}

/// What holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum BoxView {
    /// Nothing was ever noticed.
    #[default]
    Unset,
    /// This container.
    In(Container),
    /// It is known to lie in no container.
    Out,
}

impl RoomView {
    /// The room, if it is known.
    pub(crate) fn known(self) -> Option<Room> {
        if let Self::In(room) = self { Some(room) } else { None }
    }
}

impl BoxView {
    /// The container, if there is one that is known.
    pub(crate) fn known(self) -> Option<Container> {
        if let Self::In(container) = self { Some(container) } else { None }
    }
}

/// One piece of what a record tells those whom it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Somebody or something is (or no longer is) in a room.
    Room(Entity, RoomView),
    /// An object is in a container, or out of any.
    Box(Object, BoxView),
    /// An object has got a property.
    State(StateKey),
    /// There is this piece of news.
    Learn(Topic),
    /// Seen in a room, with the visible properties.
    Seen(Entity, Room, Vec<StateKey>),
    /// Not seen in a room that was looked at.
    Absent(Entity, Room),
    /// Said to be in a container.
    ToldBox(Object, Container),
    /// Said to be in a room, or seen to be handled there without the container that it is kept in.
    ToldRoom(Entity, Room),
}

/// The rooms of containers, by [`Container`]; a container's room is set once.
pub(crate) type Homes = [Option<Room>];

/// Rooms, containers, states and news, as they are or as they are believed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Of people, of containers, and of objects.
    rooms: [Vec<RoomView>; 3],
    boxed: Vec<BoxView>,
    states: Vec<bool>,
    known: Vec<bool>,
}

impl View {
    /// Nothing known of anything.
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            rooms: [scope.people, scope.containers, scope.objects].map(|n| vec![RoomView::Unset; n]),
            boxed: vec![BoxView::Unset; scope.objects],
            states: vec![false; scope.states.len()],
            known: vec![false; scope.topics],
        }
    }

    pub(crate) fn room(&self, entity: Entity) -> RoomView {
        let (kind, index) = place_of(entity);
        self.rooms[kind][index]
    }

    pub(crate) fn container(&self, object: Object) -> BoxView {
        self.boxed[object.index()]
    }

    pub(crate) fn state(&self, key: StateKey) -> bool {
        self.states[key.index()]
    }

    pub(crate) fn knows(&self, topic: Topic) -> bool {
        self.known[topic.index()]
    }

    /// Whether no container hides it.
    pub(crate) fn is_visible(&self, entity: Entity) -> bool {
        match entity {
            Entity::Object(object) => !matches!(self.container(object), BoxView::In(_)),
            Entity::Person(_) | Entity::Container(_) => true,
        }
    }

    /// Whether what a message says is so in this view.
    pub(crate) fn holds(&self, message: Message) -> bool {
        match message {
            Message::Topic(topic) => self.knows(topic),
            Message::BoxOf(object, container) => self.container(object) == BoxView::In(container),
            Message::RoomOf(entity, room) => self.room(entity) == RoomView::In(room),
        }
    }

    /// Takes in a fact. A later room or container replaces the earlier one; properties and news are never forgotten.
    pub(crate) fn absorb(&mut self, fact: &Fact, homes: &Homes) {
        match *fact {
            Fact::Room(entity, room) => self.set_room(entity, room),
            Fact::Box(object, container) => self.boxed[object.index()] = container,
            Fact::State(key) => self.states[key.index()] = true,
            Fact::Learn(topic) => self.known[topic.index()] = true,
            Fact::Seen(entity, room, ref states) => {
                self.set_room(entity, RoomView::In(room));
                if let Entity::Object(object) = entity {
                    self.boxed[object.index()] = BoxView::Out;
                }
                for key in states {
                    self.states[key.index()] = true;
                }
            }
            Fact::Absent(entity, room) => self.miss(entity, room),
            Fact::ToldBox(object, container) => self.hear_container(object, container, homes),
            Fact::ToldRoom(entity, room) => self.hear_room(entity, room, homes),
        }
    }

    fn set_room(&mut self, entity: Entity, room: RoomView) {
        let (kind, index) = place_of(entity);
        self.rooms[kind][index] = room;
    }

    /// Object permanence: what was last seen in the open and is not there any more has gone; what is believed to be in a
    /// container, or was only said to be in the room, may still be there.
    fn miss(&mut self, entity: Entity, room: Room) {
        let lay_open = match entity {
            Entity::Person(_) => true,
            Entity::Object(object) => self.container(object) == BoxView::Out,
            Entity::Container(_) => false,
        };
        if lay_open && self.room(entity) == RoomView::In(room) {
            self.set_room(entity, RoomView::Unknown);
        }
    }

    /// Only who knows where the container stands learns the room.
    fn hear_container(&mut self, object: Object, container: Container, homes: &Homes) {
        self.boxed[object.index()] = BoxView::In(container);
        let Some(home) = homes[container.index()].map(RoomView::In) else { return };
        let believed = self.room(Entity::Object(object));
        if believed == home {
            return;
        }
        if self.room(Entity::Container(container)) == home {
            self.set_room(Entity::Object(object), home);
        } else if believed != RoomView::Unset {
            self.set_room(Entity::Object(object), RoomView::Unknown);
        }
    }

    /// A container in another room cannot hold it any more.
    fn hear_room(&mut self, entity: Entity, room: Room, homes: &Homes) {
        if self.room(entity) == RoomView::In(room) {
            return;
        }
        self.set_room(entity, RoomView::In(room));
        if let Entity::Object(object) = entity {
            let stays = matches!(self.container(object), BoxView::In(held) if homes[held.index()] == Some(room));
            if !stays {
                self.boxed[object.index()] = BoxView::Unset;
            }
        }
    }
}

/// The kind of an entity, and its place in the list of its kind.
fn place_of(entity: Entity) -> (usize, usize) {
    match entity {
        Entity::Person(person) => (0, person.index()),
        Entity::Container(container) => (1, container.index()),
        Entity::Object(object) => (2, object.index()),
    }
}
