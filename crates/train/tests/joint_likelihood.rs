//! The joint log-probability of (exit depth, token) and its gradient: against finite differences, the engine's replay,
//! and sums over everything that a step can do.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aloud_engine::read::replay::replay;
use aloud_kernels::{Cpu, Matrix};
use aloud_model::config::{Architecture, ModelConfig};
use aloud_model::decoder::{BatchError, Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_model::rope::{RopeConfig, RopeScaling};
use aloud_model::source::ResolvedSource;
use aloud_model::weights::ModelWeights;
use aloud_train::initial_weights::initial_weights;
use aloud_train::joint_likelihood::{
    LikelihoodGradient, RecordedSequence, SampledDistribution, StepLikelihood, joint_likelihood,
};
use aloud_train::random::{Purpose, uniform};

/// Neither temperature nor offset is the neutral one.
const DISTRIBUTION: SampledDistribution = SampledDistribution { temperature: 1.4, exit_offset: Some(0.3) };

/// A number in `-1..1` that follows from its place.
fn noise(stream: u64, index: usize) -> f32 {
    (2.0 * uniform(5, Purpose::WeightInit, stream, 0, 0, index as u64, 0) - 1.0) as f32
}

/// A model, adapters that do something on every projection, and heads that read something.
struct Case {
    cpu: Cpu,
    config: ModelConfig,
    weights: ModelWeights,
    lora: Lora,
    heads: ExitHeads,
}

impl Case {
    fn new(config: ModelConfig, weights: ModelWeights, candidates: &[usize], input: HeadInput) -> Self {
        let rank = 3;
        let mut pairs = BTreeMap::new();
        for (block, layer) in weights.layers.iter().enumerate() {
            for projection in Projection::ALL {
                let (out, columns) =
                    (layer.projection(projection).weight.rows(), layer.projection(projection).weight.columns());
                let stream = 100 + (block * 7 + projection as usize) as u64;
                let matrix = |rows, columns, first: usize, scale: f32| {
                    let values = (0..rows * columns).map(|i| scale * noise(stream, first + i)).collect();
                    Matrix::from_f32(rows, columns, values).unwrap()
                };
                pairs.insert(
                    (block, projection),
                    LoraPair { a: matrix(rank, columns, 0, 0.4), b: matrix(out, rank, 10_000, 0.1) },
                );
            }
        }
        let head = |depth: &usize| (0..config.hidden_size).map(|i| 0.3 * noise(*depth as u64, i)).collect();
        let heads = ExitHeads {
            candidates: candidates.to_vec(),
            input,
            weights: candidates.iter().map(head).collect(),
            biases: candidates.iter().map(|depth| -0.9 + 0.2 * *depth as f32).collect(),
        };
        Self { cpu: Cpu::new(2), config, weights, lora: Lora { rank, alpha: 6.0, pairs }, heads }
    }

    /// Six blocks of Llama with a tied unembedding.
    fn llama() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/tiny_llama");
        let model = aloud_model::load::load(&ResolvedSource::Directory(directory)).unwrap();
        Self::new(model.config, model.weights, &[1, 2, 4], HeadInput::Rms)
    }

    /// Four blocks with biases, norms of queries and keys, an unembedding of its own and heads on the raw residual.
    fn qwen() -> Self {
        let config = ModelConfig {
            architecture: Architecture::Qwen3,
            vocab_size: 11,
            hidden_size: 16,
            intermediate_size: 24,
            n_layers: 4,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 4,
            rms_norm_eps: 1e-5,
            rope: RopeConfig::new(10_000.0, RopeScaling::Default),
            tie_word_embeddings: false,
            qkv_bias: true,
            o_bias: true,
            max_position_embeddings: 16,
            bos_token_id: None,
            eos_token_ids: vec![0],
        };
        let weights = initial_weights(&config, 3);
        Self::new(config, weights, &[1, 3], HeadInput::Raw)
    }

    fn decoder(&self) -> Decoder<Cpu> {
        Decoder::widened(&self.cpu, &self.config, &self.weights)
    }

    fn policy(&self) -> Policy<Cpu> {
        Policy::new(&self.cpu, Some(&self.lora), self.heads.clone())
    }

    /// Sequences of several lengths, responses of one token among them; `depth(step number)` of every step but the first
    /// of each response.
    fn batch(&self, mut depth: impl FnMut(usize) -> usize) -> Batch {
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
    fn mixed(&self) -> Batch {
        let mut all = self.heads.candidates.clone();
        all.push(self.config.n_layers);
        self.batch(|number| all[number * 2 % all.len()])
    }
}

/// Recorded responses and the derivative of a loss by `log P` of each step.
#[derive(Clone, Default)]
struct Batch {
    token_ids: Vec<Vec<u32>>,
    prompt_lens: Vec<usize>,
    depths: Vec<Vec<usize>>,
    d_joint: Vec<Vec<f32>>,
}

impl Batch {
    fn sequences(&self) -> Vec<RecordedSequence<'_>> {
        let parts = self.token_ids.iter().zip(&self.prompt_lens).zip(&self.depths);
        parts.map(|((token_ids, &prompt_len), depths)| RecordedSequence { token_ids, prompt_len, depths }).collect()
    }

    fn read(&self, decoder: &Decoder<Cpu>, policy: Option<&Policy<Cpu>>) -> Vec<Vec<StepLikelihood>> {
        joint_likelihood(decoder, policy, &self.sequences(), DISTRIBUTION, None).unwrap()
    }

    fn gradients(
        &self,
        decoder: &Decoder<Cpu>,
        policy: Option<&Policy<Cpu>>,
        trained: Trained,
    ) -> (Vec<Vec<StepLikelihood>>, BTreeMap<String, Vec<f32>>) {
        let mut gradients = Gradients::new(decoder.backend());
        let gradient = LikelihoodGradient { d_joint: &self.d_joint, trained, gradients: &mut gradients };
        let steps = joint_likelihood(decoder, policy, &self.sequences(), DISTRIBUTION, Some(gradient)).unwrap();
        (steps, gradients.into_host())
    }

    /// `sum d_joint log P`.
    fn objective(&self, decoder: &Decoder<Cpu>, policy: Option<&Policy<Cpu>>) -> f64 {
        let steps = self.read(decoder, policy);
        let pairs = steps.iter().flatten().zip(self.d_joint.iter().flatten());
        pairs.map(|(step, d)| f64::from(*d) * (f64::from(step.exit) + f64::from(step.token))).sum()
    }
}

