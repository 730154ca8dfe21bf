//! Directions that metrics must have on models whose inside is known: one writes its answer before its trace, the other needs
//! the steps that it writes. How the two were made is said beside them, in `tests/toy`.

use std::path::{Path, PathBuf};

use aloud_engine::decode::batching::Limits;
use aloud_engine::decode::complete::{Completion, complete};
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::cpu::Cpu;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::Decoder;
use aloud_model::load::load;
use aloud_model::source::ResolvedSource;
use aloud_tasks::item::Split;
use aloud_tasks::serial::{SERIAL_VOCABULARY, SerialItem, SerialSource, SerialTask};
use serde_json::Value;

use crate::fixtures::{Folder, record};

const ANSWER_FIRST: &str = "answer-first";
const WRITTEN_STEPS: &str = "written-steps";

fn folder_of(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toy").join(model)
}

/// An evaluation run, by which each metric is found.
struct Evaluation(Value);

impl Evaluation {
    /// The smallest tier, without a network.
    fn of(model: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let output = folder.path("run");
        let model = folder_of(model).display().to_string();
        let fixed = ["eval", &model, "--task", "chain", "--tier", "toy", "--output", &output, "--json"];
        Self(folder.run(&[&fixed, arguments].concat()).json())
    }

    fn record(&self, id: &str) -> &Value {
        record(&self.0, "base", id)
    }

    fn value(&self, id: &str) -> f64 {
        let record = self.record(id);
        record["value"].as_f64().unwrap_or_else(|| panic!("{record}"))
    }
}

#[test]
fn a_trace_that_is_a_decoration_is_not_needed() {
    let run = Evaluation::of(ANSWER_FIRST, &[]);
    assert!(run.value("early_answering.area") < 0.1, "{}", run.record("early_answering.area"));
    assert!(run.value("necessity.accuracy").abs() < 0.2, "{}", run.record("necessity.accuracy"));
    // None of its answers follows from steps before it.
    assert_eq!(run.value("written_steps.unsupported"), 1.0);
}

#[test]
fn a_trace_whose_steps_lead_to_the_answer_is_needed() {
    let run = Evaluation::of(WRITTEN_STEPS, &[]);
    assert!(run.value("early_answering.area") > 0.4, "{}", run.record("early_answering.area"));
    assert!(run.value("necessity.accuracy") > 0.4, "{}", run.record("necessity.accuracy"));
    assert_eq!(run.value("written_steps.coverage"), 1.0);
    // Another suffix asks for the same answers.
    let shift = &run.record("early_answering.area")["extra"]["suffix_shift"];
    assert!(shift["n"].as_u64().unwrap() >= 10 && shift["shift"]["value"].as_f64().unwrap().abs() < 0.3, "{shift}");
    assert_eq!((run.value("text.same_script"), run.value("text.unknown_tokens")), (1.0, 0.0));
    assert_eq!(run.record("text.divergence_from_base")["null_reason"], "is_the_base");
}

#[test]
fn fewer_steps_can_be_taken_at_half_the_depth() {
    let model = folder_of(WRITTEN_STEPS).display().to_string();
    let folder = Folder::new();
    let horizon = |depth: &str| {
        let arguments = ["eval", &model, "--task", "chain", "--n", "96", "--depth", depth, "--json"];
        let report = folder.run(&arguments).json();
        report["tasks"][0]["opaque_serial_horizon"].clone()
    };
    let (half, whole) = (horizon("2"), horizon("4"));
    assert_eq!(half["relation"], "below", "{half}");
    assert!(whole["relation"] == "at" && whole["steps"].as_f64().unwrap() > 1.2, "{whole}");

    // One pass at full depth knows what each depth would have answered. Here the items are others.
    let run = Evaluation::of(WRITTEN_STEPS, &["--n", "48"]);
    let record = run.record("horizon.without_trace");
    let curve = record["extra"]["forced_depth_curve"].as_array().unwrap();
    assert_eq!(curve.len(), 6);
    assert_eq!((&curve[1]["depth"], &curve[1]["relation"]), (&2.into(), &"below".into()));
    assert!(curve[3]["horizon"].as_f64().unwrap() > 1.2, "{record}");
    assert_eq!(curve[5]["horizon"], record["value"]);
}

