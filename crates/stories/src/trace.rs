//! Why an answer is right: the story replayed for one question, with what each person of the chain noticed of each event.

use super::action::{Action, Deed, Message};
use super::cast::Cast;
use super::entity::{Entity, Object, Person};
use super::log::Record;
use super::question::{Answer, Property, Question, Time, answer_in, real_answers};
use super::telling::{Telling, answer_text};
use super::world::{Event, World};

/// What somebody noticed of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Acted,
    Witnessed,
    Peeked,
    Distracted,
    DidNotWitness,
}

/// One event, as it bears on a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) event: usize,
    /// What the people of the chain noticed, in its order.
    pub(crate) roles: Vec<(Person, Role)>,
    /// The answer after the event; `None` while the question is ill-posed.
    pub(crate) answer: Option<Answer>,
    pub(crate) is_changed: bool,
}

/// Every event of a story, as it bears on a question. The last answer is the true one, except for facts of an earlier time.
pub(crate) fn trace(world: &World, question: &Question) -> Vec<Step> {
    let step = |event| {
        let answer = answer_after(world, question, event + 1);
        let roles = question.chain.iter().map(|person| (*person, role(world, event, *person))).collect();
        Step { event, roles, answer, is_changed: answer != answer_after(world, question, event) }
    };
    (0..world.events().len()).map(step).collect()
}

fn answer_after(world: &World, question: &Question, n_actions: usize) -> Option<Answer> {
    if question.chain.is_empty() {
        let answers = real_answers(world, question.property);
        return answers.into_iter().rev().find(|(action, _)| *action < n_actions)?.1;
    }
    answer_in(&world.view_after(&question.chain, n_actions), question.property)
}

/// What somebody noticed of an event. Whoever moves from room to room is noticed in both.
fn role(world: &World, number: usize, person: Person) -> Role {
    let Action { deed, peekers, distracted } = world.events()[number].action;
    let is_witness = |record: &Record| record.action == number && record.witnesses.contains(person);
    match person {
        _ if deed.actor() == Some(person) => Role::Acted,
        _ if distracted.contains(person) => Role::Distracted,
        _ if peekers.contains(person) => Role::Peeked,
        _ if world.records().iter().any(is_witness) => Role::Witnessed,
        _ => Role::DidNotWitness,
    }
}

/// The reasons for an answer as lines of English: the events that matter, who noticed each, and what it changes.
pub(crate) fn explanation(world: &World, cast: &Cast, telling: &Telling, question: &Question) -> Vec<String> {
    let steps = trace(world, question);
    let asked_for = match question.time {
        Time::End => steps.as_slice(),
        Time::Beginning => {
            let first = steps.iter().position(|step| step.is_changed).map_or(0, |first| first + 1);
            &steps[..first]
        }
        Time::Before(event) => &steps[..event],
    };
    let mut lines: Vec<String> = asked_for
        .iter()
        .filter(|step| matters(world, question, step))
        .map(|step| {
            let mut parts = telling.sentences[step.event].clone();
            parts.extend(noticed(world, cast, step));
            if step.is_changed {
                parts.push(format!("Now {}.", said(cast, question, step.answer)));
            }
            parts.join(" ")
        })
        .collect();
    lines.push(conclusion(cast, question));
    lines
}

/// Events that change the answer; for beliefs also those that concern what is asked for and change nothing.
fn matters(world: &World, question: &Question, step: &Step) -> bool {
    step.is_changed || (!question.chain.is_empty() && concerns(&world.events()[step.event], question.property))
}

/// Whether an event is about the property.
fn concerns(event: &Event, property: Property) -> bool {
    let moved = match event.action.deed {
        Deed::Tell(_, _, Message::Topic(topic)) | Deed::Announce(_, Message::Topic(topic)) => {
            return property == Property::Knowledge(topic);
        }
        Deed::SetState(_, key) => return matches!(property, Property::State(asked) if asked == key),
        Deed::Put(_, object, _) | Deed::Carry(_, object, _) => Some(object),
        deed => match deed.message() {
            Some(Message::BoxOf(object, _) | Message::RoomOf(Entity::Object(object), _)) => Some(object),
            _ => None,
        },
    };
    moved.is_some() && moved == place_of(property).map(|(object, _)| object)
}

