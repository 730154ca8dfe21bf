//! Low-rank adapters (LoRA, arXiv 2106.09685): `y = W x + (alpha / r) B A x`, `A: [r, in]`, `B: [out, r]`.

use std::collections::BTreeMap;

use aloud_base::digest::Digest;
use aloud_kernels::matrix::Matrix;

use crate::config::ModelConfig;

/// A linear layer of a block, by its name in published checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// `self_attn.q_proj`
    QProj,
    /// `self_attn.k_proj`
    KProj,
    /// `self_attn.v_proj`
    VProj,
    /// `self_attn.o_proj`
    OProj,
    /// `mlp.gate_proj`
    GateProj,
    /// `mlp.up_proj`
    UpProj,
    /// `mlp.down_proj`
    DownProj,
}

impl Projection {
    /// All projections, in the order of computation.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// Module path inside a block, as in published checkpoints: `self_attn.q_proj`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }

    /// Last part of the path: `q_proj`, the name PEFT uses in `target_modules`.
    pub fn name(self) -> &'static str {
        self.path().rsplit('.').next().unwrap_or_default()
    }

    /// Hugging Face name of its weight in a block.
    pub(crate) fn weight_name(self, block: usize) -> String {
        format!("model.layers.{block}.{}.weight", self.path())
    }

    /// Hugging Face name of its bias in a block.
    pub(crate) fn bias_name(self, block: usize) -> String {
        format!("model.layers.{block}.{}.bias", self.path())
    }

    /// Whether it has a bias in a model of this shape.
    pub fn has_bias(self, config: &ModelConfig) -> bool {
        match self {
            Self::QProj | Self::KProj | Self::VProj => config.qkv_bias,
            Self::OProj => config.o_bias,
            Self::GateProj | Self::UpProj | Self::DownProj => false,
        }
    }

    /// `[out, in]` of the weight in a model of this shape.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        match self {
            Self::QProj => (config.query_size(), hidden),
            Self::KProj | Self::VProj => (config.key_value_size(), hidden),
            Self::OProj => (hidden, config.query_size()),
            Self::GateProj | Self::UpProj => (intermediate, hidden),
            Self::DownProj => (hidden, intermediate),
        }
    }
}

/// The two factors of one adapted projection, f32.
#[derive(Clone, Debug)]
pub struct LoraPair<M = Matrix> {
    /// `[r, in]`.
    pub a: M,
    /// `[out, r]`, zero at the start so that training begins at the base model.
    pub b: M,
}

/// Low-rank adapters of a whole model, in memory or, with a backend's matrices, on its device.
#[derive(Clone, Debug)]
pub struct Lora<M = Matrix> {
    /// Rank `r`.
    pub rank: usize,
    /// `alpha`: the adapter's output is scaled by `alpha / r`.
    pub alpha: f32,
    /// The factors by (block, projection).
    pub pairs: BTreeMap<(usize, Projection), LoraPair<M>>,
}

impl<M> Lora<M> {
    /// `alpha / r`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// The same adapters in another kind of memory.
    pub(crate) fn map<'a, N>(&'a self, mut matrix: impl FnMut(&'a M) -> N) -> Lora<N> {
        let pairs = self.pairs.iter().map(|(at, pair)| (*at, LoraPair { a: matrix(&pair.a), b: matrix(&pair.b) }));
        Lora { rank: self.rank, alpha: self.alpha, pairs: pairs.collect() }
    }
}

impl Lora {
    /// SHA-256 (hexadecimal digits) over rank, `alpha` and all factors: what identifies an adapter, whatever number format
    /// its file has.
    pub fn sha256(&self) -> String {
        let mut hash = Digest::new();
        hash.add(format!("lora rank {} alpha bits {:08x}\n", self.rank, self.alpha.to_bits()));
        for ((block, projection), pair) in &self.pairs {
            for (factor, matrix) in [('A', &pair.a), ('B', &pair.b)] {
                let (rows, columns) = (matrix.rows(), matrix.columns());
                hash.add(format!("{block} {} {factor} [{rows}, {columns}]\n", projection.path()));
                let bytes: Vec<u8> = matrix.to_f32().iter().flat_map(|value| value.to_le_bytes()).collect();
                hash.add(bytes);
            }
        }
        hash.digits()
    }

    /// Checks the shapes of all factors against the projections that they are added to.
    ///
    /// # Errors
    /// For the first factor that does not fit.
    pub fn check_fits(&self, config: &ModelConfig) -> Result<(), MisfitError> {
        for ((block, projection), pair) in &self.pairs {
            let (outputs, inputs) = projection.shape(config);
            let expected = [[self.rank, inputs], [outputs, self.rank]];
            let found = [[pair.a.rows(), pair.a.columns()], [pair.b.rows(), pair.b.columns()]];
            if *block >= config.n_layers || found != expected {
                let (block, projection, n_blocks) = (*block, *projection, config.n_layers);
                return Err(MisfitError { block, projection, found, n_blocks, expected });
            }
        }
        Ok(())
    }
}

/// An adapter that was made for a model of another shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the adapter of block {block}, {}, has factors of shapes {:?} and {:?}; the base model has {n_blocks} blocks and needs {:?} \
     and {:?}", projection.path(), found[0], found[1], expected[0], expected[1]
)]
pub struct MisfitError {
    /// Block of the factors.
    pub block: usize,
    /// Projection of the factors.
    pub projection: Projection,
    /// Shapes of `A` and `B` in the adapter.
    pub found: [[usize; 2]; 2],
    /// Number of blocks of the model.
    pub n_blocks: usize,
    /// Shapes of `A` and `B` that the model needs.
    pub expected: [[usize; 2]; 2],
}
