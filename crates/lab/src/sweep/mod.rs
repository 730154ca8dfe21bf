//! Sweeps: an evaluation at every value of a dial, with the models trained where they are not given.

pub mod points;
pub mod row;
pub mod table;

use std::path::PathBuf;
use std::time::Instant;

use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::cpu::Cpu;
use aloud_measure::evaluation_run::open_runs;
use aloud_measure::metric_record::{Dial, MetricRecord};
use aloud_measure::run_files::{CurveIndex, CurvePoint, RUN_SCHEMA, RunStatus, read_manifest, write_curve_index};
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::source::ModelSource;
use aloud_report::page::quality_distribution_figures;
use aloud_report::plot::files::write_figures;
use aloud_session::error::{Context as _, SessionError};
use aloud_session::host::Host;
use aloud_session::loaded_model::{BaseModel, LoadedModel};
use aloud_session::model_choice::ModelChoice;
use aloud_session::numerics::ActivationChoice;
use aloud_session::prompts::item_source;
use aloud_session::rollout_task::Rewards;
use aloud_session::stage1::{self, Recording};
use aloud_session::stage2::{Stage2, reinforce};
use aloud_session::task_text::TaskText;
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::Split;
use aloud_text::text_codec::TextCodec;
use aloud_train::settings::{self, Settings};
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::teacher::TracePrompt;
use aloud_train::stage1::traces::HiddenDType;
use aloud_train::stage2::recipe::ReinforceRecipe;

use crate::evaluation::judging::{Judge, JudgedFolder, JudgedItems, judge_folders};
use crate::evaluation::run::{Evaluation, evaluate};
use crate::evaluation::run_settings::RunSettings;
use crate::evaluation::subject::{ModelKey, Models};
use crate::evaluation::task_choice::TaskChoice;
use points::{SweepPoint, SweptDial};
use row::SweepRow;

/// What a sweep does.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The model that is trained, or whose exit offset is turned.
    pub model: ModelChoice,
    /// The dial that is turned.
    pub dial: SweptDial,
    /// Where it is turned to.
    pub points: Vec<SweepPoint>,
    /// The recipe of the models to train; `None` for the defaults of every key.
    pub recipe: Option<PathBuf>,
    /// Keys of the recipe with other values.
    pub overrides: Vec<String>,
    /// Traces for `kl_factor`; `None` to record them into the folder of the sweep.
    pub traces: Option<PathBuf>,
    /// Number of prompts of recorded traces.
    pub n_traces: usize,
    /// What every model is asked.
    pub task: TaskChoice,
    /// Folder of the sweep.
    pub output: PathBuf,
}

/// Evaluates a model at every point and the base model once; a point that is complete is not done again. Returns the rows of the
/// points, then of the base.
///
/// # Errors
/// If a model cannot be had or evaluated, or the output cannot be written.
pub fn run_sweep(sweep: &Sweep, judge: Option<&Judge>, host: &dyn Host) -> Result<Vec<SweepRow>, SessionError> {
    Run { sweep, cpu: host.cpu(), host }.run(judge)
}

/// A sweep at work.
struct Run<'a> {
    sweep: &'a Sweep,
    cpu: Cpu,
    host: &'a dyn Host,
}

