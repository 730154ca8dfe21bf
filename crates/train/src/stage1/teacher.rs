//! The teacher's side of stage 1: responses at full depth, and what it knew at each response token.

use aloud_engine::decode::batching::Limits;
use aloud_engine::decode::complete::complete;
use aloud_engine::decode::request::{FinishReason as EngineFinish, Request, RequestError};
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::backend::Backend;
use aloud_model::checkpoint::lineage::ItemKey;
use aloud_model::decoder::{BatchError, Decoder, PackedBatch};

use crate::stage1::traces::{FinishReason, Trace, TraceError, TraceWriter};
use aloud_engine::read::reading::{PackedSteps, Reading, RecordedSequence, group_by_rows};

/// A prompt to be traced, with its response if that is given.
#[derive(Clone, Debug)]
pub struct TracePrompt {
    /// Name of the trace, unique in its store.
    pub id: String,
    /// Key of the item that the prompt is made of, if it is made of one.
    pub item: Option<ItemKey>,
    /// The prompt's text, as the model sees it.
    pub prompt: String,
    /// The prompt's tokens, at least one.
    pub prompt_ids: Vec<u32>,
    /// A given response: its text and tokens. Otherwise the teacher writes one.
    pub response: Option<(String, Vec<u32>)>,
}

/// How the teacher writes.
#[derive(Clone, Debug)]
pub struct TeacherSettings {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// Tokens that end a response.
    pub stop_tokens: Vec<u32>,
    /// Seed of all draws.
    pub seed: u64,
    /// Responses written together.
    pub batch: usize,
    /// Most packed rows of one reading pass.
    pub rows_per_pass: usize,
}

/// Why tracing stopped.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// A prompt does not fit the model.
    #[error("prompt `{id}`: {source}")]
    Request {
        /// The prompt.
        id: String,
        /// What is wrong.
        source: RequestError,
    },
    /// A given response does not fit the model.
    #[error("response of `{id}`: {source}")]
    Response {
        /// The prompt.
        id: String,
        /// What is wrong.
        source: BatchError,
    },
    /// What the model reads in a response is not finite.
    #[error(
        "response of `{id}`, token {token}: {what} is {value}, expected a finite number. Weights of the model are damaged, or \
         too large for 32-bit floats"
    )]
    NotFinite {
        /// The prompt.
        id: String,
        /// Number of the token in the response, from 0.
        token: usize,
        /// What was read.
        what: &'static str,
        /// The first value that is not finite.
        value: f32,
    },
    /// A given response has no token.
    #[error("response of `{0}` is empty: leave it out to have the teacher write one")]
    EmptyResponse(String),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] TraceError),
}

/// Progress of [`record_traces`].
#[derive(Clone, Copy, Debug)]
pub struct TraceProgress {
    /// Traces in the store.
    pub traces: usize,
    /// Response tokens recorded by this call.
    pub tokens: usize,
}

/// Records a trace of every prompt that the store does not have yet. Each prompt's draws depend on the seed and its place
/// in `prompts` alone, so an interrupted call, made again, goes on as if it had not stopped.
///
/// # Errors
/// If a prompt does not fit the model or the store cannot be written; what was completed stays.
pub fn record_traces<B: Backend>(
    decoder: &Decoder<B>,
    candidates: &[usize],
    prompts: &[TracePrompt],
    settings: &TeacherSettings,
    writer: &mut TraceWriter,
    decode: &(dyn Fn(&[u32]) -> String + Sync),
    on_progress: &mut dyn FnMut(TraceProgress),
) -> Result<(), TeacherError> {
    let mut progress = TraceProgress { traces: writer.n_completed(), tokens: 0 };
    on_progress(progress);
    let missing: Vec<(usize, &TracePrompt)> =
        prompts.iter().enumerate().filter(|(_, prompt)| !writer.contains(&prompt.id)).collect();
    // A bad prompt at the end must not cost the hours before it.
    for (number, prompt) in &missing {
        check(decoder, *number, prompt, settings)?;
    }
    for group in missing.chunks(settings.batch.max(1)) {
        let responses = write_responses(decoder, group, settings, decode)?;
        let lengths: Vec<usize> =
            group.iter().zip(&responses).map(|((_, p), r)| p.prompt_ids.len() + r.token_ids.len()).collect();
        for members in group_by_rows(0..group.len(), |i| lengths[i], settings.rows_per_pass) {
            let sequences: Vec<(&[u32], &[u32])> =
                members.iter().map(|&i| (&group[i].1.prompt_ids[..], &responses[i].token_ids[..])).collect();
            let readings = read_responses(decoder, candidates, &sequences)
                .map_err(|source| TeacherError::Response { id: group[members[0]].1.id.clone(), source })?;
            for (&i, reading) in members.iter().zip(readings) {
                let (number, prompt) = group[i];
                let response = &responses[i];
                check_finite(&prompt.id, &reading, response.token_ids.len())?;
                progress.tokens += response.token_ids.len();
                writer.append(Trace {
                    index: number,
                    id: prompt.id.clone(),
                    item: prompt.item,
                    prompt: prompt.prompt.clone(),
                    response: response.text.clone(),
                    token_ids: [&prompt.prompt_ids[..], &response.token_ids].concat(),
                    prompt_len: prompt.prompt_ids.len(),
                    final_hidden: reading.final_hidden,
                    lens_kl: reading.lens_kl,
                    token_log_probabilities: reading.token_log_probabilities,
                    finish_reason: response.finish_reason,
                })?;
                progress.traces += 1;
                on_progress(progress);
            }
        }
    }
    writer.flush()?;
    Ok(())
}

