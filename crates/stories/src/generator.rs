//! Stories by number: settings, checks of settings, and the making of one story.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::cast::{Cast, Size};
use super::family::{Family, Plan};
use super::model_target::ModelTarget;
use super::part::Part;
use super::question::{Catalogue, needs_theory_of_mind, questions};
use super::readers::ReaderPanel;
use super::sampler::complete_at_random;
use super::search::{PanelTarget, search};
use super::selection::select;
use super::story::Story;
use super::structure::structure_hash;
use super::telling::Telling;
use super::text_model::TextModel;
use super::words::Setting;
use super::world::World;
use aloud_base::random::KeyedRandom;
use aloud_tasks::draw::draws;
use aloud_tasks::error::TasksError;
use aloud_tasks::item::Item;

/// The largest number of people, and of moves, of a story.
const MAX_SIZE: usize = 6;
/// The largest number of people whose beliefs are nested in a question.
const MAX_ORDER: usize = 4;
/// The largest number of questions that are asked about one story.
const MAX_QUESTIONS: usize = 6;
/// Random stories that are tried for one that is complete, needs theory of mind, and belongs to the part asked for.
const MAX_ATTEMPTS: usize = 5000;
/// Searches that are tried for one that is hard enough; then the hardest found is taken. In families of news without
/// peeking and distraction most readers are right by necessity.
const MAX_SEARCHES: usize = 30;

/// The same, where a language model is asked.
const MAX_MODEL_SEARCHES: usize = 10;
/// Draws of the words that a language model is asked in are of this seed, mixed with that of the stories.
const TEXT_SEED: u64 = 0x7465_6c6c_696e_6721;

/// Whether somebody peeks or is distracted in a story.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asymmetry {
    /// In half of the stories.
    #[default]
    Mixed,
    /// In none.
    Never,
    /// In all.
    Always,
}

/// Which stories are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorySettings {
    /// Families, all equally often.
    pub families: Vec<Family>,
    /// Whether somebody peeks or is distracted.
    pub asymmetry: Asymmetry,
    /// Numbers of people, all equally often.
    pub people: RangeInclusive<usize>,
    /// Numbers of moves that change something (a thing is put, carried or changed, news is told), all equally often.
    pub moves: RangeInclusive<usize>,
    /// Number of rooms; what the family needs if `None`.
    pub rooms: Option<usize>,
    /// Longest chain of people in a question: 2 asks what one thinks that another believes.
    pub max_order: usize,
    /// Whether places that somebody cannot know are asked for, with the answer `unknown`.
    pub asks_unknown: bool,
    /// Most questions about one story.
    pub questions: usize,
    /// Search for stories on which flawed readers fail, instead of random ones.
    pub search: bool,
    /// A setting of the user's own (TOML) instead of those of the program.
    pub words: Option<PathBuf>,
}

impl Default for StorySettings {
    fn default() -> Self {
        Self {
            families: Family::ALL.to_vec(),
            asymmetry: Asymmetry::Mixed,
            people: 2..=4,
            moves: 2..=4,
            rooms: None,
            max_order: 2,
            asks_unknown: true,
            questions: MAX_QUESTIONS,
            search: false,
            words: None,
        }
    }
}

impl StorySettings {
    /// # Errors
    /// The first setting that no story can have.
    fn check(&self) -> Result<(), TasksError> {
        let error = |key: &'static str, reason: String| Err(TasksError::StorySetting { key, reason });
        if self.families.is_empty() {
            return error("families", "there must be at least one".to_owned());
        }
        for (key, range) in [("people", &self.people), ("moves", &self.moves)] {
            let (low, high) = (*range.start(), *range.end());
            if low < 1 || high > MAX_SIZE || low > high {
                return error(key, format!("expected 1 to {MAX_SIZE}, found {low} to {high}"));
            }
        }
        if self.max_order < 1 || self.max_order > MAX_ORDER {
            return error("order", format!("expected 1 to {MAX_ORDER}, found {}", self.max_order));
        }
        if *self.people.start() < 2 {
            let reason = if self.max_order >= 2 {
                "a question of the second order needs two people, found 1; nobody is alone in a story that needs theory of mind"
            } else {
                "with one person everybody knows everything: no story would need theory of mind; expected at least 2"
            };
            return error("people", reason.to_owned());
        }
        let is_asymmetric = self.asymmetry == Asymmetry::Always;
        let is_too_large = |family: &&Family| family.min_people(is_asymmetric) > *self.people.end();
        if let Some(family) = self.families.iter().find(is_too_large) {
            let needed = family.min_people(false);
            return error("people", format!("minds differ in stories of `{family}` with {needed} people or more only"));
        }
        if self.questions < 1 || self.questions > MAX_QUESTIONS {
            return error("questions", format!("expected 1 to {MAX_QUESTIONS}, found {}", self.questions));
        }
        if let Some(rooms) = self.rooms
            && let Some(family) = self.families.iter().find(|family| family.n_rooms() > rooms)
        {
            let needed = family.n_rooms();
            return error("rooms", format!("stories of `{family}` need {needed}, found {rooms}"));
        }
        Ok(())
    }
}

