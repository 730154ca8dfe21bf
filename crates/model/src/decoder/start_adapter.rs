//! The start adapter: a frozen low-rank adapter that is part of the base model, beside the one that is trained.

use aloud_kernels::backend::Backend;
use aloud_kernels::matrix::Matrix;

use super::{Decoder, DeviceLinear};
use crate::lora::{Lora, LoraPair, Projection};
use crate::weights::{LinearWeights, ModelWeights};

/// Low-rank factors on the device that are never trained.
pub(crate) struct FrozenPair<B: Backend> {
    pub(crate) a: B::Matrix,
    pub(crate) b: B::Matrix,
    /// `alpha / r`.
    pub(crate) scale: f32,
}

impl<B: Backend> FrozenPair<B> {
    /// The factors of the projection `at` (block, projection), if the adapter has some there.
    pub(super) fn of(backend: &B, adapter: &Lora, at: (usize, Projection)) -> Option<Self> {
        let pair = adapter.pairs.get(&at)?;
        Some(Self { a: backend.matrix(&pair.a), b: backend.matrix(&pair.b), scale: adapter.scale() })
    }

    /// Adds `(alpha / r) B A x` to `out`.
    pub(super) fn add_forward(&self, backend: &B, x: &B::Rows, out: &mut B::Rows) {
        let low = backend.linear_forward(x, &self.a, None);
        backend.linear_add_forward(&low, &self.b, self.scale, out);
    }

    /// Adds the gradient of `x` through the adapter to `d_x`; the factors get none.
    pub(super) fn add_backward_input(&self, backend: &B, d_out: &B::Rows, d_x: &mut B::Rows) {
        let mut d_low = backend.zeros(backend.n_rows(d_out), backend.matrix_shape(&self.a).0);
        backend.linear_backward_input(d_out, &self.b, self.scale, &mut d_low);
        backend.linear_backward_input(&d_low, &self.a, 1.0, d_x);
    }
}

impl<B: Backend> Decoder<B> {
    /// Whether a start adapter is computed beside the weights.
    pub fn has_start_adapter(&self) -> bool {
        let has = |linear: &DeviceLinear<B>| linear.start.is_some();
        self.layers.iter().any(|layer| layer.linears.iter().any(has))
    }
}

/// Adds the start adapter to weights that are f32 already, and takes it away.
pub(super) fn fold(weights: &mut ModelWeights) {
    let Some(adapter) = weights.start_adapter.take() else { return };
    for ((block, projection), pair) in &adapter.pairs {
        if let Some(layer) = weights.layers.get_mut(*block) {
            add_product(layer.projection_mut(*projection), pair, adapter.scale());
        }
    }
}

/// `W += scale * B A`.
fn add_product(linear: &mut LinearWeights, pair: &LoraPair, scale: f32) {
    let (rows, columns) = (linear.weight.rows(), linear.weight.columns());
    let (a, b) = (pair.a.to_f32(), pair.b.to_f32());
    let (rank, mut values) = (pair.a.rows(), linear.weight.to_f32());
    if columns > 0 && rank > 0 {
        for (row, factors) in values.chunks_exact_mut(columns).zip(b.chunks_exact(rank)) {
            for (factor, a_row) in factors.iter().zip(a.chunks_exact(columns)) {
                row.iter_mut().zip(a_row).for_each(|(value, a)| *value += scale * factor * a);
            }
        }
    }
    // The length is that of the shape, by construction.
    if let Ok(matrix) = Matrix::from_f32(rows, columns, values) {
        linear.weight = matrix;
    }
}
