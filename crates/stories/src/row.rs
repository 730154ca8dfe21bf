//! Stories as rows of a file, one a question, and as text for people.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::action::{Deed, Message};
use super::cast::Cast;
use super::entity::{Entity, People};
use super::family::Family;
use super::part::Part;
use super::question::{Property, Question, QuestionKind};
use super::story::Story;
use super::telling::{answer_space, answer_text};
use super::trace::explanation;
use super::world::Event;
use aloud_tasks::item::Item;
use aloud_tasks::item::story_question;

/// Version of the stories: it changes when the same seed gives other stories.
const VERSION: u32 = 2;

/// One question about one story.
#[expect(clippy::struct_excessive_bools, reason = "independent tags")]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoryRow {
    /// Name, unique among the rows of a seed.
    pub id: String,
    /// Version of the generator.
    pub version: u32,
    /// Seed of the stories.
    pub seed: u64,
    /// Number of the story.
    pub story: u64,
    /// Part of the data.
    pub split: Part,
    /// The setting.
    pub setting: String,
    /// The family of the story.
    pub family: Family,
    /// Whether somebody peeks or is distracted.
    pub asymmetric: bool,
    /// Number of people planned.
    pub people: usize,
    /// Number of moves planned.
    pub moves: usize,
    /// Number of rooms.
    pub rooms: usize,
    /// The story.
    pub story_text: String,
    /// The question.
    pub question: String,
    /// Its true answer.
    pub answer: String,
    /// All answers that it could have.
    pub answer_space: Vec<String>,
    /// Its kind.
    pub kind: QuestionKind,
    /// -1: a fact; 1: a belief; 2: a belief about a belief; and so on.
    pub order: i8,
    /// Whose belief: first who thinks, then who is thought of.
    pub chain: Vec<String>,
    /// What the question is about: the object or the news.
    pub subject: String,
    /// `container`, `room`, `knowledge` or `state: ...`.
    pub property: String,
    /// Whether minds differ on it.
    pub interesting: bool,
    /// The same without regard to answers `unknown`.
    pub interesting_ref: bool,
    /// Whether the answer is what is really so.
    pub aligned_world: bool,
    /// Whether the answer is that of the chain without its first person; if not, somebody is wrong.
    pub aligned_next: bool,
    /// Whether neighbours of the chain have to do with each other in the story.
    pub acquainted: bool,
    /// Whether any question of the story of orders 1 and 2 is interesting.
    pub story_needs_tom: bool,
    /// The same with questions of order 1 alone.
    pub story_needs_tom_order1: bool,
    /// Accuracy of the target on the story.
    pub g: f64,
    /// Whose accuracy that is.
    pub target_name: String,
    /// Hash of the story's structure, the same for stories that differ in names only.
    pub structure: String,
    /// Candidates that were tried and rejected before the story.
    pub rejected: usize,
    /// What happens: the event log.
    pub actions: Vec<Value>,
    /// Why the answer is right, step by step.
    pub trace: Vec<String>,
    /// The story in prose, as a language model tells it, if one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infilled_text: Option<String>,
    /// Who wrote the prose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infill_model: Option<String>,
    /// Rewrites of passages of this story that were rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infill_rejected_rewrites: Option<u64>,
    /// Stories before this one that were rejected because of a passage without a good rewrite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infill_rejected_stories: Option<u64>,
}

impl Story {
    /// Number of the story.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Part of the data that it belongs to.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Hash of its structure, the same for stories that differ in names only.
    pub fn structure(&self) -> u64 {
        self.structure
    }

    /// Number of candidates that were tried and rejected before it.
    pub fn n_rejected(&self) -> usize {
        self.n_rejected
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
                infilled_text: self.prose.as_ref().map(|prose| prose.text.clone()),
                infill_model: self.prose.as_ref().map(|prose| prose.model.clone()),
                infill_rejected_rewrites: self.prose.as_ref().map(|prose| prose.n_rejected_rewrites),
                infill_rejected_stories: self.prose.as_ref().map(|prose| prose.n_rejected_stories),
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
        match question.property {
            Property::Container(object) | Property::Room(object) => self.cast.object(object).to_owned(),
            Property::Knowledge(topic) => self.cast.topic(topic).to_owned(),
            Property::State(key, _) => self.cast.object(self.cast.object_of(key)).to_owned(),
        }
    }

    fn property(&self, question: &Question) -> String {
        match question.property {
            Property::Container(_) => "container".to_owned(),
            Property::Room(_) => "room".to_owned(),
            Property::Knowledge(_) => "knowledge".to_owned(),
            Property::State(key, _) => format!("state: {}", self.cast.is(key)),
        }
    }
}

/// An event with the names of its people and things.
fn action_json(event: &Event, cast: &Cast) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: &str| {
        fields.insert(key.to_owned(), json!(value));
    };
    let action = &event.action;
    let room_before = event.room.map(|room| cast.room(room));
    match action.deed {
        Deed::Place(entity, room) => {
            put("action", "place");
            put("what", entity_name(entity, cast));
            put("room", cast.room(room));
        }
        Deed::Enter(person, room) | Deed::Leave(person, room) => {
            put("action", if matches!(action.deed, Deed::Enter(..)) { "enter" } else { "leave" });
            put("actor", cast.person(person));
            put("room", cast.room(room));
        }
        Deed::Put(person, object, container) => {
            put("action", "put");
            put("actor", cast.person(person));
            put("object", cast.object(object));
            put("container", cast.container(container));
            put("room", room_before.unwrap_or_default());
        }
        Deed::Carry(person, object, room) => {
            put("action", "carry");
            put("actor", cast.person(person));
            put("object", cast.object(object));
            put("from", room_before.unwrap_or_default());
            put("room", cast.room(room));
        }
        Deed::SetState(person, key, _) => {
            put("action", "set-state");
            put("actor", cast.person(person));
            put("object", cast.object(cast.object_of(key)));
            put("state", cast.is(key));
            put("room", room_before.unwrap_or_default());
        }
        Deed::Tell(speaker, listener, message) => {
            put("action", "tell");
            put("actor", cast.person(speaker));
            put("listener", cast.person(listener));
            put("message", &message_text(message, cast));
        }
        Deed::Announce(speaker, message) => {
            put("action", "announce");
            put("actor", cast.person(speaker));
            put("room", room_before.unwrap_or_default());
            put("message", &message_text(message, cast));
        }
    }
    for (key, people) in [("peekers", action.peekers), ("distracted", action.distracted)] {
        if people != People::NOBODY {
            let names: Vec<&str> = people.iter().map(|person| cast.person(person)).collect();
            fields.insert(key.to_owned(), json!(names));
        }
    }
    Value::Object(fields)
}

fn entity_name(entity: Entity, cast: &Cast) -> &str {
    match entity {
        Entity::Person(person) => cast.person(person),
        Entity::Container(container) => cast.container(container),
        Entity::Object(object) => cast.object(object),
    }
}

fn message_text(message: Message, cast: &Cast) -> String {
    match message {
        Message::Topic(topic) => cast.topic(topic).to_owned(),
        Message::BoxOf(object, container) => format!("{} in {}", cast.object(object), cast.container(container)),
        Message::RoomOf(entity, room) => format!("{} in {}", entity_name(entity, cast), cast.room(room)),
    }
}
