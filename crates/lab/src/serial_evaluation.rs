//! Accuracy, style and depth of a model on held-out serial items. Every item is answered twice: once with `<t>` forced,
//! so that the model thinks aloud, and once with `<a>` forced, so that it answers at once.

use aloud_engine::decode::batching::{Engine, Event, Flow, Limits};
use aloud_engine::decode::request::{FinishReason, Forced, Prefix, Request, Token};
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::cpu::Cpu;
use aloud_measure::metrics::serial_horizon::Horizon;
use aloud_measure::metrics::serial_horizon::serial_horizon;
use aloud_measure::statistics::wilson_interval;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::savings::{average_layer_savings, exit_rate, mean_depth};
use aloud_model::decoder::{Decoder, Policy};
use aloud_session::bail;
use aloud_session::error::Context as _;
use aloud_session::error::SessionError;
use aloud_tasks::item::Split;
use aloud_tasks::serial::verify::verify_serial;
use aloud_tasks::serial::{
    ANSWER, END, MAX_SERIAL_STEPS, SERIAL_VOCABULARY, SerialItem, SerialSource, SerialTask, THINK,
};
use serde::Serialize;
use serde_json::{Map, Value};

use aloud_session::generation::exit_settings;
use aloud_session::serial_data::symbol_id;
use aloud_session::task_text::Symbols;

/// Which items are answered, and how.
#[derive(Clone, Debug)]
pub struct SerialSettings {
    /// One task, or all of them in turn.
    pub task: Option<SerialTask>,
    /// Number of items.
    pub n: usize,
    /// Seed of the items and of the exits.
    pub seed: u64,
    /// Most sequences decoded together; changes speed, never results.
    pub max_sequences: usize,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct SerialReport {
    /// Number of blocks `L` of the model.
    pub n_blocks: usize,
    /// Seed of the items and of the exits.
    pub seed: u64,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// How exits were decided: `exits`, and `exit_offset` or `depth`.
    #[serde(flatten)]
    pub exits: Map<String, Value>,
    /// Over all items.
    #[serde(flatten)]
    pub all: SerialMeasures,
    /// By task.
    pub tasks: Vec<TaskReport>,
}

/// Measures of one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    /// The task.
    pub task: SerialTask,
    /// Where direct answers stop working; `None` without items.
    pub opaque_serial_horizon: Option<Horizon>,
    /// Over all its items.
    #[serde(flatten)]
    pub all: SerialMeasures,
    /// By number of steps, ascending.
    pub steps: Vec<StepsReport>,
}

/// Measures of one number of steps of one task.
#[derive(Clone, Debug, Serialize)]
pub struct StepsReport {
    /// The number of steps.
    pub k: usize,
    /// Over its items.
    #[serde(flatten)]
    pub all: SerialMeasures,
}

/// Measures of a group of items. "Thinking" responses are those with `<t>` forced, "direct" ones those with `<a>`
/// forced. Depths are of response tokens `t >= 1`, all of the group together; `None` if there is no such token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SerialMeasures {
    /// Number of items.
    pub n: usize,
    /// Share of correct thinking responses.
    pub accuracy: f64,
    /// Wilson's 95 % interval of it.
    pub accuracy_interval: [f64; 2],
    /// Share of correct direct responses.
    pub accuracy_direct: f64,
    /// Wilson's 95 % interval of it.
    pub accuracy_direct_interval: [f64; 2],
    /// Expected share of correct responses if the model chooses the style: mean of `p(<t>) * correct_thinking +
    /// p(<a>) * correct_direct`. A response that would begin with another token counts as wrong.
    pub accuracy_own_style: f64,
    /// Mean probability of `<t>` as the first token.
    pub think_aloud_rate: f64,
    /// Average layer savings of thinking responses.
    pub als: Option<f64>,
    /// Average layer savings of direct responses.
    pub als_direct: Option<f64>,
    /// Share of the tokens of thinking responses that left before full depth.
    pub exit_rate: Option<f64>,
    /// Mean depth (blocks) of the tokens of thinking responses.
    pub mean_depth: Option<f64>,
    /// Mean over thinking responses of their deepest token's depth (blocks).
    pub deepest_step: Option<f64>,
    /// Mean number of tokens of thinking responses, `<t>` and `<eos>` included.
    pub trace_length: f64,
}

