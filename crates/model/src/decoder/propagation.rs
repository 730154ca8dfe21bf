//! What propagation maps add to the keys and values of frozen rows, and the backward of it.

use aloud_kernels::backend::{Backend, Term};

use super::{Decoder, Gradients, Policy};
use crate::exit_propagation::{PropagationMaps, propagation_name};

impl<B: Backend> Decoder<B> {
    /// Adds to the keys and values of `block`, before the norm of keys and rotation, what the maps make of the normed inputs of
    /// frozen rows: those that are not `active`.
    pub(super) fn propagate(
        &self,
        policy: Option<&Policy<B>>,
        block: usize,
        normed: &B::Rows,
        active: &[u32],
        keys: &mut B::Rows,
        values: &mut B::Rows,
    ) {
        let backend = &self.backend;
        let Some((maps, frozen)) = Self::frozen_rows(policy, block, active, backend.n_rows(normed)) else { return };
        let lows = backend
            .linears_forward(&backend.gather_rows(normed, &frozen), &[(&maps.keys.a, None), (&maps.values.a, None)]);
        let width = self.config.key_value_size();
        let (mut to_keys, mut to_values) = (backend.zeros(frozen.len(), width), backend.zeros(frozen.len(), width));
        let term = |rows, weight| Term { rows, weight, scale: 1.0 };
        let terms = [term(&lows[0], &maps.keys.b), term(&lows[1], &maps.values.b)];
        backend.linears_add_forward(&terms, &mut [&mut to_keys, &mut to_values]);
        backend.scatter_add_rows(keys, Some(&frozen), &to_keys);
        backend.scatter_add_rows(values, Some(&frozen), &to_values);
    }

    /// Backward of [`Self::propagate`]: adds the gradients of the factors, and that of the normed inputs to `d_normed`.
    pub(super) fn propagate_backward(
        &self,
        policy: Option<&Policy<B>>,
        block: usize,
        normed: &B::Rows,
        active: &[u32],
        (d_keys, d_values): (&B::Rows, &B::Rows),
        d_normed: &mut B::Rows,
        gradients: &mut Gradients<B>,
    ) {
        let backend = &self.backend;
        let Some((maps, frozen)) = Self::frozen_rows(policy, block, active, backend.n_rows(normed)) else { return };
        let x = backend.gather_rows(normed, &frozen);
        let mut d_lows = Vec::with_capacity(2);
        for (name, pair, d_out) in [("k", &maps.keys, d_keys), ("v", &maps.values, d_values)] {
            let d_out = backend.gather_rows(d_out, &frozen);
            let d_low = backend.linears_backward_input(&[Term { rows: &d_out, weight: &pair.b, scale: 1.0 }]);
            let low = backend.linear_forward(&x, &pair.a, None);
            let ((out, rank), (_, input)) = (backend.matrix_shape(&pair.b), backend.matrix_shape(&pair.a));
            let mut add = |factor: &str, (n, width), d_out: &B::Rows, x: &B::Rows| {
                let entry = gradients.entry(propagation_name(block, &format!("{name}.{factor}")), n, width);
                backend.linear_backward_weight(d_out, x, 1.0, entry);
            };
            add("b", (out, rank), &d_out, &low);
            add("a", (rank, input), &d_low, &x);
            d_lows.push((d_low, &pair.a));
        }
        let terms: Vec<_> = d_lows.iter().map(|(rows, weight)| Term { rows, weight: *weight, scale: 1.0 }).collect();
        backend.scatter_add_rows(d_normed, Some(&frozen), &backend.linears_backward_input(&terms));
    }

    /// The maps of a block and the rows that they are of; `None` if there are none of either.
    fn frozen_rows<'a>(
        policy: Option<&'a Policy<B>>,
        block: usize,
        active: &[u32],
        n_rows: usize,
    ) -> Option<(&'a PropagationMaps<B::Matrix>, Vec<u32>)> {
        let maps = policy?.propagation.as_ref()?.maps.get(&block)?;
        let mut active = active.iter().copied().peekable();
        let frozen: Vec<u32> = (0..n_rows as u32).filter(|row| active.next_if_eq(row).is_none()).collect();
        (!frozen.is_empty()).then_some((maps, frozen))
    }
}