impl Run<'_> {
    fn run(&self, judge: Option<&Judge>) -> Result<Vec<SweepRow>, SessionError> {
        let output = &self.sweep.output;
        std::fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
        let start = Instant::now();
        let mut index = CurveIndex { schema: RUN_SCHEMA, dial: self.sweep.dial.name().to_owned(), points: Vec::new() };
        for point in &self.sweep.points {
            index.points.push(CurvePoint {
                label: format!("{} {}", self.sweep.dial, point.value),
                model: ModelKey::Exits.name().to_owned(),
                dial: Dial::default(),
                folder: format!("{}/{}", point.folder(self.sweep.dial), ModelKey::Exits),
                status: RunStatus::Running,
            });
        }
        write_curve_index(&output.join("curve.json"), &index)?;
        let mut models: Vec<(Option<f64>, Vec<MetricRecord>)> = Vec::new();
        let mut base_records = None;
        let mut asked = None;
        for (number, point) in self.sweep.points.iter().enumerate() {
            let left = match number {
                0 => String::new(),
                done => {
                    let seconds = start.elapsed().as_secs_f64() / done as f64 * (self.sweep.points.len() - done) as f64;
                    format!(", about {seconds:.0} s left")
                }
            };
            self.host.say(&format!(
                "point {} of {}: {} {}{left}",
                number + 1,
                self.sweep.points.len(),
                self.sweep.dial,
                point.value
            ));
            let evaluation = self.point(point)?;
            let records = evaluation.records;
            asked.get_or_insert(evaluation.asked);
            let of = |key: ModelKey| -> Vec<MetricRecord> {
                records.iter().filter(|record| record.context.model == key.name()).cloned().collect()
            };
            models.push((Some(point.value), of(ModelKey::Exits)));
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
            let judged = self.judged(judge, &index, &asked)?;
            models = models.into_iter().zip(judged).map(|((value, _), records)| (value, records)).collect();
        }
        let figures = quality_distribution_figures(&open_runs(std::slice::from_ref(output))?);
        write_figures(&output.join("plots"), &figures)?;
        Ok(models.iter().map(|(value, records)| SweepRow::new(*value, records)).collect())
    }

    /// The records of all points with those of a judge, who is asked about all of them together: so it sees the base once, and
    /// the points in no order.
    fn judged(
        &self,
        judge: &Judge,
        index: &CurveIndex,
        asked: &JudgedItems,
    ) -> Result<Vec<Vec<MetricRecord>>, SessionError> {
        let output = &self.sweep.output;
        let folder = |point: &CurvePoint| JudgedFolder { name: point.folder.clone(), path: output.join(&point.folder) };
        let folders: Vec<JudgedFolder> = index.points.iter().map(folder).collect();
        judge_folders(judge, output, &folders, asked, self.host)
    }

    /// The records of a point and of the base, and what was asked.
    fn point(&self, point: &SweepPoint) -> Result<Evaluation, SessionError> {
        let (model, base) = self.model(point)?;
        let codec = model.text_codec()?;
        TaskText::new(self.sweep.task.task.as_ref(), &codec)?;
        if model.policy.is_none() {
            return Err(SessionError::usage(format!(
                "{} {}: the model has no exit heads",
                self.sweep.dial, point.value
            )));
        }
        let offset = match self.sweep.dial {
            SweptDial::Offset => point.value as f32,
            SweptDial::KlFactor | SweptDial::DepthPenalty => model.recommended_offset.unwrap_or(0.0),
        };
        let models = Models::new(model, base, &self.cpu)?;
        let settings = RunSettings {
            task: &self.sweep.task,
            output: self.sweep.output.join(point.folder(self.sweep.dial)),
            base_folder: Some(self.sweep.output.join(BASE_FOLDER)),
            exits: ExitPolicy::Sampled { offset: offset.into() },
            controls: vec![ModelKey::Base],
        };
        evaluate(&models, &codec, &self.cpu, &settings, self.host)
    }

    /// The model of a point, trained if need be.
    fn model(&self, point: &SweepPoint) -> Result<(LoadedModel, BaseModel), SessionError> {
        let base = self.sweep.model.base.as_ref();
        let checkpoint = match (&point.checkpoint, self.sweep.dial) {
            (Some(path), _) => path.clone(),
            (None, SweptDial::Offset) => {
                return self.sweep.model.load_with_base(&self.cpu, ActivationChoice::F32, self.host);
            }
            (None, SweptDial::KlFactor) => self.distil(point)?,
            (None, SweptDial::DepthPenalty) => self.reinforce(point)?,
        };
        ModelChoice::of(&ModelSource::Path(checkpoint), base).load_with_base(
            &self.cpu,
            ActivationChoice::F32,
            self.host,
        )
    }

    fn recipe<T: Settings>(&self, point: &SweepPoint) -> Result<T, SessionError> {
        let mut overrides = self.sweep.overrides.clone();
        overrides.extend(self.sweep.dial.recipe_key().map(|key| format!("{key}={:?}", point.value)));
        settings::resolve(self.sweep.recipe.as_deref(), &overrides).map_err(SessionError::usage)
    }

    /// Stage 1 at a factor.
    fn distil(&self, point: &SweepPoint) -> Result<PathBuf, SessionError> {
        let recipe: DistillRecipe = self.recipe(point)?;
        let base = self.sweep.model.load_to_distill(self.host)?;
        let traces = match &self.sweep.traces {
            Some(traces) => traces.clone(),
            None => self.record(&base, &recipe)?,
        };
        let directory = self.sweep.output.join(point.folder(self.sweep.dial)).join("training");
        let (model, identity) = (base.pretrained, base.identity);
        Ok(stage1::distil(model, identity, &self.cpu, &recipe, &traces, &directory, self.host)?.checkpoint)
    }

    /// Traces of training items, recorded once for all points.
    fn record(&self, base: &BaseModel, recipe: &DistillRecipe) -> Result<PathBuf, SessionError> {
        let codec = TextCodec::load(&base.location)?;
        let config = &base.pretrained.config;
        let directory = self.sweep.output.join("traces");
        let task = self.sweep.task.task.as_ref();
        let items = task.load(Some(self.sweep.n_traces), self.sweep.task.seed, Split::Train)?;
        let encode = |item| Ok(self.sweep.task.template.encode(item, task.instruction(), &codec)?.to_trace(None));
        let prompts: Vec<TracePrompt> = items.iter().map(encode).collect::<Result<_, SessionError>>()?;
        let variables = self.sweep.task.template.variables.description();
        let recording = Recording {
            prompts: format!("{task}, {} items, seed {}{variables}", items.len(), self.sweep.task.seed),
            items: item_source(task, Split::Train, self.sweep.task.seed)?,
            candidates: recipe.candidates.depths(config.n_layers)?,
            sampling: Sampling { temperature: task.teacher_temperature(), ..Sampling::default() },
            max_new_tokens: self.sweep.task.max_new_tokens(),
            seed: self.sweep.task.seed,
            batch: self.sweep.task.batch.into(),
            hidden_dtype: HiddenDType::F32,
        };
        stage1::record(base, &codec, &self.cpu, &prompts, &recording, &directory, self.host)?;
        Ok(directory)
    }

    /// Stage 2 at a price of depth.
    fn reinforce(&self, point: &SweepPoint) -> Result<PathBuf, SessionError> {
        let recipe: ReinforceRecipe = self.recipe(point)?;
        let (base, path, checkpoint) = self.sweep.model.load_to_train(self.host)?;
        let TaskChoice { task, template, .. } = self.sweep.task.clone();
        let stage2 = Stage2 {
            base: &base,
            stage1: (&path, &checkpoint),
            recipe: &recipe,
            data: format!("{task}{}", template.variables.description()),
            task,
            n: None,
            template,
            directory: &self.sweep.output.join(point.folder(self.sweep.dial)).join("training"),
        };
        let rewards = Rewards::OfTask(Scoring::Flexible);
        Ok(reinforce(stage2, rewards, &self.cpu, self.host)?.checkpoint)
    }
}

/// Folder of the base model's run, below that of the sweep.
const BASE_FOLDER: &str = "base";
