//! What the unembedding reads of residuals that stopped somewhere: through the translator of their depth, then the final norm;
//! and the backward of both.

use aloud_kernels::backend::{Backend, Term};
use aloud_kernels::rows::Rows;

use super::{Decoder, Gradients, Policy, Trained};
use crate::exit_translators::{Translator, translator_name};
use crate::weights::NORM;

impl<B: Backend> Decoder<B> {
    /// Hidden states after the final norm of residuals that stopped at `depths` (blocks, one a row): what the unembedding reads.
    /// Without a policy, or at full depth, no translator is asked.
    pub fn read_out(&self, policy: Option<&Policy<B>>, residual: &B::Rows, depths: &[usize]) -> B::Rows {
        match self.translated(policy, residual, depths) {
            None => self.final_norm(residual),
            Some(translated) => self.final_norm(&translated),
        }
    }

    /// Hidden states after the final norm of residuals at depth `depth` (blocks), whatever depth they go on to: the lens there.
    pub fn lens(&self, policy: Option<&Policy<B>>, depth: usize, residual: &B::Rows) -> B::Rows {
        self.read_out(policy, residual, &vec![depth; self.backend.n_rows(residual)])
    }

    /// Backward of [`Self::read_out`]: adds the gradients of the translators, if the policy trains them, and of the norm's gain,
    /// and returns that of the residuals.
    pub fn read_out_backward(
        &self,
        policy: Option<&Policy<B>>,
        residual: &B::Rows,
        depths: &[usize],
        d_hidden: &B::Rows,
        trained: Trained,
        gradients: &mut Gradients<B>,
    ) -> B::Rows {
        let translated = self.translated(policy, residual, depths);
        let mut d_residual =
            self.final_norm_backward(translated.as_ref().unwrap_or(residual), d_hidden, trained, gradients);
        for (depth, translator, rows) in translated_rows(policy, depths) {
            let (x, d_out) = (self.backend.gather_rows(residual, &rows), self.backend.gather_rows(&d_residual, &rows));
            let into = policy.is_some_and(|policy| policy.trains_translators).then_some(&mut *gradients);
            let d_x = self.translate_backward(depth, translator, &x, &d_out, into);
            self.backend.scatter_rows(&mut d_residual, &rows, &d_x);
        }
        d_residual
    }

    /// Residuals through the translators of their depths; `None` if no row has one.
    fn translated(&self, policy: Option<&Policy<B>>, residual: &B::Rows, depths: &[usize]) -> Option<B::Rows> {
        assert_eq!(depths.len(), self.backend.n_rows(residual), "one depth a row");
        let mut translated = None;
        for (_, translator, rows) in translated_rows(policy, depths) {
            let out = self.translate(translator, &self.backend.gather_rows(residual, &rows));
            self.backend.scatter_rows(translated.get_or_insert_with(|| residual.clone()), &rows, &out);
        }
        translated
    }

    /// `T(x)` of all rows.
    pub fn translate(&self, translator: &Translator<B::Matrix>, x: &B::Rows) -> B::Rows {
        let (inner, last) = match translator {
            Translator::LowRank(pair) => (self.backend.linear_forward(x, &pair.a, None), &pair.b),
            Translator::Block { gate, up, down } => {
                let (gate, up) = self.gate_and_up(gate, up, &self.normalised(x));
                (self.backend.swiglu_forward(&gate, &up), down)
            }
        };
        let mut out = x.clone();
        self.backend.linears_add_forward(&[Term { rows: &inner, weight: last, scale: 1.0 }], &mut [&mut out]);
        out
    }

