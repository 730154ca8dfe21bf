//! `aloud trace`: the teacher's responses at full depth, with what it knew at each token.

use std::path::PathBuf;

use aloud_engine::decode::sampling::Sampling;
use aloud_method::candidates::Candidates;
use aloud_tasks::item::Split;
use aloud_text::text_codec::TextCodec;
use aloud_train::stage1::teacher::TracePrompt;
use aloud_train::stage1::traces::HiddenDType;
use clap::Args;

use crate::arguments::activations::RefusedActivationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::PromptArgs;
use crate::arguments::{Choice, one_of};
use crate::context::{Context, print};
use aloud_session::candidates;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::numbers::temperature;
use aloud_session::prompts::PromptChoice;
use aloud_session::stage1::{Recording, record};

/// The part that traces are of unless another one is asked for: they are trained on.
const SPLIT: Split = Split::Train;

/// Number formats of stored hidden states.
const FORMATS: [Choice<HiddenDType>; 2] = [
    ("f32", "32-bit floats", HiddenDType::F32),
    ("bf16", "Half the space, with a small error in the teacher's distribution", HiddenDType::Bf16),
];

#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    activations: RefusedActivationArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    /// Record the `response` of each prompt (or the worked solution of its item) instead of generating one
    #[arg(long)]
    given_responses: bool,
    /// A prompt file with a response in each row (`response`, `completion` or the last turn), to be recorded as given: short for --prompts FILE --given-responses
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "prompts", "prompt", "given_responses"])]
    responses: Option<PathBuf>,
    /// Depths at which tokens may stop: 5,10,15 or `every 5`
    #[arg(long, value_name = "DEPTHS", value_parser = candidates::parse)]
    candidates: Option<Candidates>,
    /// Most tokens of a generated response
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.7, value_parser = temperature)]
    temperature: f32,
    /// Seed of all draws
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Responses generated together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Number format of the stored hidden states
    #[arg(long, value_parser = one_of(&FORMATS), default_value = "f32")]
    hidden: HiddenDType,
    /// Where the traces go; an interrupted recording goes on
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
}

impl TraceArgs {
    fn prompts(&self) -> PromptChoice {
        let prompts = self.prompts.choice();
        self.responses.as_ref().map_or_else(|| prompts.clone(), |file| prompts.with_file(file))
    }

    fn given(&self) -> bool {
        self.given_responses || self.responses.is_some()
    }
}

pub(crate) fn run(arguments: &TraceArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    let base = arguments.model.choice().load_teacher(context)?;
    let codec = TextCodec::load(&base.location)?;
    let config = &base.pretrained.config;
    codec.tokenizer.check_vocabulary(config.vocab_size)?;
    let prompts = trace_prompts(arguments, &codec)?;
    let recording = Recording {
        prompts: format!("{}; given responses {}", arguments.prompts().description(SPLIT), arguments.given()),
        items: arguments.prompts().item_source(SPLIT)?,
        candidates: candidates::resolve(arguments.candidates.as_ref(), None, config.n_layers)?,
        sampling: Sampling { temperature: arguments.temperature, ..Sampling::default() },
        max_new_tokens: arguments.max_new_tokens,
        seed: arguments.seed,
        batch: arguments.batch.into(),
        hidden_dtype: arguments.hidden,
    };
    let (n_traces, tokens) = record(&base, &codec, &cpu, &prompts, &recording, &arguments.output, context)?;
    context.say(&format!("{n_traces} traces, {tokens} response tokens recorded now"));
    Ok(print(&format!("{}\n", arguments.output.display()))?)
}

/// The prompts, each with its response if those are given. A given response ends with the model's end-of-turn token, so
/// that the student learns to stop.
fn trace_prompts(arguments: &TraceArgs, codec: &TextCodec) -> anyhow::Result<Vec<TracePrompt>> {
    let (prompts, given) = (arguments.prompts(), arguments.given());
    let items = prompts.items(SPLIT)?;
    if items.is_empty() {
        return Err(SessionError::usage("the data set is empty: nothing to trace").into());
    }
    let encoded = prompts.encode(&items, codec)?;
    let responses = items.into_iter().map(|item| item.solution.filter(|_| given));
    encoded
        .into_iter()
        .zip(responses)
        .map(|(prompt, solution)| {
            let response = match solution {
                Some(text) => {
                    let mut ids = codec.tokenizer.encode(&text, false)?;
                    ids.extend(codec.tokenizer.eos_token_id());
                    Some((text, ids))
                }
                None if given => {
                    let message = format!(
                        "prompt `{}` has no response: add a `response` field, or a last turn of the assistant",
                        prompt.id
                    );
                    return Err(SessionError::usage(message).into());
                }
                None => None,
            };
            Ok(prompt.to_trace(response))
        })
        .collect()
}