/// A response whose first token was forced, judged.
#[derive(Clone, Debug, Default)]
struct Judged {
    is_correct: bool,
    /// The model's own probability of the first token.
    style_probability: f64,
    n_tokens: usize,
    /// Of the tokens that were free to exit: all but the first.
    depths: Vec<usize>,
}

/// Both responses to one item.
#[derive(Clone, Debug)]
struct Outcome {
    task: SerialTask,
    n_steps: usize,
    thinking: Judged,
    direct: Judged,
}

/// Answers held-out items in both styles, with greedy tokens, and measures the responses. `on_response` hears of every
/// response that is complete: two an item. The report depends on the model, `exits` and the settings alone, and not on
/// `max_sequences`.
///
/// # Errors
/// If there is nothing to do, the vocabulary is too small to be the serial one, or the model has no heads for `exits`.
pub fn evaluate_serial(
    decoder: &Decoder<Cpu>,
    policy: Option<&Policy<Cpu>>,
    exits: &ExitPolicy,
    settings: &SerialSettings,
    on_response: &mut (dyn FnMut() + Send),
) -> Result<SerialReport, SessionError> {
    answer_serial(decoder, policy, exits, settings, &held_out_items(settings)?, on_response)
}

/// The same of these items.
///
/// # Errors
/// As [`evaluate_serial`].
pub fn answer_serial(
    decoder: &Decoder<Cpu>,
    policy: Option<&Policy<Cpu>>,
    exits: &ExitPolicy,
    settings: &SerialSettings,
    items: &[SerialItem],
    on_response: &mut (dyn FnMut() + Send),
) -> Result<SerialReport, SessionError> {
    if items.is_empty() || settings.max_new_tokens == 0 {
        bail!("an evaluation needs at least one item, and one token a response");
    }
    let (expected, found) = (SERIAL_VOCABULARY.len(), decoder.config().vocab_size);
    if found < expected {
        bail!("the serial tasks have {expected} symbols, and the model has {found} tokens: it was not made for them");
    }
    let requests: Vec<Request> = items
        .iter()
        .flat_map(|item| [(item, THINK), (item, ANSWER)])
        .enumerate()
        .map(|(sequence, (item, style))| Request {
            prompt: item.question.iter().map(|symbol| symbol_id(symbol)).collect(),
            prefix: Prefix::default(),
            max_new_tokens: settings.max_new_tokens,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            exits: exits.clone().into(),
            stop_tokens: vec![symbol_id(END)],
            seed: settings.seed,
            sequence: sequence as u64,
            forced: Forced::Start(vec![symbol_id(style)]),
        })
        .collect();
    let mut responses: Vec<(Vec<Token>, FinishReason)> = vec![(Vec::new(), FinishReason::Length); requests.len()];
    let limits = Limits { max_sequences: settings.max_sequences, ..Limits::default() };
    Engine::new(decoder, policy, limits).run(&requests, &mut |event| {
        match event {
            Event::Token { request, token } => responses[request].0.push(token),
            Event::Finished { request, reason } => {
                responses[request].1 = reason;
                on_response();
            }
        }
        Flow::Continue
    })?;
    let outcomes = items
        .iter()
        .zip(responses.as_chunks::<2>().0)
        .map(|(item, [thinking, direct])| {
            Ok(Outcome {
                task: item.task,
                n_steps: item.n_steps(),
                thinking: judge(item, thinking)?,
                direct: judge(item, direct)?,
            })
        })
        .collect::<Result<Vec<Outcome>, SessionError>>()?;
    let (n_blocks, all) = (decoder.n_blocks(), outcomes.iter().collect::<Vec<_>>());
    Ok(SerialReport {
        n_blocks,
        seed: settings.seed,
        max_new_tokens: settings.max_new_tokens,
        exits: exit_settings(exits),
        all: measure(&all, n_blocks).context("no item was answered")?,
        tasks: SerialTask::ALL.into_iter().filter_map(|task| task_report(task, &all, n_blocks)).collect(),
    })
}

