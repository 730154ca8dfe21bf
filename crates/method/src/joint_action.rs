//! The joint action of a step, (exit depth, token): its log-probability, its entropy and its gradient (arXiv 2603.21376, the
//! policy of stage 2; the exit term of stage 1 is minus its exit part).

use crate::hazard::{sigmoid, softplus};

/// What a step did at a candidate that it reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Exit logit with its offset, `z_d + offset_t`.
    pub logit: f32,
    /// Whether the step stopped there.
    pub exited: bool,
}

impl Decision {
    /// `log q_d = -softplus(-z)` of a stop, `log(1 - q_d) = -softplus(z)` of going on; nats.
    pub fn log_probability(self) -> f32 {
        if self.exited { -softplus(-self.logit) } else { -softplus(self.logit) }
    }

    /// `d log_probability / d z = [exited] - sigmoid(z)`.
    pub fn gradient(self) -> f32 {
        f32::from(u8::from(self.exited)) - sigmoid(self.logit)
    }

    /// Entropy of the decision, `-q log q - (1 - q) log(1 - q)`; nats.
    pub fn entropy(self) -> f32 {
        let hazard = sigmoid(self.logit);
        hazard * softplus(-self.logit) + (1.0 - hazard) * softplus(self.logit)
    }
}

/// `log pi(d_t) = sum_{e reached, not taken} log(1 - q_e) + [exited] log q_{d_t}`; nats, 0 for a step that reached no candidate.
pub fn log_exit(decisions: impl IntoIterator<Item = Decision>) -> f32 {
    decisions.into_iter().map(Decision::log_probability).sum()
}

/// `log P = log pi(d_t) + log p_{d_t}(y_t)` from the decisions and the log-probability of the step's token at its depth; nats.
pub fn log_joint(decisions: impl IntoIterator<Item = Decision>, token_log_probability: f32) -> f32 {
    log_exit(decisions) + token_log_probability
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exit_distribution::exit_distribution;
    use crate::hazard::sigmoid_f64;

    /// The decisions of a step that stops at candidate `outcome`, or at none.
    fn decisions(logits: &[f32], outcome: usize) -> impl Iterator<Item = Decision> {
        let reached = logits.iter().enumerate().take(outcome + 1);
        reached.map(move |(candidate, logit)| Decision { logit: *logit, exited: candidate == outcome })
    }

    #[test]
    fn by_hand() {
        // q = 1/2 twice: it went on, then stopped; the token had probability 1/4.
        let steps = decisions(&[0.0, 0.0, 0.0], 1);
        assert!((log_joint(steps, 0.25_f32.ln()) - 0.0625_f32.ln()).abs() < 1e-6);
        assert_eq!(log_joint(decisions(&[], 0), -0.5), -0.5);
        let decision = Decision { logit: 0.0, exited: true };
        assert_eq!(decision.gradient(), 0.5);
        assert!((decision.entropy() - std::f32::consts::LN_2).abs() < 1e-6);
        // Large logits: no infinity, no 0 * infinity.
        for (logit, exited) in [(200.0, true), (-200.0, false)] {
            let sure = Decision { logit, exited };
            assert_eq!((sure.log_probability(), sure.gradient(), sure.entropy()), (0.0, 0.0, 0.0));
            let never = Decision { logit, exited: !exited };
            assert_eq!((never.log_probability(), never.gradient().abs()), (-200.0, 1.0));
        }
    }

    proptest! {
        #[test]
        fn exits_are_those_of_the_exit_distribution(logits in prop::collection::vec(-8.0_f32..8.0, 0..6)) {
            let hazards: Vec<f64> = logits.iter().map(|logit| sigmoid_f64(f64::from(*logit))).collect();
            for (outcome, probability) in exit_distribution(&hazards).into_iter().enumerate() {
                let found = f64::from(log_exit(decisions(&logits, outcome)));
                prop_assert!((found - probability.ln()).abs() < 1e-4, "{} is not {}", found, probability.ln());
            }
        }

        #[test]
        fn the_gradient_is_the_slope(logit in -6.0_f32..6.0, exited: bool) {
            let at = |logit: f32| f64::from(Decision { logit, exited }.log_probability());
            let slope = (at(logit + 0.01) - at(logit - 0.01)) / 0.02;
            let gradient = f64::from(Decision { logit, exited }.gradient());
            prop_assert!((slope - gradient).abs() < 1e-3);
        }
    }
}