/// Every parameter of model, adapters and heads, to be changed in place.
fn visit(decoder: &mut Decoder<Cpu>, policy: Option<&mut Policy<Cpu>>, f: &mut dyn FnMut(&str, &mut [f32])) {
    decoder.update_parameters(&mut |name, values| f(name, values));
    if let Some(policy) = policy {
        policy.update_parameters(&mut |name, _, values| f(name, values));
    }
}

/// Derivatives of [`Batch::objective`] along a direction in every parameter, against central differences of fourth
/// order. The direction leans towards the gradient, so that there is something to measure, and has a random part
/// everywhere, so that an entry that is wrongly zero shows.
fn check_by_differences(case: &Case, batch: &Batch, with_policy: bool, what: &str) {
    let mut decoder = case.decoder();
    let mut policy = with_policy.then(|| case.policy());
    let (_, gradients) = batch.gradients(&decoder, policy.as_ref(), Trained::Full);
    let mut parameters = Vec::new();
    visit(&mut decoder, policy.as_mut(), &mut |name, values| parameters.push((name.to_owned(), values.to_vec())));
    assert_eq!(gradients.len(), parameters.len(), "{what}: a gradient of every parameter");
    for (number, (name, start)) in parameters.iter().enumerate() {
        let gradient = gradients.get(name).unwrap_or_else(|| panic!("{what}: no gradient of {name}"));
        assert_eq!(gradient.len(), start.len(), "{what}: {name}");
        let mean_square = start.iter().map(|x| x * x).sum::<f32>() / start.len() as f32;
        let size = mean_square.sqrt().max(0.1);
        let toward = |g: f32| if g == 0.0 { 0.0 } else { g.signum() };
        let direction: Vec<f32> = (gradient.iter().enumerate())
            .map(|(i, g)| size * (0.5 * toward(*g) + noise(1000 + number as u64, i)))
            .collect();
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let mut at = |step: f32| {
            visit(&mut decoder, policy.as_mut(), &mut |visited, values| {
                if visited == name {
                    for ((value, start), d) in values.iter_mut().zip(start).zip(&direction) {
                        *value = start + step * d;
                    }
                }
            });
            batch.objective(&decoder, policy.as_ref())
        };
        let h = 0.02;
        let found = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h));
        at(0.0);
        assert!(
            (found - expected).abs() <= 1e-4 + 6e-3 * expected.abs(),
            "{what}, {name}: {found} by differences, {expected} by the backward"
        );
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let llama = Case::llama();
    check_by_differences(&llama, &llama.mixed(), true, "tied, mixed depths");
    let qwen = Case::qwen();
    check_by_differences(&qwen, &qwen.mixed(), true, "mixed depths");
    check_by_differences(&qwen, &qwen.batch(|_| 1), true, "all stop at the first candidate");
    check_by_differences(&qwen, &qwen.batch(|_| 4), true, "none stops");
    check_by_differences(&qwen, &qwen.batch(|_| 4), false, "no policy");
}

