//! Stories told in prose by a language model, passage by passage. Questions and answers stay those of the bare story, so a
//! passage is kept only if it passes the checks of `passage_check`.

use std::ops::Range;

use super::model_target::replies;
use super::passage_check::{Claims, check};
use super::story::{Prose, Story};
use super::telling::Telling;
use super::text_model::{Asking, TextModel};
use super::world::World;
use aloud_tasks::draw::draws;
use aloud_tasks::error::TasksError;
use aloud_tasks::extract::answer_region;

/// Rewrites of a passage that are tried.
const REWRITES: u32 = 5;
/// Most events that are told together.
const MAX_EVENTS: usize = 3;
/// Version of the wording.
const VERSION: &str = "infill-1";
/// Most tokens of a rewrite.
const REPLY_TOKENS: u32 = 200;
/// Rewrites are to differ.
const TEMPERATURE: f64 = 0.8;
/// Draws are of this seed, mixed with that of the stories.
const STYLE_SEED: u64 = 0x7072_6f73_6521_2121;
/// How a passage is told.
const STYLES: [&str; 4] = [
    "one sentence",
    "one or two sentences",
    "two sentences",
    "one or two sentences, with direct speech if somebody speaks",
];

/// Why a story is not told in prose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The passage that no rewrite passed for.
    pub passage: String,
    /// The last rewrite, and what is wrong with it.
    pub reason: String,
}

impl Story {
    /// The story with its prose; the rejection if a passage has no rewrite that passes. `n_rejected_stories` is the number of
    /// stories that were rejected since the last one that was kept.
    ///
    /// # Errors
    /// If the model cannot be asked.
    pub fn infilled(
        self,
        model: &dyn TextModel,
        n_rejected_stories: u64,
    ) -> Result<Result<Self, Rejection>, TasksError> {
        let mut draw = draws(self.seed ^ STYLE_SEED, 4 * self.index + self.part as u64);
        let names = self.cast.names();
        let mut told: Vec<String> = Vec::new();
        let mut n_rejected_rewrites = 0;
        for events in passages(&self.world, &self.telling) {
            let bare = self.telling.sentences[events.clone()].concat().join(" ");
            let actions = self.world.events()[events].iter().map(|event| event.action);
            let claims = Claims::of(actions, &self.cast);
            let so_far = told.join(" ");
            let mut fault = None;
            for repeat in 0..REWRITES {
                let style = draw.pick(&STYLES).copied().unwrap_or(STYLES[0]);
                let asked = Asking {
                    text: request(&so_far, &bare, style),
                    temperature: TEMPERATURE,
                    max_tokens: REPLY_TOKENS,
                    seed: self.seed,
                    repeat,
                    version: VERSION,
                };
                let reply = replies(model, &[asked])?.concat();
                let rewrite = tidy(&reply);
                match check(&rewrite, &bare, &so_far, &claims, &names) {
                    Ok(()) => {
                        told.push(rewrite);
                        fault = None;
                        break;
                    }
                    Err(found) => {
                        n_rejected_rewrites += 1;
                        fault = Some((rewrite, found));
                    }
                }
            }
            if let Some((rewrite, fault)) = fault {
                return Ok(Err(Rejection { passage: bare, reason: format!("`{rewrite}`: {fault}") }));
            }
        }
        let prose =
            Prose { text: told.join(" "), model: model.name().to_owned(), n_rejected_rewrites, n_rejected_stories };
        Ok(Ok(Self { prose: Some(prose), ..self }))
    }
}

/// A reply as one line of text, without hidden reasoning and quotation marks around it.
fn tidy(reply: &str) -> String {
    let line = answer_region(reply).split_whitespace().collect::<Vec<_>>().join(" ");
    let unquoted = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|rest| !rest.contains('"'));
    unquoted.map_or(line.clone(), str::to_owned)
}

fn request(so_far: &str, bare: &str, style: &str) -> String {
    let so_far = if so_far.is_empty() { "(This is the beginning.)" } else { so_far };
    format!(
        "You turn the plain script of a story into natural prose, passage by passage.\n\nThe story so far:\n{so_far}\n\n\
         The next passage as a script:\n{bare}\n\nWrite this passage in {style}. Use every name exactly as it is written. \
         Keep the order of events and who does, says, sees, hears or misses what. Keep it clear whether something is said in \
         private or to everyone. Add no other person, place or thing and no other event, and leave nothing out. Reply with \
         the passage alone."
    )
}

/// The events of a story in passages: neighbours of one kind that differ in one name belong together.
fn passages(world: &World, telling: &Telling) -> Vec<Range<usize>> {
    let mut passages: Vec<Range<usize>> = Vec::new();
    for at in 0..world.events().len() {
        match passages.last_mut() {
            Some(passage) if passage.len() < MAX_EVENTS && belong_together(world, telling, at) => passage.end += 1,
            _ => passages.push(at..at + 1),
        }
    }
    passages
}

/// Whether event `at`, which is not the first, is like the one before it, but for one name.
fn belong_together(world: &World, telling: &Telling, at: usize) -> bool {
    let (first, second) = (&world.events()[at - 1], &world.events()[at]);
    telling.sentences[at - 1..=at].iter().all(|sentences| sentences.len() == 1)
        && first.room.is_some() == second.room.is_some()
        && first.action.deed.differs_in_one_part(second.action.deed)
}
