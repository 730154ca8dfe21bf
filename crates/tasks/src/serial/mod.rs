//! Serial-chain tasks for the tiny reasoner: items whose number of steps `k` is known exactly, with every intermediate
//! value, a one-token answer, and two correct ways to answer: at once, or with a written trace.
//!
//! ```text
//! <q> 7 + 5 * 3 - 4   <a> 2                                             direct answer
//! <q> 7 + 5 * 3 - 4   <t> 7 + 5 = 2 ; 2 * 3 = 6 ; 6 - 4 = 2 <a> 2       with trace
//! ```
//!
//! `k` is the length of the written solution. It is no lower bound on depth: parallel doubling exists for all three tasks.

mod chain;
mod permutation;
pub mod task;
mod variables;
pub mod verify;

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::draw::draws;
use crate::error::TasksError;
use crate::hash::hash;
use crate::item::{Item, Split};
use aloud_base::random::KeyedRandom;
use verify::ResponseStyle;

/// The largest number of steps of an item.
pub const MAX_SERIAL_STEPS: usize = 8;

/// One symbol of the closed vocabulary: one token.
pub type Symbol = &'static str;

/// Begins a question.
pub const QUESTION: Symbol = "<q>";
/// Begins a trace: the model thinks aloud.
pub const THINK: Symbol = "<t>";
/// Begins the answer.
pub const ANSWER: Symbol = "<a>";
/// Ends a response.
pub const END: Symbol = "<eos>";
/// Stands between the steps of a trace, and between assignments.
pub const SEPARATOR: Symbol = ";";
/// Stands before what is asked for.
const ASKS: Symbol = "?";

const DIGITS: [Symbol; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Every symbol; its place is its token id.
pub const SERIAL_VOCABULARY: [Symbol; 47] = [
    END, QUESTION, THINK, ANSWER, SEPARATOR, ASKS, "=", "+", "-", "*", //
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", //
    "A", "B", "C", "D", "E", //
    "g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", //
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
];

/// A kind of item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SerialTask {
    /// A start digit and `k` operations, left to right, modulo 10.
    Chain,
    /// An arrangement of five objects and `k` rearrangements, each one of eight; asks for the object at a place.
    Perm,
    /// `k` assignments modulo 10 in shuffled order, each from the one before; asks for the last.
    Vars,
}

impl SerialTask {
    /// All tasks.
    pub const ALL: [Self; 3] = [Self::Chain, Self::Perm, Self::Vars];

    /// The name: `chain`, `perm` or `vars`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Perm => "perm",
            Self::Vars => "vars",
        }
    }

    /// Accuracy of a blind guess among the possible answers.
    pub const fn chance(self) -> f64 {
        match self {
            Self::Chain | Self::Vars => 0.1,
            Self::Perm => 0.2,
        }
    }
}

impl fmt::Display for SerialTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SerialTask {
    type Err = TasksError;

    fn from_str(name: &str) -> Result<Self, TasksError> {
        let error = || TasksError::name(name, "serial tasks are `chain`, `perm` and `vars`");
        Self::ALL.into_iter().find(|task| task.name() == name).ok_or_else(error)
    }
}

/// One item with its exact solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialItem {
    /// Its kind.
    pub task: SerialTask,
    /// What is asked, beginning with [`QUESTION`].
    pub question: Vec<Symbol>,
    /// The written steps, `k` of them, without separators.
    pub steps: Vec<Vec<Symbol>>,
    /// The answer.
    pub answer: Symbol,
}

impl SerialItem {
    /// The number of steps `k`.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// The prompt, symbols with spaces between them.
    pub fn prompt(&self) -> String {
        self.question.join(" ")
    }

    /// The response in a style, without [`END`].
    pub fn response(&self, style: ResponseStyle) -> Vec<Symbol> {
        let mut response = Vec::new();
        if style == ResponseStyle::Think {
            response.push(THINK);
            for (number, step) in self.steps.iter().enumerate() {
                if number > 0 {
                    response.push(SEPARATOR);
                }
                response.extend_from_slice(step);
            }
        }
        response.extend([ANSWER, self.answer]);
        response
    }

    /// A response whose trace explains an answer that is given before it, with the last `n_steps` steps (all, if there are fewer),
    /// the last one first: `<t> ANSWER ; last step ; ... <a> ANSWER`, without [`END`]. Nothing in the trace is needed for the
    /// answer.
    pub fn justified_response(&self, n_steps: usize) -> Vec<Symbol> {
        let mut response = vec![THINK, self.answer];
        for step in self.steps.iter().rev().take(n_steps) {
            response.push(SEPARATOR);
            response.extend_from_slice(step);
        }
        response.extend([ANSWER, self.answer]);
        response
    }

    /// The part of the data that the item belongs to, by a hash of the whole item: one item in ten is held out. The facts
    /// of single steps are shared between the parts.
    pub fn split(&self) -> Split {
        if hash(0, &self.prompt()).is_multiple_of(10) { Split::Test } else { Split::Train }
    }

