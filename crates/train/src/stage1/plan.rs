//! Which samples an optimiser step trains on, and how they are packed: a function of the seed and the lengths alone.
//!
//! A step takes whole traces, in the order of the epoch, each with all of its depth patterns, while their rows fit into
//! `tokens_per_step * accumulation`; it takes at least one. Its samples are then packed, in order, into micro batches of
//! at most `tokens_per_step` rows; a longer sample is alone in its own. So an interrupted run finds its place by counting
//! steps, and nothing else of the data's position has to be saved.

use crate::order::epoch_order;
use aloud_engine::read::reading::group_by_rows;

/// One use of a trace with a depth pattern of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Index of the trace in its store.
    pub trace: usize,
    /// Number of the pattern, from 0.
    pub pattern: u32,
}

/// The samples of one optimiser step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Samples that are computed together.
    pub micro_batches: Vec<Vec<Sample>>,
}

impl PlannedStep {
    /// All samples of the step, in order.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.micro_batches.iter().flatten().copied()
    }
}

/// What a plan follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seed of the order of the traces.
    pub seed: u64,
    /// Traces to train on: index in the store, and rows (prompt and response tokens) of one sample.
    pub traces: Vec<(usize, usize)>,
    /// Depth patterns of a trace in a step.
    pub exit_samples: u32,
    /// Most rows of a micro batch.
    pub tokens_per_step: usize,
    /// Micro batches of a step, if they are full.
    pub accumulation: u32,
}

impl Plan {
    /// The steps of an epoch, which together use every trace once with every pattern.
    pub fn epoch(&self, epoch: u32) -> Vec<PlannedStep> {
        let limit = self.tokens_per_step.saturating_mul(self.accumulation as usize);
        let mut steps = Vec::new();
        let (mut step, mut n_rows) = (Vec::new(), 0_usize);
        for position in epoch_order(self.seed, epoch, (0..self.traces.len()).collect()) {
            let Some(&(trace, len)) = self.traces.get(position) else { continue };
            let trace_rows = len.saturating_mul(self.exit_samples as usize);
            if !step.is_empty() && n_rows.saturating_add(trace_rows) > limit {
                steps.push(self.pack(epoch, &step));
                step.clear();
                n_rows = 0;
            }
            step.push((trace, len));
            n_rows = n_rows.saturating_add(trace_rows);
        }
        if !step.is_empty() {
            steps.push(self.pack(epoch, &step));
        }
        steps
    }

    fn pack(&self, epoch: u32, traces: &[(usize, usize)]) -> PlannedStep {
        let samples =
            traces.iter().flat_map(|&(trace, len)| (0..self.exit_samples).map(move |pattern| (trace, len, pattern)));
        let packs = group_by_rows(samples, |(_, len, _)| len, self.tokens_per_step);
        let sample = |(trace, _, pattern)| Sample { trace, pattern };
        let micro_batches = packs.into_iter().map(|pack| pack.into_iter().map(sample).collect()).collect();
        PlannedStep { epoch, micro_batches }
    }
}
