//! The student's loss and every gradient against PyTorch autograd over `transformers` modules
//! (`crates/model/tests/golden/make_decoder_golden.py`: transformers 5.23, torch 2.15, f64).

use std::collections::BTreeMap;
use std::path::Path;

use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::backend::{KlDirection, Readout, Unembedding};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;
use aloud_model::config::ModelConfig;
use aloud_model::decoder::{Decoder, Gradients, PackedBatch, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::PretrainedModel;
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_model::weights::ModelWeights;
use aloud_train::stage1::student::{LossSettings, student_pass};

use crate::fixtures::{Named, adapters, assert_near, golden_model};

struct Golden {
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    integers: BTreeMap<String, Vec<usize>>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name);
        let bytes = std::fs::read(folder.join("student.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut golden = Self { floats: BTreeMap::new(), integers: BTreeMap::new() };
        for (name, tensor) in file.tensors() {
            let words = tensor.data().as_chunks::<4>().0.iter();
            match tensor.dtype() {
                safetensors::Dtype::F32 => {
                    let values = words.map(|b| f32::from_le_bytes(*b)).collect();
                    golden.floats.insert(name, (tensor.shape().to_vec(), values));
                }
                safetensors::Dtype::I32 => {
                    golden.integers.insert(name, words.map(|b| i32::from_le_bytes(*b) as usize).collect());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        golden
    }

    fn matrix(&self, name: &str) -> Option<Matrix> {
        let (shape, values) = self.floats.get(name)?;
        Some(Matrix::from_f32(shape[0], shape[1], values.clone()).unwrap())
    }
}

struct Case {
    golden: Golden,
    config: ModelConfig,
    weights: ModelWeights,
    policy: Policy<Cpu>,
    cpu: Cpu,
}

impl Case {
    fn new(name: &str) -> Self {
        let golden = Golden::read(name);
        let PretrainedModel { config, weights, .. } = golden_model(name);
        let cpu = Cpu::new(2);
        let mut pairs = BTreeMap::new();
        for block in 0..config.n_layers {
            for projection in Projection::ALL {
                let factor = |f: &str| golden.matrix(&format!("layers.{block}.{}.{f}", projection.path()));
                if let (Some(a), Some(b)) = (factor("lora_a"), factor("lora_b")) {
                    pairs.insert((block, projection), LoraPair { a, b });
                }
            }
        }
        assert_eq!(pairs.len(), 7 * config.n_layers);
        let candidates = golden.integers["candidates"].clone();
        let heads = ExitHeads {
            input: HeadInput::Rms,
            weights: candidates.iter().map(|d| golden.floats[&format!("head.{d}.weight")].1.clone()).collect(),
            biases: candidates.iter().map(|d| golden.floats[&format!("head.{d}.bias")].1[0]).collect(),
            candidates,
        };
        let policy = Policy::new(&cpu, Some(&Lora { rank: 4, alpha: 8.0, pairs }), heads);
        Self { golden, config, weights, policy, cpu }
    }

    /// Loss and gradients over the file's two sequences.
    fn run(&self, decoder: &Decoder<Cpu>, settings: LossSettings) -> (f64, Named) {
        let tokens: Vec<u32> = self.golden.integers["token_ids"].iter().map(|t| *t as u32).collect();
        let depths = &self.golden.integers["depths"];
        let teacher = &self.golden.floats["teacher_final_hidden"].1;
        let hidden = self.config.hidden_size;
        let mut start = 0;
        let (mut sequences, mut teacher_hidden) = (Vec::new(), Vec::new());
        for (length, prompt_len) in self.golden.integers["lengths"].iter().zip(&self.golden.integers["prompt_lens"]) {
            let rows = start + prompt_len - 1..start + length - 1;
            teacher_hidden.push(&teacher[rows.start * hidden..rows.end * hidden]);
            sequences.push(RecordedSequence::new(&tokens[start..start + length], *prompt_len, &depths[rows]));
            start += length;
        }
        let n: usize = sequences.iter().map(|s| s.depths.len()).sum();
        let mut gradients = Gradients::new(&self.cpu);
        let teacher = (self.weights.unembedding(), &teacher_hidden[..]);
        let sums =
            student_pass(decoder, &self.policy, teacher, &sequences, &settings, n, Some(&mut gradients)).unwrap();
        (sums.loss(settings.exit_weight), gradients.into_host())
    }
}

/// Largest difference of a gradient relative to the largest entry of the reference.
fn check_gradients(golden: &Golden, prefix: &str, actual: &Named) {
    let mut n = 0;
    for (name, (_, expected)) in golden.floats.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let name = &name[prefix.len()..];
        let actual = actual.get(name).unwrap_or_else(|| panic!("no gradient of {name}"));
        assert_near(actual, expected, 1e-3, 0.0, &format!("{prefix}{name}"));
        n += 1;
    }
    assert!(n > 20, "only {n} gradients compared");
}

fn settings(direction: KlDirection) -> LossSettings {
    LossSettings { exit_weight: 0.7, direction, detach_heads: false, trained: Trained::Adapters }
}

#[test]
fn loss_and_every_gradient_equal_autograd() {
    for name in ["tiny_llama", "tiny_qwen2"] {
        let case = Case::new(name);
        let decoder = Decoder::new(&case.cpu, &case.config, &case.weights);
        for (direction, loss, prefix) in [
            (KlDirection::Reverse, "loss_reverse", "grad_reverse."),
            (KlDirection::Forward, "loss_forward", "grad_forward."),
        ] {
            let (actual, gradients) = case.run(&decoder, settings(direction));
            let expected = f64::from(case.golden.floats[loss].1[0]);
            assert!((actual - expected).abs() < 1e-5 * expected.abs().max(1.0), "{name} {loss}: {actual} {expected}");
            check_gradients(&case.golden, prefix, &gradients);
            // Frozen parameters get none.
            assert!(gradients.keys().all(|name| name.starts_with("layers.") || name.starts_with("head.")));
        }
        let detached = LossSettings { detach_heads: true, ..settings(KlDirection::Reverse) };
        check_gradients(&case.golden, "grad_detached.", &case.run(&decoder, detached).1);
    }
}

#[test]
fn full_parameter_gradients_equal_autograd() {
    for name in ["tiny_llama", "tiny_qwen2"] {
        let case = Case::new(name);
        let decoder = Decoder::widened(&case.cpu, &case.config, &case.weights);
        let full = LossSettings { trained: Trained::Full, ..settings(KlDirection::Reverse) };
        let (_, gradients) = case.run(&decoder, full);
        check_gradients(&case.golden, "grad_full.", &gradients);
        // Every parameter of the model gets a gradient that is not zero everywhere.
        for (parameter, _) in case.weights.parameters() {
            let gradient = gradients.get(&parameter).unwrap_or_else(|| panic!("no gradient of {parameter}"));
            assert!(gradient.iter().any(|g| *g != 0.0), "{parameter}: gradient is zero");
        }
    }
}

/// The compacted forward equals the masked reference: hidden states, exit logits, teacher hidden states, lens KLs.
#[test]
fn compacted_forward_equals_the_masked_reference() {
    for name in ["tiny_llama", "tiny_qwen2"] {
        let case = Case::new(name);
        let decoder = Decoder::new(&case.cpu, &case.config, &case.weights);
        let tokens: Vec<u32> = case.golden.integers["token_ids"].iter().map(|t| *t as u32).collect();
        let depths = &case.golden.integers["depths"];
        let mut batch = PackedBatch::new();
        let mut start = 0;
        for length in &case.golden.integers["lengths"] {
            batch.push(&tokens[start..start + length], case.config.vocab_size, 4096).unwrap();
            start += length;
        }
        let candidates = case.policy.heads.candidates.clone();
        let close = |actual: &[f32], expected: &[f32], what: &str| {
            assert_near(actual, expected, 0.0, 1e-4, &format!("{name} {what}"));
        };
        let forward = decoder.forward(Some(&case.policy), &batch, depths, &candidates, false);
        close(decoder.final_norm(&forward.residual).values(), &case.golden.floats["final_hidden"].1, "final hidden");
        for (c, candidate) in candidates.iter().enumerate() {
            let logits = case.policy.exit_logits(c, &forward.at_candidates[c], case.config.rms_norm_eps);
            let mut all = vec![0.0; tokens.len()];
            for (row, z) in forward.reached[c].iter().zip(logits) {
                all[*row as usize] = z;
            }
            close(&all, &case.golden.floats[&format!("exit_logits.{candidate}")].1, "exit logits");
        }
        let full = vec![case.config.n_layers; tokens.len()];
        let teacher = decoder.forward(None, &batch, &full, &candidates, false);
        let final_hidden = decoder.final_norm(&teacher.residual);
        close(final_hidden.values(), &case.golden.floats["teacher_final_hidden"].1, "teacher hidden");
        let lenses: Vec<Rows> = teacher.at_candidates.iter().map(|x| decoder.final_norm(x)).collect();
        let lenses: Vec<&Rows> = lenses.iter().collect();
        let readout = Readout { hidden: &final_hidden, weight: decoder.unembedding() };
        let kls: Vec<f32> = case
            .cpu
            .lens_kl(readout, &lenses, &tokens, false)
            .iter()
            .flat_map(|row| &row.lenses)
            .map(|lens| lens.kl)
            .collect();
        close(&kls, &case.golden.floats["teacher_lens_kl"].1, "lens KL");
    }
}

/// An adapter on every other block, of numbers between -0.25 and 0.25.
fn start_adapter(config: &ModelConfig) -> Lora {
    let value = |number, factor, i| ((i * 37 + (number + 50 * factor) * 11) % 33) as f32 / 64.0 - 0.25;
    adapters(config, (3, 1.5), (0..config.n_layers).step_by(2), value)
}

/// `W + (alpha / r) B A`, in f64, by hand.
fn merged(weights: &ModelWeights, adapter: &Lora) -> ModelWeights {
    let mut merged = weights.clone();
    for ((block, projection), pair) in &adapter.pairs {
        let linear = merged.layers[*block].projection_mut(*projection);
        let (rows, columns, rank) = (linear.weight.rows(), linear.weight.columns(), adapter.rank);
        let (a, b) = (pair.a.to_f32(), pair.b.to_f32());
        let product = |row: usize, column: usize| -> f64 {
            (0..rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column])).sum()
        };
        let scale = f64::from(adapter.alpha) / rank as f64;
        let weights = linear.weight.to_f32();
        let values =
            (0..rows * columns).map(|i| (f64::from(weights[i]) + scale * product(i / columns, i % columns)) as f32);
        linear.weight = Matrix::from_f32(rows, columns, values.collect()).unwrap();
    }
    merged
}

#[test]
fn a_start_adapter_is_as_if_merged_into_the_weights_and_gets_no_gradient() {
    for name in ["tiny_llama", "tiny_qwen2"] {
        let case = Case::new(name);
        let adapter = start_adapter(&case.config);
        let reference = Decoder::new(&case.cpu, &case.config, &merged(&case.weights, &adapter));
        let bare = Decoder::new(&case.cpu, &case.config, &case.weights);
        let weights = ModelWeights { start_adapter: Some(adapter), ..case.weights.clone() };
        let beside = Decoder::new(&case.cpu, &case.config, &weights);
        let folded = Decoder::widened(&case.cpu, &case.config, &weights);
        assert!(beside.export().start_adapter.is_some() && folded.export().start_adapter.is_none());

        let settings = settings(KlDirection::Reverse);
        let (expected_loss, expected) = case.run(&reference, settings);
        let (bare_loss, _) = case.run(&bare, settings);
        assert!((bare_loss - expected_loss).abs() > 1e-2, "{name}: the adapter does nothing: {bare_loss}");
        for decoder in [&beside, &folded] {
            let (loss, gradients) = case.run(decoder, settings);
            assert!((loss - expected_loss).abs() <= 1e-4 * expected_loss.abs(), "{name}: {loss}, not {expected_loss}");
            // The adapters and heads that are trained, and nothing else.
            assert!(gradients.keys().eq(expected.keys()), "{name}: {:?}", gradients.keys());
            for (parameter, expected) in &expected {
                assert_near(&gradients[parameter], expected, 1e-3, 0.0, &format!("{name}, {parameter}"));
            }
        }
    }
}
