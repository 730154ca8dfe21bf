//! Stage 1: self-distillation of exit heads and adapters (arXiv 2603.21376), with exact resume.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use aloud_kernels::{Backend, KlDirection};
use aloud_model::checkpoint::lineage::{ItemKey, Lineage};
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, CheckpointError, KeyValuePolicy};
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy};
use aloud_model::exit_heads::ExitHeads;
use aloud_model::load::PretrainedModel;

use crate::ancestry::{Ancestry, traced_items};
use crate::held_out::{HeldOutReport, evaluate, prescribed_token_kl};
use crate::metrics::{StepMetrics, peak_memory_bytes};
use crate::optimizer::{OptimizerError, Schedule};
use crate::plan::{Plan, PlannedStep, Sample};
use crate::random::{Purpose, SampleRandom, split_held_out};
use crate::recipe::{self, DistillRecipe, TrainedWeights};
use crate::run_directory::{ResumePoint, RunDirectory, RunError};
use crate::settings::SettingsError;
use crate::student::{LossSettings, LossSums, StudentSequence, student_pass};
use crate::targets::{TargetStatistics, Targets};
use crate::traces::{Trace, TraceError, TraceReader};
use crate::trainee::{StepRates, Trainee};

/// Why a distillation cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DistilError {
    /// The recipe does not fit the model.
    #[error(transparent)]
    Settings(#[from] SettingsError),
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
    /// The loss is not a number.
    #[error(
        "the loss is {loss} at step {step}: lower the learning rates, or set `optimizer.clip_norm`; the last checkpoint is intact"
    )]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Optimiser step.
        step: u64,
    },
    /// Gradients or optimiser state are unusable.
    #[error("step {step}: {source}")]
    Optimizer {
        /// Optimiser step.
        step: u64,
        /// What is wrong.
        source: OptimizerError,
    },
    /// The run directory cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint to go on from has no training state, or one of another step.
    #[error("checkpoint `{path}` cannot be resumed: {problem}; start a new run directory")]
    Resume {
        /// The checkpoint.
        path: String,
        /// What is missing.
        problem: String,
    },
}

/// A distillation in progress.
pub struct Distillation<B: Backend> {
    recipe: DistillRecipe,
    base: BaseIdentity,
    trainee: Trainee<B>,
    teacher_unembedding: B::Matrix,
    model: PretrainedModel,
    targets: Targets,
    traces: BTreeMap<usize, Trace>,
    held_out: Vec<Trace>,
    steps: Vec<PlannedStep>,
    schedule: Schedule,
    run: RunDirectory,
    step: usize,
    last_report: Option<HeldOutReport>,
    lineage: Lineage,
    trained_items: Option<BTreeSet<ItemKey>>,
}

