//! `aloud verify`: the stepwise engine against the teacher-forced pass, on recorded tokens and depths.

use std::path::{Path, PathBuf};

use aloud_engine::decode::batching::{Engine, Event, Flow, Limits};
use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::decode::step_key::StepKey;
use aloud_engine::read::replay::replay;
use aloud_engine::read::verify::{ParityReport, verify};
use aloud_kernels::backend::Memory;
use aloud_kernels::cpu::Cpu;
use aloud_measure::record::{ResponseRecord, read_records};
use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::Policy;
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_report::table::{Align, Table};
use aloud_tasks::item::Split;
use aloud_tasks::task::Task as _;
use aloud_tasks::word_problems::task::WordProblems;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::model::ModelArgs;
use crate::context::{Context, print};
use aloud_session::exit_offset;
use aloud_session::generation::PROMPT_TOKEN_IDS;
use aloud_session::host::Host;
use aloud_session::loaded_model::LoadedModel;

/// Arguments of `aloud verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Without records a few responses are generated first: with exits sampled from the checkpoint's heads, \
                        or, without a checkpoint, with a depth drawn for every token."
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Records of responses, as written by `aloud generate --out`
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Largest difference allowed
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    tolerance: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A response to replay.
struct Recorded {
    id: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    /// Of the step that emitted each token, in blocks.
    depths: Vec<usize>,
    /// The log-probability of each token as it was recorded, if it is one of the model's own distribution.
    log_probabilities: Vec<Option<f32>>,
    offset: ExitOffset,
    temperature: f32,
}

/// Runs the command.
pub(crate) fn run(arguments: &VerifyArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, context)?;
    let without_heads = Policy::new(&cpu, None, ExitHeads::new(Vec::new(), HeadInput::Rms, 0, &[]));
    let policy = model.policy.as_ref().unwrap_or(&without_heads);
    let recorded = match &arguments.records {
        Some(path) => read(path, &model)?,
        None => generate(&model)?,
    };
    let mut progress = context.progress("replaying", "responses", Some(recorded.len() as u64));
    let mut report = ParityReport::default();
    let mut of_record: Option<f32> = None;
    for Recorded { id, prompt, tokens, depths, log_probabilities, offset, temperature } in &recorded {
        let (parity, replayed) = cpu
            .run(|| {
                anyhow::Ok((
                    verify(&model.decoder, policy, prompt, tokens, depths, offset, *temperature)?,
                    replay(&model.decoder, policy, prompt, tokens, depths, offset, *temperature)?,
                ))
            })
            .with_context(|| format!("record `{id}`"))?;
        report.merge(&parity);
        for (recorded, replayed) in log_probabilities.iter().zip(&replayed) {
            if let Some(recorded) = recorded {
                let difference = (recorded - replayed.log_probability).abs();
                of_record = Some(largest(of_record.unwrap_or(0.0), difference));
            }
        }
        progress.advance(1);
    }
    drop(progress);
    let differences = [
        ("logits", Some(report.logits)),
        ("exit logits", model.policy.is_some().then_some(report.exit_logits)),
        ("keys and values", Some(report.keys_values)),
        ("log P of exit and token", Some(report.log_joint)),
        ("recorded log-probability", of_record),
    ];
    // A difference that is not a number is no parity either.
    let too_large = |difference: f32| difference.is_nan() || f64::from(difference) > arguments.tolerance;
    let failed: Vec<&str> = differences
        .iter()
        .filter_map(|(name, difference)| difference.filter(|difference| too_large(*difference)).map(|_| *name))
        .collect();
    if arguments.json {
        print(&format!("{}\n", json_report(&recorded, &report, of_record, arguments.tolerance, failed.is_empty())))?;
    } else {
        print(&table(&recorded, &report, &differences))?;
    }
    if !failed.is_empty() {
        bail!("no parity: {} differ by more than {}", failed.join(", "), arguments.tolerance);
    }
    Ok(())
}

/// The larger one; NaN if either is.
fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

fn table(recorded: &[Recorded], report: &ParityReport, differences: &[(&str, Option<f32>)]) -> String {
    let mut table = Table::new([("largest difference", Align::Left), ("", Align::Right)]);
    for (name, difference) in differences {
        if let Some(difference) = difference {
            table.row([(*name).to_owned(), format!("{difference:.2e}")]);
        }
    }
    let n_pairs = report.n_keys_values_computed + report.n_keys_values_skipped;
    format!(
        "{table}\n{} responses, {} tokens: stepwise engine against teacher-forced pass. The engine computed keys and values \
         of {} of {n_pairs} positions and blocks; nothing read the others.\n",
        recorded.len(),
        report.n_tokens,
        report.n_keys_values_computed,
    )
}

fn json_report(
    recorded: &[Recorded],
    report: &ParityReport,
    of_record: Option<f32>,
    tolerance: f64,
    passed: bool,
) -> Value {
    json!({
        "responses": recorded.len(),
        "tokens": report.n_tokens,
        "logits": report.logits,
        "exit_logits": report.exit_logits,
        "keys_values": report.keys_values,
        "log_joint": report.log_joint,
        "recorded_log_probability": of_record,
        "keys_values_computed": report.n_keys_values_computed,
        "keys_values_skipped": report.n_keys_values_skipped,
        "tolerance": tolerance,
        "passed": passed,
    })
}

