//! Stage 1: self-distillation of exit heads and adapters (arXiv 2603.21376), with exact resume.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::backend::Backend;
use aloud_method::exit_objective::ExitObjective;
use aloud_method::savings::savings_of_mean_depth;
use aloud_method::targets::Targets;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, Lineage};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint};
use aloud_model::decoder::{BatchError, Gradients, Policy, Trained};
use aloud_model::exit_propagation::ExitPropagation;
use aloud_model::load::PretrainedModel;

use crate::ancestry::{Ancestry, StageItems};
use crate::metrics::peak_memory_bytes;
use crate::order::{pattern, split_held_out};
use crate::run_directory::{ResumePoint, RunDirectory};
use crate::stage1::fitting::FitError;
use crate::stage1::held_out::{HeldOutReport, evaluate, prescribed_token_kl};
use crate::stage1::metrics::StepMetrics;
use crate::stage1::plan::{Plan, PlannedStep, Sample};
use crate::stage1::preparation::{self, OnPreparation, Traces};
use crate::stage1::recipe::DistillRecipe;
use crate::stage1::student::{LossSettings, LossSums, Student};
use crate::stage1::traces::{Trace, TraceError, TraceReader};
use crate::trainee::Trainee;
use crate::training::{Course, Progress, Stage, StepGradient, Training, TrainingError, Update, resumed_trainee};

/// Why a distillation cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DistilError {
    /// The traces cannot be read.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The traces are of another model.
    #[error(
        "the traces were recorded from base model `{found}` (SHA-256 {found_sha256}), the model loaded has {expected_sha256}: record them again with this model"
    )]
    OtherBase {
        /// Source of the traces' model.
        found: String,
        /// Its hash.
        found_sha256: String,
        /// Hash of the model loaded.
        expected_sha256: String,
    },
    /// A candidate was not recorded.
    #[error(
        "candidate depth {depth} is not among those of the traces, {recorded:?}: record them again with this candidate, or set `candidates`"
    )]
    Candidate {
        /// The candidate.
        depth: usize,
        /// Depths with lens KLs.
        recorded: Vec<usize>,
    },
    /// Exit translators or heads cannot be fitted.
    #[error(transparent)]
    Preparation(FitError),
    /// There is nothing to train on.
    #[error("no trace to train on: the store has {n}, of which {held_out} are held out")]
    NoTraces {
        /// Traces in the store.
        n: usize,
        /// Traces held out.
        held_out: usize,
    },
    /// A trace does not fit the model.
    #[error("trace `{id}`: {source}")]
    Batch {
        /// The trace.
        id: String,
        /// What is wrong.
        source: BatchError,
    },
}

impl From<DistilError> for TrainingError<DistilError> {
    fn from(error: DistilError) -> Self {
        Self::Stage(error)
    }
}

type Result<T> = std::result::Result<T, TrainingError<DistilError>>;

/// What a distillation trains on, and how.
pub struct Distil<B: Backend> {
    recipe: DistillRecipe,
    base: BaseIdentity,
    model: PretrainedModel,
    teacher_unembedding: B::Matrix,
    targets: Targets,
    traces: BTreeMap<usize, Trace>,
    held_out: Vec<Trace>,
    steps: Vec<PlannedStep>,
    last_report: Option<HeldOutReport>,
    lineage: Lineage,
    trained_items: Option<BTreeSet<ItemKey>>,
}

/// A distillation in progress. Its outcome is the last evaluation on held-out traces, if there are any, and the last
/// checkpoint.
pub type Distillation<B> = Training<B, Distil<B>>;

