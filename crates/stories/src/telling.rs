//! Stories and questions as English text. Every fact that the rules use is told, and nothing else: who, what, which
//! container and its room, in private or in public, who hears it.

use super::action::{Deed, Message};
use super::cast::Cast;
use super::entity::{Entity, People};
use super::question::{Answer, Property, Question, QuestionKind, Time};
use super::template::{Pattern, fill};
use super::world::{Event, World};
use aloud_base::random::KeyedRandom;

/// The text of a story, sentence by sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telling {
    /// For every event its sentence, and one more each if somebody peeks or is distracted.
    pub(crate) sentences: Vec<Vec<String>>,
    /// For every event the place of its template among those of its pattern.
    choices: Vec<usize>,
}

impl Telling {
    /// Tells a story; the templates are chosen at random.
    pub(crate) fn draw(world: &World, cast: &Cast, draw: &mut KeyedRandom) -> Self {
        let mut telling = Self { sentences: Vec::new(), choices: Vec::new() };
        for event in world.events() {
            let pattern = pattern(event);
            let choice = draw.between(0, pattern.templates().len() as i64 - 1) as usize;
            let mut sentences = vec![sentence(event, cast, choice, false)];
            let peek = if event.action.deed.is_speech() { Pattern::PeekSpeech } else { Pattern::PeekSight };
            for (pattern, others) in [(peek, event.action.peekers), (Pattern::Distraction, event.action.distracted)] {
                if !others.is_empty()
                    && let Some(template) = draw.pick(pattern.templates())
                {
                    sentences.push(modifier(template, cast, others));
                }
            }
            telling.sentences.push(sentences);
            telling.choices.push(choice);
        }
        telling
    }

    pub(crate) fn text(&self) -> String {
        self.sentences.concat().join(" ")
    }

    /// What an event's sentence says, as the end of a sentence of its own: without room and full stop.
    fn clause(&self, world: &World, cast: &Cast, action: usize) -> String {
        sentence(&world.events()[action], cast, self.choices[action], true)
    }

    pub(crate) fn question(&self, world: &World, cast: &Cast, question: &Question) -> String {
        let person = |at: usize| question.chain.get(at).map_or("", |person| cast.person(*person));
        match question.property {
            Property::Container(object) => self.place_question(world, cast, question, "container", cast.object(object)),
            Property::Room(object) => self.place_question(world, cast, question, "room", cast.object(object)),
            Property::Knowledge(topic) => match question.kind() {
                QuestionKind::Know1 => {
                    format!("Does {} know about {}? Answer yes or no.", person(0), cast.topic(topic))
                }
                _ => format!(
                    "What does {} think about {}'s belief on {}? (knows about it / does not know about it)",
                    person(0),
                    person(1),
                    cast.topic(topic)
                ),
            },
            Property::State(key) => {
                let what = format!("the {} {}", cast.object(cast.object_of(key)), cast.is(key));
                match question.kind() {
                    QuestionKind::State1 => format!("Is {} aware that {what}? Answer yes or no.", person(0)),
                    _ => format!("Does {} think {} is aware that {what}? Answer yes or no.", person(0), person(1)),
                }
            }
        }
    }

    fn place_question(&self, world: &World, cast: &Cast, question: &Question, place: &str, object: &str) -> String {
        match question.chain.split_first() {
            None => match question.time {
                Time::End => format!("In which {place} is the {object} now?"),
                Time::Beginning => format!("In which {place} was the {object} at the beginning?"),
                Time::Before(action) => {
                    let clause = self.clause(world, cast, action);
                    format!("Right before {clause}, in which {place} was the {object}?")
                }
            },
            Some((first, [])) => format!("In which {place} will {} search for the {object}?", cast.person(*first)),
            Some((first, others)) => {
                let mut text = format!("In which {place} does {} think that", cast.person(*first));
                for (number, other) in others.iter().enumerate() {
                    let verb = if number + 1 < others.len() { "thinks that" } else { "will search for" };
                    text = format!("{text} {} {verb}", cast.person(*other));
                }
                format!("{text} the {object}?")
            }
        }
    }
}

/// The text of an answer to a question of this kind.
pub(crate) fn answer_text(answer: Answer, kind: QuestionKind, cast: &Cast) -> String {
    let text = match (answer, kind) {
        (Answer::Container(container), _) => cast.container(container),
        (Answer::Room(room), _) => cast.room(room),
        (Answer::Unknown, _) => "unknown",
        (Answer::Yes, QuestionKind::Know2) => "knows about it",
        (Answer::No, QuestionKind::Know2) => "does not know about it",
        (Answer::Yes, _) => "yes",
        (Answer::No, _) => "no",
    };
    text.to_owned()
}

