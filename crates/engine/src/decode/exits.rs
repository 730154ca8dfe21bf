//! What decides where the steps of a request stop in depth.

use std::fmt;
use std::sync::Arc;

use aloud_method::exit_offset::ExitOffset;
use aloud_method::exit_policy::ExitPolicy;

use super::step_key::StepKey;

/// What decides where steps stop. Token 0 of a response and all prompt tokens always run at full depth.
#[derive(Clone, Debug)]
pub enum Exits {
    /// The model's exit heads, one depth for all, or nothing.
    Policy(ExitPolicy),
    /// Somebody else.
    Decider(Arc<dyn ExitDecider>),
}

/// Decides the depths of steps by other means than the model's exit heads: for controls, and for replaying records.
pub trait ExitDecider: fmt::Debug + Send + Sync {
    /// Depths (blocks, `1..=L`) at which steps may stop.
    fn depths(&self) -> &[usize];

    /// Depth (blocks) of a step, where that is known before it runs; full depth if it is none that the step reaches. `None`: the
    /// step runs all blocks, and [`ExitDecider::in_hindsight`] decides.
    fn in_advance(&self, step: StepKey) -> Option<usize>;

    /// Depth (blocks) of a step that ran all blocks; `None`: full depth. What a stop there would not have computed is forgotten, so
    /// that later steps see what they would have seen. This saves nothing; it shows what exits are worth that are placed so.
    ///
    /// # Shapes
    /// `lens_kl`: `KL(p_L || p_d)` of the step (nats), for each of the distinct [`ExitDecider::depths`] below full depth, the
    /// shallowest first.
    fn in_hindsight(&self, _step: StepKey, _lens_kl: &[f32]) -> Option<usize> {
        None
    }
}

/// Token `t` stops at depth `[t]` (blocks); tokens beyond the list run at full depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDepths(pub Vec<usize>);

impl ExitDecider for RecordedDepths {
    fn depths(&self) -> &[usize] {
        &self.0
    }

    fn in_advance(&self, step: StepKey) -> Option<usize> {
        Some(self.0.get(step.step).copied().unwrap_or(usize::MAX))
    }
}

impl Default for Exits {
    fn default() -> Self {
        Self::Policy(ExitPolicy::Off)
    }
}

impl From<ExitPolicy> for Exits {
    fn from(policy: ExitPolicy) -> Self {
        Self::Policy(policy)
    }
}

impl Exits {
    /// Token `t` stops at depth `[t]` (blocks); tokens beyond the list run at full depth.
    pub fn recorded(depths: Vec<usize>) -> Self {
        Self::Decider(Arc::new(RecordedDepths(depths)))
    }

    /// What is added to exit logits, if they decide.
    pub(crate) fn offset(&self) -> Option<&ExitOffset> {
        match self {
            Self::Policy(policy) => policy.offset(),
            Self::Decider(_) => None,
        }
    }

    /// Whether exit heads are read, be it for the record alone.
    pub(crate) fn read_heads(&self) -> bool {
        !matches!(self, Self::Policy(ExitPolicy::Off))
    }

    /// Probability of a stop where the head's hazard is `q`; `q` itself where heads do not decide.
    pub(crate) fn probability(&self, hazard: f32) -> f32 {
        match self {
            Self::Policy(policy) => policy.probability(hazard).unwrap_or(hazard),
            Self::Decider(_) => hazard,
        }
    }

    /// Depth (blocks) of a step (not 0) that is known before it runs.
    pub(crate) fn in_advance(&self, step: StepKey) -> Option<usize> {
        match self {
            Self::Policy(ExitPolicy::Fixed { depth }) => Some(*depth),
            Self::Policy(_) => None,
            Self::Decider(decider) => decider.in_advance(step),
        }
    }

    /// Depths at which tokens may stop without a head there.
    pub(crate) fn extra_depths(&self) -> &[usize] {
        match self {
            Self::Policy(ExitPolicy::Fixed { depth }) => std::slice::from_ref(depth),
            Self::Policy(_) => &[],
            Self::Decider(decider) => decider.depths(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_depths_are_those_of_their_steps() {
        let exits = Exits::recorded(vec![6, 2, 4]);
        let at = |step| exits.in_advance(StepKey { seed: 1, sequence: 2, step });
        assert_eq!([at(1), at(2)], [Some(2), Some(4)]);
        assert!(at(3).is_some_and(|depth| depth > 6), "full depth");
        assert_eq!(
            Exits::from(ExitPolicy::Fixed { depth: 3 }).in_advance(StepKey { seed: 1, sequence: 2, step: 9 }),
            Some(3)
        );
        assert!(!Exits::default().read_heads() && exits.read_heads());
    }
}
