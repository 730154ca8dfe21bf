//! What exit heads are trained on, over all candidates of a token at once and without drawing a depth: the cross-entropy to a
//! target distribution (arXiv 2603.21376), or the expected cost of stopping.
//!
//! Both are functions of a token's exit logits `z_d`, with hazards `q_d = sigmoid(z_d)` and `pi` from them by stick-breaking, and
//! both have a gradient in closed form. All in f64, nats.

use serde::{Deserialize, Serialize};

use crate::hazard::sigmoid_f64;

/// What exit heads are trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitObjective {
    /// `-log pi` of depths drawn from the target distribution.
    #[default]
    CrossEntropy,
    /// `sum_d pi_d (K_d + price d / L)`: what stopping is expected to cost.
    ExpectedCost,
}

/// A loss of one token, and its derivatives by the exit logits.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLoss {
    /// The loss, nats.
    pub value: f64,
    /// Derivatives by the logit of each candidate.
    pub gradient: Vec<f64>,
}

/// `sum_d pi_d cost_d` of exit logits, `cost` with an entry a candidate and one for full depth.
///
/// With the expected cost `V_i` of a token that got to candidate `i`, `V_i = q_i cost_i + (1 - q_i) V_{i+1}`, the derivative by
/// `z_i` is `P(reach i) q_i (1 - q_i) (cost_i - V_{i+1})`: a head is pushed to stop where that is cheaper than what comes after.
///
/// # Panics
/// If there is not one cost more than logits.
pub fn expected_cost(logits: &[f64], cost: &[f64]) -> TokenLoss {
    assert_eq!(cost.len(), logits.len() + 1, "a cost for every candidate and for full depth");
    let mut after = cost[logits.len()];
    let mut gradient = vec![0.0; logits.len()];
    for (i, logit) in logits.iter().enumerate().rev() {
        let hazard = sigmoid_f64(*logit);
        gradient[i] = hazard * (1.0 - hazard) * (cost[i] - after);
        after += hazard * (cost[i] - after);
    }
    let mut reach = 1.0;
    for (gradient, logit) in gradient.iter_mut().zip(logits) {
        *gradient *= reach;
        reach *= 1.0 - sigmoid_f64(*logit);
    }
    TokenLoss { value: after, gradient }
}

/// Costs of stopping (nats): the lens KL and the price of the depth, `K_d + price d / L`, with `K_L = 0`.
///
/// # Shapes
/// `lens_kl`, `candidates`: `[n_candidates]`; result: one entry more, for full depth.
pub fn stopping_costs(lens_kl: &[f32], candidates: &[usize], n_blocks: usize, price: f64) -> Vec<f64> {
    // Not `max`, which would turn a number that is none into 0.
    let kl = |kl: &f32| if *kl < 0.0 { 0.0 } else { f64::from(*kl) };
    let at_candidates = lens_kl.iter().zip(candidates).map(|(k, d)| kl(k) + price * *d as f64 / n_blocks as f64);
    at_candidates.chain([price]).collect()
}

/// `-sum_d target_d log pi_d` of exit logits; `target` is a distribution over candidates and full depth.
///
/// # Panics
/// If there is not one probability more than logits.
pub fn cross_entropy(logits: &[f64], target: &[f64]) -> TokenLoss {
    assert_eq!(target.len(), logits.len() + 1, "a probability for every candidate and for full depth");
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let mut beyond: f64 = target.iter().sum();
    let mut value = 0.0;
    let gradient = logits.iter().zip(target).map(|(logit, stops)| {
        beyond -= stops;
        value += stops * softplus(-logit) + beyond * softplus(*logit);
        let hazard = sigmoid_f64(*logit);
        beyond * hazard - stops * (1.0 - hazard)
    });
    let gradient = gradient.collect();
    TokenLoss { value, gradient }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exit_distribution::exit_distribution;

    fn assert_gradient(logits: &[f64], loss: impl Fn(&[f64]) -> TokenLoss) {
        const STEP: f64 = 1e-5;
        let gradient = loss(logits).gradient;
        for i in 0..logits.len() {
            let moved = |by: f64| {
                let mut logits = logits.to_vec();
                logits[i] += by;
                loss(&logits).value
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((gradient[i] - expected).abs() < 1e-7, "{i}: {} instead of {expected}", gradient[i]);
        }
    }

    proptest! {
        #[test]
        fn both_are_their_definitions(
            logits in prop::collection::vec(-6.0f64..6.0, 0..7),
            seed in prop::collection::vec(0.01f64..9.0, 8),
        ) {
            let n = logits.len();
            let pi = exit_distribution(&logits.iter().map(|z| sigmoid_f64(*z)).collect::<Vec<_>>());
            let cost = &seed[..=n];
            let expected: f64 = pi.iter().zip(cost).map(|(pi, cost)| pi * cost).sum();
            prop_assert!((expected_cost(&logits, cost).value - expected).abs() < 1e-9);
            assert_gradient(&logits, |logits| expected_cost(logits, cost));
            let target: Vec<f64> = cost.iter().map(|x| x / cost.iter().sum::<f64>()).collect();
            let expected: f64 = pi.iter().zip(&target).map(|(pi, target)| -target * pi.ln()).sum();
            prop_assert!((cross_entropy(&logits, &target).value - expected).abs() < 1e-9 * expected.max(1.0));
            assert_gradient(&logits, |logits| cross_entropy(logits, &target));
        }
    }

    #[test]
    fn costs_are_the_divergence_and_the_price_of_the_depth() {
        assert_eq!(stopping_costs(&[2.0, -1e-7], &[5, 10], 20, 4.0), [3.0, 2.0, 4.0]);
        assert!(stopping_costs(&[f32::NAN], &[1], 2, 1.0)[0].is_nan());
    }

    /// Where a stop costs less than all that follows, its logit is pushed up; where it costs more, down.
    #[test]
    fn cheap_stops_are_pushed_up() {
        let cheap = expected_cost(&[0.0, 0.0], &[0.1, 1.0, 2.0]).gradient;
        assert!(cheap[0] < 0.0 && cheap[1] < 0.0);
        let dear = expected_cost(&[0.0, 0.0], &[9.0, 3.0, 2.0]).gradient;
        assert!(dear[0] > 0.0 && dear[1] > 0.0);
    }
}
