//! A* over story structures: looks for complete stories that a target model gets wrong.
//!
//! A node is a sequence of actions, a child has up to [`STEPS`] more. The cost of a node is the target's accuracy on it
//! (1: easy) plus a small multiple of the share of random completions that fail, lower first.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;
use super::family::{MAX_SENTENCES, Plan};
use super::question::{Catalogue, Question, questions};
use super::readers::ReaderPanel;
use super::sampler::{complete_at_random, random_step};
use super::world::World;
use aloud_base::random::KeyedRandom;
use aloud_tasks::error::TasksError;

/// Actions that a child adds at most.
const STEPS: usize = 3;
/// Weight of the share of failed completions.
const LAMBDA: f64 = 0.1;
/// Random completions of a node, for the panel of flawed readers.
const PANEL_COMPLETIONS: usize = 16;
/// Accuracy of the panel at which a story is hard.
const PANEL_GOAL: f64 = 0.6;
/// Stories that are shown to the target in one search.
const BUDGET: usize = 50;
/// Random extensions of a node for each child that is wanted.
const EXTENSIONS_PER_CHILD: usize = 50;
/// Most nodes that are taken from the queue.
const MAX_VISITS: usize = 5000;
/// Cost of a story that nothing can be asked about.
const NO_QUESTIONS: f64 = 2.0;
/// Stories of so few sentences are easy for everybody.
const TRIVIAL_SENTENCES: usize = 3;

/// Whom a story should be hard for.
pub(crate) trait TargetModel {
    /// Share of the questions that it answers rightly; `None` if there are none for it.
    ///
    /// # Errors
    /// If it cannot be asked.
    fn accuracy(&mut self, world: &World, questions: &[Question]) -> Result<Option<f64>, TasksError>;

    /// The accuracy on a story that was found hard, measured once more where answers may be chance.
    ///
    /// # Errors
    /// If it cannot be asked.
    fn confirmed(&mut self, _world: &World, _questions: &[Question], accuracy: f64) -> Result<f64, TasksError> {
        Ok(accuracy)
    }

    /// Whether a complete story of this accuracy is hard enough.
    fn is_hard(&self, accuracy: f64) -> bool;

    /// Random completions of a node.
    fn n_completions(&self) -> usize;
}

/// The flawed readers of [`ReaderPanel`].
pub(crate) struct PanelTarget;

impl PanelTarget {
    pub(crate) const NAME: &str = "readers";
}

impl TargetModel for PanelTarget {
    fn accuracy(&mut self, world: &World, questions: &[Question]) -> Result<Option<f64>, TasksError> {
        Ok(ReaderPanel::new(world).accuracy(questions))
    }

    fn is_hard(&self, accuracy: f64) -> bool {
        accuracy <= PANEL_GOAL
    }

    fn n_completions(&self) -> usize {
        PANEL_COMPLETIONS
    }
}

pub(crate) struct Found {
    pub(crate) world: World,
    pub(crate) accuracy: f64,
    pub(crate) meets_goal: bool,
}

struct Node {
    world: World,
    /// Accuracy of the target, or what stands for it.
    accuracy: f64,
    cost: f64,
    /// Mean number of sentences of the completions.
    mean_length: f64,
}

/// Searches from `start` for a story that is complete, `accepted`, and hard enough. Where there is none, the hardest that
/// was seen; `None` if none was complete and accepted.
///
/// # Errors
/// If the target cannot be asked.
pub(crate) fn search(
    start: &World,
    plan: &Plan,
    target: &mut dyn TargetModel,
    accepted: &dyn Fn(&World) -> bool,
    draw: &mut KeyedRandom,
) -> Result<Option<Found>, TasksError> {
    let mut search = Search { plan, target, scores: BTreeMap::new(), n_scored: 0 };
    let mut open = vec![search.node(start.clone(), 1.0, draw)];
    let mut hardest: Option<Found> = None;
    for _ in 0..MAX_VISITS {
        let Some(node) = take_best(&mut open) else { break };
        if plan.is_complete(&node.world) {
            let is_harder = hardest.as_ref().is_none_or(|found| node.accuracy < found.accuracy);
            if is_harder && accepted(&node.world) {
                let mut accuracy = node.accuracy;
                if search.target.is_hard(accuracy) {
                    let asked = questions(&node.world, Catalogue::default());
                    accuracy = search.target.confirmed(&node.world, &asked, accuracy)?;
                }
                let meets_goal = search.target.is_hard(accuracy);
                if hardest.as_ref().is_none_or(|found| accuracy < found.accuracy) {
                    hardest = Some(Found { accuracy, world: node.world, meets_goal });
                }
            }
            if hardest.as_ref().is_some_and(|found| found.meets_goal) {
                break;
            }
            continue;
        }
        if search.n_scored < BUDGET && !plan.is_dead(&node.world) && node.world.n_sentences() < MAX_SENTENCES {
            let children = search.expand(&node, draw)?;
            open.extend(children);
        }
    }
    Ok(hardest)
}

