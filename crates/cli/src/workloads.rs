//! What `aloud bench` times: the same work that its users would run today with other programs.

use std::collections::BTreeMap;

use aloud_engine::decode::batching::{Engine, Flow, Limits};
use aloud_engine::decode::exits::Exits;
use aloud_engine::decode::request::{Forced, Prefix, Request};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::backend::{KlDirection, Memory};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::PretrainedModel;
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_train::optimizer::{AdamW, OptimizerSettings};
use aloud_train::stage1::student::{LossSettings, student_pass};
use aloud_train::stage1::teacher::read_responses;
use anyhow::{Context as _, Result};

/// A row of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// A prompt of 512 tokens to its first new token.
    Prefill512,
    /// 32 prompt and 64 new tokens.
    DecodeBatch1,
    /// The same, every token stopping at half depth.
    DecodeBatch1Half,
    /// The same, depths drawn uniformly from the candidates and full depth.
    DecodeBatch1Uniform,
    /// 16 sequences of 32 prompt and 64 new tokens.
    DecodeBatch16,
    /// The same, every token stopping at half depth.
    DecodeBatch16Half,
    /// A full-depth pass over 256 tokens with the lens KL at every candidate.
    TeacherLensKl256,
    /// Forward, backward and AdamW of a stage-1 step over 256 tokens at full depth, LoRA r 8 on q, k, v, o.
    StudentStep256,
    /// The same, every token at half depth.
    StudentStep256Half,
}

impl Row {
    pub(crate) const ALL: [Self; 9] = [
        Self::Prefill512,
        Self::DecodeBatch1,
        Self::DecodeBatch1Half,
        Self::DecodeBatch1Uniform,
        Self::DecodeBatch16,
        Self::DecodeBatch16Half,
        Self::TeacherLensKl256,
        Self::StudentStep256,
        Self::StudentStep256Half,
    ];

    /// The row's name; those that other programs measure too have the same name there.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prefill512 => "prefill_512",
            Self::DecodeBatch1 => "decode_batch_1",
            Self::DecodeBatch1Half => "decode_batch_1_half",
            Self::DecodeBatch1Uniform => "decode_batch_1_uniform",
            Self::DecodeBatch16 => "decode_batch_16",
            Self::DecodeBatch16Half => "decode_batch_16_half",
            Self::TeacherLensKl256 => "teacher_lens_kl_256",
            Self::StudentStep256 => "student_step_256",
            Self::StudentStep256Half => "student_step_256_half",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == name)
    }

    /// Tokens that one run handles: prompt tokens of a prefill, new tokens of a decode, tokens of a pass.
    pub(crate) const fn tokens(self) -> usize {
        match self {
            Self::Prefill512 => 512,
            Self::DecodeBatch1 | Self::DecodeBatch1Half | Self::DecodeBatch1Uniform => 64,
            Self::DecodeBatch16 | Self::DecodeBatch16Half => 16 * 64,
            Self::TeacherLensKl256 | Self::StudentStep256 | Self::StudentStep256Half => 256,
        }
    }
}

/// A model with something to run on it.
pub(crate) struct Workload {
    row: Row,
    decoder: Decoder<Cpu>,
    policy: Policy<Cpu>,
    candidates: Vec<usize>,
    /// Arbitrary tokens, spread over the vocabulary.
    tokens: Vec<u32>,
    teacher_hidden: Vec<f32>,
    optimizer: AdamW,
}

impl Workload {
    pub(crate) fn new(row: Row, cpu: &Cpu, model: &PretrainedModel) -> Result<Self> {
        let config = &model.config;
        let candidates: Vec<usize> = (5..config.n_layers).step_by(5).collect();
        let tokens: Vec<u32> = (0..1024u64).map(|i| (i * 7919 % config.vocab_size as u64) as u32).collect();
        let decoder = Decoder::new(cpu, config, &model.weights);
        let policy =
            Policy::new(cpu, lora(model)?.as_ref().filter(|_| row.trains()), heads(&candidates, config.hidden_size));
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
            let readings = cpu.run(|| read_responses(&workload.decoder, &[], &[workload.sequence()]))?;
            workload.teacher_hidden = readings.into_iter().next().context("no reading")?.final_hidden;
        }
        Ok(workload)
    }

    /// One run.
    pub(crate) fn run(&mut self) -> Result<()> {
        match self.row {
            Row::Prefill512 => self.generate(1, 512, 1, |_| ExitPolicy::Off.into()),
            Row::DecodeBatch1 => self.generate(1, 32, 64, |_| ExitPolicy::Off.into()),
            Row::DecodeBatch16 => self.generate(16, 32, 64, |_| ExitPolicy::Off.into()),
            Row::DecodeBatch1Half => self.generate(1, 32, 64, |l| ExitPolicy::Fixed { depth: l / 2 }.into()),
            Row::DecodeBatch16Half => self.generate(16, 32, 64, |l| ExitPolicy::Fixed { depth: l / 2 }.into()),
            Row::DecodeBatch1Uniform => {
                let depths = self.uniform_depths();
                self.generate(1, 32, 64, |_| Exits::recorded(depths.clone()))
            }
            Row::TeacherLensKl256 => {
                let cpu = self.decoder.backend();
                cpu.run(|| read_responses(&self.decoder, &self.candidates, &[self.sequence()]))?;
                Ok(())
            }
            Row::StudentStep256 => self.student_step(self.decoder.n_blocks()),
            Row::StudentStep256Half => self.student_step(self.decoder.n_blocks() / 2),
        }
    }

    /// Depths of new tokens: every outcome equally often, in a scattered order.
    pub(crate) fn uniform_depths(&self) -> Vec<usize> {
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
        exits: impl Fn(usize) -> Exits,
    ) -> Result<()> {
        let requests: Vec<Request> = (0..n_sequences)
            .map(|sequence| Request {
                prompt: self.tokens[sequence..sequence + prompt].to_vec(),
                prefix: Prefix::default(),
                max_new_tokens,
                sampling: Sampling::default(),
                exits: exits(self.decoder.n_blocks()),
                stop_tokens: Vec::new(),
                seed: 0,
                sequence: sequence as u64,
                forced: Forced::None,
            })
            .collect();
        Ok(Engine::new(&self.decoder, None, Limits::default()).run(&requests, &mut |_| Flow::Continue)?)
    }

    fn student_step(&mut self, depth: usize) -> Result<()> {
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
        cpu.run(|| student_pass(decoder, policy, teacher, &[sequence], &settings, 256, Some(&mut gradients)))?;
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
        Ok(outcome?)
    }
}

impl Row {
    fn trains(self) -> bool {
        matches!(self, Self::StudentStep256 | Self::StudentStep256Half)
    }
}

fn heads(candidates: &[usize], hidden_size: usize) -> ExitHeads {
    ExitHeads::new(candidates.to_vec(), HeadInput::Rms, hidden_size, &vec![0.2; candidates.len()])
}

/// Adapters of rank 8 on q, k, v, o.
fn lora(model: &PretrainedModel) -> Result<Option<Lora>> {
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
    Ok(Some(Lora { rank: 8, alpha: 16.0, pairs }))
}
