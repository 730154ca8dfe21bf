//! Runs prompts through the engine and makes records of the responses.

use crate::error::SessionError;
use std::time::{Duration, Instant};

use aloud_engine::decode::batching::{Engine, Event, Flow, Limits};
use aloud_engine::decode::request::{FinishReason, Forced, Prefix, Request, RequestError, Token};
use aloud_engine::decode::sampling::Sampling;
use aloud_measure::depth_summary::summarise;
use aloud_measure::record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord};
use aloud_method::candidates::{DEFAULT_STEP, every};
use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;
use aloud_text::text_codec::TextCodec;
use serde_json::{Map, Value, json};

use crate::exit_offset::OffsetChoice;
use crate::loaded_model::LoadedModel;
use crate::numbers::decimal;
use crate::prompts::{EncodedPrompt, stop_tokens};
use crate::response_text::{Piece, ResponseText};

/// When tokens stop in depth, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct ExitChoice {
    /// Whether and how exit heads decide; `None`: drawn where the model has them.
    pub exits: Option<HeadUse>,
    /// Added to every exit logit; `None`: what the checkpoint recommends, else 0.
    pub exit_offset: Option<OffsetChoice>,
    /// Text that begins the answer, where thinking and answer have an offset each.
    pub answer_marker: Option<String>,
    /// Every token stops after this many blocks.
    pub depth: Option<usize>,
}

/// Whether and how exit heads decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadUse {
    /// Drawn from the heads' probabilities.
    On,
    /// Not at all: full depth.
    Off,
    /// A stop where the probability is at least one half.
    Threshold,
    /// Drawn, but never where the probability is below 0.1, as earlier code did.
    Compat,
}

impl HeadUse {
    /// As it is written in arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Threshold => "threshold",
            Self::Compat => "compat",
        }
    }
}

/// Everything but the prompts, resolved against a model.
#[derive(Clone, Debug)]
pub struct GenerationSettings {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// How exits are decided.
    pub exits: ExitPolicy,
    /// Texts that end a response.
    pub stop_texts: Vec<String>,
    /// Tokens that end a response.
    pub stop_tokens: Vec<u32>,
    /// Depths (blocks) at which tokens may stop, ascending.
    pub candidates: Vec<usize>,
    /// Tokens with which every response begins.
    pub forced_start: Vec<u32>,
}

impl GenerationSettings {
    /// Responses of at most `max_new_tokens` with these exits, drawn by the model's distribution with seed 0.
    pub fn new(model: &LoadedModel, codec: &TextCodec, max_new_tokens: usize, exits: ExitPolicy) -> Self {
        let heads = model.head_depths().map(<[usize]>::to_vec);
        let mut candidates = heads.unwrap_or_else(|| every(DEFAULT_STEP, model.n_blocks()));
        if let ExitPolicy::Fixed { depth } = exits
            && depth < model.n_blocks()
            && !candidates.contains(&depth)
        {
            candidates.push(depth);
            candidates.sort_unstable();
        }
        Self {
            sampling: Sampling::default(),
            max_new_tokens,
            seed: 0,
            exits,
            stop_texts: Vec::new(),
            stop_tokens: stop_tokens(codec, &model.decoder.config().eos_token_ids),
            candidates,
            forced_start: Vec::new(),
        }
    }

    /// Makes every response begin with `text`.
    ///
    /// # Errors
    /// If the tokenizer cannot represent it, or the responses are too short for it (usage errors).
    pub fn force_start(&mut self, text: &str, codec: &TextCodec) -> Result<(), SessionError> {
        self.forced_start = (codec.tokenizer.encode(text, false))
            .map_err(|error| SessionError::usage(format!("--force-start {text}: {error}")))?;
        let (n, most) = (self.forced_start.len(), self.max_new_tokens);
        if n > most {
            return Err(SessionError::usage(format!("--force-start has {n} tokens, and --max-new-tokens is {most}")));
        }
        Ok(())
    }
}

impl ExitChoice {
    /// Whether the arguments say when tokens stop: a command that varies this itself refuses them.
    pub fn decide(&self) -> bool {
        self.exits.is_some() || self.exit_offset.is_some() || self.depth.is_some()
    }

