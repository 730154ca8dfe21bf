//! When a token stops in depth: the exit decision at a candidate.

use crate::random::uniform;

/// How exits are decided. Token 0 of a response and all prompt tokens always run at full depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Exits {
    /// Every token runs at full depth; exit heads are not read.
    #[default]
    Off,
    /// Drawn from the heads' hazards `sigmoid(z + offset)` (arXiv 2603.21376).
    Sampled {
        /// Added to every exit logit: positive exits earlier.
        offset: f32,
    },
    /// Every token stops at this depth (blocks).
    Fixed(usize),
    /// Token `t` stops at depth `[t]` (blocks); tokens beyond the list run at full depth. For replaying records.
    Recorded(Vec<usize>),
}

/// What happened at a candidate that a token reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitReading {
    /// The candidate's depth (blocks).
    pub depth: usize,
    /// Exit logit, without offset.
    pub logit: f32,
    /// Probability to stop here, offset included.
    pub hazard: f32,
    /// Whether the token stopped here.
    pub exited: bool,
}

impl Exits {
    /// Added to every exit logit.
    pub(crate) fn offset(&self) -> f32 {
        if let Self::Sampled { offset } = self { *offset } else { 0.0 }
    }

    /// Whether response token `step` (not 0), having reached candidate number `head` at `depth`, stops there.
    pub(crate) fn stops(&self, hazard: f32, depth: usize, seed: u64, sequence: u64, step: usize, head: usize) -> bool {
        match self {
            Self::Off => false,
            Self::Sampled { .. } => uniform(seed, sequence, step as u64, head as u32) < f64::from(hazard),
            Self::Fixed(fixed) => *fixed == depth,
            Self::Recorded(depths) => depths.get(step) == Some(&depth),
        }
    }

    /// Depths at which tokens may stop without a head there.
    pub(crate) fn extra_depths(&self) -> Vec<usize> {
        match self {
            Self::Off | Self::Sampled { .. } => Vec::new(),
            Self::Fixed(depth) => vec![*depth],
            Self::Recorded(depths) => depths.clone(),
        }
    }
}
