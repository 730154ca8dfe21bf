//! Who and what a story is about, by number. How they are called is told by [`super::words`].

macro_rules! numbered {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u8);

        impl $name {
            pub(crate) fn index(self) -> usize {
                self.0.into()
            }

            /// The first `n` of the kind.
            pub(crate) fn first(n: usize) -> impl Iterator<Item = Self> + Clone + use<> {
                (0..n).map(|number| Self(number as u8))
            }
        }
    )*};
}

numbered! {
    /// Somebody; the only kind with beliefs.
    Person,
    /// Holds people, objects and containers; everybody in it sees everything visible in it.
    Room,
    /// Opaque and immovable.
    Container,
    /// A thing, in at most one container and one room.
    Object,
    /// A piece of news: it has no truth of its own, it is only known or not known.
    Topic,
    /// A property that one object may get.
    StateKey,
}

/// What has a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entity {
    Person(Person),
    Container(Container),
    Object(Object),
}

/// What there is of one property of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateScope {
    pub(crate) object: Object,
    /// Whether whoever sees the object sees it.
    pub(crate) is_visible: bool,
}

/// How many there are of each kind: what the numbers of a story may be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Scope {
    /// At most 16.
    pub(crate) people: usize,
    /// At most 16.
    pub(crate) rooms: usize,
    pub(crate) containers: usize,
    pub(crate) objects: usize,
    pub(crate) topics: usize,
    pub(crate) states: Vec<StateScope>,
}

impl Scope {
    /// Everything that can have a room, in a fixed order.
    pub(crate) fn entities(&self) -> impl Iterator<Item = Entity> + use<> {
        let people = Person::first(self.people).map(Entity::Person);
        let containers = Container::first(self.containers).map(Entity::Container);
        people.chain(containers).chain(Object::first(self.objects).map(Entity::Object))
    }

    /// The properties of an object, with whether each is visible.
    pub(crate) fn states_of(&self, object: Object) -> impl Iterator<Item = (StateKey, &StateScope)> {
        StateKey::first(self.states.len()).zip(&self.states).filter(move |(_, state)| state.object == object)
    }
}

/// A set of people, at most 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct People(u16);

impl People {
    pub(crate) const NOBODY: Self = Self(0);

    pub(crate) fn contains(self, person: Person) -> bool {
        self.0 & (1 << person.0) != 0
    }

    pub(crate) fn insert(&mut self, person: Person) {
        self.0 |= 1 << person.0;
    }

    pub(crate) fn with(mut self, person: Person) -> Self {
        self.insert(person);
        self
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_disjoint(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Person> {
        Person::first(16).filter(move |person| self.contains(*person))
    }
}

impl FromIterator<Person> for People {
    fn from_iter<I: IntoIterator<Item = Person>>(people: I) -> Self {
        people.into_iter().fold(Self::NOBODY, Self::with)
    }
}