    /// An exit offset with the answer's marker that these arguments name.
    ///
    /// # Errors
    /// If the marker is not known (a usage error).
    pub fn offset(&self, offset: OffsetChoice, codec: &TextCodec) -> Result<ExitOffset, SessionError> {
        offset.resolve(self.answer_marker.as_deref(), codec)
    }

    /// How exits are decided in this model.
    ///
    /// # Errors
    /// If exits are asked for that the model does not have (a usage error).
    pub fn resolve(&self, model: &LoadedModel, codec: &TextCodec) -> Result<ExitPolicy, SessionError> {
        let n_blocks = model.n_blocks();
        let has_heads = model.policy.is_some();
        match (self.depth, self.exits) {
            (Some(depth), _) if (1..=n_blocks).contains(&depth) => Ok(ExitPolicy::Fixed { depth }),
            (Some(depth), _) => {
                Err(SessionError::usage(format!("--depth {depth}: the model has depths 1 to {n_blocks}")))
            }
            (None, Some(switch @ (HeadUse::On | HeadUse::Threshold | HeadUse::Compat))) if !has_heads => {
                let name = switch.name();
                Err(SessionError::usage(format!(
                    "--exits {name} needs exit heads: give a checkpoint, or a fixed --depth"
                )))
            }
            (None, Some(HeadUse::Off)) if self.exit_offset.is_some() => {
                Err(SessionError::usage("--exit-offset has no effect with --exits off"))
            }
            (None, None) if self.exit_offset.is_some() && !has_heads => {
                Err(SessionError::usage("--exit-offset needs exit heads: give a checkpoint"))
            }
            (None, Some(HeadUse::Off)) => Ok(ExitPolicy::Off),
            (None, None) if self.exit_offset.is_none() => Ok(model.recommended_exits()),
            (None, switch) => {
                let offset = match self.exit_offset {
                    Some(offset) => self.offset(offset, codec)?,
                    None => model.recommended_offset.unwrap_or(0.0).into(),
                };
                Ok(match switch {
                    Some(HeadUse::Threshold) => ExitPolicy::Threshold { offset },
                    Some(HeadUse::Compat) => ExitPolicy::Compat { offset },
                    _ => ExitPolicy::Sampled { offset },
                })
            }
        }
    }
}

/// A finished response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The text, without special tokens and cut at a stop text.
    pub text: String,
    /// All tokens that were generated.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Something that happened while responses are generated.
#[derive(Debug)]
pub enum Happening<'a> {
    /// Text of a response is certain.
    Text(&'a Piece),
    /// A token was generated.
    Token,
    /// Response number `request` is complete.
    Finished {
        /// Index of the prompt.
        request: usize,
        /// The response.
        response: Response,
    },
}

/// What a run of the engine took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Tokens generated.
    pub n_tokens: usize,
    /// Tokens generated that were not the first of their response.
    pub n_later_tokens: usize,
    /// Tokens of the prompts.
    pub n_prompt_tokens: usize,
    /// From the start to the end.
    pub total: Duration,
    /// From the first generated token to the end.
    pub after_first_token: Duration,
}

impl Timing {
    /// Tokens per second, the time that the prompts took included.
    pub fn tokens_per_second(&self) -> f64 {
        self.n_tokens as f64 / self.total.as_secs_f64().max(1e-9)
    }

    /// Tokens per second after the first token: the prompts of the first batch are excluded. `None` if there was only one.
    pub fn later_tokens_per_second(&self) -> Option<f64> {
        let seconds = self.after_first_token.as_secs_f64();
        (self.n_later_tokens > 0 && seconds > 0.0).then(|| self.n_later_tokens as f64 / seconds)
    }
}

