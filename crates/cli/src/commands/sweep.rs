//! `aloud sweep`: an evaluation at every value of a dial, with the models trained where they are not given.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use aloud_engine::{Exits, Sampling};
use aloud_kernels::Cpu;
use aloud_measure::evaluation_run::open_runs;
use aloud_measure::metric_record::{Dial, MetricRecord};
use aloud_measure::run_files::{CurveIndex, CurvePoint, RUN_SCHEMA, RunStatus, read_manifest, write_curve_index};
use aloud_model::source::ModelSource;
use aloud_oversight::judge::JudgedTask;
use aloud_report::page::quality_distribution_figures;
use aloud_report::table::{Align, Table};
use aloud_tasks::stories::StoryScoring;
use aloud_tasks::{DataSource, Scoring, Split};
use aloud_text::text_codec::TextCodec;
use aloud_train::recipe::DistillRecipe;
use aloud_train::reinforce_recipe::ReinforceRecipe;
use aloud_train::settings::{self, Settings};
use aloud_train::teacher::TracePrompt;
use aloud_train::traces::HiddenDType;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::judge::JudgeArgs;
use crate::arguments::task::TaskArgs;
use crate::context::{Context, print};
use crate::error::UsageError;
use crate::figures::write_figures;
use aloud_lab::evaluation::judging::{JudgedFolder, judge_folders, judged_tasks};
use aloud_lab::evaluation::leave_out::TrainedOn;
use aloud_lab::evaluation::run::{AskedItems as EvaluatedItems, RunSettings, evaluate};
use aloud_lab::evaluation::subject::{ModelKey, Models};
use aloud_lab::evaluation::sweep_points;
use aloud_lab::evaluation::sweep_points::{PointCheckpoint, SweepPoint, SweptDial};
use aloud_lab::evaluation::task_choice::{AskedKind, TaskChoice};
use aloud_session::host::Host;
use aloud_session::loaded_model::{BaseModel, LoadedModel};
use aloud_session::model_choice::ModelChoice;
use aloud_session::prompts::{content_digest, default_instruction, item_source, stop_tokens};
use aloud_session::rollout_task::{DataTask, Verifier};
use aloud_session::serial_data::check_symbols;
use aloud_session::stage1;
use aloud_session::stage1::Recording;
use aloud_session::stage2::{Stage2, reinforce};

/// Arguments of `aloud sweep`.
#[derive(Args, Debug)]
#[command(
    after_help = "Every point is a folder of --output and is not done again once it is complete. Models are trained \
                        where no --checkpoint is given: kl_factor from the base model MODEL with --recipe (a recipe of \
                        distill), depth_penalty from the stage-1 checkpoint MODEL (a recipe of reinforce)."
)]
pub(crate) struct SweepArgs {
    /// The trained model (offset), its base model (kl_factor), or a checkpoint of stage 1 (depth_penalty)
    #[arg(value_name = "MODEL", required_unless_present = "named")]
    model: Option<ModelSource>,
    /// The same as MODEL
    #[arg(long = "model", short, value_name = "MODEL", conflicts_with = "model")]
    named: Option<ModelSource>,
    /// Base model of checkpoints and PEFT adapters, if it is not where it was at training
    #[arg(long, value_name = "MODEL")]
    base: Option<ModelSource>,
    /// A whole sweep by name
    #[arg(long, value_enum, conflicts_with_all = ["dial", "values"])]
    preset: Option<Preset>,
    /// The dial that is turned
    #[arg(long, value_enum, required_unless_present = "preset")]
    dial: Option<DialArg>,
    /// Values of the dial, separated by commas
    #[arg(long, value_name = "VALUES", value_delimiter = ',', allow_hyphen_values = true)]
    values: Vec<f64>,
    /// A model that is trained already; may be given several times
    #[arg(long, value_name = "VALUE=DIR")]
    checkpoint: Vec<PointCheckpoint>,
    /// The recipe of the models to train (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Traces for kl_factor [default: recorded into the folder of the sweep]
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Number of prompts of recorded traces
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    n_traces: u32,
    #[command(flatten)]
    asked: TaskArgs,
    /// Folder of the sweep
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Print one JSON object, in the last line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

impl SweepArgs {
    /// The model of the sweep, named as in every other command.
    fn model_choice(&self) -> Result<ModelChoice, UsageError> {
        let model = self.model.as_ref().or(self.named.as_ref());
        let model = model.ok_or_else(|| UsageError::new("name the model of the sweep"))?;
        Ok(ModelChoice::of(model, self.base.as_ref()))
    }
}

/// The dial that is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum DialArg {
    /// Added to the exit logits of one trained model
    Offset,
    /// Factor of the lens KL in the targets of stage 1; a model for every value
    KlFactor,
    /// Price of depth in stage 2; a model for every value
    DepthPenalty,
}

