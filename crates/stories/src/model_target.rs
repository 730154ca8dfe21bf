//! A language model as the reader whom stories are to be hard for.

use super::cast::Cast;
use super::question::Question;
use super::search::TargetModel;
use super::telling::{Telling, answer_text};
use super::text_model::{Asking, TextModel};
use super::world::World;
use aloud_tasks::draw::draws;
use aloud_tasks::error::TasksError;
use aloud_tasks::extract::answer_region;
use aloud_tasks::item::story_question;

/// Written below a question. Replies are graded by whether they contain the true answer.
const INSTRUCTION: &str = "Reply with the answer alone, in a few words. If a place cannot be known, reply: unknown";
/// Version of the wording.
const VERSION: &str = "search-1";
/// Most tokens of a reply.
const REPLY_TOKENS: u32 = 40;
/// Random completions of a node.
const N_COMPLETIONS: usize = 50;

/// Asks the model the questions of one order about a story.
pub(crate) struct ModelTarget<'a> {
    pub(crate) model: &'a dyn TextModel,
    pub(crate) cast: &'a Cast,
    /// Seed and number of the draws of the text: a story that goes on goes on in the same words.
    pub(crate) text: [u64; 2],
    /// Number of people in the chains of the questions that are asked.
    pub(crate) order: usize,
}

impl ModelTarget<'_> {
    /// The story in the words that the model is given.
    pub(crate) fn telling(&self, world: &World) -> Telling {
        let [seed, number] = self.text;
        Telling::draw(world, self.cast, &mut draws(seed, number))
    }

    /// Share of right replies when asked for the time number `repeat`.
    fn ask(&self, world: &World, questions: &[Question], repeat: u32) -> Result<Option<f64>, TasksError> {
        let telling = self.telling(world);
        let story = telling.text();
        let questions: Vec<&Question> =
            questions.iter().filter(|question| question.chain.len() == self.order).collect();
        let asking = |question: &&Question| Asking {
            text: format!("{}\n\n{INSTRUCTION}", story_question(&story, &telling.question(world, self.cast, question))),
            temperature: 0.0,
            max_tokens: REPLY_TOKENS,
            seed: self.text[0],
            repeat,
            version: VERSION,
        };
        if questions.is_empty() {
            return Ok(None);
        }
        let asked: Vec<Asking> = questions.iter().map(asking).collect();
        let replies = replies(self.model, &asked)?;
        let is_right = |(question, reply): &(&&Question, &String)| {
            let gold = answer_text(question.answer, question.kind(), self.cast);
            answer_region(reply).to_lowercase().contains(&gold)
        };
        let n_right = questions.iter().zip(&replies).filter(is_right).count();
        Ok(Some(n_right as f64 / questions.len() as f64))
    }
}

impl TargetModel for ModelTarget<'_> {
    fn accuracy(&mut self, world: &World, questions: &[Question]) -> Result<Option<f64>, TasksError> {
        self.ask(world, questions, 0)
    }

    fn confirmed(&mut self, world: &World, questions: &[Question], accuracy: f64) -> Result<f64, TasksError> {
        Ok(self.ask(world, questions, 1)?.unwrap_or(accuracy))
    }

    /// One wrong answer is enough.
    fn is_hard(&self, accuracy: f64) -> bool {
        accuracy < 1.0
    }

    fn n_completions(&self) -> usize {
        N_COMPLETIONS
    }
}

/// The replies of a model, with its name in the error.
pub(super) fn replies(model: &dyn TextModel, asked: &[Asking]) -> Result<Vec<String>, TasksError> {
    let error = |source| TasksError::Model { name: model.name().to_owned(), source };
    let replies = model.replies(asked).map_err(error)?;
    if replies.len() != asked.len() {
        return Err(error(format!("{} replies to {} messages", replies.len(), asked.len()).into()));
    }
    Ok(replies)
}
