//! What can be asked at the end of a story, with the true answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::entity::{Container, Entity, Object, Person, Room, StateKey, Topic};
use super::log::{Record, fold};
use super::view::{BoxView, RoomView, View};
use super::world::{World, uttered_topics};

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Property {
    Container(Object),
    Room(Object),
    /// Whether a piece of news is known.
    Knowledge(Topic),
    /// Whether an object has a property.
    State(StateKey),
}

/// At what time a fact is asked for. Beliefs are asked for at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Time {
    End,
    /// Before anything changed.
    Beginning,
    Before(usize),
}

/// A true answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Container(Container),
    Room(Room),
    /// A place that nobody of the chain can tell.
    Unknown,
    /// It is so, or it is known.
    Yes,
    /// It is not so, or it is not known.
    No,
}

/// The kinds of questions: about the container or the room of an object in reality, or where somebody will search; whether
/// somebody knows a piece of news or is aware of a property of an object. The number is the order of the belief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum QuestionKind {
    TruthBox,
    TruthRoom,
    /// What was first.
    MemoryBox,
    MemoryRoom,
    /// What was right before an event.
    BeforeBox,
    BeforeRoom,
    Belief1Box,
    Belief1Room,
    Belief2Box,
    Belief2Room,
    /// Of the third order and deeper.
    BeliefNBox,
    BeliefNRoom,
    Know1,
    Know2,
    State1,
    State2,
}

impl QuestionKind {
    /// Whether there are only two answers.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Know1 | Self::Know2 | Self::State1 | Self::State2)
    }

    /// Whether what is asked for is a fact of the story and no belief.
    pub(crate) fn is_factual(self) -> bool {
        matches!(
            self,
            Self::TruthBox | Self::TruthRoom | Self::MemoryBox | Self::MemoryRoom | Self::BeforeBox | Self::BeforeRoom
        )
    }
}

/// The name in files, such as `belief1-box`.
impl fmt::Display for QuestionKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// A question with its true answer.
#[expect(clippy::struct_excessive_bools, reason = "independent tags")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Whose belief; empty for facts. `[a, b]`: what a thinks that b believes.
    pub(crate) chain: Vec<Person>,
    pub(crate) property: Property,
    pub(crate) time: Time,
    pub(crate) answer: Answer,
    /// Whether two questions of orders 1 and 2 about the same property have different answers; true for facts.
    pub(crate) is_interesting: bool,
    /// The same without regard to answers `unknown`.
    pub(crate) is_interesting_among_known: bool,
    /// Whether the answer is what is really so.
    pub(crate) is_world_aligned: bool,
    /// Whether the answer is that of the chain without its first person. If not, somebody is wrong.
    pub(crate) is_next_aligned: bool,
    /// Whether neighbours of the chain have to do with each other in the story.
    pub(crate) is_acquainted: bool,
}

impl Question {
    /// A question about what is so.
    fn fact(property: Property, time: Time, answer: Answer) -> Self {
        Self {
            chain: Vec::new(),
            property,
            time,
            answer,
            is_interesting: true,
            is_interesting_among_known: true,
            is_world_aligned: true,
            is_next_aligned: true,
            is_acquainted: true,
        }
    }

    pub(crate) fn kind(&self) -> QuestionKind {
        use QuestionKind as Kind;
        match (self.property, self.chain.len(), self.time) {
            (Property::Container(_), 0, Time::End) => Kind::TruthBox,
            (Property::Container(_), 0, Time::Beginning) => Kind::MemoryBox,
            (Property::Container(_), 0, Time::Before(_)) => Kind::BeforeBox,
            (Property::Container(_), 1, _) => Kind::Belief1Box,
            (Property::Container(_), 2, _) => Kind::Belief2Box,
            (Property::Container(_), ..) => Kind::BeliefNBox,
            (Property::Room(_), 0, Time::End) => Kind::TruthRoom,
            (Property::Room(_), 0, Time::Beginning) => Kind::MemoryRoom,
            (Property::Room(_), 0, Time::Before(_)) => Kind::BeforeRoom,
            (Property::Room(_), 1, _) => Kind::Belief1Room,
            (Property::Room(_), 2, _) => Kind::Belief2Room,
            (Property::Room(_), ..) => Kind::BeliefNRoom,
            (Property::Knowledge(_), 0 | 1, _) => Kind::Know1,
            (Property::Knowledge(_), ..) => Kind::Know2,
            (Property::State(_), 0 | 1, _) => Kind::State1,
            (Property::State(_), ..) => Kind::State2,
        }
    }

