//! The people, places and things of one story with their names.

use std::sync::Arc;

use super::action::{Action, Deed};
use super::entity::{Container, Entity, Object, Person, Room, Scope, StateKey, StateScope, Topic};
use super::words::{ObjectWords, Setting, StateWords, Word};
use aloud_base::random::KeyedRandom;

/// Names by number.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) setting: String,
    people: Vec<String>,
    rooms: Vec<String>,
    containers: Vec<String>,
    objects: Vec<String>,
    topics: Vec<String>,
    states: Vec<(Object, StateWords)>,
    pub(crate) placements: Vec<Action>,
}

/// How many of each kind a story has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) people: usize,
    pub(crate) rooms: usize,
    pub(crate) containers: usize,
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    Person,
    Room,
    Container,
    Object,
    Topic,
}

impl Cast {
    /// People and things of a setting, chosen at random: one object with its properties, all news, and what the setting
    /// places.
    pub(crate) fn draw(setting: &Setting, size: Size, draw: &mut KeyedRandom) -> Self {
        let placed = |word: &str| setting.placements.iter().any(|placement| placement.what.get_ref() == word);
        let used = |word: &str| setting.placements.iter().any(|placement| placement.room.get_ref() == word);
        let rooms = choose(&texts(&setting.rooms), size.rooms, used, draw);
        let containers = choose(&texts(&setting.containers), size.containers, placed, draw);
        let people = choose_people(&setting.people(), size.people, placed, draw);
        let mut objects: Vec<&ObjectWords> = setting.objects.iter().collect();
        draw.shuffle_from_start(&mut objects);
        // An object that is placed is wanted in the story.
        objects.sort_by_key(|object| !placed(object.name.get_ref()));
        objects.truncate(1);
        let topics = choose(&texts(&setting.topics), setting.topics.len(), |_| false, draw);
        let states = Object::first(objects.len())
            .zip(&objects)
            .flat_map(|(number, object)| object.states.iter().map(move |state| (number, state.clone())));
        let mut cast = Self {
            setting: setting.name.get_ref().clone(),
            people,
            rooms,
            containers,
            states: states.collect(),
            objects: objects.iter().map(|object| object.name.get_ref().clone()).collect(),
            topics,
            placements: Vec::new(),
        };
        cast.placements = cast.placements_of(setting);
        cast
    }

    /// The placements of the setting that concern this story.
    fn placements_of(&self, setting: &Setting) -> Vec<Action> {
        let number = |names: &[String], word: &str| names.iter().position(|name| name == word).map(|at| at as u8);
        let placements = setting.placements.iter().filter_map(|placement| {
            let what = placement.what.get_ref();
            let entity = number(&self.people, what)
                .map(|at| Entity::Person(Person(at)))
                .or_else(|| number(&self.containers, what).map(|at| Entity::Container(Container(at))))
                .or_else(|| number(&self.objects, what).map(|at| Entity::Object(Object(at))))?;
            let room = Room(number(&self.rooms, placement.room.get_ref())?);
            Some(Action::open(Deed::Place(entity, room)))
        });
        placements.collect()
    }

    pub(crate) fn scope(&self) -> Arc<Scope> {
        let state = |(object, words): &(Object, StateWords)| StateScope { object: *object, is_visible: words.visible };
        Arc::new(Scope {
            people: self.people.len(),
            rooms: self.rooms.len(),
            containers: self.containers.len(),
            objects: self.objects.len(),
            topics: self.topics.len(),
            states: self.states.iter().map(state).collect(),
        })
    }

    pub(crate) fn person(&self, person: Person) -> &str {
        name(&self.people, person.index())
    }

    pub(crate) fn room(&self, room: Room) -> &str {
        name(&self.rooms, room.index())
    }

    pub(crate) fn container(&self, container: Container) -> &str {
        name(&self.containers, container.index())
    }

    pub(crate) fn object(&self, object: Object) -> &str {
        name(&self.objects, object.index())
    }

    pub(crate) fn topic(&self, topic: Topic) -> &str {
        name(&self.topics, topic.index())
    }

    pub(crate) fn containers(&self) -> &[String] {
        &self.containers
    }

    pub(crate) fn rooms(&self) -> &[String] {
        &self.rooms
    }

    /// What somebody does to give an object a property: `cut the pear into slices`.
    pub(crate) fn does(&self, key: StateKey) -> &str {
        self.states.get(key.index()).map_or("", |(_, words)| words.does.get_ref())
    }

    /// How the object is then: `is cut into slices`.
    pub(crate) fn is(&self, key: StateKey) -> &str {
        self.states.get(key.index()).map_or("", |(_, words)| words.is.get_ref())
    }

    pub(crate) fn object_of(&self, key: StateKey) -> Object {
        self.states.get(key.index()).map_or(Object(0), |(object, _)| *object)
    }

    pub(crate) fn names(&self) -> Vec<(NameKind, &str)> {
        let all = [
            (NameKind::Person, &self.people),
            (NameKind::Room, &self.rooms),
            (NameKind::Container, &self.containers),
            (NameKind::Object, &self.objects),
            (NameKind::Topic, &self.topics),
        ];
        all.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str()))).collect()
    }

    pub(crate) fn name(&self, entity: Entity) -> &str {
        match entity {
            Entity::Person(person) => self.person(person),
            Entity::Container(container) => self.container(container),
            Entity::Object(object) => self.object(object),
        }
    }

    /// With its article, if it takes one.
    pub(crate) fn entity(&self, entity: Entity) -> String {
        let name = self.name(entity);
        if matches!(entity, Entity::Person(_)) { name.to_owned() } else { format!("the {name}") }
    }
}

fn name(names: &[String], index: usize) -> &str {
    names.get(index).map_or("", String::as_str)
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.get_ref().as_str()).collect()
}

/// `n` of the words in random order, wanted ones first.
fn choose(words: &[&str], n: usize, is_wanted: impl Fn(&str) -> bool, draw: &mut KeyedRandom) -> Vec<String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    draw.shuffle_from_start(&mut words);
    words.sort_by_key(|word| !is_wanted(word));
    words.truncate(n);
    words
}

/// The same, with distinct initials as far as there are enough.
fn choose_people(names: &[&str], n: usize, is_wanted: impl Fn(&str) -> bool, draw: &mut KeyedRandom) -> Vec<String> {
    let mut chosen: Vec<String> = Vec::new();
    let mut passed_over = Vec::new();
    for name in choose(names, names.len(), is_wanted, draw) {
        let is_alike = chosen.iter().any(|other| other.chars().next() == name.chars().next());
        if is_alike { passed_over.push(name) } else { chosen.push(name) }
    }
    chosen.extend(passed_over);
    chosen.truncate(n);
    chosen
}
