//! Propagation maps on the committed tiny models: gradients by finite differences through whole passes, and nothing where nothing is
//! frozen.

use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;
use aloud_model::decoder::{Decoder, Gradients, PackedBatch, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::exit_propagation::ExitPropagation;

use crate::{data, load_directory, numbers};

struct Case {
    decoder: Decoder<Cpu>,
    batch: PackedBatch,
    depths: Vec<usize>,
    d_residual: Rows,
}

impl Case {
    fn new(name: &str) -> (Self, ExitPropagation) {
        let model = load_directory(&data("golden").join(name)).unwrap();
        let decoder = Decoder::new(&Cpu::new(1), &model.config, &model.weights);
        let mut maps = ExitPropagation::new(3, &[1, 3], &model.config, 5).unwrap();
        for (block, maps) in &mut maps.maps {
            for (i, pair) in [&mut maps.keys, &mut maps.values].into_iter().enumerate() {
                let values = numbers(pair.b.rows() * pair.b.columns(), block + i);
                pair.b = Matrix::from_f32(pair.b.rows(), pair.b.columns(), values).unwrap();
            }
        }
        let mut batch = PackedBatch::new();
        for tokens in [&[3u32, 14, 15, 9, 26, 5][..], &[2, 7, 18]] {
            batch.push(tokens, model.config.vocab_size, model.config.max_position_embeddings).unwrap();
        }
        let l = decoder.n_blocks();
        let depths = vec![l, 1, 3, l, 1, l, l, 3, l];
        let d_residual = Rows::new(model.config.hidden_size, numbers(model.config.hidden_size * depths.len(), 2));
        (Self { decoder, batch, depths, d_residual }, maps)
    }

    fn policy(&self, maps: &ExitPropagation) -> Policy<Cpu> {
        let heads = ExitHeads::new(vec![1, 3], HeadInput::Rms, self.decoder.config().hidden_size, &[0.1, 0.1]);
        Policy::new(self.decoder.backend(), None, heads).with_propagation(Some(maps))
    }

    /// A loss whose gradient by the residuals is `d_residual`.
    fn loss(&self, policy: &Policy<Cpu>) -> f64 {
        let residual = self.decoder.forward(Some(policy), &self.batch, &self.depths, &[1, 3], false).residual;
        residual.values().iter().zip(self.d_residual.values()).map(|(x, d)| f64::from(*x) * f64::from(*d)).sum()
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f32 = 1e-2;
    for name in ["tiny_llama", "tiny_qwen2"] {
        let (case, maps) = Case::new(name);
        let policy = case.policy(&maps);
        let forward = case.decoder.forward(Some(&policy), &case.batch, &case.depths, &[1, 3], true);
        let mut gradients = Gradients::new(case.decoder.backend());
        let d_residual = case.d_residual.clone();
        case.decoder.backward(Some(&policy), forward, &[1, 3], d_residual, &[], Trained::Exits, &mut gradients);
        let gradients = gradients.into_host();
        // Every factor of every block that a frozen row meets, and nothing else.
        assert_eq!(gradients.len(), 4 * (case.decoder.n_blocks() - 1), "{:?}", gradients.keys());
        for (name, gradient) in &gradients {
            assert!(gradient.iter().any(|value| *value != 0.0), "{name}");
            for at in (0..gradient.len()).step_by(37) {
                let moved = |by: f32| {
                    let mut policy = case.policy(&maps);
                    policy.update_parameters(&mut |changed, _, values| {
                        if changed == name {
                            values[at] += by;
                        }
                    });
                    case.loss(&policy)
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                let error = (f64::from(gradient[at]) - expected).abs();
                assert!(error < 3e-2 * expected.abs().max(0.3), "{name}[{at}]: {} for {expected}", gradient[at]);
            }
        }
    }
}

/// At full depth no bit changes; new maps change none anywhere.
#[test]
fn only_frozen_rows_have_anything_added() {
    let (case, maps) = Case::new("tiny_llama");
    let run = |policy: Option<&Policy<Cpu>>, depths: &[usize]| {
        case.decoder.forward(policy, &case.batch, depths, &[1, 3], false).residual
    };
    let (l, policy) = (case.decoder.n_blocks(), case.policy(&maps));
    let full = vec![l; case.depths.len()];
    assert_eq!(run(Some(&policy), &full), run(None, &full));
    assert_ne!(run(Some(&policy), &case.depths), run(None, &case.depths));
    let fresh = ExitPropagation::new(3, &[1, 3], case.decoder.config(), 5).unwrap();
    assert_eq!(run(Some(&case.policy(&fresh)), &case.depths), run(None, &case.depths));
    assert!(ExitPropagation::new(0, &[1, 3], case.decoder.config(), 5).is_none());
}