    /// -1 for facts, else the number of people whose belief is asked for.
    pub(crate) fn order(&self) -> i8 {
        if self.chain.is_empty() { -1 } else { self.chain.len() as i8 }
    }
}

/// Which questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Catalogue {
    pub(crate) max_order: usize,
    /// Whether places that are honestly not known are asked for.
    pub(crate) asks_unknown: bool,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { max_order: 2, asks_unknown: true }
    }
}

/// The answer that a view gives about a property; `None` if the question is ill-posed there: the container of something
/// that is known to lie in the open.
pub(crate) fn answer_in(view: &View, property: Property) -> Option<Answer> {
    let yes_or_no = |is_so| Some(if is_so { Answer::Yes } else { Answer::No });
    match property {
        Property::Container(object) => match (view.container(object), view.room(Entity::Object(object))) {
            (BoxView::In(container), _) => Some(Answer::Container(container)),
            (BoxView::Out, RoomView::In(_)) => None,
            (BoxView::Out | BoxView::Unset, _) => Some(Answer::Unknown),
        },
        Property::Room(object) => match view.room(Entity::Object(object)) {
            RoomView::In(room) => Some(Answer::Room(room)),
            RoomView::Unset | RoomView::NotIn(_) | RoomView::Unknown => Some(Answer::Unknown),
        },
        Property::Knowledge(topic) => yes_or_no(view.knows(topic)),
        Property::State(key) => yes_or_no(view.state(key)),
    }
}

/// The views of all chains up to a length over the people of a story.
pub(crate) struct Minds {
    chains: Vec<(Vec<Person>, View)>,
}

impl Minds {
    pub(crate) fn new(world: &World, max_order: usize) -> Self {
        Self::of(world.records(), world, max_order)
    }

    /// The views that these records lead to, which may be others than those of the world.
    pub(crate) fn of(records: &[Record], world: &World, max_order: usize) -> Self {
        let view = |chain: Vec<Person>| {
            let view = fold(records, &chain, world.scope(), world.homes());
            (chain, view)
        };
        Self { chains: chains(world, max_order).into_iter().map(view).collect() }
    }

    /// What a chain believes; `None` if the question is ill-posed or nobody has such a chain.
    pub(crate) fn answer(&self, chain: &[Person], property: Property) -> Option<Answer> {
        let (_, view) = self.chains.iter().find(|(other, _)| other == chain)?;
        answer_in(view, property)
    }
}