impl<B: Backend> Distillation<B> {
    /// Prepares a run, or goes on with one from its last checkpoint.
    ///
    /// # Errors
    /// If traces, recipe, model or checkpoint do not belong together.
    pub fn new(
        backend: &B,
        model: PretrainedModel,
        recipe: DistillRecipe,
        reader: &TraceReader,
        run: RunDirectory,
        resume: Option<&ResumePoint>,
        on_preparation: &mut OnPreparation<'_>,
    ) -> Result<Self> {
        let base = BaseIdentity { source: model.identity.source.clone(), sha256: model.identity.sha256.clone() };
        check_base(reader, &base)?;
        let targets = Targets {
            candidates: recipe.candidates_of(model.config.n_layers)?,
            n_blocks: model.config.n_layers,
            kl_factor: recipe.target.kl_factor,
            policy: recipe.target.policy,
        };
        let columns = columns_of(&targets.candidates, &reader.header().candidates)?;
        let (training, held_out) = split_held_out(recipe.seed, reader.len(), recipe.held_out);
        let items = traced_items(reader, &training, held_out.len());
        let (lineage, trained_items) = Ancestry::default().then(run.config(), items);
        let mut traces = read_traces(reader, &training, &columns)?;
        let mut held_out: Vec<Trace> = read_traces(reader, &held_out, &columns)?.into_values().collect();
        if traces.is_empty() {
            return Err(DistilError::NoTraces { n: reader.len(), held_out: held_out.len() }.into());
        }
        let mut steps = planned_steps(&recipe, &traces);
        let schedule = recipe.schedule.schedule(steps.len() as u64);
        steps.truncate(schedule.steps as usize);

        let optimizer = recipe.optimizer;
        let base_sha256 = base.sha256.clone();
        let kept = match resume.filter(|_| recipe.prepares()) {
            Some(_) => Checkpoint::load(&run.checkpoint_path(0), Some(&base_sha256))?.exit_translators,
            None => None,
        };
        let mut all = Traces { training: &mut traces, held_out: &mut held_out };
        let translators = preparation::translators(backend, &model, &recipe, &targets, &mut all, kept, on_preparation)
            .map_err(DistilError::Preparation)?;
        let mut trainee = if let Some(point) = resume {
            resumed_trainee(backend, &model, &base_sha256, optimizer, point)?
        } else {
            let heads = preparation::heads(backend, &model, &recipe, &targets, &all, on_preparation)
                .map_err(DistilError::Preparation)?;
            let mut new = Trainee::new(backend, &model, recipe.trained, &recipe.lora, heads, optimizer, recipe.seed);
            let propagation =
                ExitPropagation::new(recipe.propagation_rank, &targets.candidates, &model.config, recipe.seed);
            new.policy = new.policy.with_translators(translators.as_ref()).with_propagation(propagation.as_ref());
            new
        };
        trainee.policy.trains_translators = !recipe.translators.held;
        let course = Course {
            schedule,
            rates: recipe.learning_rate.of(recipe.trained),
            clip_norm: recipe.optimizer.clip_norm,
            checkpoint_every: recipe.run.checkpoint_every,
        };
        let teacher_unembedding = backend.matrix(model.weights.unembedding());
        let stage = Distil {
            recipe,
            base,
            model,
            teacher_unembedding,
            targets,
            traces,
            held_out,
            steps,
            last_report: None,
            lineage,
            trained_items,
        };
        let saves_preparation = stage.recipe.prepares() && resume.is_none();
        let mut training = Self { stage, trainee, course, run, step: resume.map_or(0, |point| point.step) };
        if saves_preparation {
            let (stage, progress) = training.parts();
            stage.save(&StepMetrics::default(), &progress)?;
            progress.run.mark_latest(0)?;
        }
        Ok(training)
    }

    /// Evaluates the student as it is now on the held-out traces.
    ///
    /// # Errors
    /// If a trace does not fit the model.
    pub fn evaluate(&self) -> Result<HeldOutReport> {
        self.stage.evaluate(&self.trainee)
    }

    /// Token KL on the held-out traces, at the same prescribed depths, of the model without adapters: where training began.
    /// `None` if there are no held-out traces or all weights are trained. Nats per token, exited and at full depth.
    ///
    /// # Errors
    /// If a trace does not fit the model.
    pub fn token_kl_before(&self) -> Result<Option<(Option<f64>, Option<f64>)>> {
        let Distil { recipe, held_out, .. } = &self.stage;
        if held_out.is_empty() || recipe.trained == Trained::Full {
            return Ok(None);
        }
        let backend = self.trainee.decoder.backend();
        let translators = self.trainee.policy.translators();
        let bare = Policy::new(backend, None, self.trainee.policy.heads.clone()).with_translators(translators.as_ref());
        let student = self.stage.student(&self.trainee, &bare);
        let rows = recipe.batch.tokens_per_step;
        let kls = prescribed_token_kl(&student, held_out, rows, recipe.seed);
        Ok(Some(kls.map_err(held_out_error)?))
    }
}