/// Checks that everything that was read of a response is finite.
fn check_finite(id: &str, reading: &TeacherReading, n_tokens: usize) -> Result<(), TeacherError> {
    let read = [
        ("its log-probability", &reading.token_log_probabilities),
        ("the lens KL", &reading.lens_kl),
        ("the final hidden state", &reading.final_hidden),
    ];
    for (what, values) in read {
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let token = at / (values.len() / n_tokens).max(1);
            return Err(TeacherError::NotFinite { id: id.to_owned(), token, what, value: values[at] });
        }
    }
    Ok(())
}

fn check<B: Backend>(
    decoder: &Decoder<B>,
    number: usize,
    prompt: &TracePrompt,
    settings: &TeacherSettings,
) -> Result<(), TeacherError> {
    request(number, prompt, settings)
        .validate(decoder, false)
        .map_err(|source| TeacherError::Request { id: prompt.id.clone(), source })?;
    let Some((_, ids)) = &prompt.response else { return Ok(()) };
    if ids.is_empty() {
        return Err(TeacherError::EmptyResponse(prompt.id.clone()));
    }
    let config = decoder.config();
    PackedBatch::new()
        .push(&[&prompt.prompt_ids[..], ids].concat(), config.vocab_size, config.max_position_embeddings)
        .map_err(|source| TeacherError::Response { id: prompt.id.clone(), source })
}

fn request(number: usize, prompt: &TracePrompt, settings: &TeacherSettings) -> Request {
    Request {
        prompt: prompt.prompt_ids.clone(),
        max_new_tokens: settings.max_new_tokens,
        sampling: settings.sampling,
        stop_tokens: settings.stop_tokens.clone(),
        seed: settings.seed,
        sequence: number as u64,
        ..Request::default()
    }
}

struct Response {
    text: String,
    token_ids: Vec<u32>,
    finish_reason: FinishReason,
}

/// Given responses, and those that the teacher writes now.
fn write_responses<B: Backend>(
    decoder: &Decoder<B>,
    group: &[(usize, &TracePrompt)],
    settings: &TeacherSettings,
    decode: &(dyn Fn(&[u32]) -> String + Sync),
) -> Result<Vec<Response>, TeacherError> {
    let open: Vec<usize> = (0..group.len()).filter(|i| group[*i].1.response.is_none()).collect();
    let requests: Vec<Request> = open.iter().map(|&i| request(group[i].0, group[i].1, settings)).collect();
    let limits = Limits { max_sequences: settings.batch, ..Limits::default() };
    let written = complete(decoder, None, limits, &requests, &|| {}).map_err(|source| {
        let member = match source {
            RequestError::NotFinite { request, .. } => open[request],
            _ => 0,
        };
        TeacherError::Request { id: group[member].1.id.clone(), source }
    })?;
    let mut written = written.into_iter();
    Ok(group
        .iter()
        .filter_map(|(_, prompt)| match &prompt.response {
            Some((text, ids)) => {
                Some(Response { text: text.clone(), token_ids: ids.clone(), finish_reason: FinishReason::Given })
            }
            None => written.next().map(|written| {
                let token_ids: Vec<u32> = written.tokens.iter().map(|token| token.id).collect();
                let finish_reason = match written.reason {
                    EngineFinish::Stop => FinishReason::Stop,
                    EngineFinish::Length => FinishReason::Length,
                };
                Response { text: decode(&token_ids), token_ids, finish_reason }
            }),
        })
        .collect())
}

/// What the teacher knew at the response tokens of one sequence.
#[derive(Clone, Debug)]
pub struct TeacherReading {
    /// Hidden state after the final norm at the steps that emit the response tokens, `[T, H]`.
    pub final_hidden: Vec<f32>,
    /// KL of the final distribution against the lens at each candidate, nats, `[T, candidates]`.
    pub lens_kl: Vec<f32>,
    /// Log-probability of each response token (temperature 1), nats.
    pub token_log_probabilities: Vec<f32>,
}

/// One full-depth pass over prompts and responses.
///
/// # Errors
/// If a token or a position does not exist in the model.
pub fn read_responses<B: Backend>(
    decoder: &Decoder<B>,
    candidates: &[usize],
    sequences: &[(&[u32], &[u32])],
) -> Result<Vec<TeacherReading>, BatchError> {
    let longest = sequences.iter().map(|(_, response)| response.len()).max().unwrap_or_default();
    let full_depth = vec![decoder.n_blocks(); longest];
    let recorded: Vec<RecordedSequence<'_>> = sequences
        .iter()
        .map(|(prompt, response)| RecordedSequence { prompt, response, depths: &full_depth[..response.len()] })
        .collect();
    let steps = PackedSteps::separate(decoder, &recorded)?;
    let reading = Reading::new(decoder, None, candidates, &steps, false);
    let mut rows = reading.lens_kl(false).into_iter();
    let hidden = decoder.backend().download(&reading.hidden);
    let mut hidden = hidden.values().chunks_exact(hidden.width());
    let of_response = |(_, response): &(&[u32], &[u32])| {
        let rows: Vec<_> = rows.by_ref().take(response.len()).collect();
        TeacherReading {
            final_hidden: hidden.by_ref().take(response.len()).flatten().copied().collect(),
            lens_kl: rows.iter().flat_map(|row| &row.lenses).map(|lens| lens.kl).collect(),
            token_log_probabilities: rows.iter().map(|row| row.token.log_probability).collect(),
        }
    };
    Ok(sequences.iter().map(of_response).collect())
}
