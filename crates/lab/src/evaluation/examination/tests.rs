//! Texts as tokens: where traces end and their steps, and what asks for an answer.

#![expect(clippy::unwrap_used, reason = "tests")]

use aloud_measure::metric_record::ReplayMode;
use aloud_measure::metrics::early_answering::{EarlyAnswers, area_over_curve};
use aloud_measure::run_files::{ElicitationKind, ElicitationRow};
use aloud_tasks::word_problems::task::WordProblems;

use super::super::test_codec::{byte_codec, serial_examination, symbol_codec};
use super::*;

const MARKS: [&str; 2] = ["<think>", "</think>"];

/// One word problem.
fn problems(codec: &TextCodec) -> Examination<'_> {
    let task: Arc<dyn Task> = Arc::new(WordProblems::default());
    let extent = Extent { amount: Amount::InAll(1), split: Split::Test, seed: 0, max_new_tokens: 400 };
    Examination::new(&task, extent, codec, &Template::default(), vec![]).unwrap()
}

/// Elicits from a scripted response: after each step, `answers` are what the model goes on with.
fn elicited(exam: &Examination<'_>, response: &str, answers: &[&str]) -> (Extracted, Vec<String>, Vec<ElicitationRow>) {
    let encode = |text: &str| exam.text.tokens(text).unwrap();
    let ids = encode(response);
    let read = exam.read(0, &ids, false).unwrap();
    let steps = exam.steps(&ids).unwrap();
    assert_eq!(steps.len(), answers.len(), "{response}: {steps:?}");
    let found: Vec<Option<String>> = answers.iter().map(|answer| exam.read_answer(&encode(answer))).collect();
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
    let suffixes = steps.iter().map(|length| exam.text.text(&exam.suffix(&ids, *length)).unwrap()).collect();
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
        let exam = problems(codec);
        let (extracted, suffixes, rows) = elicited(&exam, response, &answers);
        assert_eq!(suffixes[0], without_trace, "{response}");
        assert!(suffixes[1..].iter().all(|suffix| *suffix == after_trace), "{response}: {suffixes:?}");
        // The anchor: what the model said by itself is what it says after the whole trace.
        assert_eq!(exam.own_answer(&extracted), rows[3].answer.as_deref(), "{response}");
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
    let mut exam = problems(&codec);
    // As R1's template ends.
    "<think>\n".clone_into(&mut exam.prompt);
    let response = "9 + 9 is 18.\nSo 18.\n</think>\n\n\\boxed{18}";
    let (_, suffixes, _) = elicited(&exam, response, &["9}", "18}", "18}"]);
    assert!(suffixes.iter().all(|suffix| suffix == "\n</think>\n\nThe final answer is \\boxed{"), "{suffixes:?}");
    // Thinking that was cut has no answer, whatever it boxed on its way.
    let ids = codec.tokenizer.encode("Perhaps \\boxed{9}. Wait", false).unwrap();
    assert_eq!(exam.steps(&ids), None);
}

/// The definition, by decoding every beginning: half a character is not there yet.
fn by_decoding(codec: &TextCodec, ids: &[u32], length: usize) -> usize {
    let reaches = |n: &usize| {
        let text = codec.tokenizer.decode(&ids[..*n], true).unwrap();
        text.trim_end_matches(char::REPLACEMENT_CHARACTER).len() >= length
    };
    (0..=ids.len()).find(reaches).unwrap_or(ids.len())
}

#[test]
fn tokens_are_counted_in_one_decoding() {
    let codec = byte_codec(&["</think>"]);
    let text = "It costs 3 €. 🎉 Größe: ½.\nSo 数字 is 5.</think> #### 5";
    let ids = codec.tokenizer.encode(text, false).unwrap();
    let ends = problems(&codec).text.byte_ends(&ids);
    // One step of one decoder a token; the text of a mark comes at once.
    assert_eq!((ends.len(), ends.last()), (ids.len(), Some(&text.len())));
    assert_eq!(ids.len(), text.len() - "</think>".len() + 1);
    for length in (0..=text.len() + 1).filter(|length| *length > text.len() || text.is_char_boundary(*length)) {
        assert_eq!(n_tokens_of(&ends, length), by_decoding(&codec, &ids, length), "{length}");
    }
    assert_eq!(n_tokens_of(&[], 3), 0);
}

