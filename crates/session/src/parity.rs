//! Recorded responses run again by the teacher-forced pass, to compare it with the stepwise engine.

use std::path::Path;

use aloud_base::numerics::{FieldDifference, Numerics};
use aloud_engine::decode::batching::Limits;
use aloud_engine::decode::complete::{Completion, complete};
use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::decode::step_key::StepKey;
use aloud_engine::read::replay::replay;
use aloud_engine::read::verify::{ParityReport, verify};
use aloud_kernels::cpu::{Activations, Cpu, SimdLevel};
use aloud_measure::record::{ResponseRecord, read_records};
use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::Policy;
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_tasks::item::Split;
use aloud_tasks::task::Task as _;
use aloud_tasks::word_problems::task::WordProblems;
use serde_json::Value;

use crate::bail;
use crate::error::{Context as _, SessionError};
use crate::exit_offset;
use crate::generation::PROMPT_TOKEN_IDS;
use crate::host::Host;
use crate::loaded_model::LoadedModel;
use crate::numerics::{ActivationChoice, activations_name};

/// A response to replay.
#[derive(Clone, Debug)]
pub struct Recorded {
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

/// The largest differences between engine, teacher-forced pass and records: those of all responses, and that of recorded
/// log-probabilities, where there are comparable ones. `on_done` hears of every response.
///
/// # Errors
/// If a response does not fit the model.
pub fn compare(
    model: &LoadedModel,
    recorded: &[Recorded],
    cpu: &Cpu,
    on_done: &mut dyn FnMut(),
) -> Result<(ParityReport, Option<f32>), SessionError> {
    let without_heads = Policy::new(cpu, None, ExitHeads::new(Vec::new(), HeadInput::Rms, 0, &[]));
    let (decoder, policy) = (&model.decoder, model.policy.as_ref().unwrap_or(&without_heads));
    let (mut report, mut of_record) = (ParityReport::default(), None);
    for Recorded { id, prompt, tokens, depths, log_probabilities, offset, temperature } in recorded {
        let both = || {
            let parity = verify(decoder, policy, prompt, tokens, depths, offset, *temperature)?;
            let replayed = replay(decoder, policy, prompt, tokens, depths, offset, *temperature)?;
            Ok::<_, SessionError>((parity, replayed))
        };
        let (parity, replayed) = both().with_context(|| format!("record `{id}`"))?;
        report.merge(&parity);
        for (recorded, replayed) in log_probabilities.iter().zip(&replayed) {
            if let Some(recorded) = recorded {
                let difference = (recorded - replayed.log_probability).abs();
                of_record = Some(largest(of_record.unwrap_or(0.0), difference));
            }
        }
        on_done();
    }
    Ok((report, of_record))
}

/// The larger one; NaN if either is.
fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// While it lives, the kernels use the instructions of records; then those that they used before.
#[derive(Debug)]
pub struct UsedInstructions {
    before: SimdLevel,
}

impl Drop for UsedInstructions {
    fn drop(&mut self) {
        SimdLevel::limit(self.before);
    }
}

/// Records of one file, to be replayed in the numerics that they were made with.
#[derive(Clone, Debug)]
pub struct Records {
    records: Vec<ResponseRecord>,
    /// `None` if no record says it, as those of earlier versions.
    numerics: Option<Numerics>,
}

impl Records {
    /// Reads records.
    ///
    /// # Errors
    /// If they cannot be read, there are none, or they were made with several numerics.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let records = read_records(path)?;
        if records.is_empty() {
            bail!("{}: no records", path.display());
        }
        let mut known = records.iter().filter_map(|record| Some((&record.id, record.numerics.as_ref()?)));
        let first = known.next();
        if let Some((id, numerics)) = first
            && let Some((other, others)) = known.find(|(_, others)| *others != numerics)
        {
            bail!(
                "{}: record `{id}` was made with {numerics}, and record `{other}` with {others}: verify them from files of \
                 their own",
                path.display()
            );
        }
        let numerics = first.map(|(_, numerics)| numerics.clone());
        Ok(Self { records, numerics })
    }

