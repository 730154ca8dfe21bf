//! Low-rank adapters (LoRA, arXiv 2106.09685): `y = W x + (alpha / r) B A x`, `A: [r, in]`, `B: [out, r]`.

use std::collections::BTreeMap;

use aloud_kernels::Matrix;

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
}

/// The two factors of one adapted projection, f32.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub a: Matrix,
    /// `[out, r]`, zero at the start so that training begins at the base model.
    pub b: Matrix,
}

/// Low-rank adapters of a whole model.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Rank `r`.
    pub rank: usize,
    /// `alpha`: the adapter's output is scaled by `alpha / r`.
    pub alpha: f32,
    /// The factors by (block, projection).
    pub pairs: BTreeMap<(usize, Projection), LoraPair>,
}

impl Lora {
    /// `alpha / r`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}