impl From<DialArg> for SweptDial {
    fn from(dial: DialArg) -> Self {
        match dial {
            DialArg::Offset => Self::Offset,
            DialArg::KlFactor => Self::KlFactor,
            DialArg::DepthPenalty => Self::DepthPenalty,
        }
    }
}

/// A whole sweep by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// The headline table of the method's authors: kl_factor 0.25 to 4 and the base, 50 problems
    SourceTable,
}

/// Values and problems of the source table.
const SOURCE_FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
const SOURCE_PROBLEMS: u32 = 50;

/// What the method's authors report (arXiv 2603.21376 and its post): DeepSeek-R1-Distill-Qwen-1.5B on GSM8K, GPT-5 as the judge.
const SOURCE_FIGURES: [SourceFigures; 6] = [
    SourceFigures { kl_factor: Some(0.25), coherence: 1.1, exits: Some([59.0, 22.4]) },
    SourceFigures { kl_factor: Some(0.5), coherence: 5.5, exits: Some([49.0, 8.1]) },
    SourceFigures { kl_factor: Some(1.0), coherence: 7.5, exits: Some([47.0, 6.4]) },
    SourceFigures { kl_factor: Some(2.0), coherence: 8.4, exits: Some([43.0, 5.3]) },
    SourceFigures { kl_factor: Some(4.0), coherence: 8.5, exits: Some([37.0, 4.6]) },
    SourceFigures { kl_factor: None, coherence: 8.9, exits: None },
];

/// Figures of one model of the authors.
struct SourceFigures {
    /// None for the base.
    kl_factor: Option<f64>,
    coherence: f64,
    /// Exit rate and average layer savings, per cent.
    exits: Option<[f64; 2]>,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    /// Value of the dial; none for the base.
    #[serde(skip)]
    value: Option<f64>,
    early_exit_rate: Option<f64>,
    average_layer_savings: Option<f64>,
    /// Savings that the targets of stage 1 would have on these tokens.
    target_als: Option<f64>,
    /// Judged scores by name, and surface statistics under names that begin with `proxy_`.
    quality: Map<String, Value>,
    accuracy: Option<f64>,
    /// Operations (of multiply and add) per right answer.
    cost_per_correct: Option<f64>,
    /// Who judged, and why there is no judged coherence if there is none.
    #[serde(skip)]
    judged: Option<(String, Option<String>)>,
}

/// Runs the command.
pub(crate) fn run(arguments: &SweepArgs, context: &Context) -> anyhow::Result<()> {
    let (dial, values) = match (arguments.preset, arguments.dial) {
        (Some(Preset::SourceTable), _) => (SweptDial::KlFactor, SOURCE_FACTORS.to_vec()),
        (None, Some(dial)) => (dial.into(), arguments.values.clone()),
        (None, None) => return Err(UsageError::new("name a dial with --dial, or a --preset").into()),
    };
    let points = sweep_points(&values, &arguments.checkpoint).map_err(UsageError::new)?;
    if dial == SweptDial::Offset && points.iter().any(|point| point.checkpoint.is_some()) {
        return Err(UsageError::new("--dial offset turns the dial of one model: --checkpoint has no meaning").into());
    }
    let mut asked = arguments.asked.choice();
    if arguments.preset.is_some() {
        asked.n = asked.n.or(Some(SOURCE_PROBLEMS));
        // The table has no use for them.
        asked.elicited = asked.elicited.or(Some(0));
    }
    let sweep = Sweep { arguments, dial, asked, cpu: context.cpu(), context };
    let rows = sweep.run(&points)?;
    let with_source = arguments.preset.is_some();
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(|row| row.to_json(dial)).collect::<anyhow::Result<_>>()?;
        return Ok(print(&format!("{}\n", json!({ "rows": rows })))?);
    }
    Ok(print(&format!("{}written to {}\n", text(&rows, dial, with_source), arguments.output.display()))?)
}

