//! The demo on the built-in tiny reasoner: both stages, with real accuracies, and a page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aloud_base::durable_file;
use aloud_engine::decode::sampling::Sampling;
use aloud_measure::record::{ResponseRecord, write_records};
use aloud_model::checkpoint::Checkpoint;
use aloud_report::table::Table;
use aloud_report::view::{ResponseGroup, ViewOptions, render_page};
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::Split;
use aloud_tasks::serial::{MAX_SERIAL_STEPS, SerialSource, THINK};
use aloud_tasks::task::Task;
use aloud_text::text_codec::TextCodec;
use aloud_train::settings;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::teacher::TracePrompt;
use aloud_train::stage1::traces::HiddenDType;
use aloud_train::stage2::recipe::ReinforceRecipe;
use serde::Serialize;

use super::DemoArgs;
use crate::context::{Context, print_result};
use aloud_lab::serial_evaluation::{SerialSettings, evaluate_serial, held_out_items};
use aloud_lab::serial_report::{SerialReport, StepsReport};
use aloud_lab::words::{columns, percent};
use aloud_session::error::SessionError;
use aloud_session::generation::{GenerationSettings, generate_records};
use aloud_session::host::Host;
use aloud_session::loaded_model::{BaseModel, LoadedModel};
use aloud_session::numerics::ActivationChoice;
use aloud_session::prompts::{EncodedPrompt, Template, item_source};
use aloud_session::rollout_task::Rewards;
use aloud_session::serial_data::symbol_id;
use aloud_session::stage1::{self, Recording};
use aloud_session::stage2::{Stage2, reinforce};

/// The recipes of the demo, part of the program.
const STAGE1: &str = include_str!("../../../../../recipes/distill-tiny.toml");
const STAGE2: &str = include_str!("../../../../../recipes/reinforce-tiny.toml");

const DEFAULT_PROBLEMS: u32 = 2500;
const MAX_NEW_TOKENS: u16 = 96;
/// Sequences decoded together.
const BATCH: usize = 128;
/// Items shown on the page, each by both stages.
const SHOWN: usize = 9;

/// A model on held-out items.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    accuracy: f64,
    accuracy_own_style: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    als: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_rate: Option<f64>,
    think_aloud_rate: f64,
}

/// What the demo came to.
#[derive(Debug, Serialize)]
struct Outcome {
    base: Measured,
    stage1: Measured,
    stage2: Measured,
    seconds: f64,
    report: PathBuf,
    /// Optimiser steps of the stages, and those of them that an earlier call had done.
    stage1_steps: u64,
    stage1_resumed_at: u64,
    stage2_steps: u64,
    stage2_resumed_at: u64,
    #[serde(skip)]
    stage2_report: SerialReport,
}

