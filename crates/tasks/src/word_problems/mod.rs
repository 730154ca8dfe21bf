//! A generator of arithmetic word problems with worked solutions in the answer format of GSM8K. Problem `index` of a seed is
//! always the same, whatever else is asked for.

mod arithmetic;
mod names;
mod settings;
pub mod task;
mod writing;

use crate::draw::draws;
use crate::error::TasksError;
use aloud_base::random::KeyedRandom;
use arithmetic::{Equation, Values, calculate};
use settings::{Event, Setting, settings};
use writing::{Cast, PEOPLE, write};

/// The largest number of steps of a word problem.
pub const MAX_STEPS: usize = 6;

/// One arithmetic word problem. All values are whole numbers above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordProblem {
    /// The question, a few sentences in English.
    pub question: String,
    /// The worked solution: one sentence a step with its calculator annotation (`<<48/2=24>>`), then `#### ` and the answer.
    pub solution: String,
    /// The answer.
    pub answer: i64,
    /// Number of arithmetic operations that lead to the answer.
    pub n_steps: usize,
    /// The results of these operations in order; the last one is the answer.
    pub values: Vec<i64>,
}

/// The word problem `index` of `seed`, with `n_steps` steps (1 to [`MAX_STEPS`]) or, if `None`, a mixed number of them
/// (mostly 2 or 3, as in GSM8K).
///
/// # Errors
/// If `n_steps` is out of range.
pub fn generate(seed: u64, index: u64, n_steps: Option<usize>) -> Result<WordProblem, TasksError> {
    let mut draw = draws(seed, index);
    let n_steps = match n_steps {
        Some(given) if !(1..=MAX_STEPS).contains(&given) => {
            return Err(TasksError::Steps { item: "word problem", given, max: MAX_STEPS });
        }
        Some(given) => given,
        None => draw.pick(&[1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6]).copied().unwrap_or(1),
    };
    let (person, setting) = slot(seed, index);
    // Most attempts succeed; one fails when its numbers leave no event that fits (nothing divides, nothing is left). A test
    // shows that every setting can tell stories of every length.
    loop {
        if let Some(problem) = tell(&mut draw, person, setting, n_steps) {
            return Ok(problem);
        }
    }
}

/// Who and where problem `index` is about. Person and setting together come up once in each run of
/// as many problems as there are pairs of them, in shuffled order; both are in the text, so that no question repeats in a run.
fn slot(seed: u64, index: u64) -> (usize, &'static Setting) {
    const SHUFFLES: u64 = 1 << 63;
    let settings = settings();
    let n_slots = PEOPLE * settings.len();
    let mut draw = draws(seed, SHUFFLES | (index / n_slots as u64));
    let place = (index % n_slots as u64) as usize;
    let mut slots: Vec<usize> = (0..n_slots).collect();
    // Fisher-Yates, as far as the place asked for.
    for at in 0..=place {
        let other = draw.between(at as i64, n_slots as i64 - 1) as usize;
        slots.swap(at, other);
    }
    let slot = slots[place];
    (slot / settings.len(), &settings[slot % settings.len()])
}

/// One attempt to tell a story of exactly `n_steps` steps in a setting.
fn tell(draw: &mut KeyedRandom, person: usize, setting: &Setting, n_steps: usize) -> Option<WordProblem> {
    let cast = Cast::draw(draw, person, &setting.objects)?;
    let (low, high) = setting.start;
    let mut value = setting.multiple_of * draw.between(low, high);
    let mut stage = 0;
    let mut unused: Vec<&Event> = setting.events.iter().collect();
    let mut sentences = vec![write(draw.pick(&setting.openings)?, &cast, &Values::start(value))];
    let mut work = Vec::new();
    let mut values = Vec::new();
    while values.len() < n_steps {
        let fits = |event: &Event| event.from == stage && values.len() + event.steps.len() <= n_steps;
        let open: Vec<usize> = (0..unused.len()).filter(|&i| fits(unused[i])).collect();
        let event = unused.remove(*draw.pick(&open)?);
        let (numbers, equations) = happen(draw, event, value)?;
        sentences.push(write(&event.text, &cast, &numbers));
        for (sentence, equation) in event.work.iter().zip(equations) {
            work.push(write(sentence, &cast, &Values { equation: Some(equation), ..numbers }));
            values.push(equation.result);
        }
        value = numbers.y;
        stage = event.to.unwrap_or(stage);
    }
    sentences.push(write(setting.questions.get(stage)?, &cast, &Values::start(value)));
    work.push(format!("#### {value}"));
    Some(WordProblem {
        question: sentences.join(" "),
        solution: work.join("\n"),
        answer: value,
        n_steps: values.len(),
        values,
    })
}

