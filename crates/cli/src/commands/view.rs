//! `aloud view`: records or traces as one self-contained HTML page.

use std::path::PathBuf;

use aloud_base::durable_file;
use aloud_measure::record::{ResponseRecord, read_records};
use aloud_method::targets::{TargetPolicy, Targets};
use aloud_model::source::ModelSource;
use aloud_report::view::{ViewOptions, render_page};
use aloud_text::text_codec::TextCodec;
use aloud_train::stage1::traces::TraceReader;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::commands::lens::kl_factor;
use crate::context::{Context, print};
use aloud_session::generation::PROMPT_TOKEN_IDS;
use aloud_session::loaded_model::resolve;
use aloud_session::model_choice::ModelChoice;
use aloud_session::trace_records::{open_traces, target_histogram, trace_record};

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
        records.push(trace_record(
            &trace,
            &targets,
            arguments.seed,
            &tokenizer,
            settings.clone(),
            reader.header().numerics.clone(),
        ));
    }
    Ok(())
}
