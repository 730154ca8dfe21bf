//! The ops in f64, as plain loops over their definitions. Matrices are row-major.

use aloud_kernels::backend::{Heads, KlDirection, Query, Rotation};
use aloud_kernels::rope_table::RopeTable;

/// `x W^T + bias`; `w` `[n, k]`.
pub fn linear(x: &[f64], w: &[f64], bias: Option<&[f64]>, n: usize, k: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len() / k * n);
    for x in x.chunks_exact(k) {
        for (j, w) in w.chunks_exact(k).enumerate() {
            out.push(dot(x, w) + bias.map_or(0.0, |bias| bias[j]));
        }
    }
    out
}

/// Inner product; as a loss, its gradient with respect to `x` is `y`.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// `1 / sqrt(mean(x^2) + eps)`; not a number where the sum of squares exceeds f32.
pub fn inverse_rms(x: &[f64], eps: f64) -> f64 {
    let sum = dot(x, x);
    if sum > f64::from(f32::MAX) { f64::NAN } else { 1.0 / (sum / x.len() as f64 + eps).sqrt() }
}

/// `x / sqrt(mean(x^2) + eps) * gain` over parts as wide as the gain.
pub fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks_exact(gain.len()) {
        let r = inverse_rms(x, eps);
        out.extend(x.iter().zip(gain).map(|(x, gain)| x * r * gain));
    }
    out
}

/// Rotate-half form: `x cos + (-x_second, x_first) sin`; backward with `-sin`.
pub fn rope(x: &[f64], width: usize, table: &RopeTable, positions: &[u32], rotation: Rotation) -> Vec<f64> {
    let half = table.head_dim() / 2;
    let direction = if rotation == Rotation::Forward { 1.0 } else { -1.0 };
    let mut out = Vec::with_capacity(x.len());
    for (x, position) in x.chunks_exact(width).zip(positions) {
        let (cos, sin) = table.row(*position as usize);
        for head in x.chunks_exact(2 * half) {
            for i in 0..2 * half {
                let (cos, sin) = (f64::from(cos[i % half]), direction * f64::from(sin[i % half]));
                out.push(head[i] * cos + if i < half { -head[i + half] } else { head[i - half] } * sin);
            }
        }
    }
    out
}

/// `silu(gate) * up`.
pub fn swiglu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect()
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `w . u(x) + b` per row.
pub fn exit_head(x: &[f64], weight: &[f64], bias: f64, rms_eps: Option<f32>) -> Vec<f64> {
    let r = |x: &[f64]| rms_eps.map_or(1.0, |eps| inverse_rms(x, f64::from(eps)));
    x.chunks_exact(weight.len()).map(|x| dot(x, weight) * r(x) + bias).collect()
}

/// Log of the sum of exponentials.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let largest = x.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Scores of one query head against the first `n_keys` keys of its sequence, scaled by `1/sqrt(head_dim)`.
pub fn scores(heads: Heads, head: usize, q: &[f64], keys: &[f64], n_keys: usize) -> Vec<f64> {
    let scale = 1.0 / (heads.head_dim as f64).sqrt();
    (0..n_keys).map(|position| dot(q, &keys[key_at(heads, head, position)..][..heads.head_dim]) * scale).collect()
}

/// Where the key and value of a query head begin at a position of its sequence.
pub fn key_at(Heads { n_heads, n_kv_heads, head_dim }: Heads, head: usize, position: usize) -> usize {
    (position * n_kv_heads + head / (n_heads / n_kv_heads)) * head_dim
}

/// Attention outputs and log-sum-exps of the scores; `sequences` are keys and values, each from its position 0 on.
pub fn attention(
    heads: Heads,
    query_rows: &[f64],
    queries: &[Query],
    sequences: &[(&[f64], &[f64])],
) -> (Vec<f64>, Vec<f64>) {
    let Heads { n_heads, head_dim, .. } = heads;
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for (q, query) in query_rows.chunks_exact(n_heads * head_dim).zip(queries) {
        let (keys, values) = sequences[query.sequence];
        for (head, q) in q.chunks_exact(head_dim).enumerate() {
            let scores = scores(heads, head, q, keys, query.n_keys);
            let total = log_sum_exp(&scores);
            lse.push(total);
            for i in 0..head_dim {
                let parts = scores.iter().enumerate();
                let value = |position| values[key_at(heads, head, position) + i];
                out.push(parts.map(|(position, score)| (score - total).exp() * value(position)).sum());
            }
        }
    }
    (out, lse)
}

/// Log-probabilities of logits.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let lse = log_sum_exp(logits);
    logits.iter().map(|x| x - lse).collect()
}

/// `KL(p || q)` of two rows of logits, nats.
pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    log_softmax(p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// KL per row, student and teacher given by their logits.
pub fn distill_kl(student: &[f64], teacher: &[f64], vocabulary: usize, direction: KlDirection) -> Vec<f64> {
    let rows = student.chunks_exact(vocabulary).zip(teacher.chunks_exact(vocabulary));
    rows.map(|(student, teacher)| match direction {
        KlDirection::Reverse => kl(student, teacher),
        KlDirection::Forward => kl(teacher, student),
    })
    .collect()
}

/// Divergence of Jensen and Shannon per row, of two rows of logits, nats.
pub fn jensen_shannon(p: &[f64], q: &[f64], vocabulary: usize) -> Vec<f64> {
    let rows = p.chunks_exact(vocabulary).zip(q.chunks_exact(vocabulary));
    rows.map(|(p, q)| {
        let (log_p, log_q) = (log_softmax(p), log_softmax(q));
        let term = |(log_p, log_q): (&f64, &f64)| {
            let log_middle = log_sum_exp(&[*log_p, *log_q]) - std::f64::consts::LN_2;
            f64::midpoint(log_p.exp() * (log_p - log_middle), log_q.exp() * (log_q - log_middle))
        };
        log_p.iter().zip(&log_q).map(term).sum()
    })
    .collect()
}

/// Log-probability of each row's token under `softmax(logits / temperature)`.
pub fn token_log_probs(logits: &[f64], vocabulary: usize, tokens: &[u32], temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary).zip(tokens);
    rows.map(|(logits, token)| log_softmax(&divided(logits, temperature))[*token as usize]).collect()
}

/// Entropy of each row's `softmax(logits / temperature)`, nats.
pub fn entropy(logits: &[f64], vocabulary: usize, temperature: f64) -> Vec<f64> {
    let entropy_of = |logits: Vec<f64>| -log_softmax(&logits).iter().map(|log_p| log_p.exp() * log_p).sum::<f64>();
    logits.chunks_exact(vocabulary).map(|logits| entropy_of(divided(logits, temperature))).collect()
}

/// Logits divided by a temperature.
pub fn divided(logits: &[f64], temperature: f64) -> Vec<f64> {
    logits.iter().map(|x| x / temperature).collect()
}