/// All answers that a question of this kind can have in this story.
pub(crate) fn answer_space(question: &Question, cast: &Cast) -> Vec<String> {
    let with_unknown = |places: &[String]| {
        let unknown = (!question.chain.is_empty()).then(|| "unknown".to_owned());
        places.iter().cloned().chain(unknown).collect()
    };
    match (question.property, question.kind()) {
        (Property::Container(_), _) => with_unknown(cast.containers()),
        (Property::Room(_), _) => with_unknown(cast.rooms()),
        (Property::Knowledge(_) | Property::State(_), kind) => {
            [Answer::Yes, Answer::No].map(|answer| answer_text(answer, kind, cast)).to_vec()
        }
    }
}

/// Which pattern tells an event.
fn pattern(event: &Event) -> Pattern {
    match event.action.deed {
        Deed::Place(Entity::Person(_), _) => Pattern::PlacePerson,
        Deed::Place(..) => Pattern::PlaceThing,
        Deed::Enter(..) if event.room.is_some() => Pattern::EnterFrom,
        Deed::Enter(..) => Pattern::Enter,
        Deed::Leave(..) => Pattern::Leave,
        Deed::Put(..) => Pattern::Put,
        Deed::Carry(..) if event.held_by.known().is_some() => Pattern::CarryFrom,
        Deed::Carry(..) => Pattern::CarryOpen,
        Deed::SetState(..) => Pattern::SetState,
        Deed::Tell(_, _, Message::Topic(_)) => Pattern::TellTopic,
        Deed::Tell(_, _, Message::BoxOf(..)) => Pattern::TellBox,
        Deed::Tell(_, _, Message::RoomOf(..)) => Pattern::TellRoom,
        Deed::Announce(_, Message::Topic(_)) => Pattern::AnnounceTopic,
        Deed::Announce(_, Message::BoxOf(..)) => Pattern::AnnounceBox,
        Deed::Announce(_, Message::RoomOf(..)) => Pattern::AnnounceRoom,
    }
}

fn sentence(event: &Event, cast: &Cast, choice: usize, is_clause: bool) -> String {
    let template = pattern(event).templates().get(choice).map_or("", String::as_str);
    fill(template, is_clause, |slot| slot_text(slot, event, cast))
}

fn modifier(template: &str, cast: &Cast, others: People) -> String {
    let names: Vec<&str> = others.iter().map(|person| cast.person(person)).collect();
    fill(template, false, |slot| match slot {
        "was" => if names.len() == 1 { "was" } else { "were" }.to_owned(),
        _ => names.join(" and "),
    })
}

fn slot_text(slot: &str, event: &Event, cast: &Cast) -> String {
    let deed = event.action.deed;
    let room_before = || event.room.map_or("", |room| cast.room(room)).to_owned();
    match (slot, deed) {
        ("actor", _) => deed.actor().map_or("", |actor| cast.person(actor)).to_owned(),
        ("room", Deed::Place(_, room) | Deed::Enter(_, room) | Deed::Leave(_, room) | Deed::Carry(_, _, room)) => {
            cast.room(room).to_owned()
        }
        ("room" | "origin", _) => room_before(),
        ("listener", Deed::Tell(_, listener, _)) => cast.person(listener).to_owned(),
        ("thing", Deed::Place(Entity::Object(object), _))
        | ("object", Deed::Put(_, object, _) | Deed::Carry(_, object, _)) => cast.object(object).to_owned(),
        ("thing", Deed::Place(Entity::Container(container), _)) | ("container", Deed::Put(_, _, container)) => {
            cast.container(container).to_owned()
        }
        ("container", Deed::Carry(..)) => {
            event.held_by.known().map_or("", |container| cast.container(container)).to_owned()
        }
        ("does", Deed::SetState(_, key)) => cast.does(key).to_owned(),
        (_, _) => deed.message().map_or_else(String::new, |message| message_slot(slot, message, cast)),
    }
}

fn message_slot(slot: &str, message: Message, cast: &Cast) -> String {
    match (slot, message) {
        ("topic", Message::Topic(topic)) => cast.topic(topic).to_owned(),
        ("object", Message::BoxOf(object, _)) => cast.object(object).to_owned(),
        ("container", Message::BoxOf(_, container)) => cast.container(container).to_owned(),
        ("entity", Message::RoomOf(entity, _)) => cast.entity(entity),
        ("place", Message::RoomOf(_, room)) => cast.room(room).to_owned(),
        _ => String::new(),
    }
}
