//! `aloud lens`: what the model would say at each exit candidate, against what it says at the end.

use std::path::{Path, PathBuf};

use aloud_method::candidates::Candidates;
use aloud_method::targets::target_hazard;
use aloud_report::table::{Align, Table};
use aloud_tasks::item::Message;
use aloud_text::tokenizer::Tokenizer;
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::TemplateVariableArgs;
use crate::context::{Context, print_result};
use aloud_session::candidates;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::lens_pass::{PositionReading, lens_pass};
use aloud_session::loaded_model::LoadedModel;
use aloud_session::prompts::encode_conversation;

#[derive(Args, Debug)]
#[command(
    after_help = "Depths count blocks. KL (nats) compares the position's own final distribution with the lens: the \
                        residual at a candidate, read by final norm and unembedding. The hazard is the target exit \
                        probability that follows from it, 1 - tanh(kl_factor * KL / 2)."
)]
pub(crate) struct LensArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    variables: TemplateVariableArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    /// JSON array of depths, one a token: a candidate, or the number of blocks [default: all run to the end]
    #[arg(long, value_name = "FILE")]
    depths_file: Option<PathBuf>,
    /// How fast target hazards fall with the KL, per nat
    #[arg(long, value_name = "B", default_value_t = 1.0, value_parser = kl_factor)]
    kl_factor: f64,
    /// Exit candidates: depths such as 5,10,15 or `every 5` [default: those of the checkpoint, else every 5]
    #[arg(long, value_name = "DEPTHS", value_parser = candidates::parse)]
    candidates: Option<Candidates>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What to read.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// JSON array of token ids, taken as they are
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
    /// A text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// A user message, written by the model's chat template
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

/// For clap: a factor that hazards can follow.
pub(crate) fn kl_factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| "expected a number above 0".to_owned())
}

/// The whole output.
#[derive(Serialize)]
struct Report {
    candidates: Vec<usize>,
    positions: Vec<Position>,
}

/// One token.
#[derive(Serialize)]
struct Position {
    id: u32,
    depth: usize,
    next_logprob: Option<f32>,
    argmax: u32,
    kl: Vec<f32>,
    hazard: Vec<f64>,
    #[serde(skip)]
    top_tokens: Vec<u32>,
}

pub(crate) fn run(arguments: &LensArgs, context: &Context) -> anyhow::Result<()> {
    if arguments.input.prompt.is_none() {
        arguments.variables.choice().refuse("only --prompt is written by a chat template")?;
    }
    // Files of arguments are read before the model is loaded: their faults show at once.
    let given_ids = arguments.input.tokens_file.as_deref().map(|path| read_integers(path, "token ids")).transpose()?;
    let given_depths = arguments.depths_file.as_deref().map(|path| read_integers(path, "depths")).transpose()?;
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, arguments.activations.of_measurements(), context)?;
    let (token_ids, tokenizer) = match given_ids {
        Some(ids) => {
            // The table shows ids if there is no tokenizer: none is needed for given ids.
            let tokenizer = if arguments.json { None } else { model.text_codec().ok().map(|codec| codec.tokenizer) };
            (ids, tokenizer)
        }
        None => encode(arguments, &model)?,
    };
    let candidates = candidates::resolve(arguments.candidates.as_ref(), model.head_depths(), model.n_blocks())?;
    let token_ids = check_ids(&token_ids, model.decoder.config().vocab_size)?;
    let depths = check_depths(given_depths.as_deref(), token_ids.len(), &candidates, model.n_blocks())?;
    let readings = lens_pass(&model.decoder, model.policy.as_ref(), &token_ids, &depths, &candidates)?;
    let positions = (token_ids.iter().zip(&depths).zip(readings))
        .map(|((id, depth), reading)| position(*id, *depth, &reading, &candidates, arguments.kl_factor))
        .collect();
    let report = Report { candidates, positions };
    print_result(arguments.json, &report, || table(&report, tokenizer.as_ref(), model.n_blocks()))
}

/// Token ids of the text or prompt, and what they stand for.
fn encode(arguments: &LensArgs, model: &LoadedModel) -> anyhow::Result<(Vec<i64>, Option<Tokenizer>)> {
    let input = &arguments.input;
    let codec = arguments.variables.choice().apply(&model.text_codec()?)?;
    let ids = match (&input.text, &input.prompt) {
        (Some(text), _) => codec.tokenizer.encode(text, true)?,
        (None, prompt) => encode_conversation(&[Message::user(prompt.as_deref().unwrap_or_default())], &codec)?.1,
    };
    Ok((ids.into_iter().map(i64::from).collect(), Some(codec.tokenizer)))
}