/// The node of lowest cost; of equal ones the harder, then the shorter, then the older.
fn take_best(open: &mut Vec<Node>) -> Option<Node> {
    let order = |one: &Node, other: &Node| {
        (one.cost.total_cmp(&other.cost))
            .then(one.accuracy.total_cmp(&other.accuracy))
            .then(one.mean_length.total_cmp(&other.mean_length))
    };
    let (best, _) = open.iter().enumerate().min_by(|(_, one), (_, other)| order(one, other))?;
    // Not `swap_remove`: the order of the others is their age.
    Some(open.remove(best))
}

struct Search<'a> {
    plan: &'a Plan,
    target: &'a mut dyn TargetModel,
    /// Accuracies by story.
    scores: BTreeMap<Vec<Action>, f64>,
    n_scored: usize,
}

impl Search<'_> {
    fn node(&mut self, world: World, accuracy: f64, draw: &mut KeyedRandom) -> Node {
        if self.plan.is_complete(&world) {
            return Node { accuracy, cost: accuracy, mean_length: world.n_sentences() as f64, world };
        }
        let (mut n_complete, mut length) = (0, 0);
        let n_completions = self.target.n_completions();
        for _ in 0..n_completions {
            let mut completion = world.clone();
            complete_at_random(&mut completion, self.plan, draw);
            n_complete += usize::from(self.plan.is_complete_but_for_rooms(&completion));
            length += completion.n_sentences();
        }
        let failed = 1.0 - n_complete as f64 / n_completions as f64;
        let mean_length = length as f64 / n_completions as f64;
        Node { world, accuracy, cost: accuracy + LAMBDA * failed, mean_length }
    }

    /// Children of a node, more of them where the target already fails.
    fn expand(&mut self, node: &Node, draw: &mut KeyedRandom) -> Result<Vec<Node>, TasksError> {
        let cap = match node.accuracy {
            accuracy if accuracy <= 0.5 => 5,
            accuracy if accuracy <= 0.75 => 3,
            _ => 1,
        };
        let mut candidates = self.extensions(node, EXTENSIONS_PER_CHILD * cap, draw);
        let mut children = Vec::new();
        let mut n_real = 0;
        for _ in 0..2 * cap {
            if n_real == cap || self.n_scored >= BUDGET {
                break;
            }
            let Some(world) = draw_weighted(&mut candidates, draw) else { break };
            let before = self.n_scored;
            let accuracy = self.score(&world)?;
            n_real += usize::from(self.n_scored > before);
            children.push(self.node(world, accuracy, draw));
        }
        Ok(children)
    }

    /// Random extensions that bring the story forward, each with its weight.
    fn extensions(&self, node: &Node, n: usize, draw: &mut KeyedRandom) -> Vec<(usize, World)> {
        let moves = self.plan.moves();
        let mut seen: BTreeSet<Vec<Action>> = BTreeSet::new();
        let mut extensions = Vec::new();
        for _ in 0..n {
            let mut world = node.world.clone();
            for _ in 0..STEPS {
                random_step(&mut world, &moves, draw);
                if self.plan.is_complete(&world) {
                    break;
                }
            }
            let weight = self.weight(&node.world, &world);
            if weight > 0 && !self.plan.is_dead(&world) && seen.insert(actions(&world)) {
                extensions.push((weight, world));
            }
        }
        extensions
    }

    /// How much nearer the extension is to being complete.
    fn weight(&self, before: &World, after: &World) -> usize {
        let (old, new) = (self.plan.progress(before), self.plan.progress(after));
        let signature_weight = if self.plan.family.n_rooms() == 2 { 5 } else { 1 };
        let mut weight = 0;
        if old.n_signature == 0 {
            weight += signature_weight * new.n_signature;
        }
        if old.n_core < self.plan.n_moves {
            weight += new.n_core - old.n_core;
        }
        if old.n_people < self.plan.n_people {
            weight += new.n_people - old.n_people;
        }
        weight
    }

    /// The target's accuracy on a story. Very short stories and those without questions cost nothing.
    fn score(&mut self, world: &World) -> Result<f64, TasksError> {
        if world.n_sentences() <= TRIVIAL_SENTENCES {
            return Ok(1.0);
        }
        let key = actions(world);
        if let Some(score) = self.scores.get(&key) {
            return Ok(*score);
        }
        let Some(accuracy) = self.target.accuracy(world, &questions(world, Catalogue::default()))? else {
            return Ok(NO_QUESTIONS);
        };
        self.n_scored += 1;
        self.scores.insert(key, accuracy);
        Ok(accuracy)
    }
}

fn actions(world: &World) -> Vec<Action> {
    world.events().iter().map(|event| event.action).collect()
}

/// Takes one of the candidates, in proportion to the weights.
fn draw_weighted(candidates: &mut Vec<(usize, World)>, draw: &mut KeyedRandom) -> Option<World> {
    let total: usize = candidates.iter().map(|(weight, _)| weight).sum();
    let mut place = draw.between(0, total as i64 - 1) as usize;
    let at = candidates.iter().position(|(weight, _)| {
        let is_chosen = place < *weight;
        place = place.saturating_sub(*weight);
        is_chosen
    })?;
    Some(candidates.swap_remove(at).1)
}