/// The items of an evaluation: tasks in turn, and of each task the numbers of steps in turn, so that every combination
/// has the same number of items (up to one). A smaller number of items is the beginning of a larger one.
///
/// # Errors
/// If an item cannot be made.
pub fn held_out_items(settings: &SerialSettings) -> Result<Vec<SerialItem>, SessionError> {
    let tasks = settings.task.map_or_else(|| SerialTask::ALL.to_vec(), |task| vec![task]);
    let item = |index: usize| {
        let steps = 1 + index / tasks.len() % MAX_SERIAL_STEPS;
        let source = SerialSource { task: Some(tasks[index % tasks.len()]), steps: steps..=steps };
        Ok(source.generate(settings.seed, index as u64, Split::Test)?)
    };
    (0..settings.n).map(item).collect()
}

fn judge(item: &SerialItem, (tokens, reason): &(Vec<Token>, FinishReason)) -> Result<Judged, SessionError> {
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let text = Symbols::of(&SerialSource::ALL).map(|symbols| symbols.text(&ids)).unwrap_or_default();
    let is_truncated = *reason == FinishReason::Length;
    let verdict = verify_serial(&item.prompt(), &text, is_truncated).context("the item cannot be read back")?;
    Ok(Judged {
        is_correct: verdict.is_correct,
        style_probability: tokens.first().map_or(0.0, |first| f64::from(first.log_probability).exp()),
        n_tokens: tokens.len(),
        depths: tokens.iter().skip(1).map(|token| token.depth).collect(),
    })
}

/// The measures of a task; `None` without items.
fn task_report(task: SerialTask, outcomes: &[&Outcome], n_blocks: usize) -> Option<TaskReport> {
    let of_task: Vec<&Outcome> = outcomes.iter().copied().filter(|outcome| outcome.task == task).collect();
    let steps = |k: usize| {
        let of_steps: Vec<&Outcome> = of_task.iter().copied().filter(|outcome| outcome.n_steps == k).collect();
        Some(StepsReport { k, all: measure(&of_steps, n_blocks)? })
    };
    let steps: Vec<StepsReport> = (1..=MAX_SERIAL_STEPS).filter_map(steps).collect();
    let curve: Vec<(usize, f64)> = steps.iter().map(|steps| (steps.k, steps.all.accuracy_direct)).collect();
    Some(TaskReport {
        task,
        opaque_serial_horizon: serial_horizon(&curve, task.chance()),
        all: measure(&of_task, n_blocks)?,
        steps,
    })
}

/// The measures of these outcomes; `None` if there are none.
fn measure(outcomes: &[&Outcome], n_blocks: usize) -> Option<SerialMeasures> {
    let n = outcomes.len();
    let mean = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(|outcome| value(outcome)).sum::<f64>() / n as f64;
    let thinking: Vec<&Judged> = outcomes.iter().map(|outcome| &outcome.thinking).collect();
    let direct: Vec<&Judged> = outcomes.iter().map(|outcome| &outcome.direct).collect();
    let (n_thinking, n_direct) = (n_correct(&thinking), n_correct(&direct));
    let (thinking_depths, direct_depths) = (all_depths(&thinking), all_depths(&direct));
    let deepest: Vec<usize> = thinking.iter().filter_map(|response| response.depths.iter().copied().max()).collect();
    Some(SerialMeasures {
        n,
        accuracy: n_thinking as f64 / n as f64,
        accuracy_interval: wilson_interval(n_thinking, n)?,
        accuracy_direct: n_direct as f64 / n as f64,
        accuracy_direct_interval: wilson_interval(n_direct, n)?,
        accuracy_own_style: mean(&own_style),
        think_aloud_rate: mean(&|outcome| outcome.thinking.style_probability),
        als: average_layer_savings(&thinking_depths, n_blocks),
        als_direct: average_layer_savings(&direct_depths, n_blocks),
        exit_rate: exit_rate(&thinking_depths, n_blocks),
        mean_depth: mean_depth(&thinking_depths),
        deepest_step: mean_depth(&deepest),
        trace_length: mean(&|outcome| outcome.thinking.n_tokens as f64),
    })
}

fn n_correct(responses: &[&Judged]) -> usize {
    responses.iter().filter(|response| response.is_correct).count()
}

fn all_depths(responses: &[&Judged]) -> Vec<usize> {
    responses.iter().flat_map(|response| response.depths.iter().copied()).collect()
}