/// Runs the demo.
pub(super) fn run(arguments: &DemoArgs, context: &Context) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    let cpu = context.cpu();
    let directory = &arguments.output;
    let stage1_recipe: DistillRecipe =
        settings::resolve_text("the demo's recipe of stage 1", STAGE1, &arguments.overrides)
            .map_err(SessionError::usage)?;
    let stage2_recipe: ReinforceRecipe =
        settings::resolve_text("the demo's recipe of stage 2", STAGE2, &arguments.stage2_overrides)
            .map_err(SessionError::usage)?;
    let problems = arguments.problems.unwrap_or(DEFAULT_PROBLEMS);
    let max_new_tokens = arguments.max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
    let tag = format!("{problems}x{max_new_tokens}");

    context.say("1/6 the built-in tiny reasoner");
    let base = BaseModel::load(&arguments.model, context)?;
    let codec = TextCodec::load(&base.location)?;

    context.say("2/6 traces of the teacher");
    let traces = directory.join(format!("tiny-traces-{tag}"));
    let source: Arc<dyn Task> = Arc::new(SerialSource::ALL);
    let prompts = serial_prompts(problems as usize, Split::Train, &codec)?;
    let n_blocks = base.pretrained.config.n_layers;
    let recording = Recording {
        prompts: "serial items".to_owned(),
        items: item_source(source.as_ref(), Split::Train, 0)?,
        candidates: stage1_recipe.candidates.depths(n_blocks)?,
        sampling: Sampling::default(),
        max_new_tokens: max_new_tokens.into(),
        seed: 0,
        batch: BATCH,
        hidden_dtype: HiddenDType::F32,
    };
    let trace_prompts: Vec<TracePrompt> = prompts.iter().map(|prompt| prompt.to_trace(None)).collect();
    stage1::record(&base, &codec, &cpu, &trace_prompts, &recording, &traces, context)?;

    context.say(&format!("3/6 stage 1: distilling at kl_factor {}", stage1_recipe.target.kl_factor));
    let run = directory.join(format!("tiny-stage1-{tag}"));
    let (model, identity) = (base.pretrained.clone(), base.identity.clone());
    let distilled = stage1::distil(model, identity, &cpu, &stage1_recipe, &traces, &run, context)?;
    let stage1_path = distilled.checkpoint.clone();
    let stage1_checkpoint = Checkpoint::load(&stage1_path, None)?;

    let penalty = stage2_recipe.reward.depth_penalty;
    context.say(&format!("4/6 stage 2: reinforcement learning with depth_penalty {penalty}"));
    let stage2 = Stage2 {
        base: &base,
        stage1: (&stage1_path, &stage1_checkpoint),
        recipe: &stage2_recipe,
        data: source.to_string(),
        task: source,
        n: None,
        template: Template::default(),
        directory: &directory.join(format!("tiny-stage2-{tag}")),
    };
    let reinforced = reinforce(stage2, Rewards::OfTask(Scoring::default()), &cpu, context)?;

    context.say("5/6 held-out items, at full depth and with exits");
    let plain = LoadedModel::assemble(base.clone(), None, &cpu, ActivationChoice::F32)?;
    let distilled_model =
        LoadedModel::assemble(base.clone(), Some((stage1_path, stage1_checkpoint)), &cpu, ActivationChoice::F32)?;
    let checkpoint = (reinforced.checkpoint.clone(), Checkpoint::load(&reinforced.checkpoint, None)?);
    let reinforced_model = LoadedModel::assemble(base, Some(checkpoint), &cpu, ActivationChoice::F32)?;
    let (base_report, stage1_report, stage2_report) = (
        evaluate(&plain, arguments, context)?,
        evaluate(&distilled_model, arguments, context)?,
        evaluate(&reinforced_model, arguments, context)?,
    );

    context.say("6/6 the page");
    let shown = serial_prompts(SHOWN, Split::Test, &codec)?;
    let of_stage1 = responses(&distilled_model, &codec, &shown, "stage 1")?;
    let of_stage2 = responses(&reinforced_model, &codec, &shown, "stage 2")?;
    let group = |name: &str, records: &[ResponseRecord]| ResponseGroup { name: name.to_owned(), n: records.len() };
    let groups = vec![
        group("After stage 1: the responses shown", &of_stage1),
        group("After stage 2: the responses shown", &of_stage2),
    ];
    let records = [of_stage1, of_stage2].concat();
    write_records(&directory.join("tiny-generations.jsonl"), &records)?;
    let mut outcome = Outcome {
        base: Measured { als: None, exit_rate: None, ..measured(&base_report) },
        stage1: measured(&stage1_report),
        stage2: measured(&stage2_report),
        seconds: 0.0,
        report: directory.join("tiny-reasoner.html"),
        stage1_steps: distilled.steps,
        stage1_resumed_at: distilled.resumed_at,
        stage2_steps: reinforced.steps,
        stage2_resumed_at: reinforced.resumed_at,
        stage2_report,
    };
    write_page(&outcome, &records, groups, penalty)?;
    outcome.seconds = start.elapsed().as_secs_f64();
    print_result(arguments.json, &outcome, || outcome.text())
}

/// Items of the serial tasks as prompts.
fn serial_prompts(n: usize, split: Split, codec: &TextCodec) -> anyhow::Result<Vec<EncodedPrompt>> {
    let items = SerialSource::ALL.load(Some(n), 0, split)?;
    Ok(items.iter().map(|item| Template::default().encode(item, None, codec)).collect::<Result<_, _>>()?)
}

fn evaluate(model: &LoadedModel, arguments: &DemoArgs, context: &Context) -> anyhow::Result<SerialReport> {
    let settings = SerialSettings {
        task: None,
        n: arguments.items as usize,
        seed: 0,
        max_sequences: BATCH,
        max_new_tokens: arguments.max_new_tokens.unwrap_or(MAX_NEW_TOKENS).into(),
    };
    Ok(evaluate_serial(model, &model.recommended_exits(), &settings, &held_out_items(&settings)?, context)?)
}

