//! The demo on a real language model: from traces through stage 1 to a page of tokens coloured by depth.

use std::path::{Path, PathBuf};

use aloud_base::durable_file;
use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::cpu::Cpu;
use aloud_measure::depth_summary::summarise;
use aloud_measure::record::{ResponseRecord, write_records};
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::checkpoint::Checkpoint;
use aloud_report::table::Table;
use aloud_report::view::{ViewOptions, render_page};
use aloud_tasks::item::Split;
use aloud_tasks::task::Task as _;
use aloud_tasks::word_problems::task::WordProblems;
use aloud_text::text_codec::TextCodec;
use aloud_train::settings;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::teacher::TracePrompt;
use aloud_train::stage1::traces::{HiddenDType, TraceReader};
use serde::Serialize;

use super::DemoArgs;
use crate::context::{Context, print_result};
use crate::distilled::distilled_tables;
use aloud_lab::words::{columns, or_dash, percent};
use aloud_session::candidates;
use aloud_session::error::SessionError;
use aloud_session::generation::{GenerationSettings, generate_records};
use aloud_session::host::Host;
use aloud_session::lens_annotation::annotate;
use aloud_session::loaded_model::{BaseModel, LoadedModel};
use aloud_session::numerics::ActivationChoice;
use aloud_session::prompts::{EncodedPrompt, Template, item_source};
use aloud_session::stage1::{self, Distilled, Recording, target_savings};

/// The recipe of the demo, part of the program.
const RECIPE: &str = include_str!("../../../../../recipes/distill-demo.toml");

/// Factors whose targets the demo shows.
const KL_FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// Generations of one kind.
#[derive(Clone, Debug, Serialize)]
struct Generated {
    exit_rate: Option<f64>,
    average_layer_savings: Option<f64>,
    tokens: usize,
    tokens_per_s: f64,
}

/// Targets at one factor.
#[derive(Debug, Serialize)]
struct Target {
    kl_factor: f64,
    exit_rate: f64,
    average_layer_savings: f64,
}

/// What the demo came to.
#[derive(Debug, Serialize)]
struct Outcome {
    kl_factor: f64,
    full_depth: Generated,
    with_exits: Generated,
    distilled: Distilled,
    targets: Vec<Target>,
    page: PathBuf,
    seconds: f64,
}

/// Most built-in problems, and most new tokens of a response.
const MOST: (u16, u16) = (64, 96);

