//! The settings in which word problems play: what there is at first, what may happen, what is asked.
//!
//! A story keeps one running value. It starts with the opening at stage 0 (say, cookies); every event changes the value and
//! may lead to another stage (boxes of cookies, then dollars); the question asks for the value at the last stage. An event
//! happens at most once in a story and has one step or two, so that events can be chosen for any number of steps.

mod home;
mod outdoors;
mod places;
mod work;

use super::writing::Noun;

/// All settings.
pub(super) const SETTINGS: &[&Setting] = &[
    &home::BAKING,
    &home::COLLECTION,
    &home::SAVINGS,
    &home::READING,
    &home::FLOUR,
    &home::BRICKS,
    &home::BEADS,
    &home::PHOTOS,
    &outdoors::HENS,
    &outdoors::ORCHARD,
    &outdoors::GARDEN,
    &outdoors::FISHING,
    &outdoors::TRAINING,
    &outdoors::CYCLING,
    &outdoors::WATER,
    &outdoors::SEASHELLS,
    &places::BUS,
    &places::LIBRARY,
    &places::SCHOOL,
    &places::THEATRE,
    &places::PARKING,
    &places::FAIR,
    &places::MUSEUM,
    &work::FACTORY,
    &work::POST,
    &work::CLOTH,
    &work::TILES,
    &work::STALL,
    &work::WAGES,
];

/// A setting for stories.
pub(super) struct Setting {
    /// Things the story may be about; one is drawn.
    pub(super) objects: &'static [Noun],
    /// Smallest and largest first value, in multiples of `multiple_of`.
    pub(super) start: (i64, i64),
    /// The first value is a multiple of this.
    pub(super) multiple_of: i64,
    /// First sentences; one is drawn.
    pub(super) openings: &'static [&'static str],
    /// What may happen.
    pub(super) events: &'static [Event],
    /// The question at each stage.
    pub(super) questions: &'static [&'static str],
}

/// Something that changes the running value.
pub(super) struct Event {
    /// The stage at which it may happen.
    pub(super) from: usize,
    /// The stage that it leads to.
    pub(super) to: usize,
    /// Range of the number `k`.
    pub(super) k: (i64, i64),
    /// Range of the number `j`.
    pub(super) j: (i64, i64),
    /// The operations, one or two; the last result is the new running value.
    pub(super) steps: &'static [Step],
    /// The sentence of the question.
    pub(super) text: &'static str,
    /// The sentences of the solution, one a step.
    pub(super) work: &'static [&'static str],
}

/// One operation: left term, operation, right term.
#[derive(Clone, Copy)]
pub(super) struct Step(pub(super) Term, pub(super) Operation, pub(super) Term);

/// What a step calculates with.
#[derive(Clone, Copy)]
pub(super) enum Term {
    /// The running value before the event.
    X,
    /// The event's first number.
    K,
    /// The event's second number.
    J,
    /// The result of the event's first step.
    First,
}

/// An arithmetic operation on whole numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operation {
    /// The exact result; `None` if it is not a whole number or does not fit.
    pub(super) fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => (left.checked_rem(right)? == 0).then(|| left.checked_div(right))?,
        }
    }

    /// Its sign in solutions.
    pub(super) fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

use Operation::{Add, Divide, Multiply, Subtract};
use Term::{First, J, K, X};

type Text = &'static str;
type Works<const N: usize> = &'static [Text; N];
type Range = (i64, i64);

/// One step: running value, operation, `k`.
const fn one(from: usize, to: usize, k: Range, steps: &'static [Step], text: Text, work: Works<1>) -> Event {
    Event { from, to, k, j: (1, 1), steps, text, work }
}

/// `k` more, at the same stage.
const fn more(at: usize, k: Range, text: Text, work: Works<1>) -> Event {
    one(at, at, k, &[Step(X, Add, K)], text, work)
}

/// `k` fewer, at the same stage.
const fn fewer(at: usize, k: Range, text: Text, work: Works<1>) -> Event {
    one(at, at, k, &[Step(X, Subtract, K)], text, work)
}

/// `k` for each of the running value.
const fn each(from: usize, to: usize, k: Range, text: Text, work: Works<1>) -> Event {
    one(from, to, k, &[Step(X, Multiply, K)], text, work)
}

/// The running value in groups of `k`, or in `k` parts.
const fn split(from: usize, to: usize, k: Range, text: Text, work: Works<1>) -> Event {
    one(from, to, k, &[Step(X, Divide, K)], text, work)
}

/// `k` groups of `j` are added.
const fn groups_more(at: usize, k: Range, j: Range, text: Text, work: Works<2>) -> Event {
    Event { from: at, to: at, k, j, steps: &[Step(K, Multiply, J), Step(X, Add, First)], text, work }
}

/// `k` groups of `j` are taken away.
const fn groups_fewer(at: usize, k: Range, j: Range, text: Text, work: Works<2>) -> Event {
    Event { from: at, to: at, k, j, steps: &[Step(K, Multiply, J), Step(X, Subtract, First)], text, work }
}

/// The running value divided by `k` is taken away.
const fn part_fewer(at: usize, k: Range, text: Text, work: Works<2>) -> Event {
    Event { from: at, to: at, k, j: (1, 1), steps: &[Step(X, Divide, K), Step(X, Subtract, First)], text, work }
}

/// `k` times the running value is added.
const fn times_more(from: usize, to: usize, k: Range, text: Text, work: Works<2>) -> Event {
    Event { from, to, k, j: (1, 1), steps: &[Step(X, Multiply, K), Step(X, Add, First)], text, work }
}
