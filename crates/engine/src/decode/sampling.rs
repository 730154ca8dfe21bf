//! Drawing a token from logits: a pure function of logits, settings and one uniform number.

use aloud_kernels::softmax_weights::{RUN, SoftmaxWeights};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps the smallest set of most likely tokens whose probabilities sum to at least this (arXiv 1904.09751); 1 keeps all.
    pub top_p: f32,
    /// Keeps this many most likely tokens; 0 keeps all.
    pub top_k: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0 }
    }
}

/// A drawn token and its log-probability (nats) under the distribution it was drawn from; for greedy choice, under the
/// softmax of the logits as they are.
///
/// # Errors
/// The first index at which a logit is not finite.
pub(crate) fn draw(logits: &[f32], sampling: Sampling, uniform: f64) -> Result<(u32, f32), usize> {
    let greedy = sampling.temperature <= 0.0;
    let weights = SoftmaxWeights::new(logits, if greedy { 1.0 } else { sampling.temperature })?;
    let drawn = |token: usize, total| (token as u32, weights.log_probability(logits[token], total));
    if greedy {
        let token = logits.iter().position(|logit| *logit == weights.largest).unwrap_or(0);
        return Ok(drawn(token, weights.total));
    }
    let truncates = sampling.top_p < 1.0 || (sampling.top_k > 0 && sampling.top_k < logits.len());
    if truncates {
        let (tokens, kept) = most_likely(logits, &weights, sampling);
        let (at, _) = first_beyond(tokens.iter().map(|token| weights.weight(logits[*token as usize])), uniform * kept);
        return Ok(drawn(tokens[at] as usize, kept));
    }
    // The run that the draw falls into, then the token in it.
    let target = uniform * weights.total;
    let (run, before) = first_beyond(weights.runs.iter().map(|sum| f64::from(*sum)), target);
    let first = run * RUN;
    let of_run = logits[first..].iter().take(RUN).map(|logit| weights.weight(*logit));
    Ok(drawn(first + first_beyond(of_run, target - before).0, weights.total))
}

/// The tokens that truncation keeps, most likely first, ties in the order of ids, and the sum of their weights.
fn most_likely(logits: &[f32], weights: &SoftmaxWeights, sampling: Sampling) -> (Vec<u32>, f64) {
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let weight = |token: &u32| weights.weight(logits[*token as usize]);
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    let mut total = weights.total;
    if sampling.top_k > 0 && sampling.top_k < tokens.len() {
        tokens.select_nth_unstable_by(sampling.top_k - 1, by_logit);
        tokens.truncate(sampling.top_k);
        tokens.sort_unstable_by(by_logit);
        total = tokens.iter().map(weight).sum();
    }
    // A few tokens are enough as a rule: only as many as needed are brought into order.
    let (mut kept, mut n, mut ordered) = (0.0, 0, 0);
    while n < tokens.len() && kept < f64::from(sampling.top_p) * total {
        if n == ordered {
            ordered = (8 * ordered).clamp(64.min(tokens.len()), tokens.len());
            if ordered < tokens.len() {
                tokens[n..].select_nth_unstable_by(ordered - n - 1, by_logit);
            }
            tokens[n..ordered].sort_unstable_by(by_logit);
        }
        kept += weight(&tokens[n]);
        n += 1;
    }
    tokens.truncate(n.max(1));
    (tokens, kept)
}

/// Log-probability (nats) of a token under `softmax(logits / temperature)`; temperature 0 counts as 1.
///
/// # Errors
/// The first index at which a logit is not finite.
pub(crate) fn log_probability_of(logits: &[f32], token: u32, temperature: f32) -> Result<f32, usize> {
    let weights = SoftmaxWeights::new(logits, if temperature > 0.0 { temperature } else { 1.0 })?;
    Ok(weights.log_probability(logits[token as usize], weights.total))
}

