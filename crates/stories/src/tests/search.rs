//! The flawed readers, the random sampler and the search.

use std::collections::BTreeMap;

use super::random_stories::play;
use crate::cast::{Cast, Size};
use crate::family::{Family, MAX_SENTENCES, Plan};
use crate::generator::{StoryGenerator, StorySettings};
use crate::part::Part;
use crate::question::{Catalogue, Question, questions};
use crate::readers::{ReaderPanel, Shortcut};
use crate::sampler::complete_at_random;
use crate::search::{PanelTarget, TargetModel, search};
use crate::words::Setting;
use crate::world::World;
use aloud_base::random::KeyedRandom;
use aloud_tasks::draw::draws;
use aloud_tasks::error::TasksError;

fn start(plan: &Plan, draw: &mut KeyedRandom) -> World {
    let size = Size { people: plan.n_people, rooms: plan.family.n_rooms(), containers: plan.n_moves.max(2) };
    let setting = &Setting::shipped()[0];
    World::new(Cast::draw(setting, size, draw).scope())
}

/// Property 32.
#[test]
fn each_reader_errs_and_the_truth_does_not() {
    let mut n_wrong: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let world = play(seed, seed % 2 == 1, &mut |_, _, _| {});
        let panel = ReaderPanel::new(&world);
        for question in questions(&world, Catalogue::default()).iter().filter(|question| !question.chain.is_empty()) {
            let right = crate::question::answer_in(&world.view(&question.chain), question.property);
            assert_eq!(right, Some(question.answer), "seed {seed}");
            for shortcut in Shortcut::ALL {
                let is_wrong = panel.answer(shortcut, question) != Some(question.answer);
                *n_wrong.entry(format!("{shortcut:?}")).or_default() += usize::from(is_wrong);
            }
        }
    }
    assert_eq!(n_wrong.len(), Shortcut::ALL.len());
    assert!(n_wrong.values().all(|n| *n > 0), "{n_wrong:?}");
}

#[test]
fn every_family_can_be_completed() {
    for family in Family::ALL {
        for is_asymmetric in [false, true] {
            let plan = Plan { family, is_asymmetric, n_people: 3, n_moves: 3 };
            let mut draw = draws(3, family as u64);
            let n_complete = (0..200)
                .filter(|_| {
                    let mut world = start(&plan, &mut draw);
                    complete_at_random(&mut world, &plan, &mut draw) && plan.is_complete(&world)
                })
                .count();
            // The method's own yields are 16 to 96 %.
            assert!(n_complete >= 10, "{family}, {is_asymmetric}: {n_complete} of 200");
        }
    }
}

/// A target that counts its calls.
struct Counting {
    n_calls: usize,
}

impl TargetModel for Counting {
    fn accuracy(&mut self, world: &World, questions: &[Question]) -> Result<Option<f64>, TasksError> {
        self.n_calls += 1;
        PanelTarget.accuracy(world, questions)
    }

    fn is_hard(&self, accuracy: f64) -> bool {
        PanelTarget.is_hard(accuracy)
    }

    fn n_completions(&self) -> usize {
        PanelTarget.n_completions()
    }
}

/// Property 31.
#[test]
fn found_stories_are_complete_hard_and_within_the_budget() {
    let mut n_found = 0;
    for (number, family) in Family::ALL.into_iter().enumerate() {
        let plan = Plan { family, is_asymmetric: number % 2 == 0, n_people: 3, n_moves: 2 };
        let mut draw = draws(11, number as u64);
        let mut target = Counting { n_calls: 0 };
        let world = start(&plan, &mut draw);
        let found = search(&world, &plan, &mut target, &|_| true, &mut draw).unwrap();
        assert!(target.n_calls <= 50, "{family}: {} calls", target.n_calls);
        let Some(found) = found else { continue };
        n_found += usize::from(found.meets_goal);
        assert!(plan.is_complete(&found.world) && found.world.n_sentences() <= MAX_SENTENCES, "{family}");
        let actions: Vec<_> = found.world.events().iter().map(|event| event.action).collect();
        assert_eq!(World::replay(found.world.scope().clone(), &actions).unwrap(), found.world, "{family}");
        let accuracy = ReaderPanel::new(&found.world).accuracy(&questions(&found.world, Catalogue::default()));
        assert_eq!(accuracy, Some(found.accuracy), "{family}");
        assert_eq!(target.is_hard(found.accuracy), found.meets_goal, "{family}");
    }
    assert!(n_found >= 4, "{n_found} of 9");
}

#[test]
fn searched_stories_are_harder_than_random_ones() {
    let mean = |search: bool| {
        let settings = StorySettings { search, ..StorySettings::default() };
        let generator = StoryGenerator::new(settings, 6).unwrap();
        let accuracies = (0..36).map(|index| generator.story(index, Some(Part::Train)).unwrap().rows()[0].g);
        accuracies.sum::<f64>() / 36.0
    };
    let (random, searched) = (mean(false), mean(true));
    assert!(searched < random - 0.02, "{searched} against {random}");
}
