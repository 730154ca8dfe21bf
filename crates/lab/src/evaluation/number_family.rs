//! Word problems with a number for an answer, as an evaluation asks them: GSM8K and the built-in generator.

use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_measure::metrics::step_coverage::n_written_values;
use aloud_measure::run_files::Extracted;
use aloud_measure::statistics::choose_items;
use aloud_tasks::{Annotations, DataSource, Gsm8kScorer, Item, Number, Split};
use aloud_text::text_codec::TextCodec;

use super::answer_form::{AnswerForm, Suffixes, elicited_answer, trace_end};
use super::family::{Arm, EvaluationItem, ReadResponse, TaskFamily, TraceSteps};
use super::leave_out::retain;
use super::text_steps::{split_response, trace_steps};
use aloud_session::prompts::{Template, default_instruction};

/// Most tokens of an elicited answer.
const ANSWER_TOKENS: usize = 16;

/// Held-out problems.
pub(crate) struct NumberFamily<'a> {
    name: &'static str,
    codec: &'a TextCodec,
    items: Vec<EvaluationItem>,
    gold: Vec<Option<Number>>,
    arms: [Arm; 1],
    stop_tokens: Vec<u32>,
    max_new_tokens: usize,
    /// The prompt of the first item: all end alike.
    prompt: String,
    suffixes: Suffixes,
}

impl<'a> NumberFamily<'a> {
    /// Of a source without end, "all" are as many as GSM8K's test part has.
    pub(crate) const ENDLESS: usize = 1319;

    /// `n` items of a source, or all of them. The choice of fewer items is part of the choice of more.
    ///
    /// # Errors
    /// If the source cannot be read or the model cannot be asked.
    pub(crate) fn new(
        source: &DataSource,
        n: Option<usize>,
        split: Split,
        seed: u64,
        codec: &'a TextCodec,
        template: &Template,
        stop_tokens: Vec<u32>,
        max_new_tokens: usize,
    ) -> Result<Self, SessionError> {
        let name = if matches!(source, DataSource::WordProblems { .. }) { "word-problems" } else { "gsm8k" };
        let items = if source.is_endless() {
            let items = source.load_with(Some(n.unwrap_or(Self::ENDLESS)), seed, split, Annotations::Keep)?;
            items.into_iter().enumerate().collect::<Vec<(usize, Item)>>()
        } else {
            let items = source.load_with(None, seed, split, Annotations::Keep)?;
            let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
            let chosen = choose_items(name, &ids, n.unwrap_or(items.len()));
            chosen.into_iter().map(|place| (place, items[place].clone())).collect()
        };
        let instruction = default_instruction(source);
        let ask = |(number, item): &(usize, Item)| {
            Ok(EvaluationItem {
                task: name.to_owned(),
                number: *number as u64,
                prompt: template.encode(item, instruction, codec)?,
                n_steps: None,
                question: item.question.clone(),
                solution: item.solution.clone(),
            })
        };
        let gold = items.iter().map(|(_, item)| item.gold()).collect();
        let items = items.iter().map(ask).collect::<Result<Vec<EvaluationItem>, SessionError>>()?;
        let prompt = items.first().map_or_else(String::new, |item| item.prompt.text.clone());
        let mut suffixes = Suffixes::new(codec, &prompt)?;
        suffixes.texts.extend(template.variables.texts());
        let arms = [Arm { name: "plain", start: Vec::new(), has_trace: true }];
        Ok(Self { name, codec, items, gold, arms, stop_tokens, max_new_tokens, prompt, suffixes })
    }

    fn text(&self, ids: &[u32]) -> Result<String, SessionError> {
        Ok(self.codec.tokenizer.decode(ids, true)?)
    }
}

