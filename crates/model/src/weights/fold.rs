//! Adapters folded into the weights that they adapt: `W + (alpha / r) B A`, in f32. The one place that does.

use std::collections::BTreeSet;

use aloud_kernels::matrix::Matrix;

use super::{LinearWeights, ModelWeights};
use crate::lora::{Lora, LoraPair};

impl ModelWeights {
    /// Folds the start adapter, if there is one, into the weights and takes it away. Returns as [`ModelWeights::fold`].
    pub fn fold_start_adapter(&mut self) -> BTreeSet<String> {
        self.start_adapter.take().map(|adapter| self.fold(&adapter)).unwrap_or_default()
    }

    /// Adds an adapter, which fits the model ([`Lora::check_fits`]), to the weights. Matrices that it changes are f32 then; those
    /// that it leaves alone, or adapts with a factor of zeros, stay as they are, bit for bit. Returns the Hugging Face names of
    /// the changed ones.
    pub fn fold(&mut self, adapter: &Lora) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for ((block, projection), pair) in &adapter.pairs {
            if let Some(layer) = self.layers.get_mut(*block)
                && add_product(layer.projection_mut(*projection), pair, adapter.scale())
            {
                changed.insert(projection.weight_name(*block));
            }
        }
        changed
    }
}

/// `W += scale * B A`; whether anything was added.
fn add_product(linear: &mut LinearWeights, pair: &LoraPair, scale: f32) -> bool {
    let (rows, columns) = (linear.weight.rows(), linear.weight.columns());
    let (a, b) = (pair.a.to_f32(), pair.b.to_f32());
    let rank = pair.a.rows();
    let is_zero = |factor: &[f32]| factor.iter().all(|value| *value == 0.0);
    if columns == 0 || rank == 0 || is_zero(&a) || is_zero(&b) {
        return false;
    }
    let mut values = linear.weight.to_f32();
    for (row, factors) in values.chunks_exact_mut(columns).zip(b.chunks_exact(rank)) {
        for (factor, a_row) in factors.iter().zip(a.chunks_exact(columns)) {
            row.iter_mut().zip(a_row).for_each(|(value, a)| *value += scale * factor * a);
        }
    }
    // The length is that of the shape, by construction.
    let Ok(matrix) = Matrix::from_f32(rows, columns, values) else { return false };
    linear.weight = matrix;
    true
}
