//! Work whose speed is measured: what its users would run today with other programs.

use std::collections::BTreeMap;

use aloud_engine::decode::batching::{Engine, Flow, Limits};
use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::backend::KlDirection;
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::PretrainedModel;
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_session::error::{Context as _, SessionError};
use aloud_train::optimizer::{AdamW, OptimizerSettings};
use aloud_train::stage1::student::{LossSettings, student_pass};
use aloud_train::stage1::teacher::read_responses;

/// A row of the benchmark.
#[derive(Debug)]
pub struct Row {
    /// Its name; rows that other programs measure too have the same name there.
    pub name: &'static str,
    /// The same work without exits, for rows with some.
    pub without_exits: Option<&'static str>,
    pub(crate) work: Work,
    pub(crate) depths: Depths,
    adapters: Adapters,
}

/// The adapters that are on.
#[derive(Debug, PartialEq)]
enum Adapters {
    None,
    /// Rank 8 on q, k, v, o.
    Attention,
    /// Rank 16 on all linear layers.
    All,
}

/// What is done in a row.
#[derive(Debug)]
pub(crate) enum Work {
    /// Sequences with a prompt and new tokens, as many tokens each.
    Decode { sequences: usize, prompt: usize, new: usize },
    /// A full-depth pass over 256 tokens with the lens KL at every candidate.
    TeacherLensKl,
    /// Forward, backward and AdamW of a stage-1 step over 256 tokens, LoRA r 8 on q, k, v, o.
    StudentStep,
}

/// Where its tokens stop.
#[derive(Debug)]
pub(crate) enum Depths {
    /// None before the end.
    Full,
    /// Every token at half depth.
    Half,
    /// The candidates and full depth in turn, the same for all sequences.
    Uniform,
    /// Drawn from exit heads, with the same frequencies.
    Sampled,
}

const ONE: Work = Work::Decode { sequences: 1, prompt: 32, new: 64 };
const SIXTEEN: Work = Work::Decode { sequences: 16, prompt: 32, new: 64 };

/// The rows.
pub static ROWS: [Row; 13] = [
    row("prefill_512", Work::Decode { sequences: 1, prompt: 512, new: 1 }, Adapters::None),
    row("decode_batch_1", ONE, Adapters::None),
    row("decode_batch_1_adapters", ONE, Adapters::All),
    with_exits("decode_batch_1_half", Some("decode_batch_1_adapters"), ONE, Depths::Half),
    with_exits("decode_batch_1_uniform", Some("decode_batch_1_adapters"), ONE, Depths::Uniform),
    with_exits("decode_batch_1_sampled", Some("decode_batch_1_adapters"), ONE, Depths::Sampled),
    row("decode_batch_16", SIXTEEN, Adapters::None),
    row("decode_batch_16_adapters", SIXTEEN, Adapters::All),
    with_exits("decode_batch_16_half", Some("decode_batch_16_adapters"), SIXTEEN, Depths::Half),
    with_exits("decode_batch_16_sampled", Some("decode_batch_16_adapters"), SIXTEEN, Depths::Sampled),
    row("teacher_lens_kl_256", Work::TeacherLensKl, Adapters::None),
    row("student_step_256", Work::StudentStep, Adapters::Attention),
    Row {
        adapters: Adapters::Attention,
        ..with_exits("student_step_256_half", Some("student_step_256"), Work::StudentStep, Depths::Half)
    },
];

const fn row(name: &'static str, work: Work, adapters: Adapters) -> Row {
    Row { name, without_exits: None, work, depths: Depths::Full, adapters }
}

const fn with_exits(name: &'static str, without_exits: Option<&'static str>, work: Work, depths: Depths) -> Row {
    Row { name, without_exits, work, depths, adapters: Adapters::All }
}

impl Row {
    /// Tokens that one run handles: prompt tokens of a prefill, new tokens of a decode, tokens of a pass.
    pub fn tokens(&self) -> usize {
        match self.work {
            Work::Decode { prompt, new: 1, .. } => prompt,
            Work::Decode { sequences, new, .. } => sequences * new,
            Work::TeacherLensKl | Work::StudentStep => 256,
        }
    }

    /// Whether it trains or reads what training needs: activations are f32 then, whatever was asked for.
    pub fn trains(&self) -> bool {
        matches!(self.work, Work::StudentStep | Work::TeacherLensKl)
    }

    /// The adapters of its model.
    ///
    /// # Errors
    /// If the model has no such linear layers.
    pub(crate) fn lora(&self, model: &PretrainedModel) -> Result<Option<Lora>, SessionError> {
        const ATTENTION: [Projection; 4] = [Projection::QProj, Projection::KProj, Projection::VProj, Projection::OProj];
        Ok(match self.adapters {
            Adapters::None => None,
            Adapters::Attention => Some(lora(model, 8, &ATTENTION)?),
            Adapters::All => Some(lora(model, 16, &Projection::ALL)?),
        })
    }
}

/// A model with something to run on it.
pub struct Workload {
    row: &'static Row,
    decoder: Decoder<Cpu>,
    policy: Policy<Cpu>,
    candidates: Vec<usize>,
    /// Arbitrary tokens, spread over the vocabulary.
    tokens: Vec<u32>,
    teacher_hidden: Vec<f32>,
    optimizer: AdamW,
}