/// Reads records and checks that they fit the model.
fn read(path: &Path, model: &LoadedModel) -> anyhow::Result<Vec<Recorded>> {
    let records = read_records(path)?;
    if records.is_empty() {
        bail!("{}: no records", path.display());
    }
    records.iter().map(|record| from_record(record, model).with_context(|| format!("record `{}`", record.id))).collect()
}

fn from_record(record: &ResponseRecord, model: &LoadedModel) -> anyhow::Result<Recorded> {
    if record.n_blocks != model.n_blocks() {
        bail!("it is of a model of {} blocks, this one has {}", record.n_blocks, model.n_blocks());
    }
    if let Some(hash) = record.settings.get("model_sha256").and_then(Value::as_str)
        && hash != model.identity.sha256
    {
        bail!("it is of a model with SHA-256 {hash}, this one has {}", model.identity.sha256);
    }
    let prompt = match record.settings.get(PROMPT_TOKEN_IDS) {
        Some(ids) => serde_json::from_value(ids.clone())
            .with_context(|| format!("settings.{PROMPT_TOKEN_IDS}: expected token ids"))?,
        None => model.text_codec()?.tokenizer.encode(&record.prompt, false)?,
    };
    let setting = |name: &str| record.settings.get(name).and_then(Value::as_f64);
    let truncated = setting("top_p").is_some_and(|p| p < 1.0) || setting("top_k").is_some_and(|k| k > 0.0);
    let temperature = setting("temperature");
    let comparable = temperature.is_some() && !truncated;
    Ok(Recorded {
        id: record.id.clone(),
        prompt,
        tokens: record.tokens.iter().map(|token| token.token_id).collect(),
        depths: record.tokens.iter().map(|token| token.depth).collect(),
        log_probabilities: (record.tokens.iter()).map(|token| token.log_probability.filter(|_| comparable)).collect(),
        offset: exit_offset::from_record(&record.settings)?,
        temperature: temperature.unwrap_or(1.0) as f32,
    })
}

const N_RESPONSES: u64 = 4;
const N_TOKENS: usize = 32;
const SEED: u64 = 0;

/// A few responses of the model, with exits wherever they can happen.
fn generate(model: &LoadedModel) -> anyhow::Result<Vec<Recorded>> {
    let n_blocks = model.n_blocks();
    let offset = ExitOffset::from(model.recommended_offset.unwrap_or(0.0));
    let room = model.decoder.config().max_position_embeddings / 2;
    let request = |(sequence, mut prompt): (u64, Vec<u32>)| {
        prompt.truncate(room.max(1));
        let depth = |step: usize| match step {
            0 => n_blocks,
            _ => 1 + (StepKey { seed: SEED, sequence, step }.uniform(0) * n_blocks as f64) as usize,
        };
        Request {
            prompt,
            prefix: Prefix::default(),
            max_new_tokens: N_TOKENS,
            sampling: Sampling::default(),
            exits: match model.policy {
                Some(_) => ExitPolicy::Sampled { offset: offset.clone() }.into(),
                None => Exits::recorded((0..N_TOKENS).map(depth).collect()),
            },
            stop_tokens: Vec::new(),
            seed: SEED,
            sequence,
            forced: Forced::None,
        }
    };
    let requests: Vec<Request> = (0..).zip(prompts(model)?).map(request).collect();
    let mut recorded: Vec<Recorded> = requests
        .iter()
        .map(|request| Recorded {
            id: format!("generated-{}", request.sequence),
            prompt: request.prompt.clone(),
            tokens: Vec::new(),
            depths: Vec::new(),
            log_probabilities: Vec::new(),
            offset: offset.clone(),
            temperature: request.sampling.temperature,
        })
        .collect();
    let engine: Engine<'_, Cpu> = Engine::new(&model.decoder, model.policy.as_ref(), Limits::default());
    engine.run(&requests, &mut |event| {
        if let Event::Token { request, token } = event {
            let recorded = &mut recorded[request];
            recorded.tokens.push(token.id);
            recorded.depths.push(token.depth);
            recorded.log_probabilities.push(Some(token.log_probability));
        }
        Flow::Continue
    })?;
    Ok(recorded)
}

/// Questions of the built-in generator; runs of ids for a model without a tokenizer, or with one that cannot express them, as
/// that of a closed vocabulary.
fn prompts(model: &LoadedModel) -> anyhow::Result<Vec<Vec<u32>>> {
    const IDS: u32 = 24;
    let items = WordProblems::default().load(Some(N_RESPONSES as usize), SEED, Split::Test)?;
    if let Ok(codec) = model.text_codec()
        && let Ok(prompts) = items.iter().map(|item| codec.tokenizer.encode(&item.question, true)).collect()
    {
        return Ok(prompts);
    }
    let vocab_size = model.decoder.config().vocab_size as u32;
    let ids = |i: u32| (0..IDS + i).map(|j| (7 * j + 13 * i) % vocab_size).collect();
    Ok((0..N_RESPONSES as u32).map(ids).collect())
}