    /// Gradient of the input of [`Self::translate`]; adds those of the matrices to `gradients`, if there are any.
    pub fn translate_backward(
        &self,
        depth: usize,
        translator: &Translator<B::Matrix>,
        x: &B::Rows,
        d_out: &B::Rows,
        mut gradients: Option<&mut Gradients<B>>,
    ) -> B::Rows {
        let backend = &self.backend;
        let mut add = |name: &str, matrix: &B::Matrix, d_out: &B::Rows, x: &B::Rows| {
            if let Some(gradients) = gradients.as_deref_mut() {
                let (out, input) = backend.matrix_shape(matrix);
                let entry = gradients.entry(translator_name(depth, name), out, input);
                backend.linear_backward_weight(d_out, x, 1.0, entry);
            }
        };
        let term = |rows, weight| Term { rows, weight, scale: 1.0 };
        let mut d_x = d_out.clone();
        match translator {
            Translator::LowRank(pair) => {
                let d_low = backend.linears_backward_input(&[term(d_out, &pair.b)]);
                add("b", &pair.b, d_out, &backend.linear_forward(x, &pair.a, None));
                add("a", &pair.a, &d_low, x);
                backend.scatter_add_rows(&mut d_x, None, &backend.linears_backward_input(&[term(&d_low, &pair.a)]));
            }
            Translator::Block { gate, up, down } => {
                let normed = self.normalised(x);
                let (gate_out, up_out) = self.gate_and_up(gate, up, &normed);
                let d_inner = backend.linears_backward_input(&[term(d_out, down)]);
                add("down", down, d_out, &backend.swiglu_forward(&gate_out, &up_out));
                let (d_gate, d_up) = backend.swiglu_backward(&gate_out, &up_out, &d_inner);
                add("gate", gate, &d_gate, &normed);
                add("up", up, &d_up, &normed);
                let d_normed = backend.linears_backward_input(&[term(&d_gate, gate), term(&d_up, up)]);
                let (gain, eps) = (self.no_gain(), self.config.rms_norm_eps);
                backend.rms_norm_backward(x, &gain, eps, &d_normed, &mut d_x, None);
            }
        }
        d_x
    }

    fn gate_and_up(&self, gate: &B::Matrix, up: &B::Matrix, normed: &B::Rows) -> (B::Rows, B::Rows) {
        let mut outs = self.backend.linears_forward(normed, &[(gate, None), (up, None)]).into_iter();
        match (outs.next(), outs.next()) {
            (Some(gate), Some(up)) => (gate, up),
            _ => panic!("two layers give two results"),
        }
    }

    /// Rows divided by their root mean square.
    fn normalised(&self, x: &B::Rows) -> B::Rows {
        self.backend.rms_norm_forward(x, &self.no_gain(), self.config.rms_norm_eps)
    }

    fn no_gain(&self) -> B::Rows {
        self.backend.upload(Rows::new(self.config.hidden_size, vec![1.0; self.config.hidden_size]))
    }

    /// Hidden states after the final norm, of residuals as they are.
    pub fn final_norm(&self, residual: &B::Rows) -> B::Rows {
        self.backend.rms_norm_forward(residual, &self.weights.norm, self.config.rms_norm_eps)
    }

    /// Backward of [`Decoder::final_norm`] on some rows: returns the gradient of the residual.
    pub fn final_norm_backward(
        &self,
        residual: &B::Rows,
        d_hidden: &B::Rows,
        trained: Trained,
        gradients: &mut Gradients<B>,
    ) -> B::Rows {
        let n = self.backend.n_rows(residual);
        let mut d_residual = self.backend.zeros(n, self.config.hidden_size);
        let d_gain = (trained == Trained::Full).then(|| gradients.entry(NORM.into(), 1, self.config.hidden_size));
        let eps = self.config.rms_norm_eps;
        self.backend.rms_norm_backward(residual, &self.weights.norm, eps, d_hidden, &mut d_residual, d_gain);
        d_residual
    }
}

/// Of the candidates with a translator and a row that stopped there: depth, translator, rows.
fn translated_rows<'a, B: Backend>(
    policy: Option<&'a Policy<B>>,
    depths: &'a [usize],
) -> impl Iterator<Item = (usize, &'a Translator<B::Matrix>, Vec<u32>)> {
    let all = policy.and_then(|policy| policy.translators.as_ref()).into_iter();
    all.flat_map(|all| all.candidates.iter().zip(&all.maps)).filter_map(move |(depth, translator)| {
        let at_depth = depths.iter().enumerate().filter(|(_, stopped)| *stopped == depth);
        let rows: Vec<u32> = at_depth.map(|(row, _)| row as u32).collect();
        (!rows.is_empty()).then_some((*depth, translator, rows))
    })
}