/// Generates a response to every prompt, `max_sequences` at a time. Results do not depend on `max_sequences`.
///
/// # Errors
/// If a prompt does not fit the model, text cannot be decoded, or `on_happening` fails; the run ends then.
pub fn generate(
    model: &LoadedModel,
    codec: &TextCodec,
    prompts: &[EncodedPrompt],
    settings: &GenerationSettings,
    max_sequences: usize,
    on_happening: &mut (dyn FnMut(Happening<'_>) -> Result<(), SessionError> + Send),
) -> Result<Timing, SessionError> {
    let requests: Vec<Request> = prompts
        .iter()
        .enumerate()
        .map(|(sequence, prompt)| Request {
            prompt: prompt.token_ids.clone(),
            prefix: Prefix::default(),
            max_new_tokens: settings.max_new_tokens,
            sampling: settings.sampling,
            exits: settings.exits.clone().into(),
            stop_tokens: settings.stop_tokens.clone(),
            seed: settings.seed,
            sequence: sequence as u64,
            forced: match settings.forced_start.as_slice() {
                [] => Forced::None,
                start => Forced::Start(start.to_vec()),
            },
        })
        .collect();
    let growing = || (ResponseText::new(&codec.tokenizer, &settings.stop_texts), Vec::new());
    let mut responses: Vec<(ResponseText, Vec<Token>)> = prompts.iter().map(|_| growing()).collect();
    let mut timing =
        Timing { n_prompt_tokens: prompts.iter().map(|prompt| prompt.token_ids.len()).sum(), ..Timing::default() };
    let mut failure = None;
    let start = Instant::now();
    let mut first_token = None;
    let mut handle = |event: Event| -> Result<Flow, SessionError> {
        match event {
            Event::Token { request, token } => {
                first_token.get_or_insert_with(Instant::now);
                timing.n_tokens += 1;
                timing.n_later_tokens += usize::from(token.index > 0);
                let (text, tokens) = &mut responses[request];
                let pieces = text.push(token.id, token.depth)?;
                let flow = if text.is_stopped() { Flow::Finish } else { Flow::Continue };
                tokens.push(token);
                for piece in &pieces {
                    on_happening(Happening::Text(piece))?;
                }
                on_happening(Happening::Token)?;
                Ok(flow)
            }
            Event::Finished { request, reason } => {
                let (mut text, tokens) = std::mem::replace(&mut responses[request], growing());
                for piece in &text.finish()? {
                    on_happening(Happening::Text(piece))?;
                }
                let response = Response { text: text.into_text(), tokens, finish_reason: reason };
                on_happening(Happening::Finished { request, response })?;
                Ok(Flow::Continue)
            }
        }
    };
    let limits = Limits { max_sequences, ..Limits::default() };
    let run = Engine::new(&model.decoder, model.policy.as_ref(), limits).run(&requests, &mut |event| {
        if failure.is_some() {
            return Flow::Finish;
        }
        handle(event).unwrap_or_else(|error| {
            failure = Some(error);
            Flow::Finish
        })
    });
    run.map_err(|error| match error {
        RequestError::NotFinite { request, .. } => {
            SessionError::from(error).context(format!("prompt `{}`", prompts[request].id))
        }
        _ => error.into(),
    })?;
    timing.total = start.elapsed();
    timing.after_first_token = first_token.map_or(Duration::ZERO, |first| first.elapsed());
    failure.map_or(Ok(timing), Err)
}

/// Generates a response to every prompt, and makes records of them. `on_done` hears of every one.
///
/// # Errors
/// As [`generate`].
pub fn generate_records(
    model: &LoadedModel,
    codec: &TextCodec,
    prompts: &[EncodedPrompt],
    settings: &GenerationSettings,
    max_sequences: usize,
    on_done: &mut (dyn FnMut() + Send),
) -> Result<(Vec<ResponseRecord>, Timing), SessionError> {
    let mut records: Vec<Option<ResponseRecord>> = vec![None; prompts.len()];
    let timing = generate(model, codec, prompts, settings, max_sequences, &mut |happening| {
        if let Happening::Finished { request, response } = happening {
            records[request] = Some(record(model, codec, settings, request, &prompts[request], response));
            on_done();
        }
        Ok(())
    })?;
    Ok((records.into_iter().flatten().collect(), timing))
}

/// The record of a response; `sequence` is its number among the prompts of the run.
pub fn record(
    model: &LoadedModel,
    codec: &TextCodec,
    settings: &GenerationSettings,
    sequence: usize,
    prompt: &EncodedPrompt,
    response: Response,
) -> ResponseRecord {
    let token = |token: &Token| TokenRecord {
        token_id: token.id,
        text: codec.tokenizer.token_text(token.id),
        depth: token.depth,
        log_probability: Some(token.log_probability),
        exits: (token.exits.iter())
            .map(|exit| ExitRecord { depth: exit.depth, hazard: exit.hazard, lens_token: None, lens_kl: None })
            .collect(),
    };
    ResponseRecord {
        format_version: FORMAT_VERSION,
        id: prompt.id.clone(),
        kind: RecordKind::Generation,
        prompt: prompt.text.clone(),
        response: response.text,
        n_blocks: model.n_blocks(),
        candidates: settings.candidates.clone(),
        finish_reason: match response.finish_reason {
            FinishReason::Stop => "stop".to_owned(),
            FinishReason::Length => "length".to_owned(),
        },
        settings: record_settings(model, settings, sequence, prompt),
        numerics: Some(model.numerics.clone()),
        tokens: response.tokens.iter().map(token).collect(),
    }
}

/// What the response can be repeated and verified from.
fn record_settings(
    model: &LoadedModel,
    settings: &GenerationSettings,
    sequence: usize,
    prompt: &EncodedPrompt,
) -> Value {
    let mut map = Map::new();
    map.insert("model".to_owned(), json!(model.source.to_string()));
    map.insert("model_sha256".to_owned(), json!(model.identity.sha256));
    if let Some(sha256) = &model.start_adapter_sha256 {
        map.insert("start_adapter_sha256".to_owned(), json!(sha256));
    }
    if let Some(checkpoint) = &model.checkpoint {
        map.insert("checkpoint".to_owned(), json!(checkpoint.display().to_string()));
    }
    map.extend(exit_settings(&settings.exits));
    let Sampling { temperature, top_p, top_k } = settings.sampling;
    let rest = [
        ("temperature", decimal(temperature)),
        ("top_p", decimal(top_p)),
        ("top_k", json!(top_k)),
        ("seed", json!(settings.seed)),
        ("sequence", json!(sequence)),
        ("max_new_tokens", json!(settings.max_new_tokens)),
        ("stop", json!(settings.stop_texts)),
        (PROMPT_TOKEN_IDS, json!(prompt.token_ids)),
    ];
    map.extend(rest.map(|(key, value)| (key.to_owned(), value)));
    if !settings.forced_start.is_empty() {
        map.insert("forced_start_token_ids".to_owned(), json!(settings.forced_start));
    }
    if let Some(answer) = &prompt.answer {
        map.insert("answer".to_owned(), json!(answer));
    }
    Value::Object(map)
}

/// How exits were decided, as records and reports say it.
pub fn exit_settings(exits: &ExitPolicy) -> Map<String, Value> {
    // A policy is an object, and writing it cannot fail.
    match serde_json::to_value(exits) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    }
}

/// The setting of a record that holds the tokens of its prompt.
pub const PROMPT_TOKEN_IDS: &str = "prompt_token_ids";

/// A line about what was generated: `3 responses, 120 tokens; layer savings 12.3 %, ...`.
pub fn summary_line(records: &[ResponseRecord], timing: &Timing) -> String {
    let plural = if records.len() == 1 { "" } else { "s" };
    let mut parts = vec![format!("{} response{plural}, {} tokens", records.len(), timing.n_tokens)];
    if let Ok(summary) = summarise(records)
        && let (Some(savings), Some(rate), Some(depth)) =
            (summary.average_layer_savings, summary.exit_rate, summary.mean_depth)
    {
        let (savings, rate, n_blocks) = (100.0 * savings, 100.0 * rate, summary.n_blocks);
        parts.push(format!(
            "average layer savings {savings:.1} %, exit rate {rate:.1} %, mean depth {depth:.1} of {n_blocks}"
        ));
    }
    if let Some(rate) = timing.later_tokens_per_second() {
        parts.push(format!("{rate:.1} tokens/s after the first token"));
    }
    let (rate, n_prompt_tokens) = (timing.tokens_per_second(), timing.n_prompt_tokens);
    parts.push(format!("{rate:.1} tokens/s with the prompts ({n_prompt_tokens} tokens) in the time"));
    parts.join("; ")
}