/// What all points are asked.
struct AskedItems {
    /// Name of the family of tasks.
    family: &'static str,
    /// The items, for a judge.
    tasks: BTreeMap<String, JudgedTask>,
}

/// A sweep at work.
struct Sweep<'a> {
    arguments: &'a SweepArgs,
    dial: SweptDial,
    asked: TaskChoice,
    cpu: Cpu,
    context: &'a Context,
}

impl Sweep<'_> {
    fn run(&self, points: &[SweepPoint]) -> anyhow::Result<Vec<Row>> {
        let output = &self.arguments.output;
        std::fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
        let start = Instant::now();
        let mut index = CurveIndex { schema: RUN_SCHEMA, dial: self.dial.name().to_owned(), points: Vec::new() };
        for point in points {
            index.points.push(CurvePoint {
                label: format!("{} {}", self.dial, point.value),
                model: ModelKey::Ee.name().to_owned(),
                dial: Dial::default(),
                folder: format!("{}/{}", point.folder(self.dial), ModelKey::Ee),
                status: RunStatus::Running,
            });
        }
        write_curve_index(&output.join("curve.json"), &index)?;
        let judge = self.arguments.judge.open(output, self.asked.seed)?;
        let mut models: Vec<(Option<f64>, Vec<MetricRecord>)> = Vec::new();
        let mut base_records = None;
        let mut asked = None;
        for (number, point) in points.iter().enumerate() {
            let left = match number {
                0 => String::new(),
                done => {
                    let seconds = start.elapsed().as_secs_f64() / done as f64 * (points.len() - done) as f64;
                    format!(", about {seconds:.0} s left")
                }
            };
            self.context.say(&format!("point {} of {}: {} {}{left}", number + 1, points.len(), self.dial, point.value));
            let (records, judged) = self.point(point)?;
            asked.get_or_insert(judged);
            let of = |key: ModelKey| -> Vec<MetricRecord> {
                records.iter().filter(|record| record.context.model == key.name()).cloned().collect()
            };
            models.push((Some(point.value), of(ModelKey::Ee)));
            base_records = base_records.or_else(|| Some(of(ModelKey::Base)));
            let folder = output.join(&index.points[number].folder);
            index.points[number].dial = read_manifest(&folder.join("manifest.json"))?.dial;
            index.points[number].status = RunStatus::Finished;
            write_curve_index(&output.join("curve.json"), &index)?;
        }
        if let Some(records) = base_records {
            let manifest = read_manifest(&output.join(BASE_FOLDER).join("manifest.json"))?;
            index.points.push(CurvePoint {
                label: "base".to_owned(),
                model: ModelKey::Base.name().to_owned(),
                dial: manifest.dial,
                folder: BASE_FOLDER.to_owned(),
                status: RunStatus::Finished,
            });
            write_curve_index(&output.join("curve.json"), &index)?;
            models.push((None, records));
        }
        if let Some((judge, asked)) = judge.zip(asked) {
            let judged = self.judged(&judge, &index, &asked)?;
            models = models.into_iter().zip(judged).map(|((value, _), records)| (value, records)).collect();
        }
        let figures = quality_distribution_figures(&open_runs(std::slice::from_ref(output))?);
        write_figures(&output.join("plots"), &figures)?;
        Ok(models.iter().map(|(value, records)| Row::new(*value, records)).collect())
    }

    /// The records of all points with those of a judge, who is asked about all of them together: so it sees the base once, and
    /// the points in no order.
    fn judged(&self, judge: &Judge, index: &CurveIndex, asked: &AskedItems) -> anyhow::Result<Vec<Vec<MetricRecord>>> {
        let output = &self.arguments.output;
        let folder = |point: &CurvePoint| JudgedFolder { name: point.folder.clone(), path: output.join(&point.folder) };
        let folders: Vec<JudgedFolder> = index.points.iter().map(folder).collect();
        judge_folders(judge, output, &folders, asked.family, &asked.tasks, self.context)
    }

    /// The records of a point and of the base, and what was asked.
    fn point(&self, point: &SweepPoint) -> anyhow::Result<(Vec<MetricRecord>, AskedItems)> {
        let (model, base) = self.model(point)?;
        let codec = model.text_codec()?;
        if matches!(self.asked.kind()?, AskedKind::Serial(_)) {
            check_symbols(&codec.tokenizer)?;
        }
        if model.policy.is_none() {
            return Err(UsageError::new(format!("{} {}: the model has no exit heads", self.dial, point.value)).into());
        }
        let offset = match self.dial {
            SweptDial::Offset => point.value as f32,
            SweptDial::KlFactor | SweptDial::DepthPenalty => model.recommended_offset.unwrap_or(0.0),
        };
        let models = Models::new(model, base, &self.cpu)?;
        let decoder = &models.trained.decoder;
        let trained_on = TrainedOn::of(&models, self.context);
        let mut family = self.asked.family(Split::Test, &codec, decoder)?;
        let left_out = trained_on.leave_out(family.as_mut(), self.context)?;
        let settings = RunSettings {
            output: self.arguments.output.join(point.folder(self.dial)),
            base_folder: Some(self.arguments.output.join(BASE_FOLDER)),
            tier: self.asked.tier(),
            exits: Exits::Sampled { offset: offset.into() },
            controls: vec![ModelKey::Base],
            seed: self.asked.seed,
            max_sequences: self.asked.batch.into(),
            n_elicited: self.asked.n_elicited(),
            accuracy: self.asked.accuracy_items(false),
            trained_items: trained_on.description(),
        };
        let further = |n: usize| {
            let mut family = self.asked.further_family(n, &codec, decoder)?;
            trained_on.leave_out(family.as_mut(), self.context)?;
            anyhow::Ok(family)
        };
        let items = EvaluatedItems {
            family: family.as_ref(),
            tuning: None,
            further: &further,
            split: self.asked.split_name(),
            trained_on: left_out,
        };
        let records = evaluate(&models, &codec, &self.cpu, &items, &settings, self.context)?;
        Ok((records, AskedItems { family: family.name(), tasks: judged_tasks(family.as_ref()) }))
    }

    /// The model of a point, trained if need be.
    fn model(&self, point: &SweepPoint) -> anyhow::Result<(LoadedModel, BaseModel)> {
        let base = self.arguments.base.as_ref();
        let checkpoint = match (&point.checkpoint, self.dial) {
            (Some(path), _) => path.clone(),
            (None, SweptDial::Offset) => {
                return self.arguments.model_choice()?.load_with_base(&self.cpu, self.context);
            }
            (None, SweptDial::KlFactor) => self.distil(point)?,
            (None, SweptDial::DepthPenalty) => self.reinforce(point)?,
        };
        ModelChoice::of(&ModelSource::Path(checkpoint), base).load_with_base(&self.cpu, self.context)
    }

    fn recipe<T: Settings>(&self, point: &SweepPoint) -> anyhow::Result<T> {
        let mut overrides = self.arguments.overrides.clone();
        overrides.extend(self.dial.recipe_key().map(|key| format!("{key}={:?}", point.value)));
        Ok(settings::resolve(self.arguments.recipe.as_deref(), &overrides)
            .map_err(|error| UsageError::new(error.to_string()))?)
    }

    /// Stage 1 at a factor.
    fn distil(&self, point: &SweepPoint) -> anyhow::Result<PathBuf> {
        let recipe: DistillRecipe = self.recipe(point)?;
        let base = self.arguments.model_choice()?.load_to_distill(&self.cpu, self.context)?;
        let traces = match &self.arguments.traces {
            Some(traces) => traces.clone(),
            None => self.record(&base, &recipe)?,
        };
        let directory = self.arguments.output.join(point.folder(self.dial)).join("training");
        let (model, identity) = (base.pretrained, base.identity);
        Ok(stage1::distil(model, identity, &self.cpu, &recipe, &traces, &directory, self.context)?.checkpoint)
    }

    /// Traces of training items, recorded once for all points.
    fn record(&self, base: &BaseModel, recipe: &DistillRecipe) -> anyhow::Result<PathBuf> {
        let codec = TextCodec::load(&base.location)?;
        let config = &base.pretrained.config;
        let directory = self.arguments.output.join("traces");
        let is_serial = matches!(self.asked.task, DataSource::Serial(_));
        let items = self.asked.task.load(Some(self.arguments.n_traces as usize), self.asked.seed, Split::Train)?;
        let instruction = default_instruction(&self.asked.task);
        let encode = |item| Ok(self.asked.template.encode(item, instruction, &codec)?.to_trace(None));
        let prompts: Vec<TracePrompt> = items.iter().map(encode).collect::<anyhow::Result<_>>()?;
        let variables = self.asked.template.variables.description();
        let recording = Recording {
            prompts: format!("{}, {} items, seed {}{variables}", self.asked.task, items.len(), self.asked.seed),
            items: item_source(&self.asked.task, Split::Train, self.asked.seed)?,
            candidates: recipe.candidates.depths(config.n_layers)?,
            sampling: Sampling { temperature: if is_serial { 1.0 } else { 0.7 }, ..Sampling::default() },
            max_new_tokens: self.asked.max_new_tokens(),
            stop_tokens: stop_tokens(&codec, &config.eos_token_ids),
            seed: self.asked.seed,
            batch: self.asked.batch.into(),
            hidden_dtype: HiddenDType::F32,
        };
        stage1::record(base, &codec, &self.cpu, &prompts, &recording, &directory, self.context)?;
        Ok(directory)
    }

    /// Stage 2 at a price of depth.
    fn reinforce(&self, point: &SweepPoint) -> anyhow::Result<PathBuf> {
        let recipe: ReinforceRecipe = self.recipe(point)?;
        let (base, path, checkpoint) = self.arguments.model_choice()?.load_to_train(&self.cpu, self.context)?;
        let codec = TextCodec::load(&base.location)?;
        let source = &self.asked.task;
        let verifier = match source {
            DataSource::Serial(_) => Verifier::Serial,
            DataSource::Stories => Verifier::Story(StoryScoring::Lenient),
            _ => Verifier::GoldAnswer(Scoring::Flexible),
        };
        let stops = stop_tokens(&codec, &base.pretrained.config.eos_token_ids);
        let template = self.asked.template.clone();
        let mut task = DataTask::new(source, None, verifier, &codec, template, recipe.seed, stops)?;
        let directory = self.arguments.output.join(point.folder(self.dial)).join("training");
        let data = format!("{source}{}", self.asked.template.variables.description());
        let data_sha256 = content_digest(source, Split::Train)?;
        let stage1 = (&*path, &checkpoint);
        let stage2 = Stage2 { base: &base, stage1, recipe: &recipe, data, data_sha256, directory: &directory };
        Ok(reinforce(&stage2, &mut task, &self.cpu, self.context)?.checkpoint)
    }
}

