//! `aloud generate`: responses with early exits, as text, colours or records.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aloud_lab::words::percent;
use aloud_measure::record::{ResponseRecord, write_records};
use aloud_method::savings::average_layer_savings;
use aloud_report::terminal::{coloured_token, legend_line};
use aloud_session::error::SessionError;
use aloud_tasks::item::Split;
use clap::Args;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::generation::GenerationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::PromptArgs;
use crate::context::{Context, print};
use aloud_session::generation::{GenerationSettings, Happening, generate, record, summary_line};
use aloud_session::host::{Host, Progress as _};
use aloud_session::lens_annotation::annotate;
use aloud_session::prompts::EncodedPrompt;

#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    /// Every response begins with this text; it is part of the response
    #[arg(long, value_name = "TEXT")]
    force_start: Option<String>,
    /// Responses to each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Most sequences decoded together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Add the lens's top token and KL at every candidate reached: one more pass over each response
    #[arg(long)]
    lens: bool,
    /// Print JSON Lines: a record a response
    #[arg(long)]
    json: bool,
    /// Write the records to a file, when all are complete
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &GenerateArgs, context: &Context) -> anyhow::Result<()> {
    let items = arguments.prompts.choice().items(Split::Test)?;
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, arguments.activations.of_answers(), context)?;
    let codec = model.text_codec()?;
    let mut settings = arguments.generation.resolve(&model, &codec)?;
    if let Some(text) = &arguments.force_start {
        settings.force_start(text, &codec)?;
    }
    let prompts = repeated(arguments.prompts.choice().encode(&items, &codec)?, arguments.samples);

    let streams = prompts.len() == 1 && !arguments.json;
    let mut progress = (!streams).then(|| context.bar("generating", "responses", Some(prompts.len() as u64)));
    let mut n_tokens = 0_u64;
    let mut records: BTreeMap<usize, ResponseRecord> = BTreeMap::new();
    let mut n_printed = 0;
    let timing = generate(&model, &codec, &prompts, &settings, arguments.batch.into(), &mut |happening| {
        match happening {
            Happening::Text(piece) if streams => {
                print(&coloured_token(&piece.text, piece.depth, model.n_blocks(), context.colours))?;
            }
            Happening::Text(_) => {}
            Happening::Token => {
                n_tokens += 1;
                if let Some(progress) = &mut progress {
                    progress.message(format!("{n_tokens} tokens"));
                }
            }
            Happening::Finished { request, response } => {
                let record = record(&model, &codec, &settings, request, &prompts[request], response);
                records.insert(request, record);
                let Some(progress) = &mut progress else { return Ok(()) };
                progress.advance(1);
                if !arguments.json {
                    return progress.around(|| Ok(print(&response_text(&records[&request], context))?));
                }
                // Lines come in the order of the prompts, whatever finishes first.
                while let Some(record) = records.get(&n_printed).filter(|_| !arguments.lens) {
                    progress.around(|| print_record(record))?;
                    n_printed += 1;
                }
            }
        }
        Ok(())
    })?;
    drop(progress);

    let mut records: Vec<ResponseRecord> = records.into_values().collect();
    if arguments.lens {
        let mut progress = context.bar("reading lenses", "responses", Some(records.len() as u64));
        for (record, prompt) in records.iter_mut().zip(&prompts) {
            annotate(record, &prompt.token_ids, &model, &codec)?;
            progress.advance(1);
            if arguments.json {
                progress.around(|| print_record(record))?;
            }
        }
    }
    if let Some(out) = &arguments.out {
        write_records(out, &records)?;
    }
    if streams {
        print("\n")?;
    }
    if !arguments.json {
        print(&legend(&settings, model.n_blocks(), context))?;
    }
    context.say(&summary_line(&records, &timing));
    Ok(())
}

/// Every prompt `samples` times, with names of their own.
fn repeated(prompts: Vec<EncodedPrompt>, samples: u32) -> Vec<EncodedPrompt> {
    if samples == 1 {
        return prompts;
    }
    let copies = |prompt: EncodedPrompt| {
        (0..samples).map(move |sample| EncodedPrompt { id: format!("{}#{sample}", prompt.id), ..prompt.clone() })
    };
    prompts.into_iter().flat_map(copies).collect()
}

fn print_record(record: &ResponseRecord) -> Result<(), SessionError> {
    record.check()?;
    Ok(print(&format!("{}\n", serde_json::to_string(record)?))?)
}

/// A response with a heading; tokens coloured by depth where the terminal can.
fn response_text(record: &ResponseRecord, context: &Context) -> String {
    let depths: Vec<usize> = record.tokens.iter().skip(1).map(|token| token.depth).collect();
    let savings = average_layer_savings(&depths, record.n_blocks)
        .map_or_else(String::new, |savings| format!(", layer savings {}", percent(savings)));
    let heading = format!("[{}] {} tokens{savings}, {}", record.id, record.tokens.len(), record.finish_reason);
    format!("{heading}\n{}\n\n", coloured_response(record, context))
}

/// The response's text, coloured where that can be done token by token.
fn coloured_response(record: &ResponseRecord, context: &Context) -> String {
    let mut rest = record.response.as_str();
    let mut coloured = String::new();
    for token in &record.tokens {
        if let Some(after) = rest.strip_prefix(token.text.as_str()) {
            coloured.push_str(&coloured_token(&token.text, token.depth, record.n_blocks, context.colours));
            rest = after;
        }
    }
    coloured + rest
}

/// The line that explains the colours; nothing where there are none.
fn legend(settings: &GenerationSettings, n_blocks: usize, context: &Context) -> String {
    if context.colours == aloud_report::terminal::ColourSupport::None {
        return String::new();
    }
    format!("{}\n", legend_line(&settings.candidates, n_blocks, context.colours))
}