impl Workload {
    /// The model, ready for a row's work.
    ///
    /// # Errors
    /// If the model cannot be read at the tokens of the row.
    pub fn new(row: &'static Row, cpu: &Cpu, model: &PretrainedModel) -> Result<Self, SessionError> {
        let config = &model.config;
        let candidates = candidates(config.n_layers);
        let tokens: Vec<u32> = (0..1024u64).map(|i| (i * 7919 % config.vocab_size as u64) as u32).collect();
        let decoder = Decoder::new(cpu, config, &model.weights);
        let policy = Policy::new(cpu, row.lora(model)?.as_ref(), heads(&candidates, config.hidden_size));
        let mut workload = Self {
            row,
            decoder,
            policy,
            candidates,
            tokens,
            teacher_hidden: Vec::new(),
            optimizer: AdamW::new(OptimizerSettings::default()),
        };
        if matches!(row.work, Work::StudentStep) {
            let readings = read_responses(&workload.decoder, &[], &[workload.sequence()])?;
            workload.teacher_hidden = readings.into_iter().next().context("no reading")?.final_hidden;
        }
        Ok(workload)
    }

    /// One run.
    ///
    /// # Errors
    /// If the work does not fit the model.
    pub fn run(&mut self) -> Result<(), SessionError> {
        let n_blocks = self.decoder.n_blocks();
        match (&self.row.work, &self.row.depths) {
            (Work::Decode { sequences, prompt, new }, depths) => {
                let exits = match depths {
                    Depths::Full => ExitPolicy::Off.into(),
                    Depths::Half => ExitPolicy::Fixed { depth: n_blocks / 2 }.into(),
                    Depths::Uniform => Exits::recorded(uniform_depths(n_blocks).collect()),
                    Depths::Sampled => ExitPolicy::Sampled { offset: ExitOffset::default() }.into(),
                };
                self.generate(*sequences, *prompt, *new, &exits)
            }
            (Work::TeacherLensKl, _) => {
                read_responses(&self.decoder, &self.candidates, &[self.sequence()])?;
                Ok(())
            }
            (Work::StudentStep, Depths::Half) => self.student_step(n_blocks / 2),
            (Work::StudentStep, _) => self.student_step(n_blocks),
        }
    }

    /// One prompt token and 256 response tokens.
    fn sequence(&self) -> (&[u32], &[u32]) {
        self.tokens[..257].split_at(1)
    }

    fn generate(
        &self,
        n_sequences: usize,
        prompt: usize,
        max_new_tokens: usize,
        exits: &Exits,
    ) -> Result<(), SessionError> {
        let requests: Vec<Request> = (0..n_sequences)
            .map(|sequence| Request {
                prompt: self.tokens[sequence..sequence + prompt].to_vec(),
                prefix: Prefix::default(),
                max_new_tokens,
                sampling: Sampling::default(),
                exits: exits.clone(),
                stop_tokens: Vec::new(),
                seed: 0,
                sequence: sequence as u64,
                forced: Forced::None,
            })
            .collect();
        Ok(Engine::new(&self.decoder, Some(&self.policy), Limits::default()).run(&requests, &mut |_| Flow::Continue)?)
    }

    fn student_step(&mut self, depth: usize) -> Result<(), SessionError> {
        let settings = LossSettings {
            exit_weight: 1.0,
            direction: KlDirection::Reverse,
            detach_heads: false,
            trained: Trained::Adapters,
        };
        let cpu = self.decoder.backend().clone();
        let mut gradients = Gradients::new(&cpu);
        let depths = vec![depth; 256];
        let sequence = RecordedSequence::new(&self.tokens[..257], 1, &depths);
        let (decoder, policy) = (&self.decoder, &self.policy);
        let teacher = (decoder.unembedding(), &[&self.teacher_hidden[..]][..]);
        student_pass(decoder, policy, teacher, &[sequence], &settings, 256, Some(&mut gradients))?;
        let gradients = gradients.into_host();
        let optimizer = &mut self.optimizer;
        let mut outcome = Ok(());
        self.policy.update_parameters(&mut |name, _, values| {
            if let Some(gradient) = gradients.get(name)
                && let Err(error) = optimizer.step(name, 1e-4, true, values, gradient)
            {
                outcome = Err(error);
            }
        });
        outcome.map_err(SessionError::caused_by)
    }
}

/// The candidates of a model of `n_blocks` blocks.
pub(crate) fn candidates(n_blocks: usize) -> Vec<usize> {
    (5..n_blocks).step_by(5).collect()
}

/// Depths of new tokens: every outcome equally often, in a scattered order.
pub(crate) fn uniform_depths(n_blocks: usize) -> impl Iterator<Item = usize> {
    let mut outcomes = candidates(n_blocks);
    outcomes.push(n_blocks);
    (0..64).map(move |i| outcomes[i * 7 % outcomes.len()])
}

/// Heads that read nothing: at each candidate, hazards that make every outcome equally likely.
fn heads(candidates: &[usize], hidden_size: usize) -> ExitHeads {
    let hazards: Vec<f32> = (0..candidates.len()).map(|i| 1.0 / (candidates.len() + 1 - i) as f32).collect();
    ExitHeads::new(candidates.to_vec(), HeadInput::Rms, hidden_size, &hazards)
}

/// Adapters of this rank on these linear layers, with small values.
fn lora(model: &PretrainedModel, rank: usize, projections: &[Projection]) -> Result<Lora, SessionError> {
    let mut pairs = BTreeMap::new();
    for (block, layer) in model.weights.layers.iter().enumerate() {
        for projection in projections {
            let weight = &layer.projection(*projection).weight;
            let values = |n: usize| (0..n).map(|i| (i % 13) as f32 * 1e-3 - 6e-3).collect();
            let a = Matrix::from_f32(rank, weight.columns(), values(rank * weight.columns()))?;
            let b = Matrix::from_f32(weight.rows(), rank, values(weight.rows() * rank))?;
            pairs.insert((block, *projection), LoraPair { a, b });
        }
    }
    Ok(Lora { rank, alpha: 2.0 * rank as f32, pairs })
}