/// Folder of the base model's run, below that of the sweep.
const BASE_FOLDER: &str = "base";

impl Row {
    /// From the records of a model.
    fn new(value: Option<f64>, records: &[MetricRecord]) -> Self {
        let record = |id: &str| records.iter().find(|record| record.id == id);
        let number = |id: &str| record(id).and_then(|record| record.value);
        let judged = record("C1.coherence").and_then(|record| {
            let judge = record.extra.get("judge_model")?.as_str()?.to_owned();
            Some((judge, record.null_reason.clone()))
        });
        let mut quality = Map::new();
        for record in records {
            if let Some(name) = ["C1.", "C5."].iter().find_map(|family| record.id.strip_prefix(family)) {
                quality.insert(name.to_owned(), json!(record.value));
            } else if let Some(name) = record.id.strip_prefix("C4.") {
                quality.insert(format!("proxy_{name}"), json!(record.value));
            }
        }
        Self {
            value,
            early_exit_rate: number("A2.eer"),
            average_layer_savings: number("A1.als"),
            target_als: record("A3.hist").and_then(target_savings),
            quality,
            accuracy: number("B3.strict").or_else(|| number("B1.flex")).or_else(|| number("B2.lenient")),
            cost_per_correct: record("A7.flops")
                .and_then(|record| record.extra.get("flops_per_correct")?.get("value")?.as_f64()),
            judged,
        }
    }

