//! The serial tasks as tasks: endless, answered thinking aloud and at once, with steps that are known symbol by symbol.

use std::collections::BTreeMap;
use std::ops::Range;

use super::verify::{ResponseStyle, verify_serial};
use super::{
    ANSWER, END, MAX_SERIAL_STEPS, SEPARATOR, SERIAL_VOCABULARY, SerialItem, SerialSource, SerialTask, Symbol, THINK,
};
use crate::answer_form::PromptForm;
use crate::error::{RewardError, TasksError};
use crate::extract::Scoring;
use crate::item::{Item, Split};
use crate::reward::Completion;
use crate::task::{Amount, Arm, ExaminationItem, Score, Task};

/// Items of an examination with the same task and number of steps are numbered below this.
const NUMBERS_A_STEP: u64 = 1 << 32;

/// Most items of each task and number of steps in an examination.
const LARGEST: usize = 200;

impl SerialSource {
    /// Reads `serial`, `chain`, `perm` or `vars`, each also with `:steps=N`; `None` if it is the name of another task.
    pub fn named(name: &str) -> Option<Result<Self, TasksError>> {
        let (kind, options) = name.split_once(':').map_or((name, None), |(kind, options)| (kind, Some(options)));
        let task = kind.parse::<SerialTask>().ok();
        if kind != "serial" && task.is_none() {
            return None;
        }
        let error = || TasksError::name(name, "the only option is `steps=N`, for instance `chain:steps=3`");
        let given = |options: &str| options.strip_prefix("steps=").and_then(|steps| steps.parse::<usize>().ok());
        Some(match options.map(given) {
            None => Ok(Self { task, ..Self::ALL }),
            Some(None) => Err(error()),
            Some(Some(given)) if !(1..=MAX_SERIAL_STEPS).contains(&given) => {
                Err(TasksError::Steps { item: "serial item", given, max: MAX_SERIAL_STEPS })
            }
            Some(Some(steps)) => Ok(Self { task, steps: steps..=steps }),
        })
    }

    /// The tasks of which items are drawn.
    fn tasks(&self) -> impl Iterator<Item = SerialTask> {
        let only = self.task;
        SerialTask::ALL.into_iter().filter(move |task| only.is_none_or(|only| only == *task))
    }

    /// Numbers of steps of all the tasks.
    fn n_kinds(&self) -> usize {
        MAX_SERIAL_STEPS * self.tasks().count()
    }
}

impl Task for SerialSource {
    fn name(&self) -> String {
        let name = self.short_name();
        if self.steps.start() == self.steps.end() {
            format!("{name}:steps={}", self.steps.start())
        } else {
            name.to_owned()
        }
    }

    fn short_name(&self) -> &'static str {
        self.task.map_or("serial", SerialTask::name)
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn range(&self, numbers: Range<u64>, seed: u64, split: Split) -> Result<Vec<Item>, TasksError> {
        let item = |index| {
            let id = format!("{}-{}-{seed}-{index}", self.short_name(), split.as_str());
            Ok(self.generate(seed, index, split)?.to_item(id))
        };
        numbers.map(item).collect()
    }

