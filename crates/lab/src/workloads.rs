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
    work: Work,
    depths: Depths,
}

/// What is done in a row.
#[derive(Debug)]
enum Work {
    /// Sequences with a prompt and new tokens, as many tokens each.
    Decode { sequences: usize, prompt: usize, new: usize },
    /// A full-depth pass over 256 tokens with the lens KL at every candidate.
    TeacherLensKl,
    /// Forward, backward and AdamW of a stage-1 step over 256 tokens, LoRA r 8 on q, k, v, o.
    StudentStep,
}

/// Where its tokens stop.
#[derive(Debug)]
enum Depths {
    Full,
    /// Every token at half depth.
    Half,
    /// Drawn uniformly from the candidates and full depth.
    Uniform,
}

const ONE: Work = Work::Decode { sequences: 1, prompt: 32, new: 64 };
const SIXTEEN: Work = Work::Decode { sequences: 16, prompt: 32, new: 64 };

/// The rows.
pub static ROWS: [Row; 9] = [
    Row { name: "prefill_512", work: Work::Decode { sequences: 1, prompt: 512, new: 1 }, depths: Depths::Full },
    Row { name: "decode_batch_1", work: ONE, depths: Depths::Full },
    Row { name: "decode_batch_1_half", work: ONE, depths: Depths::Half },
    Row { name: "decode_batch_1_uniform", work: ONE, depths: Depths::Uniform },
    Row { name: "decode_batch_16", work: SIXTEEN, depths: Depths::Full },
    Row { name: "decode_batch_16_half", work: SIXTEEN, depths: Depths::Half },
    Row { name: "teacher_lens_kl_256", work: Work::TeacherLensKl, depths: Depths::Full },
    Row { name: "student_step_256", work: Work::StudentStep, depths: Depths::Full },
    Row { name: "student_step_256_half", work: Work::StudentStep, depths: Depths::Half },
];

impl Row {
    /// Tokens that one run handles: prompt tokens of a prefill, new tokens of a decode, tokens of a pass.
    pub fn tokens(&self) -> usize {
        match self.work {
            Work::Decode { prompt, new: 1, .. } => prompt,
            Work::Decode { sequences, new, .. } => sequences * new,
            Work::TeacherLensKl | Work::StudentStep => 256,
        }
    }

    fn trains(&self) -> bool {
        matches!(self.work, Work::StudentStep)
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
        let candidates: Vec<usize> = (5..config.n_layers).step_by(5).collect();
        let tokens: Vec<u32> = (0..1024u64).map(|i| (i * 7919 % config.vocab_size as u64) as u32).collect();
        let decoder = Decoder::new(cpu, config, &model.weights);
        let lora = row.trains().then(|| lora(model)).transpose()?;
        let policy = Policy::new(cpu, lora.as_ref(), heads(&candidates, config.hidden_size));
        let mut workload = Self {
            row,
            decoder,
            policy,
            candidates,
            tokens,
            teacher_hidden: Vec::new(),
            optimizer: AdamW::new(OptimizerSettings::default()),
        };
        if row.trains() {
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
                    Depths::Uniform => Exits::recorded(self.uniform_depths()),
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

    /// Depths of new tokens: every outcome equally often, in a scattered order.
    fn uniform_depths(&self) -> Vec<usize> {
        let mut outcomes = self.candidates.clone();
        outcomes.push(self.decoder.n_blocks());
        (0..64).map(|i| outcomes[i * 7 % outcomes.len()]).collect()
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
        Ok(Engine::new(&self.decoder, None, Limits::default()).run(&requests, &mut |_| Flow::Continue)?)
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

fn heads(candidates: &[usize], hidden_size: usize) -> ExitHeads {
    ExitHeads::new(candidates.to_vec(), HeadInput::Rms, hidden_size, &vec![0.2; candidates.len()])
}

/// Adapters of rank 8 on q, k, v, o.
fn lora(model: &PretrainedModel) -> Result<Lora, SessionError> {
    let mut pairs = BTreeMap::new();
    for (block, layer) in model.weights.layers.iter().enumerate() {
        for projection in [Projection::QProj, Projection::KProj, Projection::VProj, Projection::OProj] {
            let weight = &layer.projection(projection).weight;
            let values = |n: usize| (0..n).map(|i| (i % 13) as f32 * 1e-3 - 6e-3).collect();
            let a = Matrix::from_f32(8, weight.columns(), values(8 * weight.columns()))?;
            let b = Matrix::from_f32(weight.rows(), 8, values(8 * weight.rows()))?;
            pairs.insert((block, projection), LoraPair { a, b });
        }
    }
    Ok(Lora { rank: 8, alpha: 16.0, pairs })
}