/// Draws the numbers of an event so that all its results are whole and above zero; `None` if none were found.
fn happen(draw: &mut KeyedRandom, event: &Event, x: i64) -> Option<(Values, Vec<Equation>)> {
    const TRIES: usize = 12;
    (0..TRIES).find_map(|_| {
        let k = draw.between(event.k.0, event.k.1);
        let j = draw.between(event.j.0, event.j.1);
        calculate(&event.steps, x, k, j)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::HashSet;

    use super::*;
    use crate::extract::{Scoring, is_correct};
    use crate::gsm8k::strip_annotations;
    use crate::number::Number;
    use proptest::prelude::*;

    /// An annotation `<<a+b=c>>` as (left, operator, right, result); `rest` begins behind its `<<`.
    fn annotation(rest: &str) -> (i64, char, i64, i64) {
        let (inside, _) = rest.split_once(">>").unwrap();
        let (expression, result) = inside.split_once('=').unwrap();
        let at = expression.find(['+', '-', '*', '/']).unwrap();
        let operator = expression[at..].chars().next().unwrap();
        let (left, right) = (&expression[..at], &expression[at + 1..]);
        (left.parse().unwrap(), operator, right.parse().unwrap(), result.parse().unwrap())
    }

    fn check(problem: &WordProblem, n_steps: usize) {
        let shown = format!("{}\n{}", problem.question, problem.solution);
        let found: Vec<_> = problem.solution.split("<<").skip(1).map(annotation).collect();
        assert_eq!(found.len(), n_steps, "{shown}");
        assert_eq!(problem.n_steps, n_steps, "{shown}");
        for &(left, operator, right, result) in &found {
            let exact = match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ => {
                    assert_eq!(left % right, 0, "{shown}");
                    left / right
                }
            };
            assert_eq!(exact, result, "{shown}");
            assert!(result > 0, "{shown}");
        }
        let results: Vec<i64> = found.iter().map(|equation| equation.3).collect();
        assert_eq!(results, problem.values, "{shown}");
        assert_eq!(problem.values.last(), Some(&problem.answer), "{shown}");
        assert!(problem.solution.ends_with(&format!("\n#### {}", problem.answer)), "{shown}");
        assert!(is_correct(&problem.solution, &Number::from(problem.answer), Scoring::Strict), "{shown}");
        check_english(&problem.question, &shown);
        check_english(&strip_annotations(&problem.solution), &shown);
        assert!(problem.question.ends_with('?'), "{shown}");
    }

    /// What a careless template would leave behind.
    fn check_english(text: &str, shown: &str) {
        assert!(!text.contains(['{', '}', '@', '|', '~', '_']), "{shown}");
        assert!(!["  ", " .", " ,", ".."].iter().any(|slip| text.contains(slip)), "{shown}");
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.windows(2) {
            assert!(pair[0] != pair[1], "doubled word `{}`: {shown}", pair[0]);
            let noun = pair[1].trim_end_matches(['.', ',', '?']);
            let plural =
                matches!(noun, "children" | "people") || noun.ends_with('s') && !matches!(noun, "is" | "glass");
            assert!(pair[0] != "1" || !plural, "1 of a plural: {shown}");
        }
        for sentence in text.split_inclusive(['.', '?', '\n']).map(str::trim).filter(|s| !s.is_empty()) {
            let first = sentence.chars().next().unwrap();
            assert!(first.is_uppercase() || first.is_ascii_digit() || first == '#', "{shown}");
        }
    }

    #[test]
    fn every_setting_tells_stories_of_every_length() {
        for (at, setting) in settings().iter().enumerate() {
            assert!(setting.openings.iter().all(|opening| opening.contains("{N}")), "{}", setting.openings[0]);
            for n_steps in 1..=MAX_STEPS {
                let mut draw = draws(at as u64, n_steps as u64);
                let mut told = 0;
                for person in 0..200 {
                    if let Some(problem) = tell(&mut draw, person % PEOPLE, setting, n_steps) {
                        check(&problem, n_steps);
                        told += 1;
                    }
                }
                assert!(told >= 5, "{told} of 200 with {n_steps} steps: {}", setting.openings[0]);
            }
        }
    }

    #[test]
    fn every_event_of_every_setting_happens() {
        for setting in settings() {
            let mut seen = vec![false; setting.events.len()];
            let mut draw = draws(3, 3);
            for round in 0..3000 {
                if let Some(problem) = tell(&mut draw, round % PEOPLE, setting, 1 + round % MAX_STEPS) {
                    for (event, seen) in setting.events.iter().zip(&mut seen) {
                        // The longest piece of literal text names the event.
                        let piece = event.text.split(['{', '}']).step_by(2).max_by_key(|piece| piece.len()).unwrap();
                        *seen |= problem.question.contains(piece);
                    }
                }
            }
            for (event, seen) in setting.events.iter().zip(seen) {
                assert!(seen, "never happens: {}", event.text);
            }
        }
    }

    #[test]
    fn questions_of_a_seed_are_distinct() {
        for n_steps in [None, Some(1), Some(2), Some(6)] {
            let questions: HashSet<String> =
                (0..1500).map(|index| generate(11, index, n_steps).unwrap().question).collect();
            assert_eq!(questions.len(), 1500, "{n_steps:?}");
        }
    }

    #[test]
    fn steps_out_of_range_are_an_error() {
        for given in [0, MAX_STEPS + 1] {
            let error = generate(0, 0, Some(given)).unwrap_err().to_string();
            assert_eq!(error, format!("a word problem has 1 to 6 steps, {given} were asked for"));
        }
    }

    #[test]
    fn one_of_a_thing_is_told_in_the_singular() {
        let problem = generate(8_264_710_113_025_927_612, 13_142_796_180_033_301_787, Some(6)).unwrap();
        assert!(problem.solution.contains(">>1 gram is left"), "{}", problem.solution);
        check(&problem, 6);
    }

    #[test]
    fn the_problems_of_a_seed_stay_what_they_are() {
        // Recorded from this program: every setting, and all numbers of steps.
        let problems: Vec<String> = (0..3500).map(|index| format!("{:?}", generate(7, index, None).unwrap())).collect();
        assert_eq!(crate::hash::hash(0, &problems.join("\n")), 0xcbef_5c1e_083c_dceb, "the texts have changed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn problems_are_right_and_repeatable(seed: u64, index: u64, n_steps in 1..=MAX_STEPS) {
            let problem = generate(seed, index, Some(n_steps)).unwrap();
            check(&problem, n_steps);
            prop_assert_eq!(&generate(seed, index, Some(n_steps)).unwrap(), &problem);
            let mixed = generate(seed, index, None).unwrap();
            check(&mixed, mixed.n_steps);
        }
    }
}
