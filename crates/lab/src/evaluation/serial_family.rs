//! The serial tasks as an evaluation asks them: every item is answered thinking aloud, and at once.

use aloud_session::error::Context as _;
use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_measure::run_files::Extracted;
use aloud_model::checkpoint::lineage::ItemKey;
use aloud_tasks::{
    ANSWER, END, MAX_SERIAL_STEPS, ResponseStyle, SEPARATOR, SERIAL_VOCABULARY, SerialItem, SerialSource, SerialTask,
    Split, THINK, verify_serial,
};

use super::family::{Arm, EvaluationItem, ReadResponse, TaskFamily, TraceSteps};
use super::leave_out::retain;
use aloud_session::prompts::EncodedPrompt;
use aloud_session::serial_data::{prompt_ids, response_text, symbol_id};

/// Items of the same task and number of steps are numbered below this.
const NUMBERS_A_STEP: u64 = 1 << 32;

/// Held-out items of the serial tasks.
#[derive(Debug)]
pub(crate) struct SerialFamily {
    name: &'static str,
    solved: Vec<SerialItem>,
    items: Vec<EvaluationItem>,
    arms: Vec<Arm>,
    stop_tokens: Vec<u32>,
    max_new_tokens: usize,
}

impl SerialFamily {
    /// `n_of_each` items of every task (or of one) and number of steps. The items of a smaller number are among those of a
    /// larger one.
    ///
    /// # Errors
    /// If an item cannot be made.
    pub(crate) fn new(
        task: Option<SerialTask>,
        n_of_each: usize,
        split: Split,
        seed: u64,
        max_new_tokens: usize,
    ) -> Result<Self, SessionError> {
        let (mut solved, mut items) = (Vec::new(), Vec::new());
        for (place, each) in
            SerialTask::ALL.into_iter().enumerate().filter(|(_, each)| task.is_none_or(|task| task == *each))
        {
            for k in 1..=MAX_SERIAL_STEPS {
                let source = SerialSource { task: Some(each), steps: k..=k };
                for index in 0..n_of_each as u64 {
                    let item = source.generate(seed, index, split)?;
                    let prompt = EncodedPrompt {
                        id: format!("{each}-{}-k{k}-{seed}-{index}", split.as_str()),
                        text: item.prompt(),
                        token_ids: prompt_ids(&item),
                        answer: Some(item.answer.to_owned()),
                        item: ItemKey::of_question(&item.prompt()),
                    };
                    let number = (place * MAX_SERIAL_STEPS + k) as u64 * NUMBERS_A_STEP + index;
                    items.push(EvaluationItem {
                        task: each.to_string(),
                        number,
                        question: item.prompt(),
                        solution: Some(item.response(ResponseStyle::Think).join(" ")),
                        prompt,
                        n_steps: Some(k),
                    });
                    solved.push(item);
                }
            }
        }
        let arm = |name, start, has_trace| Arm { name, start: vec![symbol_id(start)], has_trace };
        Ok(Self {
            name: task.map_or("serial", SerialTask::name),
            solved,
            items,
            arms: vec![arm("think", THINK, true), arm("direct", ANSWER, false)],
            stop_tokens: vec![symbol_id(END)],
            max_new_tokens,
        })
    }
}

impl TaskFamily for SerialFamily {
    fn name(&self) -> &'static str {
        self.name
    }

    fn items(&self) -> &[EvaluationItem] {
        &self.items
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.solved, keep);
        retain(&mut self.items, keep);
    }

    fn arms(&self) -> &[Arm] {
        &self.arms
    }

    fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    fn read(&self, item: usize, ids: &[u32], truncated: bool) -> Result<ReadResponse, SessionError> {
        let completion = response_text(ids.iter().copied());
        let verdict = verify_serial(&self.solved[item].prompt(), &completion, truncated)
            .with_context(|| format!("item {} cannot be read back", self.items[item].prompt.id))?;
        let answer_mark = last_answer_mark(ids);
        let n_trace = answer_mark.map_or(ids.len(), |mark| mark + 1);
        let answer = response_text(ids[n_trace..].iter().copied());
        let flex = answer_mark.and_then(|_| answer.split_whitespace().next().map(str::to_owned));
        Ok(ReadResponse {
            trace: response_text(ids[..n_trace.saturating_sub(usize::from(answer_mark.is_some()))].iter().copied()),
            closed: answer_mark.is_some(),
            n_trace,
            extracted: Extracted { strict: flex.clone().filter(|_| verdict.is_well_formed), flex: flex.clone() },
            correct: [
                ("strict".to_owned(), verdict.is_correct),
                ("flex".to_owned(), !truncated && flex.as_deref() == Some(self.solved[item].answer)),
            ]
            .into(),
            answer_text: answer,
            completion,
        })
    }

    /// After the mark of the trace, and then before each separator; the last step ends before the answer's mark.
    fn steps(&self, ids: &[u32]) -> Option<TraceSteps> {
        let answer_mark = last_answer_mark(ids).filter(|_| ids.first() == Some(&symbol_id(THINK)))?;
        let separators = (1..answer_mark).filter(|place| ids[*place] == symbol_id(SEPARATOR));
        let mut ends: Vec<usize> = [0].into_iter().chain(separators).chain([answer_mark]).collect();
        ends.dedup();
        Some(TraceSteps { ends })
    }

    fn texts(&self) -> BTreeMap<String, String> {
        [
            ("suffix".to_owned(), ANSWER.to_owned()),
            ("suffix_without_trace".to_owned(), ANSWER.to_owned()),
            ("second_suffix".to_owned(), format!("{SEPARATOR} {ANSWER}")),
        ]
        .into()
    }

    fn suffix(&self, _response: &[u32], _length: usize) -> Vec<u32> {
        vec![symbol_id(ANSWER)]
    }

    /// A separator before the mark, as if another step were to come.
    fn second_suffix(&self, _beginning: &[u32]) -> Option<Vec<u32>> {
        Some(vec![symbol_id(SEPARATOR), symbol_id(ANSWER)])
    }

    fn max_answer_tokens(&self) -> usize {
        1
    }

    fn read_answer(&self, ids: &[u32]) -> Option<String> {
        let symbol = SERIAL_VOCABULARY.get(*ids.first()? as usize)?;
        (*symbol != END).then(|| (*symbol).to_owned())
    }

    fn chance(&self, task: &str) -> f64 {
        task.parse::<SerialTask>().map_or(0.0, SerialTask::chance)
    }

    fn has_exact_steps(&self) -> bool {
        true
    }

    fn written_steps(&self, item: usize, completion: &str) -> Option<Vec<bool>> {
        let steps = &self.solved.get(item)?.steps;
        let symbols: Vec<&str> = completion.split_whitespace().collect();
        let end = symbols.iter().rposition(|symbol| *symbol == ANSWER).unwrap_or(symbols.len());
        let trace = symbols.get(1..end).filter(|_| symbols.first() == Some(&THINK)).unwrap_or_default();
        let mut written = trace.split(|symbol| *symbol == SEPARATOR);
        Some(steps.iter().map(|step| written.next().is_some_and(|written| written == step)).collect())
    }

    /// Steps of the solution in their order, whatever stands between them.
    fn n_written_values(&self, item: usize, beginning: &[u32]) -> Option<usize> {
        let steps = &self.solved.get(item)?.steps;
        let text = response_text(beginning.iter().copied());
        let symbols: Vec<&str> = text.split_whitespace().skip_while(|symbol| *symbol == THINK).collect();
        let count = |n_written: usize, written: &[&str]| {
            n_written + usize::from(steps.get(n_written).is_some_and(|step| written == step))
        };
        Some(symbols.split(|symbol| [SEPARATOR, ANSWER].contains(symbol)).fold(0, count))
    }

    fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>> {
        SERIAL_VOCABULARY.into_iter().find(|symbol| *symbol == answer).map(|symbol| vec![symbol_id(symbol)])
    }
}

