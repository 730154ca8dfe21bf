//! `aloud view`: records or traces as one self-contained HTML page.

use std::path::{Path, PathBuf};

use aloud_base::durable_file;
use aloud_base::random::{Domain, KeyedRandom};
use aloud_measure::record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord, read_records};
use aloud_method::targets::{TargetPolicy, TargetStatistics, Targets};
use aloud_model::source::ModelSource;
use aloud_report::view::{ViewOptions, render_page};
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::Tokenizer;
use aloud_train::stage1::traces::{Trace, TraceReader};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::commands::lens::kl_factor;
use crate::context::{Context, print};
use aloud_session::generation::PROMPT_TOKEN_IDS;
use aloud_session::loaded_model::resolve;
use aloud_session::model_choice::ModelChoice;

/// Arguments of `aloud view`.
#[derive(Args, Debug)]
pub(crate) struct ViewArgs {
    /// Records (JSON Lines, as written by `aloud generate --out`) or directories of traces
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The page
    #[arg(long, short, value_name = "FILE.html")]
    out: PathBuf,
    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "")]
    title: String,
    /// Traces whose target exits are shown beside the exits of the records
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// How fast target hazards of traces fall with the KL, per nat
    #[arg(long, value_name = "B", default_value_t = 1.0, value_parser = kl_factor)]
    kl_factor: f64,
    /// Seed of the depths that are drawn for traces
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Model whose tokenizer reads the traces [default: the one that they were recorded with]
    #[arg(long, short, value_name = "MODEL")]
    model: Option<ModelSource>,
    /// Most responses on the page
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ViewArgs, context: &Context) -> anyhow::Result<()> {
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let mut records = Vec::new();
    let mut notes = Vec::new();
    let mut traces = arguments.traces.clone();
    for file in &arguments.files {
        if file.is_dir() {
            let reader = open_traces(file)?;
            let note = format!(
                "Traces: each token's depth is one draw from its target exit distribution at kl_factor {}, and its exit \
                 probabilities are the target hazards.",
                arguments.kl_factor
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
            read_traces(&reader, arguments, limit, context, &mut records)?;
            traces.get_or_insert_with(|| file.clone());
        } else {
            records.extend(read_records(file)?.into_iter().map(without_prompt_tokens));
        }
    }
    records.truncate(limit);
    let target_histogram = match (&traces, records.first()) {
        (Some(traces), Some(record)) => {
            notes.push(format!(
                "Target: mean target exit distribution of the traces, kl_factor {}.",
                arguments.kl_factor
            ));
            Some(target_histogram(&open_traces(traces)?, &record.candidates, arguments.kl_factor)?)
        }
        _ => None,
    };
    let options = ViewOptions { title: arguments.title.clone(), target_histogram, notes, groups: Vec::new() };
    let page = render_page(&records, &options)?;
    durable_file::write(&arguments.out, page.as_bytes())?;
    Ok(print(&format!("{}\n", arguments.out.display()))?)
}

fn open_traces(directory: &Path) -> anyhow::Result<TraceReader> {
    if !directory.join("traces.json").is_file() {
        bail!("{} is no directory of traces: it has no `traces.json`", directory.display());
    }
    let reader = TraceReader::open(directory)?;
    if reader.is_empty() {
        bail!("{} has no complete traces yet", directory.display());
    }
    Ok(reader)
}

/// The tokens of a prompt are for programs: on the page they would only be in the way.
fn without_prompt_tokens(mut record: ResponseRecord) -> ResponseRecord {
    if let Some(settings) = record.settings.as_object_mut() {
        settings.remove(PROMPT_TOKEN_IDS);
    }
    record
}

/// Reads traces as records, until there are `limit` of them.
fn read_traces(
    reader: &TraceReader,
    arguments: &ViewArgs,
    limit: usize,
    context: &Context,
    records: &mut Vec<ResponseRecord>,
) -> anyhow::Result<()> {
    let header = reader.header();
    let source = match &arguments.model {
        Some(source) => ModelChoice::of(source, None).base_source()?,
        None => header.base_model.source.parse().context("name the model of these traces with --model")?,
    };
    let location = resolve(&source, context)
        .context("the model of these traces is needed for its tokenizer: name it with --model")?;
    let tokenizer = TextCodec::load(&location)?.tokenizer;
    let targets = Targets {
        candidates: header.candidates.clone(),
        n_blocks: header.n_blocks,
        kl_factor: arguments.kl_factor,
        policy: TargetPolicy::Exact,
    };
    let settings = json!({
        "teacher": header.base_model.source,
        "kl_factor": arguments.kl_factor,
        "depth_seed": arguments.seed,
        "traces": header.settings,
    });
    for index in 0..reader.len().min(limit.saturating_sub(records.len())) {
        let trace = reader.read(index)?;
        records.push(trace_record(&trace, &targets, arguments.seed, &tokenizer, settings.clone()));
    }
    Ok(())
}

/// A trace with depths drawn from its targets.
fn trace_record(
    trace: &Trace,
    targets: &Targets,
    seed: u64,
    tokenizer: &Tokenizer,
    settings: serde_json::Value,
) -> ResponseRecord {
    let mut random = KeyedRandom::new(seed, Domain::TARGET_REPORT, [trace.index as u64, 0]);
    let depths =
        targets.draw_depths(&trace.lens_kl, |token, candidate| random.uniform_at(token as u64, candidate as u64));
    let response = trace.token_ids.get(trace.prompt_len..).unwrap_or_default();
    let rows = trace.lens_kl.chunks_exact(targets.candidates.len().max(1));
    let tokens = (response.iter().zip(depths).zip(&trace.token_log_probabilities).zip(rows).enumerate())
        .map(|(index, (((token_id, depth), log_probability), kls))| {
            let exits = (targets.candidates.iter().zip(targets.hazards(kls)).zip(kls))
                .filter(|((candidate, _), _)| **candidate <= depth && index > 0)
                .map(|((candidate, hazard), kl)| ExitRecord {
                    depth: *candidate,
                    hazard: hazard as f32,
                    lens_token: None,
                    lens_kl: Some(*kl),
                });
            TokenRecord {
                token_id: *token_id,
                text: tokenizer.token_text(*token_id),
                depth,
                log_probability: Some(*log_probability),
                exits: exits.collect(),
            }
        })
        .collect();
    ResponseRecord {
        format_version: FORMAT_VERSION,
        id: trace.id.clone(),
        kind: RecordKind::Trace,
        prompt: trace.prompt.clone(),
        response: trace.response.clone(),
        n_blocks: targets.n_blocks,
        candidates: targets.candidates.clone(),
        finish_reason: serde_json::to_value(trace.finish_reason)
            .ok()
            .and_then(|reason| reason.as_str().map(str::to_owned))
            .unwrap_or_default(),
        settings,
        tokens,
    }
}

/// Mean target exit distribution of all traces over `candidates`, which must be among theirs; full depth last.
pub(crate) fn target_histogram(reader: &TraceReader, candidates: &[usize], kl_factor: f64) -> anyhow::Result<Vec<f64>> {
    let header = reader.header();
    let columns: Option<Vec<usize>> =
        candidates.iter().map(|candidate| header.candidates.iter().position(|column| column == candidate)).collect();
    let columns = columns.with_context(|| {
        format!("the traces have lenses at {:?}, the records have exit candidates {candidates:?}", header.candidates)
    })?;
    let targets =
        Targets { candidates: candidates.to_vec(), n_blocks: header.n_blocks, kl_factor, policy: TargetPolicy::Exact };
    let mut statistics = TargetStatistics::new(targets);
    for index in 0..reader.len() {
        let all = reader.read_lens_kl(index)?;
        let rows = all.chunks_exact(header.candidates.len().max(1));
        let chosen: Vec<f32> =
            rows.flat_map(|row| columns.iter().filter_map(|column| row.get(*column).copied())).collect();
        statistics.add_trace(&chosen, 0, |_, _, _| 0.0);
    }
    Ok(statistics.mean_distribution())
}
