//! Random stories: one step, and the completion of a story by such steps.

use super::action::{Action, Deed, Message};
use super::entity::{Container, Entity, Object, People, Person, Room, StateKey, Topic};
use super::family::{MAX_SENTENCES, MoveKind, Plan};
use super::world::World;
use aloud_base::random::KeyedRandom;

/// Draws in vain after which a completion is given up.
const MAX_FRUITLESS: usize = 400;

/// Lets one action happen: a kind is drawn, then the first of its possibilities, in random order, that the rules allow.
/// Whether there was one.
pub(crate) fn random_step(world: &mut World, moves: &[(MoveKind, bool)], draw: &mut KeyedRandom) -> bool {
    let Some((kind, is_asymmetric)) = draw.pick(moves).copied() else { return false };
    let mut deeds = deeds(world, kind);
    draw.shuffle_from_start(&mut deeds);
    for deed in deeds {
        let mut choices = if is_asymmetric { asymmetries(world, deed) } else { vec![Action::open(deed)] };
        draw.shuffle_from_start(&mut choices);
        for action in choices {
            if world.act(action).is_ok() {
                return true;
            }
        }
    }
    false
}

/// Adds random actions until the story is complete. Whether it came to that.
pub(crate) fn complete_at_random(world: &mut World, plan: &Plan, draw: &mut KeyedRandom) -> bool {
    let moves = plan.moves();
    let mut n_fruitless = 0;
    while !plan.is_complete(world) {
        if plan.is_dead(world) || world.n_sentences() >= MAX_SENTENCES || n_fruitless == MAX_FRUITLESS {
            return false;
        }
        if !random_step(world, &moves, draw) {
            n_fruitless += 1;
        }
    }
    true
}

/// All deeds of a kind, allowed or not. What is told of places comes from the speaker's own beliefs.
fn deeds(world: &World, kind: MoveKind) -> Vec<Deed> {
    let scope = world.scope();
    let people = || Person::first(scope.people);
    let rooms = || Room::first(scope.rooms);
    let mut deeds = Vec::new();
    for person in people() {
        match kind {
            MoveKind::Place => {}
            MoveKind::Enter => deeds.extend(rooms().map(|room| Deed::Enter(person, room))),
            MoveKind::Leave => deeds.extend(rooms().map(|room| Deed::Leave(person, room))),
            MoveKind::Put => {
                for object in Object::first(scope.objects) {
                    deeds.extend(Container::first(scope.containers).map(|holder| Deed::Put(person, object, holder)));
                }
            }
            MoveKind::Carry => {
                for object in Object::first(scope.objects) {
                    deeds.extend(rooms().map(|room| Deed::Carry(person, object, room)));
                }
            }
            MoveKind::SetState => {
                deeds.extend(StateKey::first(scope.states.len()).map(|key| Deed::SetState(person, key)));
            }
            MoveKind::TellTopic | MoveKind::TellBox | MoveKind::TellRoom => {
                for message in messages(world, person, kind) {
                    let listeners = people().filter(|listener| *listener != person);
                    deeds.extend(listeners.map(|listener| Deed::Tell(person, listener, message)));
                }
            }
            MoveKind::AnnounceTopic | MoveKind::AnnounceBox | MoveKind::AnnounceRoom => {
                deeds.extend(messages(world, person, kind).into_iter().map(|said| Deed::Announce(person, said)));
            }
        }
    }
    deeds
}

fn messages(world: &World, speaker: Person, kind: MoveKind) -> Vec<Message> {
    if matches!(kind, MoveKind::TellTopic | MoveKind::AnnounceTopic) {
        return Topic::first(world.scope().topics).map(Message::Topic).collect();
    }
    let view = world.view(&[speaker]);
    let about = |object: Object| match kind {
        MoveKind::TellBox | MoveKind::AnnounceBox => {
            view.container(object).known().map(|container| Message::BoxOf(object, container))
        }
        _ => {
            let thing = Entity::Object(object);
            view.room(thing).known().map(|room| Message::RoomOf(thing, room))
        }
    };
    Object::first(world.scope().objects).filter_map(about).collect()
}

/// The forms of a deed with one peeker, one distracted person, or one of each.
fn asymmetries(world: &World, deed: Deed) -> Vec<Action> {
    let others: Vec<Person> =
        Person::first(world.scope().people).filter(|person| deed.actor() != Some(*person)).collect();
    let one = |person: Person| People::NOBODY.with(person);
    let mut actions = Vec::new();
    for first in &others {
        actions.push(Action { deed, peekers: one(*first), distracted: People::NOBODY });
        actions.push(Action { deed, peekers: People::NOBODY, distracted: one(*first) });
        for second in others.iter().filter(|second| *second != first) {
            actions.push(Action { deed, peekers: one(*first), distracted: one(*second) });
        }
    }
    actions
}
