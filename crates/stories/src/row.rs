//! Stories as rows of a file, one a question, and as text for people.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::action::{Action, Deed, Message};
use super::cast::Cast;
use super::family::Family;
use super::part::Part;
use super::question::{Property, Question, QuestionKind};
use super::story::{Prose, Story};
use super::telling::{answer_space, answer_text};
use super::trace::explanation;
use super::world::Event;
use aloud_tasks::item::{Item, story_question};

/// Version of the stories: it changes when the same seed gives other stories.
const VERSION: u32 = 2;

/// One question about one story; docs/file-formats.md says what the fields are.
#[expect(clippy::struct_excessive_bools, reason = "independent tags")]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoryRow {
    pub(super) id: String,
    pub(super) version: u32,
    pub(super) seed: u64,
    pub(super) story: u64,
    pub(super) split: Part,
    pub(super) setting: String,
    pub(super) family: Family,
    pub(super) asymmetric: bool,
    /// Number of people planned.
    pub(super) people: usize,
    /// Number of moves planned.
    pub(super) moves: usize,
    pub(super) rooms: usize,
    pub(super) story_text: String,
    pub(super) question: String,
    pub(super) answer: String,
    pub(super) answer_space: Vec<String>,
    pub(super) kind: QuestionKind,
    /// -1: a fact; 1: a belief; 2: a belief about a belief; and so on.
    pub(super) order: i8,
    /// Whose belief: first who thinks, then who is thought of.
    pub(super) chain: Vec<String>,
    /// The object or the news.
    pub(super) subject: String,
    /// `container`, `room`, `knowledge` or `state: ...`.
    pub(super) property: String,
    pub(super) interesting: bool,
    /// The same without regard to answers `unknown`.
    pub(super) interesting_ref: bool,
    pub(super) aligned_world: bool,
    pub(super) aligned_next: bool,
    pub(super) acquainted: bool,
    /// Whether any question of the story of orders 1 and 2 is interesting.
    pub(super) story_needs_tom: bool,
    /// The same with questions of order 1 alone.
    pub(super) story_needs_tom_order1: bool,
    /// Accuracy of the target on the story.
    pub(super) g: f64,
    pub(super) target_name: String,
    pub(super) structure: String,
    pub(super) rejected: usize,
    /// The event log.
    pub(super) actions: Vec<Value>,
    /// Why the answer is right, step by step.
    pub(super) trace: Vec<String>,
    #[serde(flatten)]
    pub(super) prose: Option<Prose>,
}

impl Story {
    /// Number of the story.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// One row for every question.
    pub fn rows(&self) -> Vec<StoryRow> {
        let text = self.telling.text();
        let actions: Vec<Value> = self.world.events().iter().map(|event| action_json(event, &self.cast)).collect();
        (self.questions.iter().enumerate())
            .map(|(number, question)| StoryRow {
                id: self.id(number),
                version: VERSION,
                seed: self.seed,
                story: self.index,
                split: self.part,
                setting: self.cast.setting.clone(),
                family: self.plan.family,
                asymmetric: self.plan.is_asymmetric,
                people: self.plan.n_people,
                moves: self.plan.n_moves,
                rooms: self.world.scope().rooms,
                story_text: text.clone(),
                question: self.question_text(question),
                answer: self.answer(question),
                answer_space: answer_space(question, &self.cast),
                kind: question.kind(),
                order: question.order(),
                chain: question.chain.iter().map(|person| self.cast.person(*person).to_owned()).collect(),
                subject: self.subject(question),
                property: self.property(question),
                interesting: question.is_interesting,
                interesting_ref: question.is_interesting_among_known,
                aligned_world: question.is_world_aligned,
                aligned_next: question.is_next_aligned,
                acquainted: question.is_acquainted,
                story_needs_tom: true,
                story_needs_tom_order1: self.needs_tom_at_order_1,
                g: self.accuracy,
                target_name: self.reader.clone(),
                structure: format!("{:016x}", self.structure),
                rejected: self.n_rejected,
                actions: actions.clone(),
                trace: self.explanation(question),
                prose: self.prose.clone(),
            })
            .collect()
    }

    /// One of its questions, chosen by a hash of the story's name, as an item.
    pub(crate) fn to_item(&self) -> Option<Item> {
        self.item_of(aloud_tasks::hash::hash(self.seed, &self.id(0)) as usize % self.questions.len().max(1))
    }

