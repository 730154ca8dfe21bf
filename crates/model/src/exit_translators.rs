//! Exit translators: at each candidate a small map `T_d` of the residual in front of the final norm and the unembedding. A token
//! that stops there is read out through it, and so is the lens; keys and values do not see it.

use std::collections::BTreeMap;

use aloud_base::random::{Domain, KeyedRandom};
use aloud_kernels::matrix::Matrix;
use serde::{Deserialize, Serialize};

use crate::checkpoint::files::{FileError, Tensor, TensorFile};
use crate::config::ModelConfig;
use crate::lora::LoraPair;

/// How residuals at candidates are read out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitReadout {
    /// As they are: `T_d(x) = x` (arXiv 2603.21376).
    #[default]
    None,
    /// `T_d(x) = x + B A x`. A norm around it would change nothing: the map is linear.
    LowRank,
    /// `T_d(x) = x + W_down (silu(W_gate u) * W_up u)` with `u = x / rms(x)`: a block's MLP.
    Block,
}

impl ExitReadout {
    /// Whether residuals are read as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// The map at one candidate.
#[derive(Clone, Debug)]
pub enum Translator<M = Matrix> {
    /// `A` `[r, H]` and `B` `[H, r]`.
    LowRank(LoraPair<M>),
    /// `W_gate` and `W_up` `[I, H]`, `W_down` `[H, I]`.
    Block {
        /// `W_gate`.
        gate: M,
        /// `W_up`.
        up: M,
        /// `W_down`, zero at the start.
        down: M,
    },
}

impl<M> Translator<M> {
    /// Its matrices by name.
    pub fn matrices(&self) -> Vec<(&'static str, &M)> {
        match self {
            Self::LowRank(pair) => vec![("a", &pair.a), ("b", &pair.b)],
            Self::Block { gate, up, down } => vec![("gate", gate), ("up", up), ("down", down)],
        }
    }

    /// The same, to be changed.
    pub(crate) fn matrices_mut(&mut self) -> Vec<(&'static str, &mut M)> {
        match self {
            Self::LowRank(pair) => vec![("a", &mut pair.a), ("b", &mut pair.b)],
            Self::Block { gate, up, down } => vec![("gate", gate), ("up", up), ("down", down)],
        }
    }

    fn map<'a, N>(&'a self, matrix: &mut impl FnMut(&'a M) -> N) -> Translator<N> {
        match self {
            Self::LowRank(pair) => Translator::LowRank(LoraPair { a: matrix(&pair.a), b: matrix(&pair.b) }),
            Self::Block { gate, up, down } => {
                Translator::Block { gate: matrix(gate), up: matrix(up), down: matrix(down) }
            }
        }
    }
}

/// The translators of a model, in memory or, with a backend's matrices, on its device.
#[derive(Clone, Debug)]
pub struct ExitTranslators<M = Matrix> {
    /// Candidate depths, ascending, ...
    pub candidates: Vec<usize>,
    /// ... and the map at each.
    pub maps: Vec<Translator<M>>,
}

impl<M> ExitTranslators<M> {
    /// The same translators in another kind of memory.
    pub(crate) fn map<'a, N>(&'a self, mut matrix: impl FnMut(&'a M) -> N) -> ExitTranslators<N> {
        let maps = self.maps.iter().map(|map| map.map(&mut matrix)).collect();
        ExitTranslators { candidates: self.candidates.clone(), maps }
    }