    fn to_json(&self, dial: SweptDial) -> anyhow::Result<Value> {
        let mut object = Map::new();
        object.insert(dial.name().to_owned(), json!(self.value));
        if let Value::Object(rest) = serde_json::to_value(self)? {
            object.extend(rest);
        }
        Ok(Value::Object(object))
    }
}

/// Savings of the mean target distribution of a record of exit distributions.
fn target_savings(record: &MetricRecord) -> Option<f64> {
    let list = |key: &str| -> Option<Vec<f64>> {
        record.extra.get(key)?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()
    };
    let (depths, shares) = (list("depths")?, list("pi_star")?);
    let full = *depths.last()?;
    Some(depths.iter().zip(shares).map(|(depth, share)| share * (1.0 - depth / full)).sum())
}

/// The table for people.
fn text(rows: &[Row], dial: SweptDial, with_source: bool) -> String {
    let has_judge = rows.iter().any(|row| row.quality.get("coherence").is_some_and(Value::is_number));
    let mut columns = vec![
        (dial.name(), Align::Right),
        ("exit rate", Align::Right),
        ("ALS", Align::Right),
        ("target ALS", Align::Right),
        ("accuracy", Align::Right),
        ("GFLOP per right answer", Align::Right),
        (if has_judge { "coherence (judge)" } else { "repetition (stand-in)" }, Align::Right),
        (if has_judge { "overall (judge)" } else { "perplexity (stand-in)" }, Align::Right),
    ];
    if with_source {
        columns.extend([("| authors': coherence", Align::Right), ("exit rate", Align::Right), ("ALS", Align::Right)]);
    }
    let mut table = Table::new(columns);
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    for row in rows {
        let quality = |name: &str| {
            row.quality.get(name).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"))
        };
        let (first, second) = if has_judge { ("coherence", "overall") } else { ("proxy_rep_4", "proxy_ppl_base") };
        let mut cells = vec![
            row.value.map_or_else(|| "base".to_owned(), |value| value.to_string()),
            percent(row.early_exit_rate),
            percent(row.average_layer_savings),
            percent(row.target_als),
            percent(row.accuracy),
            row.cost_per_correct.map_or_else(|| "-".to_owned(), |flops| format!("{:.3}", flops / 1e9)),
            quality(first),
            quality(second),
        ];
        if with_source && let Some(figures) = SOURCE_FIGURES.iter().find(|figures| figures.kl_factor == row.value) {
            cells.push(figures.coherence.to_string());
            cells.extend(figures.exits.iter().flatten().map(|number| format!("{number} %")));
        }
        table.row(cells);
    }
    let mut notes = judge_notes(rows);
    if !has_judge {
        notes += "The stand-ins are surface statistics; they do not measure coherence or correctness.\n";
    }
    if with_source {
        notes += "The authors' figures are of another model: DeepSeek-R1-Distill-Qwen-1.5B on GSM8K, with GPT-5 as the judge.\n";
    }
    format!("{table}\n{notes}")
}