    fn symbols(&self) -> Option<&'static [Symbol]> {
        Some(&SERIAL_VOCABULARY)
    }

    fn end(&self) -> Option<Symbol> {
        Some(END)
    }

    /// The longest right response has fewer.
    fn max_response_tokens(&self) -> usize {
        96
    }

    fn teacher_temperature(&self) -> f32 {
        1.0
    }

    /// Answers have one form, and no scoring is more forgiving than another. A malformed response is worth what a wrong one is
    /// worth, never less.
    fn reward(&self, completion: &Completion<'_>, _scoring: Scoring) -> Result<f64, RewardError> {
        verify_serial(completion.prompt, completion.response, completion.truncated)
            .map(|verdict| f64::from(u8::from(verdict.is_correct)))
            .ok_or_else(|| RewardError::NoSerialItem { prompt: completion.prompt.to_owned() })
    }

    fn measures(&self, completions: &[Completion<'_>]) -> BTreeMap<String, f64> {
        let verdicts = completions
            .iter()
            .filter_map(|completion| verify_serial(completion.prompt, completion.response, completion.truncated));
        let (mut thinks, mut malformed) = (0, 0);
        for verdict in verdicts {
            thinks += usize::from(verdict.style == Some(ResponseStyle::Think));
            malformed += usize::from(!verdict.is_well_formed);
        }
        let share = |count: usize| count as f64 / completions.len().max(1) as f64;
        BTreeMap::from([("think_share".to_owned(), share(thinks)), ("malformed_share".to_owned(), share(malformed))])
    }

    fn suggests_flexible(&self, _response: &str) -> bool {
        false
    }

    fn examination_size(&self) -> Option<usize> {
        (self.steps == Self::ALL.steps).then(|| self.n_kinds() * LARGEST)
    }

    /// As many items of every task and number of steps.
    fn examination(&self, amount: Amount, seed: u64, split: Split) -> Result<Vec<ExaminationItem>, TasksError> {
        let n_of_each = match amount {
            Amount::All => LARGEST,
            Amount::OfEachTask(n) => n / MAX_SERIAL_STEPS,
            Amount::InAll(n) => n.div_ceil(self.n_kinds()),
        };
        let mut items = Vec::new();
        for task in self.tasks() {
            for k in 1..=MAX_SERIAL_STEPS {
                let source = Self { task: Some(task), steps: k..=k };
                for index in 0..n_of_each as u64 {
                    let id = format!("{task}-{}-k{k}-{seed}-{index}", split.as_str());
                    items.push(ExaminationItem {
                        item: source.generate(seed, index, split)?.to_item(id),
                        task: task.name(),
                        number: (task as usize * MAX_SERIAL_STEPS + k) as u64 * NUMBERS_A_STEP + index,
                        n_steps: Some(k),
                        kind: None,
                    });
                }
            }
        }
        Ok(items)
    }

    fn arms(&self) -> &'static [Arm] {
        const ARMS: [Arm; 2] = [
            Arm { name: "think", start: THINK, has_trace: true },
            Arm { name: "direct", start: ANSWER, has_trace: false },
        ];
        &ARMS
    }

    fn scorers(&self) -> Vec<&'static str> {
        vec!["strict", "flex"]
    }

    fn chance(&self, task: &str) -> f64 {
        task.parse::<SerialTask>().map_or(0.0, SerialTask::chance)
    }

    fn score(&self, item: &Item, completion: &str, truncated: bool) -> Score {
        let verdict = verify_serial(&item.question, completion, truncated);
        let symbols: Vec<&str> = completion.split_whitespace().collect();
        let mark = symbols.iter().rposition(|symbol| *symbol == ANSWER);
        let flexible = mark.and_then(|mark| symbols.get(mark + 1)).map(|symbol| (*symbol).to_owned());
        let is_right = verdict.is_some_and(|verdict| verdict.is_correct);
        let is_answer = !truncated && flexible.is_some() && flexible == item.answer;
        Score {
            strict: flexible.clone().filter(|_| verdict.is_some_and(|verdict| verdict.is_well_formed)),
            flexible,
            correct: [("strict".to_owned(), is_right), ("flex".to_owned(), is_answer)].into(),
        }
    }

    fn own_answer<'a>(&self, strict: Option<&'a str>, _flexible: Option<&'a str>) -> Option<&'a str> {
        strict
    }

    /// Before the last mark of an answer.
    fn trace_end(&self, completion: &str, _prompt: &str) -> Option<(usize, usize)> {
        let mark = completion.rfind(ANSWER)?;
        let after = &completion[mark + ANSWER.len()..];
        let answer = completion.len() - after.trim_start().len();
        Some((completion[..mark].trim_end().len(), answer))
    }

    /// Before each separator behind the mark of the trace.
    fn step_ends(&self, trace: &str) -> Vec<usize> {
        if !trace.starts_with(THINK) {
            return Vec::new();
        }
        trace.match_indices(SEPARATOR).map(|(at, _)| at).chain([trace.len()]).collect()
    }

    fn min_step_tokens(&self) -> usize {
        1
    }

    fn suffix(&self, _form: PromptForm<'_>, _response: &str, _beginning: &str) -> String {
        ANSWER.to_owned()
    }

    /// A separator before the mark, as if another step were to come.
    fn second_suffix(&self) -> Option<String> {
        Some(format!("{SEPARATOR} {ANSWER}"))
    }

    fn suffixes(&self, _form: PromptForm<'_>) -> BTreeMap<String, String> {
        [
            ("suffix".to_owned(), ANSWER.to_owned()),
            ("suffix_without_trace".to_owned(), ANSWER.to_owned()),
            ("second_suffix".to_owned(), format!("{SEPARATOR} {ANSWER}")),
        ]
        .into()
    }

    fn max_answer_tokens(&self) -> usize {
        1
    }

    fn elicited_answer(&self, text: &str) -> Option<String> {
        let first = text.split_whitespace().next()?;
        SERIAL_VOCABULARY.contains(&first).then(|| first.to_owned())
    }

    fn has_exact_steps(&self) -> bool {
        true
    }

    fn written_steps(&self, item: &Item, completion: &str) -> Option<Vec<bool>> {
        let steps = SerialItem::parse(&item.question)?.steps;
        let symbols: Vec<&str> = completion.split_whitespace().collect();
        let end = symbols.iter().rposition(|symbol| *symbol == ANSWER).unwrap_or(symbols.len());
        let trace = symbols.get(1..end).filter(|_| symbols.first() == Some(&THINK)).unwrap_or_default();
        let mut written = trace.split(|symbol| *symbol == SEPARATOR);
        Some(steps.iter().map(|step| written.next().is_some_and(|written| written == step)).collect())
    }

    fn n_written_steps(&self, item: &Item, beginning: &str) -> Option<usize> {
        let steps = SerialItem::parse(&item.question)?.steps;
        let symbols: Vec<&str> = beginning.split_whitespace().skip_while(|symbol| *symbol == THINK).collect();
        let count = |n_written: usize, written: &[&str]| {
            n_written + usize::from(steps.get(n_written).is_some_and(|step| written == step))
        };
        Some(symbols.split(|symbol| [SEPARATOR, ANSWER].contains(symbol)).fold(0, count))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A held-out item of two steps.
    fn item() -> (Item, SerialItem) {
        let items = SerialSource::ALL.examination(Amount::InAll(1), 0, Split::Test).unwrap();
        let item = items.into_iter().find(|item| item.n_steps == Some(2)).unwrap().item;
        let solved = SerialItem::parse(&item.question).unwrap();
        (item, solved)
    }

    #[test]
    fn examinations_nest_and_have_every_step_equally_often() {
        let of = |n| SerialSource::ALL.examination(Amount::InAll(n), 0, Split::Test).unwrap();
        let (small, large) = (of(48), of(600));
        assert_eq!((small.len(), large.len()), (48, 600));
        for item in &small {
            let same = large.iter().find(|other| other.number == item.number).unwrap();
            assert_eq!(same, item);
        }
        let numbers: std::collections::BTreeSet<u64> = large.iter().map(|item| item.number).collect();
        assert_eq!(numbers.len(), 600);
        assert_eq!(SerialSource::ALL.examination_size(), Some(4800));
        assert_eq!(SerialSource { steps: 2..=2, ..SerialSource::ALL }.examination_size(), None);
    }

    #[test]
    fn responses_are_read_by_their_marks() {
        let (item, solved) = item();
        let right = solved.answer;
        let score = |text: &str, truncated| SerialSource::ALL.score(&item, text, truncated);
        let read = score(&format!("<t> 1 + 1 = 2 ; 2 + 2 = 4 <a> {right}"), false);
        assert!(read.correct["strict"] && read.correct["flex"]);
        assert_eq!(read.strict.as_deref(), Some(right));
        let twice = score(&format!("<a> {right} {right}"), false);
        assert!(!twice.correct["strict"] && twice.correct["flex"]);
        let open = score("<t> 1 + 1", true);
        assert_eq!((open.strict, open.flexible), (None, None));
    }

    #[test]
    fn steps_are_checked_in_place() {
        let item = Item::new("a", "<q> 7 + 5 * 3 - 4");
        for (response, expected) in [
            ("<t> 7 + 5 = 2 ; 2 * 3 = 7 ; 6 - 4 = 2 <a> 2", [true, false, true]),
            ("<t> 7 + 5 = 2 ; 6 - 4 = 2 <a> 2", [true, false, false]),
            // The last is followed by a first answer.
            ("<t> 7 + 5 = 2 ; 2 * 3 = 6 ; 6 - 4 = 2 <a> 5 <a> 2", [true, true, false]),
            ("<a> 2", [false; 3]),
        ] {
            assert_eq!(SerialSource::ALL.written_steps(&item, response).unwrap(), expected, "{response}");
        }
    }

    #[test]
    fn steps_of_the_solution_are_counted_in_their_order() {
        let (item, solved) = item();
        let [first, second] = [0, 1].map(|step: usize| solved.steps[step].join(" "));
        let count = |text: &str| SerialSource::ALL.n_written_steps(&item, text);
        assert_eq!((count(""), count("<t>")), (Some(0), Some(0)));
        assert_eq!(count(&format!("<t> {first}")), Some(1));
        // Filler counts for nothing, and neither does a step that comes too early.
        assert_eq!(count(&format!("<t> {first} ; {first} ; {second}")), Some(2));
        assert_eq!(count(&format!("<t> {second} ; {first} <a>")), Some(1));
        assert_eq!(SerialSource::ALL.n_written_steps(&Item::new("a", "?"), ""), None);
    }
}