    /// How they read out.
    pub fn readout(&self) -> ExitReadout {
        match self.maps.first() {
            None => ExitReadout::None,
            Some(Translator::LowRank(_)) => ExitReadout::LowRank,
            Some(Translator::Block { .. }) => ExitReadout::Block,
        }
    }
}

/// Name of one of a translator's matrices: `translator.5.a`.
pub(crate) fn translator_name(depth: usize, matrix: &str) -> String {
    format!("translator.{depth}.{matrix}")
}

/// Names and shapes of the matrices of a translator.
fn shapes(readout: ExitReadout, rank: usize, config: (usize, usize)) -> Vec<(&'static str, usize, usize)> {
    let (hidden, intermediate) = config;
    match readout {
        ExitReadout::None => Vec::new(),
        ExitReadout::LowRank => vec![("a", rank, hidden), ("b", hidden, rank)],
        ExitReadout::Block => {
            vec![("gate", intermediate, hidden), ("up", intermediate, hidden), ("down", hidden, intermediate)]
        }
    }
}

impl ExitTranslators {
    /// Translators that change nothing yet: the last product of each is zero, the others are uniform in `+-1/sqrt(H)`. `None`
    /// if residuals are read as they are. `rank` is that of low-rank maps.
    pub fn new(
        readout: ExitReadout,
        candidates: &[usize],
        rank: usize,
        config: &ModelConfig,
        seed: u64,
    ) -> Option<Self> {
        let bound = 1.0 / (config.hidden_size as f64).sqrt();
        let translator = |depth: &usize| {
            let shapes = shapes(readout, rank, (config.hidden_size, config.intermediate_size));
            let n = shapes.len();
            let matrices = shapes.into_iter().enumerate().map(|(i, (_, rows, columns))| {
                let mut random = KeyedRandom::new(seed, Domain::TRANSLATOR_INIT, [*depth as u64, i as u64]);
                let mut value = |at: usize| ((2.0 * random.uniform_at(at as u64, 0) - 1.0) * bound) as f32;
                let values = (0..rows * columns).map(|at| if i + 1 == n { 0.0 } else { value(at) }).collect();
                Matrix::from_f32(rows, columns, values).ok()
            });
            Self::translator(readout, matrices.collect::<Option<Vec<_>>>()?)
        };
        let maps = candidates.iter().map(translator).collect::<Option<Vec<_>>>()?;
        Some(Self { candidates: candidates.to_vec(), maps })
    }

    fn translator(readout: ExitReadout, matrices: Vec<Matrix>) -> Option<Translator> {
        let mut matrices = matrices.into_iter();
        let mut next = || matrices.next();
        match readout {
            ExitReadout::None => None,
            ExitReadout::LowRank => Some(Translator::LowRank(LoraPair { a: next()?, b: next()? })),
            ExitReadout::Block => Some(Translator::Block { gate: next()?, up: next()?, down: next()? }),
        }
    }

    /// The matrices as tensors of a file, by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let of_map = |(depth, map): (&usize, &Translator)| -> Vec<(String, Option<Tensor>)> {
            let tensor = |matrix: &Matrix| Tensor::from_f32(&[matrix.rows(), matrix.columns()], &matrix.to_f32());
            map.matrices().into_iter().map(|(name, matrix)| (translator_name(*depth, name), tensor(matrix))).collect()
        };
        let all = self.candidates.iter().zip(&self.maps).flat_map(of_map);
        all.filter_map(|(name, tensor)| Some((name, tensor?))).collect()
    }

    /// Reads translators of these candidates from a file.
    pub(crate) fn read(
        file: &TensorFile,
        readout: ExitReadout,
        candidates: &[usize],
        hidden_size: usize,
    ) -> Result<Option<Self>, FileError> {
        let mut maps = Vec::with_capacity(candidates.len());
        for depth in candidates {
            // The rank, or the width of the MLP, is the file's own.
            let first = if readout == ExitReadout::Block { "gate" } else { "a" };
            let inner = file.info(&translator_name(*depth, first))?.shape.first().copied().unwrap_or_default();
            let mut matrices = Vec::new();
            for (name, rows, columns) in shapes(readout, inner, (hidden_size, inner)) {
                let name = translator_name(*depth, name);
                let values = file.read_finite_f32(&name, &[rows, columns])?;
                matrices.extend(Matrix::from_f32(rows, columns, values));
            }
            maps.extend(Self::translator(readout, matrices));
        }
        Ok((!maps.is_empty()).then(|| Self { candidates: candidates.to_vec(), maps }))
    }
}