/// Who judged, and what could not be used.
fn judge_notes(rows: &[Row]) -> String {
    let Some(judge) = rows.iter().find_map(|row| row.judged.as_ref()).map(|(judge, _)| judge) else {
        return "No judge was run. ".to_owned();
    };
    let of_row = |row: &Row| {
        let (_, reason) = row.judged.as_ref()?;
        let value = row.value.map_or_else(|| "base".to_owned(), |value| value.to_string());
        Some(format!("{value}: no judged quality ({}).\n", reason.as_ref()?))
    };
    let missing: String = rows.iter().filter_map(of_row).collect();
    format!("Judge: {judge}; coherence is out of 10, overall out of 40.\n{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_table_has_a_figure_for_every_factor() {
        for factor in SOURCE_FACTORS.into_iter().map(Some).chain([None]) {
            assert!(SOURCE_FIGURES.iter().any(|figures| figures.kl_factor == factor), "{factor:?}");
        }
    }

    #[test]
    fn rows_have_the_promised_keys() {
        let row = Row::new(Some(0.5), &[]);
        let keys = ["kl_factor", "early_exit_rate", "average_layer_savings", "target_als", "quality", "accuracy"];
        let object = row.to_json(SweptDial::KlFactor).unwrap_or_default();
        assert!(keys.iter().all(|key| object.get(key).is_some()), "{object}");
        let base = Row::new(None, &[]).to_json(SweptDial::KlFactor).unwrap_or_default();
        assert_eq!(base["kl_factor"], Value::Null);
        assert!(text(&[row, Row::new(None, &[])], SweptDial::KlFactor, true).contains("No judge was run"));
    }
}
