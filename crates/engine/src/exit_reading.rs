//! What happened at a candidate that a step reached.

use aloud_method::joint_action::Decision;

/// What happened at a candidate that a step reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitReading {
    /// The candidate's depth (blocks).
    pub depth: usize,
    /// Exit logit, without offset.
    pub logit: f32,
    /// Probability to stop here, offset and policy included.
    pub hazard: f32,
    /// Whether the step stopped here.
    pub exited: bool,
}

impl ExitReading {
    /// The decision, where `offset` was added to the logit.
    pub fn decision(&self, offset: f32) -> Decision {
        Decision { logit: self.logit + offset, exited: self.exited }
    }
}
