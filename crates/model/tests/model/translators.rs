//! Exit translators on the committed tiny models: gradients by finite differences, and nothing where nothing stops.

use aloud_kernels::backend::Memory;
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::exit_translators::{ExitReadout, ExitTranslators, Translator};
use aloud_model::lora::LoraPair;

use crate::{data, load_directory, numbers};

struct Case {
    decoder: Decoder<Cpu>,
    translators: ExitTranslators,
    residual: Rows,
    depths: Vec<usize>,
    d_hidden: Rows,
}

impl Case {
    fn new(readout: ExitReadout) -> Self {
        let model = load_directory(&data("golden/tiny_llama")).unwrap();
        let decoder = Decoder::new(&Cpu::new(1), &model.config, &model.weights);
        let mut translators = ExitTranslators::new(readout, &[1, 3], 4, &model.config, 5).unwrap();
        for map in &mut translators.maps {
            let (Translator::LowRank(LoraPair { b: last, .. }) | Translator::Block { down: last, .. }) = map;
            let values = numbers(last.rows() * last.columns(), 3);
            *last = Matrix::from_f32(last.rows(), last.columns(), values).unwrap();
        }
        let (width, depths) = (model.config.hidden_size, vec![1, 3, 6, 3, 2, 1]);
        let residual = Rows::new(width, numbers(width * depths.len(), 1));
        let d_hidden = Rows::new(width, numbers(width * depths.len(), 2));
        Self { decoder, translators, residual, depths, d_hidden }
    }

    fn policy(&self, translators: &ExitTranslators) -> Policy<Cpu> {
        let heads = ExitHeads::new(vec![1, 3], HeadInput::Rms, self.decoder.config().hidden_size, &[0.1, 0.1]);
        Policy::new(self.decoder.backend(), None, heads).with_translators(Some(translators))
    }

    /// A loss whose gradient by the hidden states is `d_hidden`.
    fn loss(&self, translators: &ExitTranslators, residual: &Rows) -> f64 {
        let hidden = self.decoder.read_out(Some(&self.policy(translators)), residual, &self.depths);
        hidden.values().iter().zip(self.d_hidden.values()).map(|(h, d)| f64::from(*h) * f64::from(*d)).sum()
    }

    fn changed(&self, map: usize, name: &str, at: usize, by: f32) -> ExitTranslators {
        let mut policy = self.policy(&self.translators);
        policy.trains_translators = true;
        let changed = format!("translator.{}.{name}", self.translators.candidates[map]);
        policy.update_parameters(&mut |name, _, values| {
            if name == changed {
                values[at] += by;
            }
        });
        policy.translators().unwrap()
    }
}

fn assert_close(what: &str, gradient: f32, above: f64, below: f64, step: f32) {
    let expected = (above - below) / (2.0 * f64::from(step));
    let error = (f64::from(gradient) - expected).abs();
    assert!(error < 2e-2 * expected.abs().max(1.0), "{what}: {gradient} instead of {expected}");
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f32 = 1e-2;
    for readout in [ExitReadout::LowRank, ExitReadout::Block] {
        let case = Case::new(readout);
        let mut policy = case.policy(&case.translators);
        policy.trains_translators = true;
        let mut gradients = Gradients::new(case.decoder.backend());
        let (residual, depths) = (&case.residual, &case.depths[..]);
        let trained = Trained::Exits;
        let d_x =
            case.decoder.read_out_backward(Some(&policy), residual, depths, &case.d_hidden, trained, &mut gradients);
        let gradients = gradients.into_host();
        for at in (0..residual.values().len()).step_by(17) {
            let moved = |by: f32| {
                let mut values = residual.values().to_vec();
                values[at] += by;
                case.loss(&case.translators, &Rows::new(residual.width(), values))
            };
            let what = format!("{readout:?} residual {at}");
            assert_close(&what, d_x.values()[at], moved(STEP), moved(-STEP), STEP);
        }
        let mut n_matrices = 0;
        for (map, translator) in case.translators.maps.iter().enumerate() {
            for (name, matrix) in translator.matrices() {
                let depth = case.translators.candidates[map];
                let gradient = &gradients[&format!("translator.{depth}.{name}")];
                n_matrices += 1;
                assert!(gradient.iter().any(|value| *value != 0.0));
                for at in (0..matrix.rows() * matrix.columns()).step_by(29) {
                    let moved = |by: f32| case.loss(&case.changed(map, name, at, by), residual);
                    assert_close(&format!("{readout:?} {name} {at}"), gradient[at], moved(STEP), moved(-STEP), STEP);
                }
            }
        }
        // Held translators get no gradient, and no other parameter does.
        assert_eq!(gradients.len(), n_matrices);
        policy.trains_translators = false;
        let mut none = Gradients::new(case.decoder.backend());
        case.decoder.read_out_backward(Some(&policy), residual, depths, &case.d_hidden, trained, &mut none);
        assert!(none.into_host().is_empty());
    }
}

/// New translators change nothing, and rows at other depths never see any.
#[test]
fn only_rows_at_candidates_are_translated() {
    for readout in [ExitReadout::LowRank, ExitReadout::Block] {
        let case = Case::new(readout);
        let backend = case.decoder.backend();
        let plain = case.decoder.final_norm(&case.residual);
        let config = case.decoder.config();
        let fresh = case.policy(&ExitTranslators::new(readout, &[1, 3], 4, config, 5).unwrap());
        assert_eq!(case.decoder.read_out(Some(&fresh), &case.residual, &case.depths), plain);
        let policy = case.policy(&case.translators);
        let translated = case.decoder.read_out(Some(&policy), &case.residual, &case.depths);
        for (row, depth) in case.depths.iter().enumerate() {
            assert_eq!(translated.row(row) == plain.row(row), !matches!(depth, 1 | 3), "{readout:?} at depth {depth}");
        }
        let lens = case.decoder.lens(Some(&policy), 3, &case.residual);
        assert_eq!(lens.row(1), translated.row(1));
        assert_eq!(backend.n_rows(&lens), case.depths.len());
        assert!(ExitTranslators::new(ExitReadout::None, &[1, 3], 4, config, 5).is_none());
    }
}