#[test]
fn long_traces_are_cut_in_linear_time() {
    let codec = byte_codec(&[]);
    let line = "Zwei mal zwei ist vier, größer wird es nicht.\n";
    let trace = line.repeat(4000);
    let ids = codec.tokenizer.encode(&trace, false).unwrap();
    let start = std::time::Instant::now();
    let steps = problems(&codec).trace_steps(&ids, &trace).unwrap();
    // Decoding a beginning for every look at one took a minute for this.
    assert!(start.elapsed().as_secs() < 10);
    assert_eq!(steps.len(), 4001);
    // The line break is too short for a step of its own, and joins the next line.
    assert_eq!(steps[1], line.trim_end().len());
}

#[test]
fn short_pieces_join_the_step_before_or_after() {
    assert_eq!(step_ends(&[5, 6, 12], 3), [0, 5, 12]);
    assert_eq!(step_ends(&[1, 5, 9, 10], 3), [0, 5, 10]);
    assert_eq!(step_ends(&[2], 3), [0, 2]);
    assert_eq!(step_ends(&[], 3), [0]);
}

#[test]
fn traces_in_symbols_end_at_the_mark_of_the_answer() {
    let codec = symbol_codec();
    let exam = serial_examination(&codec, None, Amount::InAll(24));
    let ids = |text: &str| exam.text.tokens(text).unwrap();
    let read = exam.read(0, &ids("<t> 1 + 1 = 2 ; 2 + 2 = 4 <a> 4 <eos>"), false).unwrap();
    assert_eq!((read.trace.as_str(), read.answer_text.as_str()), ("<t> 1 + 1 = 2 ; 2 + 2 = 4", "4"));
    assert_eq!((read.closed, read.n_trace), (true, 13));
    let direct = exam.read(0, &ids("<a> 4 <eos>"), false).unwrap();
    assert_eq!((direct.trace.as_str(), direct.answer_text.as_str(), direct.n_trace), ("", "4", 1));
    let no_answer = exam.read(0, &ids("<t> <a> <eos>"), false).unwrap();
    assert_eq!((no_answer.trace.as_str(), no_answer.answer_text.as_str(), no_answer.n_trace), ("<t>", "", 2));
    let open = exam.read(0, &ids("<t> 1 + 1"), true).unwrap();
    assert_eq!((open.closed, open.n_trace, open.extracted), (false, 4, Extracted::default()));
}

#[test]
fn steps_in_symbols_end_before_separators() {
    let codec = symbol_codec();
    let exam = serial_examination(&codec, None, Amount::InAll(24));
    let ends = |text: &str| exam.steps(&exam.text.tokens(text).unwrap());
    assert_eq!(ends("<t> 1 + 1 = 2 ; 2 + 2 = 4 <a> 4 <eos>"), Some(vec![0, 6, 12]));
    assert_eq!(ends("<t> ; ; 1 <a> 4"), Some(vec![0, 1, 2, 4]));
    assert_eq!(ends("<t> <a> 4"), Some(vec![0, 1]));
    assert_eq!(ends("<t> 1 + 1 = 2"), None);
    assert_eq!(ends("<a> 4"), None);
}

#[test]
fn answers_in_symbols_are_asked_for_by_their_mark() {
    let codec = symbol_codec();
    let exam = serial_examination(&codec, None, Amount::InAll(24));
    let ids = |text: &str| exam.text.tokens(text).unwrap();
    assert_eq!(exam.suffix(&ids("<t> 1 <a> 2"), 2), ids("<a>"));
    assert_eq!(exam.second_suffix(), Some(ids("; <a>")));
    assert_eq!(exam.arms().iter().map(|arm| arm.start.clone()).collect::<Vec<_>>(), [ids("<t>"), ids("<a>")]);
    assert_eq!((exam.stop_tokens(), exam.answer_tokens("7")), (&*ids("<eos>"), Some(ids("7"))));
    assert_eq!((exam.read_answer(&ids("7")), exam.read_answer(&ids("<eos>"))), (Some("7".to_owned()), None));
    assert_eq!((exam.read_answer(&[47]), exam.answer_tokens("seven")), (None, None));
}