    /// Question `number` as an item. Its worked solution explains the answer.
    pub(super) fn item_of(&self, number: usize) -> Option<Item> {
        let question = self.questions.get(number)?;
        let thoughts = self.explanation(question).join("\n");
        let answer = self.answer(question);
        Some(Item {
            solution: Some(format!("<think>\n{thoughts}\n</think>\nANSWER: {answer}")),
            answer: Some(answer),
            ..Item::new(self.id(number), story_question(&self.telling.text(), &self.question_text(question)))
        })
    }

    /// The story, its questions and the reasons for their answers, to be read by people.
    pub fn explained(&self) -> String {
        let title = format!("{} | {}, {}", self.id(0), self.plan.family, self.cast.setting);
        let mut lines = vec![title, String::new(), self.telling.text()];
        lines.extend(self.prose.iter().flat_map(|prose| [String::new(), format!("In prose: {}", prose.text)]));
        for question in &self.questions {
            lines.extend([String::new(), self.question_text(question)]);
            let reasons = self.explanation(question).into_iter().enumerate();
            lines.extend(reasons.map(|(number, reason)| format!("  {}. {reason}", number + 1)));
            lines.push(format!("  ANSWER: {}", self.answer(question)));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn id(&self, question: usize) -> String {
        format!("tom-{}-{}-{}-{question}", self.part, self.seed, self.index)
    }

    fn question_text(&self, question: &Question) -> String {
        self.telling.question(&self.world, &self.cast, question)
    }

    fn answer(&self, question: &Question) -> String {
        answer_text(question.answer, question.kind(), &self.cast)
    }

    fn explanation(&self, question: &Question) -> Vec<String> {
        explanation(&self.world, &self.cast, &self.telling, question)
    }

    fn subject(&self, question: &Question) -> String {
        let name = match question.property {
            Property::Container(object) | Property::Room(object) => self.cast.object(object),
            Property::Knowledge(topic) => self.cast.topic(topic),
            Property::State(key) => self.cast.object(self.cast.object_of(key)),
        };
        name.to_owned()
    }

    fn property(&self, question: &Question) -> String {
        match question.property {
            Property::Container(_) => "container".to_owned(),
            Property::Room(_) => "room".to_owned(),
            Property::Knowledge(_) => "knowledge".to_owned(),
            Property::State(key) => format!("state: {}", self.cast.is(key)),
        }
    }
}

/// An event with the names of its people and things.
fn action_json(event: &Event, cast: &Cast) -> Value {
    let Action { deed, peekers, distracted } = event.action;
    let (actor, here) =
        (deed.actor().map_or("", |actor| cast.person(actor)), event.room.map_or("", |room| cast.room(room)));
    let said = deed.message().map_or_else(String::new, |message| message_text(message, cast));
    let names = match deed {
        Deed::Place(entity, room) => vec![("action", "place"), ("what", cast.name(entity)), ("room", cast.room(room))],
        Deed::Enter(_, room) => vec![("action", "enter"), ("actor", actor), ("room", cast.room(room))],
        Deed::Leave(_, room) => vec![("action", "leave"), ("actor", actor), ("room", cast.room(room))],
        Deed::Put(_, object, container) => {
            let (object, container) = (cast.object(object), cast.container(container));
            vec![("action", "put"), ("actor", actor), ("object", object), ("container", container), ("room", here)]
        }
        Deed::Carry(_, object, room) => {
            let (object, room) = (cast.object(object), cast.room(room));
            vec![("action", "carry"), ("actor", actor), ("object", object), ("from", here), ("room", room)]
        }
        Deed::SetState(_, key) => {
            let (object, state) = (cast.object(cast.object_of(key)), cast.is(key));
            vec![("action", "set-state"), ("actor", actor), ("object", object), ("state", state), ("room", here)]
        }
        Deed::Tell(_, listener, _) => {
            vec![("action", "tell"), ("actor", actor), ("listener", cast.person(listener)), ("message", &said)]
        }
        Deed::Announce(..) => vec![("action", "announce"), ("actor", actor), ("room", here), ("message", &said)],
    };
    let mut fields: Map<String, Value> = names.into_iter().map(|(key, name)| (key.to_owned(), json!(name))).collect();
    for (key, people) in [("peekers", peekers), ("distracted", distracted)] {
        if !people.is_empty() {
            let names: Vec<&str> = people.iter().map(|person| cast.person(person)).collect();
            fields.insert(key.to_owned(), json!(names));
        }
    }
    Value::Object(fields)
}

fn message_text(message: Message, cast: &Cast) -> String {
    match message {
        Message::Topic(topic) => cast.topic(topic).to_owned(),
        Message::BoxOf(object, container) => format!("{} in {}", cast.object(object), cast.container(container)),
        Message::RoomOf(entity, room) => format!("{} in {}", cast.name(entity), cast.room(room)),
    }
}