/// Runs the demo.
pub(super) fn run(arguments: &DemoArgs, context: &Context) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    let cpu = context.cpu();
    let problems = arguments.problems.unwrap_or(MOST.0.into());
    let max_new_tokens = arguments.max_new_tokens.unwrap_or(MOST.1);
    if !(4..=u32::from(MOST.0)).contains(&problems) || !(8..=MOST.1).contains(&max_new_tokens) {
        let message = "on a language model the demo takes 4 to 64 --problems and 8 to 96 --max-new-tokens";
        return Err(SessionError::usage(message).into());
    }
    let max_new_tokens = usize::from(max_new_tokens);
    let directory = &arguments.output;
    let recipe: DistillRecipe =
        settings::resolve_text("the demo's recipe", RECIPE, &arguments.overrides).map_err(SessionError::usage)?;
    context.say("1/5 model");
    let base = BaseModel::load(&arguments.model, context)?;
    let codec = TextCodec::load(&base.location)?;
    codec.tokenizer.check_vocabulary(base.pretrained.config.vocab_size)?;
    let prompts = word_problems(problems as usize, &codec)?;

    context.say("2/5 traces of the teacher");
    let traces = directory.join(format!("traces-{problems}x{max_new_tokens}"));
    record_teacher(&base, &codec, &cpu, &prompts, max_new_tokens, &traces, context)?;
    let reader = TraceReader::open(&traces)?;

    context.say(&format!("3/5 distilling at kl_factor {}", recipe.target.kl_factor));
    let run = directory.join(format!("run-{problems}x{max_new_tokens}"));
    let model = base.pretrained.clone();
    let distilled = stage1::distil(model, base.identity.clone(), &cpu, &recipe, &traces, &run, context)?;

    context.say("4/5 generating, at full depth and with exits");
    let checkpoint = (distilled.checkpoint.clone(), Checkpoint::load(&distilled.checkpoint, None)?);
    let plain = LoadedModel::assemble(base.clone(), None, &cpu, ActivationChoice::F32)?;
    let student = LoadedModel::assemble(base, Some(checkpoint), &cpu, ActivationChoice::F32)?;
    let chosen = &prompts[..prompts.len().min(16)];
    let (full_depth, _) = responses(&plain, &codec, chosen, ExitPolicy::Off, max_new_tokens, context)?;
    let exits = ExitPolicy::Sampled { offset: 0.0.into() };
    let (with_exits, mut records) = responses(&student, &codec, chosen, exits, max_new_tokens, context)?;

    context.say("5/5 the page");
    for (record, prompt) in records.iter_mut().zip(chosen) {
        annotate(record, &prompt.token_ids, &student, &codec)?;
    }
    write_records(&directory.join("generations.jsonl"), &records)?;
    let page = directory.join("demo.html");
    write_page(&page, &records, &distilled, &recipe)?;

    let targets = KL_FACTORS
        .into_iter()
        .map(|kl_factor| {
            let (exit_rate, average_layer_savings) = target_savings(&reader, kl_factor)?;
            Ok(Target { kl_factor, exit_rate, average_layer_savings })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let outcome = Outcome {
        kl_factor: recipe.target.kl_factor,
        full_depth,
        with_exits,
        distilled,
        targets,
        page,
        seconds: start.elapsed().as_secs_f64(),
    };
    print_result(arguments.json, &outcome, || outcome.text())
}

/// The built-in word problems, of any number of steps.
const WORD_PROBLEMS: WordProblems = WordProblems { steps: None };

/// Built-in word problems, as the model's chat template puts them.
fn word_problems(n: usize, codec: &TextCodec) -> anyhow::Result<Vec<EncodedPrompt>> {
    let items = WORD_PROBLEMS.load(Some(n), 0, Split::Train)?;
    let template = Template::default();
    Ok(items.iter().map(|item| template.encode(item, WORD_PROBLEMS.instruction(), codec)).collect::<Result<_, _>>()?)
}

fn record_teacher(
    base: &BaseModel,
    codec: &TextCodec,
    cpu: &Cpu,
    prompts: &[EncodedPrompt],
    max_new_tokens: usize,
    directory: &Path,
    context: &Context,
) -> anyhow::Result<()> {
    let config = &base.pretrained.config;
    let recording = Recording {
        prompts: "the demo's word problems".to_owned(),
        items: item_source(&WORD_PROBLEMS, Split::Train, 0)?,
        candidates: candidates::resolve(None, None, config.n_layers)?,
        sampling: sampling(),
        max_new_tokens,
        seed: 0,
        batch: 16,
        hidden_dtype: HiddenDType::F32,
    };
    let prompts: Vec<TracePrompt> = prompts.iter().map(|prompt| prompt.to_trace(None)).collect();
    stage1::record(base, codec, cpu, &prompts, &recording, directory, context)?;
    Ok(())
}

fn sampling() -> Sampling {
    Sampling { temperature: 0.7, ..Sampling::default() }
}

fn responses(
    model: &LoadedModel,
    codec: &TextCodec,
    prompts: &[EncodedPrompt],
    exits: ExitPolicy,
    max_new_tokens: usize,
    context: &Context,
) -> anyhow::Result<(Generated, Vec<ResponseRecord>)> {
    let settings = GenerationSettings {
        sampling: sampling(),
        seed: 1,
        ..GenerationSettings::new(model, codec, max_new_tokens, exits)
    };
    let mut progress = context.progress("generating", "responses", Some(prompts.len() as u64));
    let (records, timing) = generate_records(model, codec, prompts, &settings, 16, &mut || progress.advance(1))?;
    let summary = summarise(&records)?;
    let generated = Generated {
        exit_rate: summary.exit_rate,
        average_layer_savings: summary.average_layer_savings,
        tokens: timing.n_tokens,
        tokens_per_s: timing.later_tokens_per_second().unwrap_or_else(|| timing.tokens_per_second()),
    };
    Ok((generated, records))
}

fn write_page(
    path: &Path,
    records: &[ResponseRecord],
    distilled: &Distilled,
    recipe: &DistillRecipe,
) -> anyhow::Result<()> {
    let target_histogram = distilled.held_out.as_ref().and_then(|report| report.target_exits.clone());
    let options = ViewOptions {
        title: "Aloud demo".to_owned(),
        target_histogram,
        notes: vec![format!(
            "Responses of the distilled student, exits drawn from its own hazards (kl_factor {}). The text is shown as it \
             is: small factors save depth and damage text.",
            recipe.target.kl_factor
        )],
        groups: Vec::new(),
    };
    Ok(durable_file::write(path, render_page(records, &options)?.as_bytes())?)
}

impl Outcome {
    /// The tables for people.
    fn text(&self) -> String {
        let report = self.distilled.held_out.as_ref();
        let mut table = Table::new(columns(&["generated"], &["exit rate", "ALS", "token KL at exits", "tokens/s"]));
        let mut row = |name: String, generated: &Generated, token_kl: String| {
            table.row([
                name,
                percent(generated.exit_rate),
                percent(generated.average_layer_savings),
                token_kl,
                format!("{:.0}", generated.tokens_per_s),
            ]);
        };
        row("base model, full depth".to_owned(), &self.full_depth, "-".to_owned());
        let token_kl = or_dash(report.and_then(|report| report.token_kl_exited), |kl| format!("{kl:.2}"));
        row(format!("student with exits, kl_factor {}", self.kl_factor), &self.with_exits, token_kl);
        let mut targets = Table::new(columns(&["targets"], &["exit rate", "ALS"]));
        for target in &self.targets {
            targets.row([
                format!("kl_factor {}", target.kl_factor),
                percent(target.exit_rate),
                percent(target.average_layer_savings),
            ]);
        }
        format!(
            "\n{table}\n{}\n{targets}\nALS: average layer savings, mean of 1 - depth / blocks. {:.0} s in all.\npage: {}\n",
            distilled_tables(&self.distilled),
            self.seconds,
            self.page.display()
        )
    }
}