/// Who of the chain noticed the event, as sentences.
fn noticed(world: &World, cast: &Cast, step: &Step) -> Vec<String> {
    let event = &world.events()[step.event];
    let (verb, acts) = if event.action.deed.is_speech() { ("hears", "said it") } else { ("sees", "did it") };
    let Some(((first, role), others)) = step.roles.split_first() else { return Vec::new() };
    let name = cast.person(*first);
    let mut sentences = Vec::new();
    match role {
        Role::Acted if matches!(event.action.deed, Deed::Enter(..)) => {
            sentences.push(format!("{name} sees what is in the open there."));
        }
        Role::Acted => {}
        Role::Witnessed => sentences.push(format!("{name} {verb} this.")),
        Role::Peeked => sentences.push(format!("{name} {verb} this in secret.")),
        Role::Distracted => return vec![format!("{name} misses this.")],
        Role::DidNotWitness => return vec![format!("{name} does not notice this.")],
    }
    for (other, role) in others {
        if other == first {
            continue;
        }
        let other = cast.person(*other);
        sentences.push(match role {
            Role::Acted => format!("{name} knows that {other} {acts}."),
            Role::Witnessed => format!("{name} knows that {other} {verb} it."),
            Role::Distracted => format!("{name} thinks that {other} {verb} it."),
            Role::Peeked | Role::DidNotWitness => format!("As far as {name} knows, {other} does not notice it."),
        });
    }
    sentences
}

/// `Ines thinks that Omar believes the lens is in the tin`
fn said(cast: &Cast, question: &Question, answer: Option<Answer>) -> String {
    let thinks = |outer: &[Person]| -> String {
        let thinkers: Vec<String> =
            outer.iter().map(|person| format!("{} thinks that ", cast.person(*person))).collect();
        thinkers.concat()
    };
    // One who cannot tell what another believes need not take the other to be without a belief.
    if let ([outer @ .., one, other], Some((object, place)), Some(Answer::Unknown)) =
        (question.chain.as_slice(), place_of(question.property), answer)
    {
        let (one, other, object) = (cast.person(*one), cast.person(*other), cast.object(object));
        return format!("{}{one} cannot tell in which {place} {other} would search for the {object}", thinks(outer));
    }
    let outer = question.chain.split_last().map_or(&[][..], |(_, outer)| outer);
    format!("{}{}", thinks(outer), belief(cast, question, answer))
}

/// The object whose place the property is, and what kind of place.
fn place_of(property: Property) -> Option<(Object, &'static str)> {
    match property {
        Property::Container(object) => Some((object, "container")),
        Property::Room(object) => Some((object, "room")),
        Property::Knowledge(_) | Property::State(_) => None,
    }
}

/// What the last of the chain believes; without a chain, what is so.
fn belief(cast: &Cast, question: &Question, answer: Option<Answer>) -> String {
    let who = question.chain.last().map(|person| cast.person(*person));
    let place = |object, place: String| match who {
        Some(who) => format!("{who} believes the {} is {place}", cast.object(object)),
        None => format!("the {} is {place}", cast.object(object)),
    };
    match (question.property, answer) {
        (Property::Container(object), Some(Answer::Container(container))) => {
            place(object, format!("in the {}", cast.container(container)))
        }
        (Property::Room(object), Some(Answer::Room(room))) => place(object, format!("in the {}", cast.room(room))),
        (Property::Container(object), None) => place(object, "in no container".to_owned()),
        (property @ (Property::Container(object) | Property::Room(object)), _) => {
            let what = place_of(property).map_or("place", |(_, what)| what);
            match who {
                Some(who) => format!("{who} does not know in which {what} the {} is", cast.object(object)),
                None => format!("the {} is in no {what}", cast.object(object)),
            }
        }
        (Property::Knowledge(topic), answer) => {
            let who = who.unwrap_or_default();
            match answer {
                Some(Answer::Yes) => format!("{who} knows about {}", cast.topic(topic)),
                _ => format!("{who} does not know about {}", cast.topic(topic)),
            }
        }
        (Property::State(key), answer) => {
            let (who, object) = (who.unwrap_or_default(), cast.object(cast.object_of(key)));
            match answer {
                Some(Answer::Yes) => format!("{who} is aware that the {object} {}", cast.is(key)),
                _ => format!("{who} is not aware that the {object} {}", cast.is(key)),
            }
        }
    }
}

fn conclusion(cast: &Cast, question: &Question) -> String {
    let so = said(cast, question, Some(question.answer));
    let place = answer_text(question.answer, question.kind(), cast);
    match question.time {
        Time::End => format!("At the end, {so}."),
        Time::Beginning => format!("At the beginning, it was in the {place}."),
        Time::Before(_) => format!("Right before that moment, it was in the {place}."),
    }
}