/// Reads a JSON array of integers.
fn read_integers(path: &Path, what: &str) -> anyhow::Result<Vec<i64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let values: Vec<i64> = serde_json::from_str(&text).map_err(|error| {
        SessionError::usage(format!("{}: expected a JSON array of integers ({what}): {error}", path.display()))
    })?;
    if values.is_empty() {
        return Err(SessionError::usage(format!("{}: the list of {what} is empty", path.display())).into());
    }
    Ok(values)
}

fn check_ids(ids: &[i64], vocab_size: usize) -> Result<Vec<u32>, SessionError> {
    if ids.is_empty() {
        return Err(SessionError::usage("the text has no tokens"));
    }
    let check = |(position, id): (usize, &i64)| {
        let valid = u32::try_from(*id).ok().filter(|id| (*id as usize) < vocab_size);
        valid.ok_or_else(|| {
            SessionError::usage(format!(
                "token id {id} at position {position}: the vocabulary has ids 0 to {}",
                vocab_size - 1
            ))
        })
    };
    ids.iter().enumerate().map(check).collect()
}

fn check_depths(
    given: Option<&[i64]>,
    n_tokens: usize,
    candidates: &[usize],
    n_blocks: usize,
) -> Result<Vec<usize>, SessionError> {
    let Some(given) = given else { return Ok(vec![n_blocks; n_tokens]) };
    if given.len() != n_tokens {
        return Err(SessionError::usage(format!(
            "{} depths for {n_tokens} tokens: give one depth a token",
            given.len()
        )));
    }
    let check = |(position, depth): (usize, &i64)| {
        let valid = usize::try_from(*depth).ok().filter(|depth| *depth == n_blocks || candidates.contains(depth));
        valid.ok_or_else(|| {
            SessionError::usage(format!(
                "depth {depth} at position {position} is neither a candidate {candidates:?} nor full depth {n_blocks}"
            ))
        })
    };
    given.iter().enumerate().map(check).collect()
}

fn position(id: u32, depth: usize, reading: &PositionReading, candidates: &[usize], kl_factor: f64) -> Position {
    let kl: Vec<f32> = reading.lenses.iter().map(|lens| lens.kl).collect();
    debug_assert_eq!(kl.len(), candidates.len());
    Position {
        id,
        depth,
        next_logprob: reading.next_log_probability,
        argmax: reading.argmax,
        hazard: kl.iter().map(|kl| target_hazard(f64::from(*kl), kl_factor)).collect(),
        kl,
        top_tokens: reading.lenses.iter().map(|lens| lens.top_token).collect(),
    }
}

/// A row a position: at each candidate the lens's top token, KL and target hazard.
fn table(report: &Report, tokenizer: Option<&Tokenizer>, n_blocks: usize) -> String {
    let text = |id: u32| tokenizer.map_or_else(|| id.to_string(), |tokenizer| shown(&tokenizer.token_text(id)));
    let mut columns =
        vec![(String::new(), Align::Right), ("token".to_owned(), Align::Left), ("depth".to_owned(), Align::Right)];
    for candidate in &report.candidates {
        columns.extend([
            (format!("lens {candidate}"), Align::Left),
            ("KL".to_owned(), Align::Right),
            ("hazard".to_owned(), Align::Right),
        ]);
    }
    columns.extend([("says".to_owned(), Align::Left), ("next".to_owned(), Align::Right)]);
    let mut table = Table::new(columns);
    for (index, position) in report.positions.iter().enumerate() {
        let depth = if position.depth == n_blocks { "full".to_owned() } else { position.depth.to_string() };
        let mut row = vec![index.to_string(), text(position.id), depth];
        for (lens, candidate) in report.candidates.iter().enumerate() {
            if *candidate > position.depth {
                row.extend(["", "", ""].map(str::to_owned));
            } else {
                row.push(text(position.top_tokens[lens]));
                row.push(format!("{:.2}", position.kl[lens]));
                row.push(format!("{:.3}", position.hazard[lens]));
            }
        }
        row.push(text(position.argmax));
        row.push(position.next_logprob.map_or_else(String::new, |log_probability| format!("{log_probability:.2}")));
        table.row(row);
    }
    format!(
        "{table}\nlens D: top token of the readout after D blocks; KL (nats) of the final distribution against it; target \
         hazard. says: top\ntoken at the position's own depth (full: {n_blocks} blocks). next: log-probability of the next \
         token (nats).\n"
    )
}

/// A token's text with its spaces and control characters visible, at most 14 characters.
fn shown(text: &str) -> String {
    const MOST: usize = 14;
    let escaped: String = text.replace(' ', "·").chars().flat_map(char::escape_debug).collect();
    if escaped.chars().count() <= MOST {
        return escaped;
    }
    escaped.chars().take(MOST - 1).chain(['…']).collect()
}