/// Probability of a correct response to an item if the model chooses the style.
fn own_style(outcome: &Outcome) -> f64 {
    let share = |response: &Judged| if response.is_correct { response.style_probability } else { 0.0 };
    share(&outcome.thinking) + share(&outcome.direct)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn judged(is_correct: bool, style_probability: f64, depths: &[usize]) -> Judged {
        Judged { is_correct, style_probability, n_tokens: depths.len() + 1, depths: depths.to_vec() }
    }

    fn outcome(thinking: Judged, direct: Judged) -> Outcome {
        Outcome { task: SerialTask::Chain, n_steps: 1, thinking, direct }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn measures_by_hand() {
        let outcomes = [
            outcome(judged(true, 0.7, &[2, 12, 4]), judged(true, 0.2, &[6])),
            outcome(judged(true, 0.5, &[6]), judged(false, 0.5, &[12])),
            outcome(judged(false, 0.9, &[]), judged(true, 0.1, &[12])),
            outcome(judged(false, 0.5, &[12]), judged(false, 0.4, &[12])),
        ];
        let measures = measure(&outcomes.iter().collect::<Vec<_>>(), 12).unwrap();
        assert_eq!(measures.n, 4);
        close(measures.accuracy, 0.5);
        close(measures.accuracy_direct, 0.5);
        assert_eq!(Some(measures.accuracy_interval), wilson_interval(2, 4));
        // (0.7 + 0.2) + 0.5 + 0.1 + 0: a tenth of the first item goes to other tokens and is wrong.
        close(measures.accuracy_own_style, 1.5 / 4.0);
        close(measures.think_aloud_rate, 2.6 / 4.0);
        // Depths 2, 12, 4, 6, 12 of 12, of all responses together.
        close(measures.mean_depth.unwrap(), 7.2);
        close(measures.als.unwrap(), 0.4);
        close(measures.exit_rate.unwrap(), 0.6);
        close(measures.als_direct.unwrap(), 1.0 - 42.0 / 48.0);
        // The response without a counted token has no deepest one.
        close(measures.deepest_step.unwrap(), (12.0 + 6.0 + 12.0) / 3.0);
        close(measures.trace_length, (4.0 + 2.0 + 1.0 + 2.0) / 4.0);
        assert_eq!(measure(&[], 12), None);
    }

    #[test]
    fn items_are_held_out_and_balanced() {
        let settings = SerialSettings { task: None, n: 48, seed: 5, max_sequences: 1, max_new_tokens: 1 };
        let items = held_out_items(&settings).unwrap();
        for task in SerialTask::ALL {
            for k in 1..=MAX_SERIAL_STEPS {
                assert_eq!(items.iter().filter(|item| (item.task, item.n_steps()) == (task, k)).count(), 2);
            }
        }
        assert!(items.iter().all(|item| item.split() == Split::Test));
        let fewer = held_out_items(&SerialSettings { n: 7, ..settings.clone() }).unwrap();
        assert_eq!(fewer, items[..7]);
        let perm = held_out_items(&SerialSettings { task: Some(SerialTask::Perm), ..settings }).unwrap();
        assert!(perm.iter().all(|item| item.task == SerialTask::Perm));
    }

    #[test]
    fn responses_are_judged_by_their_symbols() {
        let item = SerialItem::parse("<q> 7 + 5 * 3 - 4").unwrap();
        let tokens = |text: &[&'static str]| -> Vec<Token> {
            let token = |(index, symbol): (usize, &&'static str)| Token {
                index,
                id: symbol_id(symbol),
                depth: 12 - index,
                log_probability: 0.25_f32.ln(),
                exits: Vec::new(),
            };
            text.iter().enumerate().map(token).collect()
        };
        let right = tokens(&[ANSWER, "2", END]);
        let judged = judge(&item, &(right.clone(), FinishReason::Stop)).unwrap();
        assert!(judged.is_correct);
        assert!((judged.style_probability - 0.25).abs() < 1e-6);
        assert_eq!((judged.n_tokens, judged.depths.as_slice()), (3, &[11, 10][..]));
        assert!(!judge(&item, &(right, FinishReason::Length)).unwrap().is_correct);
        assert!(!judge(&item, &(tokens(&[ANSWER, "3", END]), FinishReason::Stop)).unwrap().is_correct);
    }
}
