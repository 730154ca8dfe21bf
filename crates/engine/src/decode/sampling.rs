//! Drawing a token from logits: a pure function of logits, settings and one uniform number.

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
/// softmax of the logits as they are. The logits must be finite.
pub(crate) fn draw(logits: &[f32], sampling: Sampling, uniform: f64) -> (u32, f32) {
    let greedy = sampling.temperature <= 0.0;
    let scale = if greedy { 1.0 } else { 1.0 / sampling.temperature };
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let weight = |logit: f32| f64::from((logit - largest) * scale).exp();
    let total: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    let log_probability = |logit: f32, total: f64| (f64::from((logit - largest) * scale) - total.ln()) as f32;
    if greedy {
        let token = logits.iter().position(|logit| *logit == largest).unwrap_or(0);
        return (token as u32, log_probability(largest, total));
    }
    let truncates = sampling.top_p < 1.0 || (sampling.top_k > 0 && sampling.top_k < logits.len());
    if !truncates {
        let token = first_beyond(logits.iter().map(|logit| weight(*logit)), uniform * total);
        return (token as u32, log_probability(logits[token], total));
    }
    // Most likely first; ties in the order of ids.
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < order.len() {
        order.select_nth_unstable_by(sampling.top_k - 1, by_logit);
        order.truncate(sampling.top_k);
    }
    order.sort_unstable_by(by_logit);
    let mut kept = 0.0;
    let kept_total: f64 = order.iter().map(|token| weight(logits[*token as usize])).sum();
    let mut n = 0;
    for token in &order {
        kept += weight(logits[*token as usize]);
        n += 1;
        if kept >= f64::from(sampling.top_p) * kept_total {
            break;
        }
    }
    order.truncate(n.max(1));
    let at = first_beyond(order.iter().map(|token| weight(logits[*token as usize])), uniform * kept);
    (order[at], log_probability(logits[order[at] as usize], kept))
}

/// Log-probability (nats) of a token under `softmax(logits / temperature)`; temperature 0 counts as 1.
pub(crate) fn log_probability_of(logits: &[f32], token: u32, temperature: f32) -> f32 {
    let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let total: f64 = logits.iter().map(|logit| f64::from((logit - largest) * scale).exp()).sum();
    (f64::from((logits[token as usize] - largest) * scale) - total.ln()) as f32
}

/// Index of the first weight at which the running sum exceeds `target`; the last index if rounding hides it.
fn first_beyond(weights: impl Iterator<Item = f64>, target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (i, weight) in weights.enumerate() {
        sum += weight;
        if sum > target {
            return i;
        }
        if weight > 0.0 {
            last = i;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::super::step_key::StepKey;
    use super::*;

    #[test]
    fn greedy_takes_the_largest() {
        let (token, log_probability) =
            draw(&[0.0, 2.0, 1.0], Sampling { temperature: 0.0, ..Sampling::default() }, 0.9);
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
            counts[draw(&logits, Sampling { temperature, ..Sampling::default() }, u).0 as usize] += 1;
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
            let (token, log_probability) = draw(&logits, top_k, u);
            assert!([1, 2].contains(&token));
            let expected = logits[token as usize] - (3f32.exp() + 2f32.exp()).ln();
            assert!((log_probability - expected).abs() < 1e-6);
            // p = 0.64, 0.24, ...: two tokens are needed for 0.7.
            assert!([1, 2].contains(&draw(&logits, top_p, u).0));
        }
    }
}