    /// Lets the kernels use the instructions that the records were made with, until the result is dropped; `None` if the
    /// environment names others, or the records name none.
    pub fn use_instructions(&self) -> Option<UsedInstructions> {
        let instructions = &self.numerics.as_ref()?.instructions;
        let levels = [SimdLevel::Avx512, SimdLevel::Avx2, SimdLevel::Portable];
        let recorded = levels.into_iter().find(|level| level.name() == instructions)?;
        if std::env::var_os(SimdLevel::VARIABLE).is_some() {
            return None;
        }
        let before = SimdLevel::in_use();
        // Where the machine lacks them, it is what the machine has.
        SimdLevel::limit(recorded);
        Some(UsedInstructions { before })
    }

    /// How activations are taken: as those of the records were; of records that do not say it as `given`, or else as f32.
    ///
    /// # Errors
    /// If `given` contradicts the records (a usage error), or they took activations as this program cannot.
    pub fn activations(&self, given: Option<Activations>) -> Result<ActivationChoice, SessionError> {
        let Some(Numerics { activations: recorded, .. }) = &self.numerics else {
            return Ok(given.map_or(ActivationChoice::F32, ActivationChoice::from));
        };
        if let Some(given) = given.map(activations_name).filter(|given| given != recorded) {
            return Err(SessionError::usage(format!(
                "--activations {given}: the records were made with {recorded} activations and are replayed so: leave \
                 --activations out"
            )));
        }
        match recorded.as_str() {
            "f32" => Ok(ActivationChoice::F32),
            // That the weights are those of the records is checked later, with a better reason.
            "q8" => Ok(ActivationChoice::Fastest),
            other => bail!(
                "the records were made with {other} activations, and this program knows f32 and q8: verify them with the \
                 version that wrote them"
            ),
        }
    }

    /// What is replayed, checked to fit the model. Says in what its numerics differ from those of the records.
    ///
    /// # Errors
    /// If a record does not fit.
    pub fn of_model(&self, model: &LoadedModel, host: &dyn Host) -> Result<Vec<Recorded>, SessionError> {
        let recorded =
            |record: &ResponseRecord| from_record(record, model).with_context(|| format!("record `{}`", record.id));
        let recorded = self.records.iter().map(recorded).collect::<Result<_, _>>()?;
        for difference in self.numerics.as_ref().map_or_else(Vec::new, |found| model.numerics.differences(found)) {
            let FieldDifference { field, found, now } = difference;
            host.say(&format!("note: the records were made with {field} {found}, and are replayed with {now}"));
        }
        Ok(recorded)
    }
}

fn from_record(record: &ResponseRecord, model: &LoadedModel) -> Result<Recorded, SessionError> {
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
///
/// # Errors
/// If the model cannot answer.
pub fn generate(model: &LoadedModel) -> Result<Vec<Recorded>, SessionError> {
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
    let responses = complete(&model.decoder, model.policy.as_ref(), Limits::default(), &requests, &|| {})?;
    let recorded = |(request, Completion { tokens, .. }): (Request, Completion)| Recorded {
        id: format!("generated-{}", request.sequence),
        prompt: request.prompt,
        tokens: tokens.iter().map(|token| token.id).collect(),
        depths: tokens.iter().map(|token| token.depth).collect(),
        log_probabilities: tokens.iter().map(|token| Some(token.log_probability)).collect(),
        offset: offset.clone(),
        temperature: request.sampling.temperature,
    };
    Ok(requests.into_iter().zip(responses).map(recorded).collect())
}

/// Questions of the built-in generator; runs of ids for a model without a tokenizer, or with one that cannot express them, as
/// that of a closed vocabulary.
fn prompts(model: &LoadedModel) -> Result<Vec<Vec<u32>>, SessionError> {
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