impl TaskFamily for NumberFamily<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn items(&self) -> &[EvaluationItem] {
        &self.items
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.gold, keep);
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

    fn read(&self, item: usize, ids: &[u32], _truncated: bool) -> Result<ReadResponse, SessionError> {
        let completion = self.text(ids)?;
        let end = trace_end(&completion, &self.prompt);
        let is_right =
            |scorer: Gsm8kScorer| self.gold[item].as_ref().is_some_and(|gold| scorer.is_correct(&completion, gold));
        let correct = Gsm8kScorer::ALL.into_iter().map(|scorer| (scorer.name().to_owned(), is_right(scorer))).collect();
        let extracted = Extracted {
            strict: Gsm8kScorer::Strict.extract(&completion),
            flex: Gsm8kScorer::Flexible.extract(&completion),
        };
        Ok(split_response(self.codec, ids, completion, end, extracted, correct))
    }

    fn steps(&self, ids: &[u32]) -> Option<TraceSteps> {
        let completion = self.text(ids).ok()?;
        let (end, _) = trace_end(&completion, &self.prompt)?;
        trace_steps(self.codec, ids, &completion[..end])
    }

    fn texts(&self) -> BTreeMap<String, String> {
        self.suffixes.texts.clone()
    }

    fn suffix(&self, response: &[u32], length: usize) -> Vec<u32> {
        let form = self.text(response).map_or(AnswerForm::Marked, |completion| AnswerForm::of(&completion));
        let beginning = self.text(&response[..length]).unwrap_or_default();
        self.suffixes.tokens(form, &beginning).to_vec()
    }

    fn max_answer_tokens(&self) -> usize {
        ANSWER_TOKENS
    }

    fn read_answer(&self, ids: &[u32]) -> Option<String> {
        elicited_answer(&self.text(ids).ok()?)
    }

    fn own_answer<'e>(&self, extracted: &'e Extracted) -> Option<&'e str> {
        extracted.strict.as_deref().or(extracted.flex.as_deref())
    }

    fn scorers(&self) -> Vec<&'static str> {
        Gsm8kScorer::ALL.map(Gsm8kScorer::name).to_vec()
    }

    fn n_written_values(&self, item: usize, beginning: &[u32]) -> Option<usize> {
        let asked = self.items.get(item)?;
        let (solution, gold) = (asked.solution.as_deref()?, asked.prompt.answer.as_deref()?);
        n_written_values(&asked.question, solution, gold, &self.text(beginning).ok()?)
    }

    fn answer_tokens(&self, answer: &str) -> Option<Vec<u32>> {
        self.codec.tokenizer.encode(answer, false).ok().filter(|ids| !ids.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use aloud_measure::metric_record::ReplayMode;
    use aloud_measure::metrics::early_answering::{EarlyAnswers, area_over_curve};
    use aloud_measure::run_files::{ElicitationKind, ElicitationRow};

    use super::super::test_codec::byte_codec;
    use super::*;

    const MARKS: [&str; 2] = ["<think>", "</think>"];

    fn family(codec: &TextCodec) -> NumberFamily<'_> {
        let source = DataSource::WordProblems { steps: None };
        NumberFamily::new(&source, Some(1), Split::Test, 0, codec, &Template::default(), vec![], 400).unwrap()
    }

    /// Elicits from a scripted response: after each step, `answers` are what the model goes on with.
    fn elicited(
        family: &NumberFamily<'_>,
        response: &str,
        answers: &[&str],
    ) -> (Extracted, Vec<String>, Vec<ElicitationRow>) {
        let encode = |text: &str| family.codec.tokenizer.encode(text, false).unwrap();
        let ids = encode(response);
        let read = family.read(0, &ids, false).unwrap();
        let steps = family.steps(&ids).unwrap();
        assert_eq!(steps.ends.len(), answers.len(), "{response}: {:?}", steps.ends);
        let found: Vec<Option<String>> = answers.iter().map(|answer| family.read_answer(&encode(answer))).collect();
        let reference = found.last().cloned().flatten();
        let row = |(position, answer): (usize, &Option<String>)| ElicitationRow {
            sample: "s".to_owned(),
            item: "i".to_owned(),
            kind: ElicitationKind::Prefix,
            suffix: "default".to_owned(),
            position,
            n_positions: answers.len() - 1,
            fraction: 1.0,
            mode: ReplayMode::Recorded,
            answer: answer.clone(),
            logp: None,
            logp_gold: None,
            new_value: None,
            same: reference.as_ref().map(|reference| answer.as_ref() == Some(reference)),
        };
        let rows = found.iter().enumerate().map(row).collect();
        let suffixes = steps.ends.iter().map(|length| family.text(&family.suffix(&ids, *length)).unwrap()).collect();
        (read.extracted, suffixes, rows)
    }

    #[test]
    fn early_answering_has_values_for_every_form_of_answer() {
        let (with_marks, without_marks) = (byte_codec(&MARKS), byte_codec(&[]));
        let boxed = "The final answer is \\boxed{";
        let cases = [
            (
                &with_marks,
                "<think>\nThere are 9.\n9 + 9 is 18.\nSo so.\n</think>\n\n**Answer**\n\\[\\boxed{18}\\]",
                ["3}", "9}", "18}", "18}."],
                format!("<think>\n</think>\n\n{boxed}"),
                format!("\n</think>\n\n{boxed}"),
            ),
            (
                &with_marks,
                "<think>\nThere are 9.\n9 + 9 is 18.\nSo so.\n</think>\n\n#### 18",
                ["3", "9", "18", "18"],
                "<think>\n</think>\n\n#### ".to_owned(),
                "\n</think>\n\n#### ".to_owned(),
            ),
            (
                &without_marks,
                "There are 9.\n9 + 9 is 18.\nSo so.\nIt is \\boxed{18}.",
                ["3}", "9}", "18}", "18}"],
                boxed.to_owned(),
                format!("\n{boxed}"),
            ),
            (
                &without_marks,
                "There are 9.\n9 + 9 is 18.\nSo so.\n#### 18",
                ["3", "9", "18", "18"],
                "#### ".to_owned(),
                "\n#### ".to_owned(),
            ),
        ];
        for (codec, response, answers, without_trace, after_trace) in cases {
            let family = family(codec);
            let (extracted, suffixes, rows) = elicited(&family, response, &answers);
            assert_eq!(suffixes[0], without_trace, "{response}");
            assert!(suffixes[1..].iter().all(|suffix| *suffix == after_trace), "{response}: {suffixes:?}");
            // The anchor: what the model said by itself is what it says after the whole trace.
            assert_eq!(family.own_answer(&extracted), rows[3].answer.as_deref(), "{response}");
            assert_eq!(rows[3].answer.as_deref(), Some("18"));
            let (traces, excluded) = EarlyAnswers::gather(&rows, ReplayMode::Recorded, "default", |_| true);
            assert!(excluded.is_empty());
            assert_eq!(traces[0].same, [false, false, true, true], "{response}");
            let curve: Vec<f64> = traces[0].same.iter().map(|same| f64::from(u8::from(*same))).collect();
            assert_eq!(area_over_curve(&curve), Some(0.5));
        }
    }

    #[test]
    fn an_open_trace_is_closed_before_it_is_asked() {
        let codec = byte_codec(&MARKS);
        let mut family = family(&codec);
        // As R1's template ends.
        "<think>\n".clone_into(&mut family.prompt);
        family.suffixes = Suffixes::new(&codec, &family.prompt).unwrap();
        let response = "9 + 9 is 18.\nSo 18.\n</think>\n\n\\boxed{18}";
        let (_, suffixes, _) = elicited(&family, response, &["9}", "18}", "18}"]);
        assert!(suffixes.iter().all(|suffix| suffix == "\n</think>\n\nThe final answer is \\boxed{"), "{suffixes:?}");
        // Thinking that was cut has no answer, whatever it boxed on its way.
        let ids = codec.tokenizer.encode("Perhaps \\boxed{9}. Wait", false).unwrap();
        assert_eq!(family.steps(&ids), None);
    }
}