/// Makes stories. Story `index` of a seed and part is always the same, whatever else is made.
#[derive(Debug)]
pub struct StoryGenerator {
    settings: StorySettings,
    own: Option<Setting>,
    seed: u64,
    /// A language model that stories are to be hard for, and the number of people in the chains that it is asked about.
    reader: Option<(Arc<dyn TextModel>, usize)>,
}

/// A complete story without text.
struct Attempt {
    cast: Cast,
    world: World,
    /// Whether the search, if there was one, met its goal.
    is_hard_enough: bool,
    /// What a language model was asked about the story, and how well it did.
    read: Option<(Telling, f64)>,
}

impl StoryGenerator {
    /// Checks the settings and reads the user's own words, if there are any.
    ///
    /// # Errors
    /// If no story can have these settings, or the file holds what it may not hold (the error names the line).
    pub fn new(settings: StorySettings, seed: u64) -> Result<Self, TasksError> {
        settings.check()?;
        let own = settings.words.as_deref().map(Setting::read).transpose()?;
        if let (Some(setting), Some(path)) = (&own, &settings.words) {
            let rooms = settings.families.iter().map(|family| family.n_rooms()).max().unwrap_or(1);
            for (kind, found, needed) in [
                ("rooms", setting.rooms.len(), settings.rooms.unwrap_or(rooms)),
                ("containers", setting.containers.len(), (*settings.moves.end()).max(2)),
                ("objects", setting.objects.len(), 1),
                ("topics", setting.topics.len(), 1),
                ("people", setting.people().len(), *settings.people.end()),
            ] {
                if found < needed {
                    let reason = format!("stories of these settings need {needed} {kind}, found {found}");
                    return Err(TasksError::file(path, reason));
                }
            }
        }
        Ok(Self { settings, own, seed, reader: None })
    }

    /// Searches for stories that a language model gets wrong, when asked about chains of `order` people, in place of those that
    /// the flawed readers get wrong. A story and its search depend on the model's replies then.
    ///
    /// # Errors
    /// If there are no such questions.
    pub fn with_reader(self, model: Arc<dyn TextModel>, order: usize) -> Result<Self, TasksError> {
        if !(1..=2).contains(&order) {
            let reason = format!("the model is asked questions of order 1 or 2, found {order}");
            return Err(TasksError::StorySetting { key: "search order", reason });
        }
        let settings = StorySettings { search: true, ..self.settings };
        Ok(Self { settings, reader: Some((model, order)), ..self })
    }

    /// Story `index` of a part; of all parts mixed if `None`.
    ///
    /// # Errors
    /// If no such story is found, or the language model of the search cannot be asked.
    pub fn story(&self, index: u64, part: Option<Part>) -> Result<Story, TasksError> {
        let part = part.unwrap_or_else(|| Part::of_index(index / self.n_cells()));
        let mut draw = draws(self.seed, 4 * index + part as u64);
        let plan = self.plan(index, &mut draw);
        let mut hardest: Option<Story> = None;
        let max_attempts = match (&self.reader, self.settings.search) {
            (Some(_), _) => MAX_MODEL_SEARCHES,
            (None, true) => MAX_SEARCHES,
            (None, false) => MAX_ATTEMPTS,
        };
        for n_rejected in 0..max_attempts {
            let Some(attempt) = self.attempt(index, &plan, part, &mut draw)? else { continue };
            let is_hard_enough = attempt.is_hard_enough;
            let Some(story) = self.ask(index, part, plan, attempt, n_rejected, &mut draw) else { continue };
            if is_hard_enough {
                return Ok(story);
            }
            if hardest.as_ref().is_none_or(|other| story.accuracy < other.accuracy) {
                hardest = Some(story);
            }
        }
        hardest.ok_or_else(|| infeasible(&plan, max_attempts))
    }

    /// One question about story `index` of a part, as an item of a task. Its worked solution explains the answer.
    ///
    /// # Errors
    /// If no such story is found.
    pub(crate) fn item(&self, index: u64, part: Part) -> Result<Item, TasksError> {
        let story = self.story(index, Some(part))?;
        story.to_item().ok_or_else(|| infeasible(&story.plan, 1))
    }