/// Index of the first weight at which the running sum exceeds `target`, and the sum before it; those of the last weight that is
/// not 0, if rounding hides it.
fn first_beyond(weights: impl Iterator<Item = f64>, target: f64) -> (usize, f64) {
    let mut sum = 0.0;
    let mut last = (0, 0.0);
    for (i, weight) in weights.enumerate() {
        if weight > 0.0 {
            last = (i, sum);
        }
        sum += weight;
        if sum > target {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::step_key::StepKey;
    use super::*;

    #[test]
    fn greedy_takes_the_largest() {
        let (token, log_probability) =
            draw(&[0.0, 2.0, 1.0], Sampling { temperature: 0.0, ..Sampling::default() }, 0.9).unwrap();
        assert_eq!(token, 1);
        let expected = 2.0 - (0f32.exp() + 1f32.exp() + 2f32.exp()).ln();
        assert!((log_probability - expected).abs() < 1e-6);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.3f32, -1.0, 1.4, 0.0];
        let temperature = 0.7;
        let mut counts = [0u32; 4];
        let n = 20_000;
        for i in 0..n {
            let u = StepKey { seed: 7, sequence: 0, step: i }.uniform(0);
            counts[draw(&logits, Sampling { temperature, ..Sampling::default() }, u).unwrap().0 as usize] += 1;
        }
        let total: f32 = logits.iter().map(|x| (x / temperature).exp()).sum();
        for (logit, count) in logits.iter().zip(counts) {
            let p = (logit / temperature).exp() / total;
            let sd = (p * (1.0 - p) / n as f32).sqrt();
            assert!((count as f32 / n as f32 - p).abs() < 4.5 * sd, "{count} of {n}, p {p}");
        }
    }

    #[test]
    fn truncation_keeps_the_most_likely_and_renormalises() {
        let logits = [1.0f32, 3.0, 2.0, -1.0];
        let top_k = Sampling { top_k: 2, ..Sampling::default() };
        let top_p = Sampling { top_p: 0.7, ..Sampling::default() };
        for i in 0..200 {
            let u = f64::from(i) / 200.0;
            let (token, log_probability) = draw(&logits, top_k, u).unwrap();
            assert!([1, 2].contains(&token));
            let expected = logits[token as usize] - (3f32.exp() + 2f32.exp()).ln();
            assert!((log_probability - expected).abs() < 1e-6);
            // p = 0.64, 0.24, ...: two tokens are needed for 0.7.
            assert!([1, 2].contains(&draw(&logits, top_p, u).unwrap().0));
        }
    }

    /// Over many runs of logits, with and without truncation, against a sort and running sums of all.
    #[test]
    fn draws_from_many_logits_are_those_of_the_whole_order() {
        let uniform = |step| StepKey { seed: 3, sequence: 1, step }.uniform(0);
        let logits: Vec<f32> = (0..3000).map(|i| 8.0 * uniform(i) as f32).collect();
        let weight = |token: usize| f64::from(logits[token]).exp();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        for (top_p, top_k) in [(1.0, 0), (0.9, 0), (0.999, 0), (0.5, 700), (1.0, 5), (1.0, 2999)] {
            let sampling = Sampling { temperature: 1.0, top_p, top_k };
            let truncates = top_p < 1.0 || top_k > 0;
            order.sort_unstable();
            if truncates {
                order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            }
            let all = &order[..if top_k > 0 { top_k } else { order.len() }];
            let total: f64 = all.iter().map(|token| weight(*token)).sum();
            let mut kept = Vec::new();
            let mut sum = 0.0;
            for token in all {
                if truncates && sum >= f64::from(top_p) * total {
                    break;
                }
                kept.push(*token);
                sum += weight(*token);
            }
            for i in 0..300 {
                let target = (f64::from(i) + 0.5) / 300.0;
                let mut below = 0.0;
                let expected = kept.iter().find(|token| {
                    below += weight(**token);
                    below > target * sum
                });
                let (token, log_probability) = draw(&logits, sampling, target).unwrap();
                let expected_log = (weight(token as usize) / sum).ln() as f32;
                assert!((log_probability - expected_log).abs() < 1e-5, "{sampling:?}: {log_probability}");
                // The sums are of 32-bit exponentials: a draw at the border of two tokens may fall on either side.
                let place = |token: usize| kept.iter().position(|kept| *kept == token);
                let apart = place(token as usize).zip(expected.and_then(|e| place(*e))).map(|(a, b)| a.abs_diff(b));
                assert!(apart.is_some_and(|apart| apart <= 1), "{sampling:?}, {target}: {token} for {expected:?}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut logits = vec![0.5f32; 700];
        logits[613] = f32::NAN;
        assert_eq!(draw(&logits, Sampling::default(), 0.2), Err(613));
        logits[40] = f32::INFINITY;
        assert_eq!(log_probability_of(&logits, 3, 1.0), Err(40));
    }
}
