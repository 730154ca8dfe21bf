//! Reality, and the rules by which actions change it and are noticed.

use std::sync::Arc;

use super::action::{Action, Deed, Message};
use super::entity::{Container, Entity, Object, People, Person, Room, Scope, StateKey, Topic};
use super::log::{Record, fold};
use super::refusal::Refusal;
use super::view::{BoxView, Fact, RoomView, View};

/// Something that happened, with what a telling of it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) action: Action,
    /// The room in which it began: the actor's room before it.
    pub(crate) room: Option<Room>,
    /// What held the object before.
    pub(crate) held_by: BoxView,
}

/// Values of one property of one object in reality, in order, each with the number of the action that made it so. No two
/// neighbours are equal.
pub(crate) type Trajectory<T> = Vec<(usize, T)>;

/// What is real, what happened, and who could notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    scope: Arc<Scope>,
    truth: View,
    registered: People,
    homes: Vec<Option<Room>>,
    records: Vec<Record>,
    events: Vec<Event>,
    containers_of: Vec<Trajectory<BoxView>>,
    rooms_of: Vec<Trajectory<RoomView>>,
}

impl World {
    /// An empty world: nobody and nothing is anywhere.
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Self {
            truth: View::new(&scope),
            registered: People::NOBODY,
            homes: vec![None; scope.containers],
            records: Vec::new(),
            events: Vec::new(),
            containers_of: vec![Vec::new(); scope.objects],
            rooms_of: vec![Vec::new(); scope.objects],
            scope,
        }
    }

    /// The world after these actions.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn replay(scope: Arc<Scope>, actions: &[Action]) -> Result<Self, Refusal> {
        let mut world = Self::new(scope);
        actions.iter().try_for_each(|action| world.act(*action))?;
        Ok(world)
    }

    pub(crate) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    pub(crate) fn truth(&self) -> &View {
        &self.truth
    }

    /// Everybody who acted, was spoken to, or peeked.
    pub(crate) fn people(&self) -> People {
        self.registered
    }

    pub(crate) fn home(&self, container: Container) -> Option<Room> {
        self.homes[container.index()]
    }

    pub(crate) fn homes(&self) -> &[Option<Room>] {
        &self.homes
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// What held an object in the course of the story.
    pub(crate) fn containers_of(&self, object: Object) -> &Trajectory<BoxView> {
        &self.containers_of[object.index()]
    }

    /// Where an object was in the course of the story.
    pub(crate) fn rooms_of(&self, object: Object) -> &Trajectory<RoomView> {
        &self.rooms_of[object.index()]
    }

    /// Every property that an object got, in order.
    pub(crate) fn states_seen(&self) -> impl Iterator<Item = StateKey> {
        self.events.iter().filter_map(|event| match event.action.deed {
            Deed::SetState(_, key) => Some(key),
            _ => None,
        })
    }

    /// Number of rooms in which somebody or something has been.
    pub(crate) fn n_rooms_used(&self) -> usize {
        let happens_in = |room| {
            self.records.iter().any(|record| {
                record.facts.iter().any(|fact| matches!(fact, Fact::Room(_, RoomView::In(it)) if *it == room))
            })
        };
        Room::first(self.scope.rooms).filter(|room| happens_in(*room)).count()
    }

    /// Number of sentences that tell what happened.
    pub(crate) fn n_sentences(&self) -> usize {
        self.events.iter().map(|event| event.action.n_sentences()).sum()
    }

    /// What the first of the chain believes that the second believes, and so on; nobody's belief if the chain is empty.
    pub(crate) fn view(&self, chain: &[Person]) -> View {
        fold(&self.records, chain, &self.scope, &self.homes)
    }

    /// The belief of a chain after the first `n_actions` actions.
    pub(crate) fn view_after(&self, chain: &[Person], n_actions: usize) -> View {
        let end = self.records.partition_point(|record| record.action < n_actions);
        fold(&self.records[..end], chain, &self.scope, &self.homes)
    }

    pub(crate) fn people_in(&self, room: Room) -> People {
        let there = |person: &Person| self.room_of(*person) == Some(room);
        Person::first(self.scope.people).filter(there).collect()
    }

    pub(crate) fn room_of(&self, person: Person) -> Option<Room> {
        self.truth.room(Entity::Person(person)).known()
    }

    /// The apparent witnesses of an action, if it happened now.
    pub(crate) fn witnesses(&self, deed: Deed) -> People {
        match deed {
            Deed::Tell(speaker, listener, _) => People::NOBODY.with(speaker).with(listener),
            Deed::Enter(person, room) | Deed::Place(Entity::Person(person), room) => self.people_in(room).with(person),
            Deed::Place(_, room) => self.people_in(room),
            _ => deed.actor().and_then(|actor| self.room_of(actor)).map_or(People::NOBODY, |room| self.people_in(room)),
        }
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// If the rules forbid it; nothing has changed then.
    pub(crate) fn act(&mut self, action: Action) -> Result<(), Refusal> {
        self.check(&action)?;
        self.commit(action);
        Ok(())
    }

    /// Whether the rules allow an action now.
    ///
    /// # Errors
    /// What forbids it.
    pub(crate) fn check(&self, action: &Action) -> Result<(), Refusal> {
        self.check_asymmetry(action)?;
        self.check_deed(action.deed)
    }

    fn check_asymmetry(&self, action: &Action) -> Result<(), Refusal> {
        let Action { deed, peekers, distracted } = *action;
        if !action.is_asymmetric() {
            return Ok(());
        }
        if matches!(deed, Deed::Place(..) | Deed::Carry(..)) {
            return Err(Refusal::NoAsymmetry);
        }
        if deed.actor().is_some_and(|actor| peekers.union(distracted).contains(actor)) {
            return Err(Refusal::ActorAsymmetric);
        }
        let witnesses = self.witnesses(deed);
        if !peekers.is_disjoint(witnesses) {
            return Err(Refusal::PeekerPresent);
        }
        if !distracted.without(witnesses).is_empty() {
            return Err(Refusal::DistractedAbsent);
        }
        let stays_visible = matches!(deed, Deed::SetState(_, key) if self.scope.states[key.index()].is_visible);
        if stays_visible && !distracted.is_empty() {
            return Err(Refusal::PlainView);
        }
        Ok(())
    }

    fn check_deed(&self, deed: Deed) -> Result<(), Refusal> {
        match deed {
            Deed::Place(Entity::Person(person), room) | Deed::Enter(person, room) => {
                refuse_if(self.room_of(person) == Some(room), Refusal::AlreadyThere)
            }
            Deed::Place(entity, room) => {
                refuse_if(self.truth.room(entity) != RoomView::Unset, Refusal::PlacedTwice)?;
                let home = if let Entity::Container(container) = entity { self.home(container) } else { None };
                refuse_if(home.is_some_and(|home| home != room), Refusal::ContainerElsewhere)
            }
            Deed::Leave(person, room) => refuse_if(self.room_of(person) != Some(room), Refusal::NotThere),
            Deed::Put(person, object, container) => {
                let room = self.room_of(person).ok_or(Refusal::Nowhere)?;
                self.check_within_reach(object, room)?;
                refuse_if(self.truth.container(object) == BoxView::In(container), Refusal::SamePlace)?;
                refuse_if(self.home(container).is_some_and(|home| home != room), Refusal::ContainerElsewhere)
            }
            Deed::Carry(person, object, room) => {
                let from = self.room_of(person).ok_or(Refusal::Nowhere)?;
                refuse_if(self.truth.room(Entity::Object(object)) != RoomView::In(from), Refusal::ObjectElsewhere)?;
                refuse_if(room == from, Refusal::SamePlace)
            }
            Deed::SetState(person, key) => {
                let room = self.room_of(person).ok_or(Refusal::Nowhere)?;
                self.check_within_reach(self.scope.states[key.index()].object, room)?;
                refuse_if(self.truth.state(key), Refusal::SameState)
            }
            Deed::Tell(speaker, listener, message) => {
                refuse_if(speaker == listener, Refusal::OneSelf)?;
                self.check_truthful(speaker, message)?;
                refuse_if(self.view(&[speaker, listener]).holds(message), Refusal::KnownAlready)
            }
            Deed::Announce(speaker, message) => {
                let room = self.room_of(speaker).ok_or(Refusal::Nowhere)?;
                let others = self.people_in(room).without(People::NOBODY.with(speaker));
                refuse_if(others.is_empty(), Refusal::NoListener)?;
                self.check_truthful(speaker, message)?;
                let all_know = others.iter().all(|other| self.view(&[speaker, other]).holds(message));
                refuse_if(all_know, Refusal::KnownAlready)
            }
        }
    }

    fn check_within_reach(&self, object: Object, room: Room) -> Result<(), Refusal> {
        let place = self.truth.room(Entity::Object(object));
        refuse_if(place != RoomView::Unset && place != RoomView::In(room), Refusal::ObjectElsewhere)
    }

    /// What is said of a place must be so, and the speaker must believe it.
    fn check_truthful(&self, speaker: Person, message: Message) -> Result<(), Refusal> {
        if matches!(message, Message::Topic(_)) {
            return Ok(());
        }
        refuse_if(!self.truth.holds(message), Refusal::NotTrue)?;
        refuse_if(!self.view(&[speaker]).holds(message), Refusal::NotBelieved)
    }

    fn commit(&mut self, action: Action) {
        let Action { deed, peekers, .. } = action;
        self.registered = self.registered.union(peekers).union(deed.actor().into_iter().collect());
        let held_by = match deed {
            Deed::Put(_, object, _) | Deed::Carry(_, object, _) => self.truth.container(object),
            _ => BoxView::Unset,
        };
        self.events.push(Event { action, room: deed.actor().and_then(|actor| self.room_of(actor)), held_by });
        match deed {
            Deed::Place(Entity::Person(person), room) | Deed::Enter(person, room) => {
                if let Some(from) = self.room_of(person) {
                    self.depart(person, from, action);
                }
                self.arrive(person, room, action);
            }
            Deed::Place(entity, room) => self.place(entity, room, action),
            Deed::Leave(person, room) => self.depart(person, room, action),
            Deed::Put(person, object, container) => {
                let Some(room) = self.room_of(person) else { return };
                self.homes[container.index()] = Some(room);
                let here = RoomView::In(room);
                let facts = vec![
                    Fact::Room(Entity::Object(object), here),
                    Fact::Box(object, BoxView::In(container)),
                    Fact::Room(Entity::Container(container), here),
                ];
                self.happen(facts, self.people_in(room), action);
            }
            Deed::Carry(person, object, room) => self.carry(person, object, room, action),
            Deed::SetState(person, key) => {
                let Some(room) = self.room_of(person) else { return };
                let object = self.scope.states[key.index()].object;
                let thing = Entity::Object(object);
                let mut facts = vec![Fact::State(key)];
                if self.truth.is_visible(thing) {
                    facts.extend([Fact::Room(thing, RoomView::In(room)), Fact::Box(object, BoxView::Out)]);
                } else {
                    // Whoever sees it handled learns that it is in this room, but not which container it is kept in.
                    facts.push(Fact::ToldRoom(thing, room));
                }
                self.happen(facts, self.people_in(room), action);
            }
            Deed::Tell(speaker, listener, message) => {
                self.registered.insert(listener);
                self.record(vec![fact_of(message)], People::NOBODY.with(speaker).with(listener), action);
            }
            Deed::Announce(speaker, message) => {
                let listeners = self.room_of(speaker).map_or(People::NOBODY, |room| self.people_in(room));
                self.record(vec![fact_of(message)], listeners, action);
            }
        }
        self.follow_objects();
    }

    /// Something that is so from now on, and those who see it.
    fn happen(&mut self, facts: Vec<Fact>, witnesses: People, action: Action) {
        for fact in &facts {
            self.truth.absorb(fact, &self.homes);
        }
        self.record(facts, witnesses, action);
    }

    /// Something that is noticed, without any change of what is so.
    fn record(&mut self, facts: Vec<Fact>, witnesses: People, Action { peekers, distracted, .. }: Action) {
        let action = self.events.len() - 1;
        self.records.push(Record { facts, witnesses, peekers, distracted, focus: None, action });
    }

    fn depart(&mut self, person: Person, from: Room, action: Action) {
        let gone = Fact::Room(Entity::Person(person), RoomView::NotIn(from));
        self.happen(vec![gone], self.people_in(from), action);
    }

    /// Those in the room see who comes in; whoever comes in looks around, and everybody present knows it.
    fn arrive(&mut self, person: Person, room: Room, action: Action) {
        let witnesses = self.people_in(room).with(person);
        self.happen(vec![Fact::Room(Entity::Person(person), RoomView::In(room))], witnesses, action);
        let surroundings = self.surroundings(person, room);
        self.record(surroundings, witnesses, action);
        if let Some(record) = self.records.last_mut() {
            record.focus = Some(person);
        }
    }

    /// What somebody sees, and does not see, on looking around in a room.
    fn surroundings(&self, person: Person, room: Room) -> Vec<Fact> {
        let is_known = |entity: &Entity| match entity {
            Entity::Person(other) => *other != person && self.registered.contains(*other),
            Entity::Container(_) | Entity::Object(_) => self.truth.room(*entity) != RoomView::Unset,
        };
        let look = |entity: Entity| {
            if self.truth.room(entity) == RoomView::In(room) && self.truth.is_visible(entity) {
                Fact::Seen(entity, room, self.visible_states(entity))
            } else {
                Fact::Absent(entity, room)
            }
        };
        self.scope.entities().filter(is_known).map(look).collect()
    }

    fn visible_states(&self, entity: Entity) -> Vec<StateKey> {
        let Entity::Object(object) = entity else { return Vec::new() };
        let visible = self.scope.states_of(object).filter(|(_, state)| state.is_visible);
        visible.map(|(key, _)| key).filter(|key| self.truth.state(*key)).collect()
    }

    fn place(&mut self, entity: Entity, room: Room, action: Action) {
        let mut facts = vec![Fact::Room(entity, RoomView::In(room))];
        match entity {
            Entity::Object(object) => facts.push(Fact::Box(object, BoxView::Out)),
            Entity::Container(container) => self.homes[container.index()] = Some(room),
            Entity::Person(_) => {}
        }
        self.happen(facts, self.people_in(room), action);
    }

    fn carry(&mut self, person: Person, object: Object, to: Room, action: Action) {
        let Some(from) = self.room_of(person) else { return };
        let gone = RoomView::NotIn(from);
        let departure = vec![
            Fact::Box(object, BoxView::Out),
            Fact::Room(Entity::Object(object), gone),
            Fact::Room(Entity::Person(person), gone),
        ];
        self.happen(departure, self.people_in(from), action);
        self.arrive(person, to, action);
        let arrival = Fact::Seen(Entity::Object(object), to, self.visible_states(Entity::Object(object)));
        self.happen(vec![arrival], self.people_in(to), action);
    }

    /// Notes where objects are after an action.
    fn follow_objects(&mut self) {
        let action = self.events.len() - 1;
        for object in Object::first(self.scope.objects) {
            let container = self.truth.container(object);
            if container != BoxView::Unset {
                follow(&mut self.containers_of[object.index()], action, container);
            }
            let room = self.truth.room(Entity::Object(object));
            if room != RoomView::Unset {
                follow(&mut self.rooms_of[object.index()], action, room);
            }
        }
    }
}

fn follow<T: PartialEq>(trajectory: &mut Trajectory<T>, action: usize, value: T) {
    if trajectory.last().is_none_or(|(_, last)| *last != value) {
        trajectory.push((action, value));
    }
}

fn refuse_if(condition: bool, refusal: Refusal) -> Result<(), Refusal> {
    if condition { Err(refusal) } else { Ok(()) }
}

fn fact_of(message: Message) -> Fact {
    match message {
        Message::Topic(topic) => Fact::Learn(topic),
        Message::BoxOf(object, container) => Fact::ToldBox(object, container),
        Message::RoomOf(entity, room) => Fact::ToldRoom(entity, room),
    }
}

/// A topic of the story known to at least one person.
pub(crate) fn uttered_topics(world: &World) -> impl Iterator<Item = Topic> + '_ {
    let views: Vec<View> = world.people().iter().map(|person| world.view(&[person])).collect();
    Topic::first(world.scope().topics).filter(move |topic| views.iter().any(|view| view.knows(*topic)))
}