    /// Number of stories in a row in which every family, in its forms, comes up once.
    fn n_cells(&self) -> u64 {
        let forms = if self.settings.asymmetry == Asymmetry::Mixed { 2 } else { 1 };
        forms * self.settings.families.len() as u64
    }

    /// What story `index` has to be.
    fn plan(&self, index: u64, draw: &mut KeyedRandom) -> Plan {
        let families = &self.settings.families;
        let cell = index % self.n_cells();
        let family = families[(cell % families.len() as u64) as usize];
        let is_asymmetric = match self.settings.asymmetry {
            Asymmetry::Mixed => cell >= families.len() as u64,
            Asymmetry::Never => false,
            Asymmetry::Always => true,
        };
        let mut number = |low: usize, high: usize| draw.between(low as i64, high as i64) as usize;
        let (people, moves) = (&self.settings.people, &self.settings.moves);
        let n_people = number((*people.start()).max(family.min_people(is_asymmetric)), *people.end());
        let n_moves = number(*moves.start(), *moves.end());
        Plan { family, is_asymmetric, n_people, n_moves }
    }

    /// One complete story of the part; `None` if it came out otherwise.
    fn attempt(
        &self,
        index: u64,
        plan: &Plan,
        part: Part,
        draw: &mut KeyedRandom,
    ) -> Result<Option<Attempt>, TasksError> {
        let shipped = || draw.pick(Setting::of_part(part));
        let Some(setting) = self.own.as_ref().or_else(shipped) else { return Ok(None) };
        let rooms = self.settings.rooms.unwrap_or(plan.family.n_rooms());
        let size = Size { people: plan.n_people, rooms, containers: plan.n_moves.max(2) };
        let cast = Cast::draw(setting, size, draw);
        let Ok(mut world) = World::replay(cast.scope(), &cast.placements) else { return Ok(None) };
        let is_of_part = |world: &World| Part::of_structure(structure_hash(world)) == part;
        if let Some((model, order)) = &self.reader {
            let text = [self.seed ^ TEXT_SEED, 4 * index + part as u64];
            let mut target = ModelTarget { model: model.as_ref(), cast: &cast, text, order: *order };
            let Some(found) = search(&world, plan, &mut target, &is_of_part, draw)? else { return Ok(None) };
            let read = Some((target.telling(&found.world), found.accuracy));
            return Ok(Some(Attempt { cast, world: found.world, is_hard_enough: found.meets_goal, read }));
        }
        if self.settings.search {
            let Some(found) = search(&world, plan, &mut PanelTarget, &is_of_part, draw)? else { return Ok(None) };
            return Ok(Some(Attempt { cast, world: found.world, is_hard_enough: found.meets_goal, read: None }));
        }
        let is_found = complete_at_random(&mut world, plan, draw) && is_of_part(&world);
        Ok(is_found.then_some(Attempt { cast, world, is_hard_enough: true, read: None }))
    }

    /// The story with its text and questions; `None` if it does not need theory of mind.
    fn ask(
        &self,
        index: u64,
        part: Part,
        plan: Plan,
        Attempt { cast, world, read, .. }: Attempt,
        n_rejected: usize,
        draw: &mut KeyedRandom,
    ) -> Option<Story> {
        let catalogue = Catalogue { max_order: self.settings.max_order, asks_unknown: self.settings.asks_unknown };
        let all = questions(&world, catalogue);
        if !needs_theory_of_mind(&all, self.settings.max_order.min(2)) {
            return None;
        }
        let selected = select(&all, self.settings.max_order, self.settings.questions, draw);
        if selected.is_empty() {
            return None;
        }
        let (telling, accuracy, reader) = if let (Some((telling, accuracy)), Some((model, _))) = (read, &self.reader) {
            (telling, accuracy, model.name())
        } else {
            let accuracy = ReaderPanel::new(&world).accuracy(&all)?;
            (Telling::draw(&world, &cast, draw), accuracy, PanelTarget::NAME)
        };
        Some(Story {
            seed: self.seed,
            index,
            part,
            plan,
            telling,
            structure: structure_hash(&world),
            needs_tom_at_order_1: needs_theory_of_mind(&all, 1),
            cast,
            world,
            questions: selected,
            accuracy,
            reader: reader.to_owned(),
            n_rejected,
            prose: None,
        })
    }
}

fn infeasible(Plan { family, n_people, n_moves, .. }: &Plan, attempts: usize) -> TasksError {
    TasksError::InfeasibleStory(format!(
        "`{family}` with {n_people} people and {n_moves} moves was found in {attempts} attempts"
    ))
}
