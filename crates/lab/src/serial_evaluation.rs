//! Accuracy, style and depth of a model on held-out serial items. Every item is answered twice: once with `<t>` forced,
//! so that the model thinks aloud, and once with `<a>` forced, so that it answers at once.

use aloud_engine::decode::batching::Limits;
use aloud_engine::decode::complete::{Completion, complete};
use aloud_engine::decode::request::{FinishReason, Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_method::exit_policy::ExitPolicy;
use aloud_session::bail;
use aloud_session::error::{Context as _, SessionError};
use aloud_session::generation::exit_settings;
use aloud_session::host::{Host, counting};
use aloud_session::loaded_model::LoadedModel;
use aloud_session::serial_data::symbol_id;
use aloud_session::task_text::Symbols;
use aloud_tasks::item::Split;
use aloud_tasks::serial::verify::verify_serial;
use aloud_tasks::serial::{
    ANSWER, END, MAX_SERIAL_STEPS, SERIAL_VOCABULARY, SerialItem, SerialSource, SerialTask, THINK,
};
use aloud_text::text_codec::TextCodec;

use crate::evaluation::leave_out::{TrainedOn, check_enough_left};
use crate::evaluation::subject::Models;
use crate::evaluation::task_choice::TaskChoice;
use crate::serial_report::{Judged, Outcome, SerialReport, measure, task_report};

/// Number of items where nothing else is asked for.
const DEFAULT_ITEMS: usize = 2000;

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

/// Answers held-out items, without those that the model was trained on.
///
/// # Errors
/// As [`evaluate_serial`]; if the model was trained on most of the items.
pub fn evaluate_held_out(
    models: &Models,
    codec: &TextCodec,
    exits: &ExitPolicy,
    asked: &TaskChoice,
    host: &dyn Host,
) -> Result<SerialReport, SessionError> {
    let n = match (asked.n, asked.tier) {
        (Some(n), _) => n as usize,
        (None, Some(_)) => asked.exam(Split::Test, codec, &models.trained.decoder)?.items().len(),
        (None, None) => DEFAULT_ITEMS,
    };
    let settings = SerialSettings {
        task: asked.task.short_name().parse().ok(),
        n,
        seed: asked.seed,
        max_sequences: asked.batch.into(),
        max_new_tokens: asked.max_new_tokens(),
    };
    let trained_on = TrainedOn::of(models, host);
    let mut items = held_out_items(&settings)?;
    items.retain(|item| !trained_on.has(&item.prompt()));
    check_enough_left(n - items.len(), n, host)?;
    evaluate_serial(&models.trained, exits, &settings, &items, host)
}

/// Answers items in both styles, with greedy tokens, and measures the responses. The report depends on the model, `exits` and the
/// settings alone, and not on `max_sequences`.
///
/// # Errors
/// If there is nothing to do, the vocabulary is too small to be the serial one, or the model has no heads for `exits`.
pub fn evaluate_serial(
    model: &LoadedModel,
    exits: &ExitPolicy,
    settings: &SerialSettings,
    items: &[SerialItem],
    host: &dyn Host,
) -> Result<SerialReport, SessionError> {
    if items.is_empty() || settings.max_new_tokens == 0 {
        bail!("an evaluation needs at least one item, and one token a response");
    }
    let (expected, found) = (SERIAL_VOCABULARY.len(), model.decoder.config().vocab_size);
    if found < expected {
        bail!("the serial tasks have {expected} symbols, and the model has {found} tokens: it was not made for them");
    }
    let styles = items.iter().flat_map(|item| [(item, THINK), (item, ANSWER)]);
    let request = |(sequence, (item, style)): (u64, (&SerialItem, _))| Request {
        prompt: item.question.iter().map(|symbol| symbol_id(symbol)).collect(),
        prefix: Prefix::default(),
        max_new_tokens: settings.max_new_tokens,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        exits: exits.clone().into(),
        stop_tokens: vec![symbol_id(END)],
        seed: settings.seed,
        sequence,
        forced: Forced::Start(vec![symbol_id(style)]),
    };
    let requests: Vec<Request> = (0..).zip(styles).map(request).collect();
    let limits = Limits { max_sequences: settings.max_sequences, ..Limits::default() };
    let responses = counting(host, "evaluating", "responses", requests.len(), |on_done| {
        complete(&model.decoder, model.policy.as_ref(), limits, &requests, on_done)
    })?;
    let outcome = |(item, [thinking, direct]): (&SerialItem, &[Completion; 2])| {
        let (thinking, direct) = (judge(item, thinking)?, judge(item, direct)?);
        Ok(Outcome { task: item.task, n_steps: item.n_steps(), thinking, direct })
    };
    let outcomes = items.iter().zip(responses.as_chunks::<2>().0).map(outcome);
    let outcomes = outcomes.collect::<Result<Vec<Outcome>, SessionError>>()?;
    let (n_blocks, all) = (model.n_blocks(), outcomes.iter().collect::<Vec<_>>());
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

fn judge(item: &SerialItem, Completion { tokens, reason }: &Completion) -> Result<Judged, SessionError> {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use aloud_engine::decode::request::Token;

    use super::*;

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
        let response = |text: &[&'static str], reason: FinishReason| {
            let token = |(index, symbol): (usize, &&'static str)| Token {
                index,
                id: symbol_id(symbol),
                depth: 12 - index,
                log_probability: 0.25_f32.ln(),
                exits: Vec::new(),
            };
            Completion { tokens: text.iter().enumerate().map(token).collect(), reason }
        };
        let right = [ANSWER, "2", END];
        let judged = judge(&item, &response(&right, FinishReason::Stop)).unwrap();
        assert!(judged.is_correct);
        assert!((judged.style_probability - 0.25).abs() < 1e-6);
        assert_eq!((judged.n_tokens, judged.depths.as_slice()), (3, &[11, 10][..]));
        assert!(!judge(&item, &response(&right, FinishReason::Length)).unwrap().is_correct);
        assert!(!judge(&item, &response(&[ANSWER, "3", END], FinishReason::Stop)).unwrap().is_correct);
    }
}