fn last_answer_mark(ids: &[u32]) -> Option<usize> {
    ids.iter().rposition(|id| *id == symbol_id(ANSWER))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn family() -> SerialFamily {
        SerialFamily::new(None, 2, Split::Test, 0, 96).unwrap()
    }

    fn ids(text: &str) -> Vec<u32> {
        let id = |symbol: &str| SERIAL_VOCABULARY.iter().position(|known| *known == symbol).unwrap() as u32;
        text.split_whitespace().map(id).collect()
    }

    #[test]
    fn choices_nest_and_have_every_step_equally_often() {
        let (small, large) = (family(), SerialFamily::new(None, 25, Split::Test, 0, 96).unwrap());
        assert_eq!((small.items.len(), large.items.len()), (48, 600));
        for item in &small.items {
            let same = large.items.iter().find(|other| other.number == item.number).unwrap();
            assert_eq!(same.prompt, item.prompt);
        }
        let numbers: std::collections::BTreeSet<u64> = large.items.iter().map(|item| item.number).collect();
        assert_eq!(numbers.len(), 600);
    }

    #[test]
    fn responses_are_read_by_their_marks() {
        let family = family();
        let item = family.solved.iter().position(|item| item.n_steps() == 2).unwrap();
        let right = family.solved[item].answer;
        let text = format!("<t> 1 + 1 = 2 ; 2 + 2 = 4 <a> {right} <eos>");
        let read = family.read(item, &ids(&text), false).unwrap();
        assert_eq!((read.trace.as_str(), read.answer_text.as_str()), ("<t> 1 + 1 = 2 ; 2 + 2 = 4", right));
        assert_eq!((read.closed, read.n_trace), (true, 13));
        assert!(read.correct["strict"] && read.correct["flex"]);
        assert_eq!(read.extracted.strict.as_deref(), Some(right));
        let twice = family.read(item, &ids(&format!("<a> {right} {right}")), false).unwrap();
        assert!(!twice.correct["strict"] && twice.correct["flex"]);
        let open = family.read(item, &ids("<t> 1 + 1"), true).unwrap();
        assert_eq!((open.closed, open.n_trace, open.extracted), (false, 4, Extracted::default()));
    }

    #[test]
    fn values_are_the_steps_of_the_solution_in_their_order() {
        let family = family();
        let item = family.solved.iter().position(|item| item.n_steps() == 2).unwrap();
        let [first, second] = [0, 1].map(|step: usize| family.solved[item].steps[step].join(" "));
        let count = |text: &str| family.n_written_values(item, &ids(text));
        assert_eq!((count(""), count("<t>")), (Some(0), Some(0)));
        assert_eq!(count(&format!("<t> {first}")), Some(1));
        // Filler counts for nothing, and neither does a step that comes too early.
        assert_eq!(count(&format!("<t> {first} ; {first} ; {second}")), Some(2));
        assert_eq!(count(&format!("<t> {second} ; {first} <a>")), Some(1));
        assert_eq!(family.n_written_values(usize::MAX, &[]), None);
    }

    #[test]
    fn steps_end_before_separators() {
        let family = family();
        let ends = |text: &str| family.steps(&ids(text)).map(|steps| steps.ends);
        assert_eq!(ends("<t> 1 + 1 = 2 ; 2 + 2 = 4 <a> 4 <eos>"), Some(vec![0, 6, 12]));
        assert_eq!(ends("<t> <a> 4"), Some(vec![0, 1]));
        assert_eq!(ends("<t> 1 + 1 = 2"), None);
        assert_eq!(ends("<a> 4"), None);
    }
}