/// All chains without neighbours that are equal, up to a length, shorter ones first.
pub(crate) fn chains(world: &World, max_order: usize) -> Vec<Vec<Person>> {
    let mut all: Vec<Vec<Person>> = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..max_order {
        let longer = longest.iter().flat_map(|chain: &Vec<Person>| {
            let next = world.people().iter().filter(move |person| chain.last() != Some(person));
            next.map(move |person| [chain.as_slice(), &[person]].concat())
        });
        longest = longer.collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// Every question of a story, facts first, in a fixed order.
pub(crate) fn questions(world: &World, catalogue: Catalogue) -> Vec<Question> {
    let minds = Minds::new(world, catalogue.max_order);
    let mut questions = factual_questions(world);
    for property in properties(world) {
        for (chain, view) in &minds.chains {
            let beyond_second = chain.len() > 2;
            if beyond_second && matches!(property, Property::Knowledge(_) | Property::State(_)) {
                continue;
            }
            let Some(answer) = answer_in(view, property) else { continue };
            if answer == Answer::Unknown && !catalogue.asks_unknown {
                continue;
            }
            let (is_world_aligned, is_next_aligned) = alignment(world, &minds, chain, property, answer);
            questions.push(Question {
                chain: chain.clone(),
                is_interesting: false,
                is_interesting_among_known: false,
                is_world_aligned,
                is_next_aligned,
                is_acquainted: is_acquainted(world, &minds, chain),
                ..Question::fact(property, Time::End, answer)
            });
        }
    }
    mark_interesting(&mut questions);
    questions
}

/// Whether any question needs theory of mind, with chains up to `max_order` (1 or 2).
pub(crate) fn needs_theory_of_mind(questions: &[Question], max_order: usize) -> bool {
    let mut asked = questions.iter().filter(|question| (1..=max_order).contains(&question.chain.len()));
    if max_order >= 2 {
        return asked.any(|question| question.is_interesting);
    }
    answers_by_property(asked).values().any(|answers| answers.len() > 1)
}

/// The properties that beliefs are asked about.
fn properties(world: &World) -> Vec<Property> {
    let mut properties = Vec::new();
    for object in Object::first(world.scope().objects) {
        let boxes = world.containers_of(object);
        if boxes.iter().any(|(_, container)| matches!(container, BoxView::In(_))) {
            properties.push(Property::Container(object));
        }
        if !world.rooms_of(object).is_empty() && world.n_rooms_used() >= 2 {
            properties.push(Property::Room(object));
        }
    }
    properties.extend(uttered_topics(world).map(Property::Knowledge));
    properties.extend(world.states_seen().map(Property::State));
    properties
}

fn factual_questions(world: &World) -> Vec<Question> {
    let mut questions = Vec::new();
    for object in Object::first(world.scope().objects) {
        for property in [Property::Container(object), Property::Room(object)] {
            ask_about(world, property, &real_answers(world, property), &mut questions);
        }
    }
    questions
}

/// What the answer about a place really was, each time with the number of the action that made it so; none about other properties.
pub(crate) fn real_answers(world: &World, property: Property) -> Vec<(usize, Option<Answer>)> {
    match property {
        Property::Container(object) => {
            let held = world.containers_of(object).iter();
            held.map(|(action, view)| (*action, view.known().map(Answer::Container))).collect()
        }
        Property::Room(object) => {
            world.rooms_of(object).iter().map(|(action, view)| (*action, view.known().map(Answer::Room))).collect()
        }
        Property::Knowledge(_) | Property::State(_) => Vec::new(),
    }
}

/// Facts are asked for where there was more than one; those before an event where there were more than two.
fn ask_about(world: &World, property: Property, values: &[(usize, Option<Answer>)], questions: &mut Vec<Question>) {
    let [(_, first), .., (_, last)] = values else { return };
    let mut ask = |time, answer: Option<Answer>| {
        questions.extend(answer.map(|answer| Question::fact(property, time, answer)));
    };
    ask(Time::End, *last);
    ask(Time::Beginning, *first);
    if values.len() >= 3 {
        for pair in values.windows(2) {
            let [(_, replaced), (action, _)] = pair else { continue };
            if is_told_once(world, *action) {
                ask(Time::Before(*action), *replaced);
            }
        }
    }
}

/// Whether no other event has the same main clause.
fn is_told_once(world: &World, action: usize) -> bool {
    let deed = world.events()[action].action.deed;
    world.events().iter().filter(|event| event.action.deed == deed).count() == 1
}

/// Whether the answer is what is really so, and whether it is that of the chain without its first person.
fn alignment(world: &World, minds: &Minds, chain: &[Person], property: Property, answer: Answer) -> (bool, bool) {
    // News has no truth of its own: what is real is whether the last of the chain knows it.
    let real = match (property, chain) {
        (Property::Knowledge(_), [.., last]) => minds.answer(&[*last], property),
        _ => answer_in(world.truth(), property),
    };
    let next = if chain.len() == 1 { real } else { minds.answer(&chain[1..], property) };
    (real == Some(answer), next == Some(answer))
}

/// Whether each pair of neighbours was together at something, or one has noticed the other.
fn is_acquainted(world: &World, minds: &Minds, chain: &[Person]) -> bool {
    let has_noticed = |one: Person, other: Person| {
        let view = minds.chains.iter().find(|(chain, _)| chain.as_slice() == [one]);
        view.is_some_and(|(_, view)| view.room(Entity::Person(other)) != RoomView::Unset)
    };
    chain.windows(2).all(|pair| {
        let (one, other) = (pair[0], pair[1]);
        let together = |record: &Record| record.witnesses.contains(one) && record.witnesses.contains(other);
        world.records().iter().any(together) || has_noticed(one, other) || has_noticed(other, one)
    })
}

/// A property is interesting if not all questions about it, of orders 1 and 2 together, have the same answer.
fn mark_interesting(questions: &mut [Question]) {
    let asked = questions.iter().filter(|question| (1..=2).contains(&question.chain.len()));
    let answers = answers_by_property(asked);
    for question in questions.iter_mut().filter(|question| !question.chain.is_empty()) {
        let Some(answers) = answers.get(&question.property) else { continue };
        question.is_interesting = answers.len() > 1;
        question.is_interesting_among_known = answers.iter().filter(|answer| **answer != Answer::Unknown).count() > 1;
    }
}

fn answers_by_property<'q>(questions: impl Iterator<Item = &'q Question>) -> BTreeMap<Property, BTreeSet<Answer>> {
    let mut answers: BTreeMap<Property, BTreeSet<Answer>> = BTreeMap::new();
    for question in questions {
        answers.entry(question.property).or_default().insert(question.answer);
    }
    answers
}