impl<B: Backend> std::fmt::Debug for Distillation<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distillation")
            .field("step", &self.step)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

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
    ) -> Result<Self, DistilError> {
        let header = reader.header();
        let base = BaseIdentity { source: model.identity.source.clone(), sha256: model.identity.sha256.clone() };
        if header.base_model.sha256 != base.sha256 {
            return Err(DistilError::OtherBase {
                found: header.base_model.source.clone(),
                found_sha256: header.base_model.sha256.clone(),
                expected_sha256: base.sha256,
            });
        }
        let n_blocks = model.config.n_layers;
        let candidates = recipe.candidates.depths(n_blocks)?;
        let columns = columns_of(&candidates, &header.candidates)?;
        let targets = Targets {
            candidates: candidates.clone(),
            n_blocks,
            kl_factor: recipe.target.kl_factor,
            policy: recipe.target.policy,
        };

        let (training, held_out) = split_held_out(recipe.seed, reader.len(), recipe.held_out);
        let items = traced_items(reader, &training, held_out.len());
        let (lineage, trained_items) = Ancestry::default().then(run.config(), items);
        let read = |index: usize| -> Result<Trace, DistilError> {
            let mut trace = reader.read(index)?;
            trace.lens_kl = select_columns(&trace.lens_kl, header.candidates.len(), &columns);
            Ok(trace)
        };
        let traces: BTreeMap<usize, Trace> =
            training.iter().map(|&index| Ok((index, read(index)?))).collect::<Result<_, DistilError>>()?;
        let held_out = held_out.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if traces.is_empty() {
            return Err(DistilError::NoTraces { n: reader.len(), held_out: held_out.len() });
        }
        let rows = |trace: &Trace| trace.token_ids.len() - 1;
        let plan = Plan {
            seed: recipe.seed,
            traces: traces.iter().map(|(index, trace)| (*index, rows(trace))).collect(),
            exit_samples: recipe.loss.exit_samples,
            tokens_per_step: recipe.batch.tokens_per_step,
            accumulation: recipe.batch.accumulation,
        };
        let mut steps: Vec<PlannedStep> = (0..recipe.schedule.epochs).flat_map(|epoch| plan.epoch(epoch)).collect();
        let schedule = recipe.schedule.schedule(steps.len() as u64);
        steps.truncate(schedule.total_steps as usize);

        let teacher_unembedding = backend.matrix(model.weights.unembedding());
        let mut statistics = TargetStatistics::new(targets.clone());
        for trace in traces.values() {
            statistics.add_trace(&trace.lens_kl, 0, |_, _, _| 0.0);
        }
        let (trainee, step) = if let Some(point) = resume {
            resumed(backend, &model, &recipe, &base, point)?
        } else {
            let hazards: Vec<f32> = statistics.mean_hazards().iter().map(|hazard| *hazard as f32).collect();
            let heads = ExitHeads::new(candidates, recipe.head_input, model.config.hidden_size, &hazards);
            let optimizer = recipe.optimizer.adamw();
            (Trainee::new(backend, &model, recipe.trained, &recipe.lora, heads, optimizer, recipe.seed), 0)
        };
        Ok(Self {
            recipe,
            base,
            trainee,
            teacher_unembedding,
            model,
            targets,
            traces,
            held_out,
            steps,
            schedule,
            run,
            step,
            last_report: None,
            lineage,
            trained_items,
        })
    }

    /// Optimiser steps of the whole run.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// Optimiser steps done.
    pub fn n_done(&self) -> usize {
        self.step
    }

    /// The student's decoder.
    pub fn decoder(&self) -> &Decoder<B> {
        &self.trainee.decoder
    }

    /// The student's adapters and heads.
    pub fn policy(&self) -> &Policy<B> {
        &self.trainee.policy
    }

    /// Runs to the end: steps, evaluations and checkpoints as the recipe says. Returns the last evaluation on held-out
    /// traces, if there are any, and where the last checkpoint is.
    ///
    /// # Errors
    /// If the loss is not finite or something cannot be written; the last checkpoint stays intact.
    pub fn run(
        &mut self,
        on_step: &mut dyn FnMut(&StepMetrics),
    ) -> Result<(Option<HeldOutReport>, std::path::PathBuf), DistilError> {
        while self.step < self.steps.len() {
            let mut metrics = self.train_step()?;
            let last = self.step == self.steps.len();
            let due = |every: u64| every > 0 && (self.step as u64).is_multiple_of(every);
            let evaluates = last || due(self.recipe.run.evaluate_every);
            let saves = last || due(self.recipe.run.checkpoint_every);
            if evaluates && !self.held_out.is_empty() {
                let report = self.evaluate(&self.trainee.policy)?;
                metrics.learned_exits = Some(report.learned_exits.clone());
                metrics.learned_layer_savings = Some(report.learned_layer_savings);
                self.last_report = Some(report);
            }
            self.run.append_metrics(&metrics)?;
            if saves {
                self.save(&metrics)?;
            }
            on_step(&metrics);
        }
        if self.last_report.is_none() && !self.held_out.is_empty() {
            self.last_report = Some(self.evaluate(&self.trainee.policy)?);
        }
        Ok((self.last_report.clone(), self.run.checkpoint_path(self.step as u64)))
    }

    /// Evaluates a policy of this model on the held-out traces.
    ///
    /// # Errors
    /// If a trace does not fit the model.
    pub fn evaluate(&self, policy: &Policy<B>) -> Result<HeldOutReport, DistilError> {
        let backend = self.trainee.decoder.backend();
        let report = backend.run(|| {
            evaluate(
                &self.trainee.decoder,
                policy,
                &self.teacher_unembedding,
                &self.held_out,
                &self.targets,
                self.loss_settings(),
                self.recipe.batch.tokens_per_step,
                self.recipe.seed,
            )
        });
        report.map_err(|source| DistilError::Batch { id: "held out".into(), source })
    }

    /// Token KL on the held-out traces, at the same prescribed depths, of the model without adapters: where training began.
    /// `None` if there are no held-out traces or all weights are trained. Nats per token, exited and at full depth.
    ///
    /// # Errors
    /// If a trace does not fit the model.
    #[expect(clippy::type_complexity, reason = "two optional means, or nothing")]
    pub fn token_kl_before(&self) -> Result<Option<(Option<f64>, Option<f64>)>, DistilError> {
        if self.held_out.is_empty() || self.recipe.trained == TrainedWeights::Full {
            return Ok(None);
        }
        let backend = self.trainee.decoder.backend();
        let bare = Policy::new(backend, None, self.trainee.policy.heads.clone());
        let (settings, rows, seed) = (self.loss_settings(), self.recipe.batch.tokens_per_step, self.recipe.seed);
        let (unembedding, targets) = (&self.teacher_unembedding, &self.targets);
        backend
            .run(|| {
                prescribed_token_kl(
                    &self.trainee.decoder,
                    &bare,
                    unembedding,
                    &self.held_out,
                    targets,
                    settings,
                    rows,
                    seed,
                )
            })
            .map(Some)
            .map_err(|source| DistilError::Batch { id: "held out".into(), source })
    }

    fn loss_settings(&self) -> LossSettings {
        LossSettings {
            exit_weight: self.recipe.loss.exit_weight as f32,
            direction: match self.recipe.loss.kl_direction {
                recipe::KlDirection::Reverse => KlDirection::Reverse,
                recipe::KlDirection::Forward => KlDirection::Forward,
            },
            detach_heads: self.recipe.loss.detach_heads,
            trained: self.trainee.trained(),
        }
    }

    /// One optimiser step.
    fn train_step(&mut self) -> Result<StepMetrics, DistilError> {
        let start = Instant::now();
        let step = self.step as u64;
        let planned = &self.steps[self.step];
        let n_tokens: usize = planned.samples().map(|sample| self.traces[&sample.trace].response_len()).sum();
        let mut gradients = Gradients::new(self.trainee.decoder.backend());
        let mut sums = LossSums::default();
        for samples in &planned.micro_batches {
            sums.add(&self.run_samples(planned.epoch, samples, n_tokens, &mut gradients)?);
        }
        let loss = sums.loss(self.recipe.loss.exit_weight as f32);
        if !loss.is_finite() {
            return Err(DistilError::NotFinite { loss, step: step + 1 });
        }
        let factor = self.schedule.factor(step);
        let rates = &self.recipe.learning_rate;
        let rates = StepRates { trunk: factor * rates.trunk(self.recipe.trained), heads: factor * rates.heads };
        let norm = self
            .trainee
            .update(gradients, self.recipe.optimizer.clip_norm, rates)
            .map_err(|source| DistilError::Optimizer { step: step + 1, source })?;
        self.step += 1;
        let share = |sum: f64, n: usize| (n > 0).then(|| sum / n as f64);
        let counted = sums.n_counted.max(1) as f64;
        Ok(StepMetrics {
            step: step + 1,
            tokens: n_tokens as u64,
            loss,
            token_kl_exited: share(sums.exited_kl, sums.n_exited),
            token_kl_full_depth: share(sums.full_kl, sums.n_full),
            exit_cross_entropy: sums.mean_exit_cross_entropy(),
            learning_rate: rates.trunk,
            learning_rate_heads: rates.heads,
            gradient_norm: norm,
            target_exits: sums.exits.iter().map(|n| *n as f64 / counted).collect(),
            expected_exits: sums.hazards.iter().map(|n| n / counted).collect(),
            learned_exits: None,
            target_layer_savings: 1.0 - sums.depths as f64 / counted / self.targets.n_blocks as f64,
            learned_layer_savings: None,
            tokens_per_second: n_tokens as f64 / start.elapsed().as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        })
    }

    fn run_samples(
        &self,
        epoch: u32,
        samples: &[Sample],
        n_step_tokens: usize,
        gradients: &mut Gradients<B>,
    ) -> Result<LossSums, DistilError> {
        let depths: Vec<Vec<usize>> = samples
            .iter()
            .map(|sample| {
                let Sample { trace, pattern } = *sample;
                let mut random =
                    SampleRandom::new(self.recipe.seed, Purpose::TargetDepths, trace as u64, epoch, pattern);
                let draw = |t, c| random.uniform(t as u64, c as u64);
                self.targets.draw_depths(&self.traces[&trace].lens_kl, draw)
            })
            .collect();
        let sequences: Vec<StudentSequence<'_>> = samples
            .iter()
            .zip(&depths)
            .map(|(sample, depths)| {
                let trace = &self.traces[&sample.trace];
                StudentSequence {
                    token_ids: &trace.token_ids,
                    prompt_len: trace.prompt_len,
                    depths,
                    teacher_hidden: &trace.final_hidden,
                }
            })
            .collect();
        let settings = self.loss_settings();
        let (decoder, policy, unembedding) = (&self.trainee.decoder, &self.trainee.policy, &self.teacher_unembedding);
        let gradients = Some(gradients);
        decoder
            .backend()
            .run(|| student_pass(decoder, policy, unembedding, &sequences, &settings, n_step_tokens, gradients))
            .map_err(|source| DistilError::Batch { id: self.traces[&samples[0].trace].id.clone(), source })
    }

    /// Writes a checkpoint of the state after the last step and makes it the one to go on from.
    fn save(&self, metrics: &StepMetrics) -> Result<(), DistilError> {
        let checkpoint = Checkpoint {
            base: self.base.clone(),
            n_blocks: self.targets.n_blocks,
            hidden_size: self.model.config.hidden_size,
            start_adapter: self.model.weights.start_adapter.clone(),
            trained: self.trainee.to_checkpoint(&self.model.weights),
            exit_heads: self.trainee.policy.heads.clone(),
            key_value: KeyValuePolicy::FrozenResidual,
            exit_offset: None,
            training: json(&self.recipe),
            lineage: Some(self.lineage.clone()),
            trained_items: self.trained_items.clone(),
            metrics: serde_json::json!({ "step": json(metrics), "held_out": json(&self.last_report) }),
        };
        let state = self.trainee.training_state(self.step as u64);
        checkpoint.save(&self.run.checkpoint_path(self.step as u64), Some(&state))?;
        Ok(self.run.mark_latest(self.step as u64)?)
    }
}

