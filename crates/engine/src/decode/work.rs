//! What a pass is given to do for a sequence, and what it comes to.

use aloud_kernels::backend::Backend;

use super::arena::Arena;
use super::request::Request;
use super::step_key::StepKey;
use crate::exit_reading::ExitReading;

/// Tokens that one sequence consumes in this pass.
pub(crate) struct Work<'a, B: Backend> {
    pub(crate) arena: &'a mut Arena<B>,
    pub(crate) request: &'a Request,
    /// The tokens, at the positions that follow those consumed so far.
    pub(crate) tokens: &'a [u32],
    /// Depth (blocks) to which each token runs. `None`: there is one token, which decides its exit.
    pub(crate) depths: Option<&'a [usize]>,
    /// The response token that the last consumed position emits.
    pub(crate) step: usize,
    /// Added to the exit logits of this step.
    pub(crate) offset: f32,
}

impl<B: Backend> Work<'_, B> {
    /// What its draws follow from.
    pub(crate) fn key(&self) -> StepKey {
        StepKey { seed: self.request.seed, sequence: self.request.sequence, step: self.step }
    }

    /// Depth (blocks) of the one token that decides for itself, where that is known before it runs.
    pub(crate) fn depth_in_advance(&self) -> Option<usize> {
        if self.depths.is_none() { self.request.exits.in_advance(self.key()) } else { None }
    }
}

/// What a sequence's last consumed position came to.
pub(crate) struct StepResult {
    /// Depth (blocks) that it ran to.
    pub(crate) depth: usize,
    /// The candidates it reached.
    pub(crate) exits: Vec<ExitReading>,
}