fn measured(report: &SerialReport) -> Measured {
    Measured {
        accuracy: report.all.accuracy,
        accuracy_own_style: report.all.accuracy_own_style,
        als: report.all.als,
        exit_rate: report.all.exit_rate,
        think_aloud_rate: report.all.think_aloud_rate,
    }
}

/// Responses that think aloud, with greedy tokens and sampled exits, to be shown.
fn responses(
    model: &LoadedModel,
    codec: &TextCodec,
    prompts: &[EncodedPrompt],
    stage: &str,
) -> anyhow::Result<Vec<ResponseRecord>> {
    let settings = GenerationSettings {
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        forced_start: vec![symbol_id(THINK)],
        ..GenerationSettings::new(model, codec, MAX_NEW_TOKENS.into(), model.recommended_exits())
    };
    let (mut records, _) = generate_records(model, codec, prompts, &settings, BATCH, &mut || {})?;
    for record in &mut records {
        record.id = format!("{}, {stage}", record.id);
    }
    Ok(records)
}

fn write_page(
    outcome: &Outcome,
    records: &[ResponseRecord],
    groups: Vec<ResponseGroup>,
    penalty: f64,
) -> anyhow::Result<()> {
    let sentence = |name: &str, measured: &Measured| {
        let depth = match (measured.als, measured.exit_rate) {
            (Some(als), Some(rate)) => {
                format!(", average layer savings {}, exit rate {}", percent(als), percent(rate))
            }
            _ => String::new(),
        };
        format!(
            "{name}: accuracy {} thinking aloud, {} in the style of its own choice, think-aloud rate {}{depth}.",
            percent(measured.accuracy),
            percent(measured.accuracy_own_style),
            percent(measured.think_aloud_rate)
        )
    };
    let notes = vec![
        "A model of 2.2 million parameters on held-out serial tasks: the same items after stage 1 (self-distillation) and after \
         stage 2 (reinforcement learning over exit depth and token)."
            .to_owned(),
        sentence("Base model, full depth", &outcome.base),
        sentence("Stage 1", &outcome.stage1),
        sentence(&format!("Stage 2, depth_penalty {penalty}"), &outcome.stage2),
    ];
    let options =
        ViewOptions { title: "Aloud demo: a tiny reasoner".to_owned(), target_histogram: None, notes, groups };
    durable_file::write(Path::new(&outcome.report), render_page(records, &options)?.as_bytes())?;
    Ok(())
}

impl Outcome {
    /// The tables for people.
    fn text(&self) -> String {
        let mut table = Table::new(columns(
            &["held-out items"],
            &["accuracy", "own style", "think-aloud rate", "ALS", "exit rate"],
        ));
        for (name, measured) in
            [("base model, full depth", &self.base), ("stage 1", &self.stage1), ("stage 2", &self.stage2)]
        {
            table.row([
                name.to_owned(),
                percent(measured.accuracy),
                percent(measured.accuracy_own_style),
                percent(measured.think_aloud_rate),
                percent(measured.als),
                percent(measured.exit_rate),
            ]);
        }
        let mut steps = Table::new(columns(&[], &["stage 2, steps k", "thinking aloud", "direct", "ALS"]));
        for k in 1..=MAX_SERIAL_STEPS {
            let rows = || self.stage2_report.tasks.iter().flat_map(|task| &task.steps).filter(|row| row.k == k);
            let mean =
                |value: &dyn Fn(&StepsReport) -> f64| rows().map(value).sum::<f64>() / rows().count().max(1) as f64;
            steps.row([
                k.to_string(),
                percent(mean(&|row| row.all.accuracy)),
                percent(mean(&|row| row.all.accuracy_direct)),
                percent(mean(&|row| row.all.als.unwrap_or_default())),
            ]);
        }
        format!(
            "\n{table}\n{steps}\nALS: average layer savings, mean of 1 - depth / blocks, of responses that think aloud. {:.0} s \
             in all.\npage: {}\n",
            self.seconds,
            self.report.display()
        )
    }
}