impl<B: Backend> Distil<B> {
    fn student<'a>(&'a self, trainee: &'a Trainee<B>, policy: &'a Policy<B>) -> Student<'a, B> {
        let settings = LossSettings {
            exit_weight: self.recipe.joint_exit_weight() as f32,
            direction: self.recipe.loss.kl_direction,
            detach_heads: self.recipe.loss.detach_heads,
            trained: trainee.trained,
        };
        let (teacher_unembedding, targets) = (&self.teacher_unembedding, &self.targets);
        let draws_own = self.recipe.exit_objective == ExitObjective::ExpectedCost;
        Student { decoder: &trainee.decoder, policy, teacher_unembedding, targets, settings, draws_own }
    }

    fn evaluate(&self, trainee: &Trainee<B>) -> Result<HeldOutReport> {
        let student = self.student(trainee, &trainee.policy);
        let (rows, seed) = (self.recipe.batch.tokens_per_step, self.recipe.seed);
        let report = evaluate(&student, &self.held_out, rows, seed);
        Ok(report.map_err(held_out_error)?)
    }
}

impl<B: Backend> Stage<B> for Distil<B> {
    type Metrics = StepMetrics;
    type Batch = LossSums;
    type Outcome = (Option<HeldOutReport>, PathBuf);
    type Error = DistilError;
    const LOSS_ADVICE: &'static str = "lower the learning rates, or set `optimizer.clip_norm`";

    fn gradient(&mut self, trainee: &Trainee<B>, step: u64) -> Result<StepGradient<B, LossSums>> {
        let planned = &self.steps[step as usize];
        let n_tokens: usize = planned.samples().map(|sample| self.traces[&sample.trace].response_len()).sum();
        let student = self.student(trainee, &trainee.policy);
        let backend = trainee.decoder.backend();
        let mut gradients = Gradients::new(backend);
        let mut sums = LossSums::default();
        for samples in &planned.micro_batches {
            let sample = |sample: &Sample| {
                let thing = [sample.trace as u64, pattern(planned.epoch, sample.pattern)];
                (&self.traces[&sample.trace], KeyedRandom::new(self.recipe.seed, Domain::TARGET_DEPTHS, thing))
            };
            let drawn = samples.iter().map(sample).collect();
            let id = || self.traces[&samples[0].trace].id.clone();
            let part = student
                .pass(drawn, n_tokens, Some(&mut gradients))
                .map_err(|source| DistilError::Batch { id: id(), source })?;
            sums.add(&part);
        }
        Ok(StepGradient { gradients, loss: Some(sums.loss(student.settings.exit_weight)), batch: sums })
    }

    fn log(&mut self, sums: LossSums, update: &Update, progress: &Progress<'_, B>) -> Result<StepMetrics> {
        let counted = sums.n_counted.max(1) as f64;
        let (token_kl_exited, token_kl_full_depth) = sums.token_kls();
        let mut metrics = StepMetrics {
            step: progress.step,
            tokens: sums.n_tokens() as u64,
            loss: sums.loss(self.recipe.joint_exit_weight() as f32),
            token_kl_exited,
            token_kl_full_depth,
            exit_cross_entropy: sums.mean_exit_cross_entropy(),
            learning_rate: update.rates.trunk,
            learning_rate_heads: update.rates.heads,
            gradient_norm: update.gradient_norm,
            target_exits: sums.exits.iter().map(|n| *n as f64 / counted).collect(),
            expected_exits: sums.hazards.iter().map(|n| n / counted).collect(),
            learned_exits: None,
            target_layer_savings: savings_of_mean_depth(sums.depths as f64 / counted, self.targets.n_blocks),
            learned_layer_savings: None,
            tokens_per_second: sums.n_tokens() as f64 / update.seconds,
            peak_memory_bytes: peak_memory_bytes(),
        };
        if progress.is_due(self.recipe.run.evaluate_every) && !self.held_out.is_empty() {
            let report = self.evaluate(progress.trainee)?;
            metrics.learned_exits = Some(report.learned_exits.clone());
            metrics.learned_layer_savings = Some(report.learned_layer_savings);
            self.last_report = Some(report);
        }
        Ok(metrics)
    }

