//! The task of word problems: endless, each with a worked solution.

use std::ops::Range;

use super::{MAX_STEPS, generate};
use crate::error::TasksError;
use crate::gsm8k::{GSM8K_INSTRUCTION, TEST_ITEMS, without_annotations};
use crate::item::{Item, Split};
use crate::task::{Amount, ExaminationItem, Task};

/// Word problems of the held-out split are numbered from here, so that no training problem is among them.
const FIRST_TEST_INDEX: u64 = 1 << 40;

/// The built-in generator of arithmetic word problems, without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordProblems {
    /// The number of steps of each problem, 1 to [`MAX_STEPS`]; mixed if `None`.
    pub steps: Option<usize>,
}

impl WordProblems {
    /// Reads `word-problems` or `word-problems:steps=N`; `None` if it is the name of another task.
    pub fn named(name: &str) -> Option<Result<Self, TasksError>> {
        let Some(options) = name.strip_prefix("word-problems:") else {
            return (name == "word-problems").then_some(Ok(Self { steps: None }));
        };
        let error = || TasksError::name(name, "the only option is `steps=N`, for instance `word-problems:steps=3`");
        let steps = options.strip_prefix("steps=").and_then(|steps| steps.parse().ok());
        Some(match steps {
            None => Err(error()),
            Some(given) if !(1..=MAX_STEPS).contains(&given) => {
                Err(TasksError::Steps { item: "word problem", given, max: MAX_STEPS })
            }
            Some(steps) => Ok(Self { steps: Some(steps) }),
        })
    }

    fn items(self, numbers: Range<u64>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        let first = match split {
            Split::Train => 0,
            Split::Test => FIRST_TEST_INDEX,
        };
        let item = |index| {
            let problem = generate(seed, first + index, self.steps)?;
            Ok(Item {
                solution: Some(problem.solution),
                answer: Some(problem.answer.to_string()),
                ..Item::new(format!("word-problem-{}-{seed}-{index}", split.as_str()), problem.question)
            })
        };
        numbers.map(item).collect()
    }
}

impl Task for WordProblems {
    fn name(&self) -> String {
        match self.steps {
            None => "word-problems".to_owned(),
            Some(steps) => format!("word-problems:steps={steps}"),
        }
    }

    fn short_name(&self) -> &'static str {
        "word-problems"
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn range(&self, numbers: Range<u64>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        self.items(numbers, seed, split).map(without_annotations)
    }

    fn instruction(&self) -> Option<&'static str> {
        Some(GSM8K_INSTRUCTION)
    }

    /// As many as GSM8K's.
    fn examination_size(&self) -> Option<usize> {
        self.steps.is_none().then_some(TEST_ITEMS)
    }

    fn examination(&self, amount: Amount, seed: u64, split: Split) -> Result<Vec<ExaminationItem>, TasksError> {
        let n = amount.of_one_task(TEST_ITEMS) as u64;
        let items = self.items(0..n, seed, split)?;
        Ok((0..).zip(items).map(|(number, item)| ExaminationItem::of(item, self.short_name(), number)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn splits_of_the_generator_are_disjoint() {
        let task = WordProblems { steps: Some(2) };
        let train = task.load(Some(200), 0, Split::Train).unwrap();
        let test = task.load(Some(200), 0, Split::Test).unwrap();
        let questions: HashSet<&str> = train.iter().chain(&test).map(|item| item.question.as_str()).collect();
        assert_eq!(questions.len(), 400);
        assert!(train[0].gold().is_some());
        assert!(!train[0].solution.as_deref().unwrap().contains("<<"));
        assert_eq!(task.load(Some(20), 0, Split::Train).unwrap(), train[..20]);
        assert!(task.load(None, 0, Split::Train).unwrap_err().to_string().contains("has no end"));
    }
}