#[test]
fn one_token_responses_alone_have_gradients_too() {
    let case = Case::qwen();
    let whole = case.mixed();
    let single = |s: usize| Batch {
        token_ids: vec![whole.token_ids[s].clone()],
        prompt_lens: vec![whole.prompt_lens[s]],
        depths: vec![whole.depths[s].clone()],
        d_joint: vec![vec![0.7]],
    };
    // Of a prompt of one token, queries and keys of the only position cannot matter: attention has nothing to choose.
    let (_, gradients) = single(1).gradients(&case.decoder(), Some(&case.policy()), Trained::Full);
    assert!(gradients["model.layers.0.self_attn.v_proj.weight"].iter().any(|g| g.abs() > 1e-4));
    assert!(gradients["model.layers.0.self_attn.q_proj.weight"].iter().all(|g| g.abs() < 1e-6));
    check_by_differences(&case, &single(3), true, "one token after two");
}

#[test]
fn what_is_trained_gets_a_gradient_and_nothing_else() {
    for case in [Case::llama(), Case::qwen()] {
        let (mut decoder, mut policy) = (case.decoder(), case.policy());
        let batch = case.mixed();
        let mut of_policy = BTreeSet::new();
        policy.update_parameters(&mut |name, _, _| {
            of_policy.insert(name.to_owned());
        });
        let mut of_model = BTreeSet::new();
        decoder.update_parameters(&mut |name, _| {
            of_model.insert(name.to_owned());
        });
        assert_eq!(of_policy.len(), 2 * (7 * case.config.n_layers + case.heads.candidates.len()));

        let (steps, adapters) = batch.gradients(&decoder, Some(&policy), Trained::Adapters);
        assert_eq!(adapters.keys().cloned().collect::<BTreeSet<_>>(), of_policy);
        let zero: Vec<_> = adapters.iter().filter(|(_, values)| values.iter().all(|g| *g == 0.0)).collect();
        assert!(zero.is_empty(), "{zero:?}");

        let (same_steps, full) = batch.gradients(&decoder, Some(&policy), Trained::Full);
        assert_eq!(full.keys().cloned().collect::<BTreeSet<_>>(), &of_policy | &of_model);
        assert!(adapters.iter().all(|(name, values)| full[name] == *values), "adapters do not depend on what else is");
        let no_policy = case.batch(|_| case.config.n_layers);
        let (_, model) = no_policy.gradients(&decoder, None, Trained::Full);
        assert_eq!(model.keys().cloned().collect::<BTreeSet<_>>(), of_model);

        // Asking for a gradient changes no value.
        assert_eq!(steps, batch.read(&decoder, Some(&policy)));
        assert_eq!(steps, same_steps);
    }
}