    fn save(&mut self, metrics: &StepMetrics, progress: &Progress<'_, B>) -> Result<()> {
        let checkpoint = Checkpoint {
            training: json(&self.recipe),
            lineage: Some(self.lineage.clone()),
            trained_items: self.trained_items.clone(),
            metrics: serde_json::json!({ "step": json(metrics), "held_out": json(&self.last_report) }),
            ..progress.trainee.to_checkpoint(&self.model, self.base.clone())
        };
        Ok(checkpoint.save(&progress.checkpoint(), Some(&progress.state()))?)
    }

    fn outcome(&mut self, progress: &Progress<'_, B>) -> Result<Self::Outcome> {
        if self.last_report.is_none() && !self.held_out.is_empty() {
            self.last_report = Some(self.evaluate(progress.trainee)?);
        }
        Ok((self.last_report.clone(), progress.checkpoint()))
    }
}

/// Settings and metrics as JSON; they are plain structs, which always serialise.
fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn held_out_error(source: BatchError) -> DistilError {
    DistilError::Batch { id: "held out".into(), source }
}

/// Checks that traces are of the base model.
fn check_base(reader: &TraceReader, base: &BaseIdentity) -> Result<()> {
    let found = &reader.header().base_model;
    if found.sha256 == base.sha256 {
        return Ok(());
    }
    let (found, found_sha256) = (found.source.clone(), found.sha256.clone());
    Err(DistilError::OtherBase { found, found_sha256, expected_sha256: base.sha256.clone() }.into())
}

/// Columns of the recorded lens KLs that belong to `candidates`.
fn columns_of(candidates: &[usize], recorded: &[usize]) -> Result<Vec<usize>> {
    let column = |depth: &usize| {
        let missing = || DistilError::Candidate { depth: *depth, recorded: recorded.to_vec() }.into();
        recorded.iter().position(|found| found == depth).ok_or_else(missing)
    };
    candidates.iter().map(column).collect()
}

/// Reads traces by their indices, with these columns of their lens KLs.
fn read_traces(reader: &TraceReader, indices: &[usize], columns: &[usize]) -> Result<BTreeMap<usize, Trace>> {
    let width = reader.header().candidates.len();
    let read = |&index: &usize| {
        let mut trace = reader.read(index).map_err(DistilError::from)?;
        let rows = trace.lens_kl.chunks_exact(width);
        trace.lens_kl = rows.flat_map(|row| columns.iter().map(|column| row[*column])).collect();
        Ok((index, trace))
    };
    indices.iter().map(read).collect()
}

/// The steps of all epochs.
fn planned_steps(recipe: &DistillRecipe, traces: &BTreeMap<usize, Trace>) -> Vec<PlannedStep> {
    let plan = Plan {
        seed: recipe.seed,
        traces: traces.iter().map(|(index, trace)| (*index, trace.token_ids.len() - 1)).collect(),
        exit_samples: recipe.loss.exit_samples,
        tokens_per_step: recipe.batch.tokens_per_step,
        accumulation: recipe.batch.accumulation,
    };
    (0..recipe.schedule.epochs).flat_map(|epoch| plan.epoch(epoch)).collect()
}

/// The items of a store's traces with these numbers, which are trained on; `n_held_out` others are not.
fn traced_items(reader: &TraceReader, training: &[usize], n_held_out: usize) -> StageItems {
    let unknown = || "the traces were recorded before items were".to_owned();
    let source = reader.header().items.clone().ok_or_else(unknown)?;
    let keys = training.iter().filter_map(|&index| reader.records().get(index)).map(|record| record.item);
    let keys = keys.collect::<Option<BTreeSet<_>>>().ok_or_else(unknown)?;
    Ok((ItemSet::new(source.source, source.split, source.seed, &keys, n_held_out), keys))
}
