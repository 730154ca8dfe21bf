//! Propagation maps: what is added to the keys and values of residuals that are frozen, block by block, so that later tokens read
//! something that the block can use. With exits off nothing is frozen, and the model is the base.

use std::collections::BTreeMap;

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::matrix::Matrix;

use crate::checkpoint::files::{FileError, Tensor, TensorFile};
use crate::config::ModelConfig;
use crate::lora::LoraPair;

/// The maps of one block: `P^k` and `P^v`, of the block's normed input.
#[derive(Clone, Debug)]
pub struct PropagationMaps<M = Matrix> {
    /// Added to keys, before the norm of keys and rotation: `A` `[r, H]`, `B` `[key/value size, r]`.
    pub keys: LoraPair<M>,
    /// Added to values, of the same shapes.
    pub values: LoraPair<M>,
}

/// The propagation maps of a model, in memory or, with a backend's matrices, on its device.
#[derive(Clone, Debug)]
pub struct ExitPropagation<M = Matrix> {
    /// The maps by block: every block that a frozen residual can meet.
    pub maps: BTreeMap<usize, PropagationMaps<M>>,
}

impl<M> PropagationMaps<M> {
    /// The factors by name.
    pub fn factors(&self) -> [(&'static str, &M); 4] {
        let Self { keys, values } = self;
        [("k.a", &keys.a), ("k.b", &keys.b), ("v.a", &values.a), ("v.b", &values.b)]
    }

    /// The same, to be changed.
    pub(crate) fn factors_mut(&mut self) -> [(&'static str, &mut M); 4] {
        let Self { keys, values } = self;
        [("k.a", &mut keys.a), ("k.b", &mut keys.b), ("v.a", &mut values.a), ("v.b", &mut values.b)]
    }
}

impl<M> ExitPropagation<M> {
    /// The same maps in another kind of memory.
    pub(crate) fn map<'a, N>(&'a self, mut matrix: impl FnMut(&'a M) -> N) -> ExitPropagation<N> {
        let mut pair = |pair: &'a LoraPair<M>| LoraPair { a: matrix(&pair.a), b: matrix(&pair.b) };
        let maps = self
            .maps
            .iter()
            .map(|(block, maps)| (*block, PropagationMaps { keys: pair(&maps.keys), values: pair(&maps.values) }));
        ExitPropagation { maps: maps.collect() }
    }
}

/// Name of a factor: `propagation.7.k.a`.
pub(crate) fn propagation_name(block: usize, factor: &str) -> String {
    format!("propagation.{block}.{factor}")
}

impl ExitPropagation {
    /// Maps of this rank that add nothing yet: `A` uniform in `+-1/sqrt(H)`, `B` zero. `None` for rank 0.
    pub fn new(rank: usize, candidates: &[usize], config: &ModelConfig, seed: u64) -> Option<Self> {
        let first = *candidates.first().filter(|_| rank > 0)?;
        let (hidden, width) = (config.hidden_size, config.key_value_size());
        let bound = 1.0 / (hidden as f64).sqrt();
        let pair = |block: usize, which: u64| {
            let mut random = KeyedRandom::new(seed, Domain::PROPAGATION_INIT, [block as u64, which]);
            let mut value = |at: usize| ((2.0 * random.uniform_at(at as u64, 0) - 1.0) * bound) as f32;
            let a = Matrix::from_f32(rank, hidden, (0..rank * hidden).map(&mut value).collect());
            let b = Matrix::from_f32(width, rank, vec![0.0; width * rank]);
            Some(LoraPair { a: a.ok()?, b: b.ok()? })
        };
        let maps = |block| Some((block, PropagationMaps { keys: pair(block, 0)?, values: pair(block, 1)? }));
        Some(Self { maps: (first..config.n_layers).map(maps).collect::<Option<_>>()? })
    }

    /// The rank of the maps.
    pub fn rank(&self) -> usize {
        self.maps.values().next().map_or(0, |maps| maps.keys.a.rows())
    }

    /// The factors as tensors of a file, by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let tensor = |matrix: &Matrix| Tensor::from_f32(&[matrix.rows(), matrix.columns()], &matrix.to_f32());
        let of_block = |(block, maps): (&usize, &PropagationMaps)| {
            maps.factors().map(|(name, factor)| Some((propagation_name(*block, name), tensor(factor)?)))
        };
        self.maps.iter().flat_map(of_block).flatten().collect()
    }

    /// Reads the maps of the blocks from the first candidate on.
    pub(crate) fn read(
        file: &TensorFile,
        rank: usize,
        candidates: &[usize],
        n_blocks: usize,
        hidden_size: usize,
    ) -> Result<Self, FileError> {
        let mut maps = BTreeMap::new();
        for block in candidates.first().copied().unwrap_or(n_blocks)..n_blocks {
            let factor = |name: &str, rows: Option<usize>, columns: usize| {
                let name = propagation_name(block, name);
                let rows = match rows {
                    Some(rows) => rows,
                    None => file.info(&name)?.shape.first().copied().unwrap_or_default(),
                };
                let values = file.read_finite_f32(&name, &[rows, columns])?;
                Matrix::from_f32(rows, columns, values)
                    .map_err(|error| FileError::content(file.path(), format!("tensor `{name}`"), "a matrix", error))
            };
            let pair = |which: &str| -> Result<LoraPair, FileError> {
                let a = factor(&format!("{which}.a"), Some(rank), hidden_size)?;
                Ok(LoraPair { a, b: factor(&format!("{which}.b"), None, rank)? })
            };
            maps.insert(block, PropagationMaps { keys: pair("k")?, values: pair("v")? });
        }
        Ok(Self { maps })
    }
}