#[test]
fn gradients_add_up_and_follow_their_weights() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let batch = case.mixed();
    let (_, whole) = batch.gradients(&decoder, Some(&policy), Trained::Full);
    // One sequence after the other into the same gradients, each with twice its weight.
    let mut gradients = Gradients::new(&case.cpu);
    for (sequence, d_joint) in batch.sequences().iter().zip(&batch.d_joint) {
        let twice = [d_joint.iter().map(|d| 2.0 * d).collect::<Vec<f32>>()];
        let gradient = LikelihoodGradient { d_joint: &twice, trained: Trained::Full, gradients: &mut gradients };
        joint_likelihood(&decoder, Some(&policy), &[*sequence], DISTRIBUTION, Some(gradient)).unwrap();
    }
    for (name, twice) in gradients.into_host() {
        let largest = whole[&name].iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let worst = twice.iter().zip(&whole[&name]).map(|(a, b)| (a - 2.0 * b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4 * largest + 1e-6, "{name}: off by {worst}, largest entry {largest}");
    }
}

/// Responses to one prompt share its rows, and nothing but the work changes: neither values nor gradients.
#[test]
fn responses_to_one_prompt_share_its_rows() {
    for case in [Case::llama(), Case::qwen()] {
        let (decoder, policy) = (case.decoder(), case.policy());
        let full = case.config.n_layers;
        let stops = [&case.heads.candidates[..], &[full]].concat();
        // Of prompt, response length: twice the same prompt, a response of one token in between, then another prompt of
        // the same length, then the first one again.
        let mut batch = Batch::default();
        for (s, (prompt, n_tokens)) in [(0, 4), (0, 1), (0, 3), (1, 4), (0, 2)].into_iter().enumerate() {
            let token = |i: usize| (prompt * 5 + 3 + i * i) as u32 % 11;
            let response = (0..n_tokens).map(|t| (s * 7 + t * 3) as u32 % 11);
            batch.token_ids.push((0..4).map(token).chain(response).collect());
            batch.prompt_lens.push(4);
            batch
                .depths
                .push((0..n_tokens).map(|t| if t == 0 { full } else { stops[(s + t) % stops.len()] }).collect());
            batch.d_joint.push((0..n_tokens).map(|t| noise(70 + s as u64, t)).collect());
        }
        let (steps, gradients) = batch.gradients(&decoder, Some(&policy), Trained::Full);
        let mut alone = BTreeMap::new();
        for (s, found) in steps.iter().enumerate() {
            let single = Batch {
                token_ids: vec![batch.token_ids[s].clone()],
                prompt_lens: vec![4],
                depths: vec![batch.depths[s].clone()],
                d_joint: vec![batch.d_joint[s].clone()],
            };
            let (expected, part) = single.gradients(&decoder, Some(&policy), Trained::Full);
            for (found, expected) in found.iter().zip(&expected[0]) {
                assert!((found.joint() - expected.joint()).abs() < 1e-5, "{s}: {found:?}, alone {expected:?}");
            }
            assert_eq!(found.len(), expected[0].len());
            for (name, values) in part {
                let sum = alone.entry(name).or_insert_with(|| vec![0.0f32; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        for (name, expected) in alone {
            let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let worst = gradients[&name].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-4 * largest + 1e-6, "{name}: off by {worst}, largest entry {largest}");
        }
    }
}

#[test]
fn values_are_those_of_the_engines_replay() {
    for case in [Case::llama(), Case::qwen()] {
        let (decoder, policy) = (case.decoder(), case.policy());
        let full = case.config.n_layers;
        for batch in [case.mixed(), case.batch(|_| 1), case.batch(|_| full)] {
            let steps = batch.read(&decoder, Some(&policy));
            assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [6, 1, 4, 1, 5]);
            for (sequence, steps) in batch.sequences().iter().zip(&steps) {
                let (prompt, tokens) = sequence.token_ids.split_at(sequence.prompt_len);
                let offset = DISTRIBUTION.exit_offset.unwrap().into();
                let temperature = DISTRIBUTION.temperature;
                let replayed =
                    replay(&decoder, &policy, prompt, tokens, sequence.depths, &offset, temperature).unwrap();
                for (step, replayed) in steps.iter().zip(&replayed) {
                    assert!((step.token - replayed.log_probability).abs() < 1e-5, "{step:?} {replayed:?}");
                    assert!((step.joint() - replayed.log_joint).abs() < 1e-5, "{step:?} {replayed:?}");
                    assert_eq!(step.exit_entropies.len(), replayed.exits.len());
                    for (entropy, exit) in step.exit_entropies.iter().zip(&replayed.exits) {
                        let hazard = f64::from(exit.hazard);
                        let expected = -hazard * hazard.ln() - (1.0 - hazard) * (1.0 - hazard).ln();
                        assert!((f64::from(*entropy) - expected).abs() < 1e-5, "{entropy} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_a_policy_only_tokens_count() {
    let case = Case::llama();
    let decoder = case.decoder();
    let batch = case.batch(|_| case.config.n_layers);
    // Heads without adapters: the same model.
    let heads = Policy::new(&case.cpu, None, case.heads.clone());
    let (with, without) = (batch.read(&decoder, Some(&heads)), batch.read(&decoder, None));
    for (with, without) in with.iter().flatten().zip(without.iter().flatten()) {
        assert_eq!((with.token, with.token_entropy), (without.token, without.token_entropy));
        assert_eq!((without.exit, without.exit_entropies.len()), (0.0, 0));
    }
    assert!(with.iter().any(|steps| steps.len() > 1 && steps[1].exit < -0.1));
}

/// All (depth, token) pairs of the last step of a response, and the entropies that follow from them.
#[test]
fn probabilities_of_all_actions_sum_to_one() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let vocabulary = 0..case.config.vocab_size as u32;
    let full = case.config.n_layers;
    let prefix = [4, 9, 2];
    for n_before in 0..3 {
        // Earlier steps stop here and there; step 0 never does.
        let earlier: Vec<usize> = [full, 1].into_iter().take(n_before).collect();
        let depths = if n_before == 0 { vec![full] } else { [&case.heads.candidates[..], &[full]].concat() };
        let mut batch = Batch::default();
        for depth in &depths {
            for token in vocabulary.clone() {
                batch.token_ids.push([&prefix[..], &[7, 1][..n_before], &[token]].concat());
                batch.prompt_lens.push(prefix.len());
                batch.depths.push([&earlier[..], &[*depth]].concat());
            }
        }
        let steps = batch.read(&decoder, Some(&policy));
        let last: Vec<&StepLikelihood> = steps.iter().map(|steps| steps.last().unwrap()).collect();
        let total: f64 = last.iter().map(|step| f64::from(step.joint()).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{n_before} steps before: {total}");
        for of_depth in last.chunks(case.config.vocab_size) {
            let tokens: f64 = of_depth.iter().map(|step| f64::from(step.token).exp()).sum();
            assert!((tokens - 1.0).abs() < 1e-5, "{n_before} steps before: tokens {tokens}");
            let entropy: f64 = of_depth.iter().map(|step| -f64::from(step.token).exp() * f64::from(step.token)).sum();
            assert!(entropy > 0.1);
            for step in of_depth {
                assert!((f64::from(step.token_entropy) - entropy).abs() < 1e-5, "{} {entropy}", step.token_entropy);
            }
        }
        // A step has a decision at every candidate up to where it stopped.
        let n_decisions: Vec<usize> =
            last.chunks(case.config.vocab_size).map(|steps| steps[0].exit_entropies.len()).collect();
        assert_eq!(n_decisions, if n_before == 0 { vec![0] } else { vec![1, 2, 2] });
    }
}

#[test]
fn prompts_and_first_tokens_have_no_exit() {
    let case = Case::llama();
    let batch = case.mixed();
    let decoder = case.decoder();
    let steps = batch.read(&decoder, Some(&case.policy()));
    let mut other = case.heads.clone();
    for bias in &mut other.biases {
        *bias += 2.5;
    }
    let moved = batch.read(&decoder, Some(&Policy::new(&case.cpu, Some(&case.lora), other)));
    for (steps, moved) in steps.iter().zip(&moved) {
        assert_eq!(steps[0], moved[0]);
        assert_eq!((steps[0].exit, steps[0].exit_entropies.len()), (0.0, 0));
        for (step, moved) in steps[1..].iter().zip(&moved[1..]) {
            assert_eq!(step.token, moved.token, "under prescribed depths, heads say nothing about tokens");
            assert!((step.exit - moved.exit).abs() > 0.1, "{} {}", step.exit, moved.exit);
        }
    }

    // A loss of first tokens only: heads have no part in it, the trunk has.
    let mut first_only = batch.clone();
    for d_joint in &mut first_only.d_joint {
        d_joint[1..].fill(0.0);
    }
    let of_heads = |gradients: &BTreeMap<String, Vec<f32>>| -> Vec<f32> {
        gradients.iter().filter(|(name, _)| name.starts_with("head.")).flat_map(|(_, values)| values.clone()).collect()
    };
    let (_, gradients) = first_only.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(of_heads(&gradients).iter().all(|g| *g == 0.0));
    assert!(gradients["layers.0.self_attn.v_proj.lora_b"].iter().any(|g| g.abs() > 1e-4));
    let (_, gradients) = batch.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(of_heads(&gradients).iter().all(|g| *g != 0.0));
}

/// The exits that a step did not reach do not exist, and what earlier tokens froze is what later ones see.
#[test]
fn exits_beyond_a_stop_do_not_matter() {
    let case = Case::llama();
    let decoder = case.decoder();
    let batch = case.batch(|_| 2);
    let steps = batch.read(&decoder, Some(&case.policy()));
    let mut other = case.heads.clone();
    other.weights[2].fill(9.0);
    assert_eq!(steps, batch.read(&decoder, Some(&Policy::new(&case.cpu, Some(&case.lora), other))));
    let (_, gradients) = batch.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(gradients["head.4.weight"].iter().all(|g| *g == 0.0));
    assert_eq!(gradients["head.4.bias"], [0.0]);
    assert!(gradients["head.2.bias"][0] != 0.0);
}

#[test]
fn empty_and_impossible_records() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let read =
        |sequences: &[RecordedSequence<'_>]| joint_likelihood(&decoder, Some(&policy), sequences, DISTRIBUTION, None);
    assert!(read(&[]).unwrap().is_empty());
    let empty = RecordedSequence { token_ids: &[1, 2], prompt_len: 2, depths: &[] };
    assert_eq!(read(&[empty]).unwrap(), [Vec::new()]);
    // A response without tokens among others takes nothing from them.
    let some = RecordedSequence { token_ids: &[1, 2, 3, 4], prompt_len: 2, depths: &[4, 1] };
    let (alone, among) = (read(&[some]).unwrap(), read(&[empty, some, empty]).unwrap());
    assert_eq!(among[1], alone[0]);
    assert_eq!([among[0].len(), among[2].len()], [0, 0]);
    // In the prompt, in the response, and at its end, which is read but never consumed.
    for token_ids in [[1, 11, 3, 4], [1, 2, 11, 4], [1, 2, 3, 11]] {
        let unknown = RecordedSequence { token_ids: &token_ids, prompt_len: 2, depths: &[4, 1] };
        let expected = BatchError::UnknownToken { id: 11, vocab_size: 11 };
        assert_eq!(read(&[some, unknown]).unwrap_err(), expected);
        let (prompt, tokens) = token_ids.split_at(2);
        assert_eq!(replay(&decoder, &policy, prompt, tokens, &[4, 1], &0.0.into(), 1.0).unwrap_err(), expected);
    }
    // The last token is never consumed: 17 tokens fit a context of 16.
    let long = |n: usize| {
        let depths = vec![4; n - 1];
        read(&[RecordedSequence { token_ids: &vec![1; n], prompt_len: 1, depths: &depths }])
    };
    assert_eq!(long(17).unwrap()[0].len(), 16);
    assert_eq!(long(18).unwrap_err(), BatchError::TooLong { length: 17, context: 16 });
}