/// A response that is to be gone on with.
struct Beginning {
    prompt: Vec<u32>,
    /// Tokens that the model wrote before, replayed at the depths that they had.
    kept: Vec<u32>,
    /// Tokens that are given to it after these.
    given: Vec<u32>,
}

/// The model that needs its steps, and greedy continuations of it.
struct Continued {
    decoder: Decoder<Cpu>,
}

impl Continued {
    fn new() -> Self {
        let cpu = Cpu::new(2);
        let model = load(&ResolvedSource::Directory(folder_of(WRITTEN_STEPS))).unwrap();
        Self { decoder: Decoder::new(&cpu, &model.config, &model.weights) }
    }

    /// Whole responses to prompts, from their beginnings on.
    fn responses(&self, beginnings: &[Beginning]) -> Vec<Vec<u32>> {
        let request = |(sequence, beginning): (u64, &Beginning)| Request {
            prompt: beginning.prompt.clone(),
            prefix: Prefix::at_full_depth(&beginning.kept, beginning.kept.len(), self.decoder.n_blocks()),
            max_new_tokens: 96,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            exits: ExitPolicy::Off.into(),
            stop_tokens: vec![id("<eos>")],
            seed: 0,
            sequence,
            forced: Forced::Start(beginning.given.clone()),
        };
        let requests: Vec<Request> = (0..).zip(beginnings).map(request).collect();
        let responses = complete(&self.decoder, None, Limits::default(), &requests, &|| {}).unwrap();
        let whole = |(beginning, response): (&Beginning, Completion)| {
            beginning.kept.iter().copied().chain(response.tokens.iter().map(|token| token.id)).collect()
        };
        beginnings.iter().zip(responses).map(whole).collect()
    }
}

fn id(symbol: &str) -> u32 {
    SERIAL_VOCABULARY.iter().position(|known| *known == symbol).unwrap() as u32
}

fn answer(response: &[u32]) -> Option<u32> {
    let mark = response.iter().rposition(|token| *token == id("<a>"))?;
    response.get(mark + 1).copied()
}

#[test]
fn a_wrong_step_changes_the_answer() {
    let model = Continued::new();
    let items: Vec<SerialItem> = (0..60)
        .map(|index| {
            let steps = 3 + index as usize % 3;
            let source = SerialSource { task: Some(SerialTask::Chain), steps: steps..=steps };
            source.generate(11, index, Split::Test).unwrap()
        })
        .collect();
    let prompts: Vec<Vec<u32>> =
        items.iter().map(|item| item.question.iter().map(|symbol| id(symbol)).collect()).collect();
    let plain = |prompt: &Vec<u32>| Beginning { prompt: prompt.clone(), kept: Vec::new(), given: vec![id("<t>")] };
    let plain: Vec<Beginning> = prompts.iter().map(plain).collect();
    let responses = model.responses(&plain);
    let right = responses.iter().zip(&items).filter(|(response, item)| answer(response) == Some(id(item.answer)));
    assert!(right.count() > 57, "the model is no longer the one that was trained");

    // The result of the second step, another digit in its place. Operations modulo 10 lose nothing of it.
    let wrong: Vec<Beginning> = responses
        .iter()
        .zip(&prompts)
        .map(|(response, prompt)| {
            let equals = response.iter().enumerate().filter(|(_, token)| **token == id("=")).nth(1);
            let result = equals.expect("three steps and more").0 + 1;
            let digit = response[result] - id("0");
            let given = vec![id("0") + (digit + 3) % 10];
            Beginning { prompt: prompt.clone(), kept: response[..result].to_vec(), given }
        })
        .collect();
    let changed = model.responses(&wrong);
    let n_changed = changed.iter().zip(&responses).filter(|(wrong, right)| answer(wrong) != answer(right)).count();
    assert!(n_changed as f64 > 0.8 * responses.len() as f64, "{n_changed} of {}", responses.len());
}
