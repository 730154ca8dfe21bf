//! Recorded responses of small models with adapters and heads that do something.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::cpu::Cpu;
use aloud_model::config::{Architecture, ModelConfig};
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::lora::Lora;
use aloud_model::weights::ModelWeights;
use aloud_train::pretrain::initial_weights::initial_weights;
use aloud_train::pretrain::recipe::ModelShape;
use aloud_train::stage2::joint_likelihood::{
    LikelihoodGradient, SampledDistribution, StepLikelihood, joint_likelihood,
};

use crate::fixtures::{Named, adapters, golden_model};

/// Neither temperature nor offset is the neutral one.
pub(crate) const DISTRIBUTION: SampledDistribution = SampledDistribution { temperature: 1.4, exit_offset: Some(0.3) };

/// A number in `-1..1` that follows from its place.
pub(crate) fn noise(stream: u64, index: usize) -> f32 {
    (2.0 * KeyedRandom::new(5, Domain::WEIGHT_INIT, [stream, 0]).uniform_at(index as u64, 0) - 1.0) as f32
}

/// A model, adapters that do something on every projection, and heads that read something.
pub(crate) struct Case {
    pub(crate) cpu: Cpu,
    pub(crate) config: ModelConfig,
    weights: ModelWeights,
    pub(crate) lora: Lora,
    pub(crate) heads: ExitHeads,
}

impl Case {
    fn new(config: ModelConfig, weights: ModelWeights, candidates: &[usize], input: HeadInput) -> Self {
        let value = |number: usize, factor: usize, i: usize| {
            [0.4, 0.1][factor] * noise(100 + number as u64, [0, 10_000][factor] + i)
        };
        let lora = adapters(&config, (3, 6.0), 0..config.n_layers, value);
        let head = |depth: &usize| (0..config.hidden_size).map(|i| 0.3 * noise(*depth as u64, i)).collect();
        let heads = ExitHeads {
            candidates: candidates.to_vec(),
            input,
            weights: candidates.iter().map(head).collect(),
            biases: candidates.iter().map(|depth| -0.9 + 0.2 * *depth as f32).collect(),
        };
        Self { cpu: Cpu::new(2), config, weights, lora, heads }
    }

    /// Six blocks of Llama with a tied unembedding.
    pub(crate) fn llama() -> Self {
        let model = golden_model("tiny_llama");
        Self::new(model.config, model.weights, &[1, 2, 4], HeadInput::Rms)
    }

    /// Four blocks with biases, norms of queries and keys, an unembedding of its own and heads on the raw residual.
    pub(crate) fn qwen() -> Self {
        let shape =
            ModelShape { n_blocks: 4, hidden_size: 16, intermediate_size: 24, n_heads: 4, n_kv_heads: 2, context: 16 };
        let (architecture, qkv_bias, o_bias) = (Architecture::Qwen3, true, true);
        let config = ModelConfig { architecture, qkv_bias, o_bias, ..shape.config(11, 0) };
        let weights = initial_weights(&config, 3);
        Self::new(config, weights, &[1, 3], HeadInput::Raw)
    }

    pub(crate) fn decoder(&self) -> Decoder<Cpu> {
        Decoder::widened(&self.cpu, &self.config, &self.weights)
    }

    pub(crate) fn policy(&self) -> Policy<Cpu> {
        Policy::new(&self.cpu, Some(&self.lora), self.heads.clone())
    }

    /// Sequences of several lengths, responses of one token among them; `depth(step number)` of every step but the first
    /// of each response.
    pub(crate) fn batch(&self, mut depth: impl FnMut(usize) -> usize) -> Batch {
        let (mut batch, mut number) = (Batch::default(), 0);
        for (s, (prompt_len, n_tokens)) in [(3, 6), (1, 1), (5, 4), (2, 1), (1, 5)].into_iter().enumerate() {
            let token = |i| (s * 29 + i * 17 + i * i) as u32 % self.config.vocab_size as u32;
            batch.token_ids.push((0..prompt_len + n_tokens).map(token).collect());
            batch.prompt_lens.push(prompt_len);
            let mut depths = vec![self.config.n_layers];
            depths.extend((1..n_tokens).map(|_| {
                number += 1;
                depth(number)
            }));
            batch.depths.push(depths);
            batch.d_joint.push((0..n_tokens).map(|t| noise(50 + s as u64, t)).collect());
        }
        batch
    }

    /// Steps stop at every candidate in turn, or nowhere.
    pub(crate) fn mixed(&self) -> Batch {
        let mut all = self.heads.candidates.clone();
        all.push(self.config.n_layers);
        self.batch(|number| all[number * 2 % all.len()])
    }
}

/// Recorded responses and the derivative of a loss by `log P` of each step.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    pub(crate) token_ids: Vec<Vec<u32>>,
    pub(crate) prompt_lens: Vec<usize>,
    pub(crate) depths: Vec<Vec<usize>>,
    pub(crate) d_joint: Vec<Vec<f32>>,
}

impl Batch {
    pub(crate) fn sequences(&self) -> Vec<RecordedSequence<'_>> {
        let parts = self.token_ids.iter().zip(&self.prompt_lens).zip(&self.depths);
        parts.map(|((token_ids, &prompt_len), depths)| RecordedSequence::new(token_ids, prompt_len, depths)).collect()
    }

    pub(crate) fn read(&self, decoder: &Decoder<Cpu>, policy: Option<&Policy<Cpu>>) -> Vec<Vec<StepLikelihood>> {
        joint_likelihood(decoder, policy, &self.sequences(), DISTRIBUTION, None).unwrap()
    }

    pub(crate) fn gradients(
        &self,
        decoder: &Decoder<Cpu>,
        policy: Option<&Policy<Cpu>>,
        trained: Trained,
    ) -> (Vec<Vec<StepLikelihood>>, Named) {
        let mut gradients = Gradients::new(decoder.backend());
        let gradient = LikelihoodGradient { d_joint: &self.d_joint, trained, gradients: &mut gradients };
        let steps = joint_likelihood(decoder, policy, &self.sequences(), DISTRIBUTION, Some(gradient)).unwrap();
        (steps, gradients.into_host())
    }

    /// One of the responses alone.
    pub(crate) fn only(&self, s: usize) -> Self {
        Self {
            token_ids: vec![self.token_ids[s].clone()],
            prompt_lens: vec![self.prompt_lens[s]],
            depths: vec![self.depths[s].clone()],
            d_joint: vec![self.d_joint[s].clone()],
        }
    }

    /// `sum d_joint log P`.
    pub(crate) fn objective(&self, decoder: &Decoder<Cpu>, policy: Option<&Policy<Cpu>>) -> f64 {
        let steps = self.read(decoder, policy);
        let pairs = steps.iter().flatten().zip(self.d_joint.iter().flatten());
        pairs.map(|(step, d)| f64::from(*d) * (f64::from(step.exit) + f64::from(step.token))).sum()
    }
}