/// Settings and metrics as JSON; they are plain structs, which always serialise.
fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Columns of the recorded lens KLs that belong to `candidates`.
fn columns_of(candidates: &[usize], recorded: &[usize]) -> Result<Vec<usize>, DistilError> {
    let column = |depth: &usize| {
        recorded
            .iter()
            .position(|found| found == depth)
            .ok_or_else(|| DistilError::Candidate { depth: *depth, recorded: recorded.to_vec() })
    };
    candidates.iter().map(column).collect()
}

fn select_columns(values: &[f32], width: usize, columns: &[usize]) -> Vec<f32> {
    values.chunks_exact(width).flat_map(|row| columns.iter().map(|column| row[*column])).collect()
}

/// The state of a run at its last checkpoint.
fn resumed<B: Backend>(
    backend: &B,
    model: &PretrainedModel,
    recipe: &DistillRecipe,
    base: &BaseIdentity,
    point: &ResumePoint,
) -> Result<(Trainee<B>, usize), DistilError> {
    let resume_error = |problem: String| DistilError::Resume { path: point.checkpoint.display().to_string(), problem };
    let checkpoint = Checkpoint::load(&point.checkpoint, Some(&base.sha256))?;
    let state = Checkpoint::load_training_state(&point.checkpoint)?
        .ok_or_else(|| resume_error("it has no training state".into()))?;
    let step = state.state.get("step").and_then(serde_json::Value::as_u64);
    if step != Some(point.step) {
        return Err(resume_error(format!("its training state is of step {step:?}, expected {}", point.step)));
    }
    let trainee = Trainee::resumed(backend, model, &checkpoint, state, recipe.optimizer.adamw())
        .map_err(|error| resume_error(error.to_string()))?;
    Ok((trainee, point.step as usize))
}