    /// The item as any other task's, its worked solution in the style that thinks aloud.
    pub fn to_item(&self, id: String) -> Item {
        Item {
            raw: true,
            solution: Some(self.response(ResponseStyle::Think).join(" ")),
            answer: Some(self.answer.to_owned()),
            ..Item::new(id, self.prompt())
        }
    }
}

/// Which items are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialSource {
    /// One task, or all of them equally often.
    pub task: Option<SerialTask>,
    /// Numbers of steps, all equally often.
    pub steps: RangeInclusive<usize>,
}

impl SerialSource {
    /// All tasks, 1 to [`MAX_SERIAL_STEPS`] steps.
    pub const ALL: Self = Self { task: None, steps: 1..=MAX_SERIAL_STEPS };

    /// Item `index` of a seed: always the same, whatever else is drawn.
    ///
    /// # Errors
    /// If the numbers of steps are not within 1 to [`MAX_SERIAL_STEPS`].
    pub fn generate(&self, seed: u64, index: u64, split: Split) -> Result<SerialItem, TasksError> {
        let (low, high) = (*self.steps.start(), *self.steps.end());
        if low < 1 || high > MAX_SERIAL_STEPS || low > high {
            let given = if low < 1 { low } else { high };
            return Err(TasksError::Steps { item: "serial item", given, max: MAX_SERIAL_STEPS });
        }
        let mut draw = draws(seed, index);
        let task = self.task.or_else(|| draw.pick(&SerialTask::ALL).copied()).unwrap_or(SerialTask::Chain);
        let n_steps = draw.between(low as i64, high as i64) as usize;
        // Both parts hold items of every task and number of steps (a test shows it), so this ends.
        loop {
            let item = match task {
                SerialTask::Chain => chain::draw(&mut draw, n_steps),
                SerialTask::Perm => permutation::draw(&mut draw, n_steps),
                SerialTask::Vars => variables::draw(&mut draw, n_steps),
            };
            if item.split() == split {
                return Ok(item);
            }
        }
    }
}

/// One operation modulo 10: `+` or `-` a digit, or `*` by 3, 7 or 9, which loses nothing of the value before it.
fn operation(draw: &mut KeyedRandom) -> (Symbol, usize) {
    match draw.between(0, 2) {
        0 => ("+", draw.between(0, 9) as usize),
        1 => ("-", draw.between(0, 9) as usize),
        _ => ("*", [3, 7, 9][draw.between(0, 2) as usize]),
    }
}

/// The value after an operation, modulo 10.
fn apply(value: usize, (operator, operand): (Symbol, usize)) -> usize {
    match operator {
        "+" => (value + operand) % 10,
        "-" => (value + 10 - operand) % 10,
        _ => value * operand % 10,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::verify::verify_serial;
    use super::*;
    use crate::task::Task as _;

    #[test]
    fn vocabulary_has_no_symbol_twice() {
        let symbols: BTreeSet<Symbol> = SERIAL_VOCABULARY.into_iter().collect();
        assert_eq!(symbols.len(), SERIAL_VOCABULARY.len());
    }

    #[test]
    fn both_parts_hold_every_task_and_length_and_share_nothing() {
        let mut prompts = [BTreeSet::new(), BTreeSet::new()];
        for (part, split) in [Split::Train, Split::Test].into_iter().enumerate() {
            for task in SerialTask::ALL {
                for k in 1..=MAX_SERIAL_STEPS {
                    let source = SerialSource { task: Some(task), steps: k..=k };
                    for index in 0..40 {
                        let item = source.generate(3, index, split).unwrap();
                        assert_eq!((item.task, item.n_steps()), (task, k));
                        prompts[part].insert(item.prompt());
                    }
                }
            }
        }
        assert!(prompts[0].is_disjoint(&prompts[1]));
        assert!(prompts[0].len() > 700, "{}", prompts[0].len());
    }

    #[test]
    fn impossible_numbers_of_steps_are_refused() {
        for steps in [0..=3, 1..=9, RangeInclusive::new(5, 4)] {
            let error = SerialSource { task: None, steps }.generate(0, 0, Split::Train).unwrap_err().to_string();
            assert!(error.contains("1 to 8 steps"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn solutions_are_verified_and_closed(seed in 0_u64..1000, index in 0_u64..100_000) {
            let item = SerialSource::ALL.generate(seed, index, Split::Train).unwrap();
            prop_assert_eq!(&item, &SerialSource::ALL.generate(seed, index, Split::Train).unwrap());
            for symbol in item.question.iter().chain(item.steps.iter().flatten()) {
                prop_assert!(SERIAL_VOCABULARY.contains(symbol), "{}", symbol);
            }
            prop_assert_eq!(&SerialItem::parse(&item.prompt()).unwrap(), &item);
            for style in [ResponseStyle::Think, ResponseStyle::Direct] {
                let response = item.response(style).join(" ");
                let verdict = verify_serial(&item.prompt(), &response, false).unwrap();
                prop_assert!(verdict.is_correct);
                prop_assert_eq!(verdict.style, Some(style));
                let written = SerialSource::ALL.written_steps(&item.to_item(String::new()), &response).unwrap();
                prop_assert_eq!(written, vec![style == ResponseStyle::Think; item.n_steps()]);
            }
        }
    }
}
