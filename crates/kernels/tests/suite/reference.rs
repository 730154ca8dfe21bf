//! The ops in f64, as plain loops over their definitions.

use aloud_kernels::{Heads, KlDirection, Query, RopeTable};

/// `x W^T + bias`; `w` `[n, k]`.
pub(crate) fn linear(x: &[f64], w: &[f64], bias: Option<&[f64]>, n: usize, k: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len() / k * n);
    for x in x.chunks_exact(k) {
        for (j, w) in w.chunks_exact(k).enumerate() {
            let product: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
            out.push(product + bias.map_or(0.0, |bias| bias[j]));
        }
    }
    out
}

/// `x / sqrt(mean(x^2) + eps) * gain` over parts as wide as the gain.
pub(crate) fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks_exact(gain.len()) {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        out.extend(x.iter().zip(gain).map(|(x, gain)| x / (mean + eps).sqrt() * gain));
    }
    out
}

/// Rotate-half form: `x cos + (-x_second, x_first) sin`.
pub(crate) fn rope(x: &[f64], width: usize, table: &RopeTable, positions: &[u32]) -> Vec<f64> {
    let half = table.head_dim() / 2;
    let mut out = Vec::with_capacity(x.len());
    for (x, position) in x.chunks_exact(width).zip(positions) {
        for head in x.chunks_exact(2 * half) {
            for i in 0..2 * half {
                let (cos, sin) = table.row(*position as usize);
                let (cos, sin) = (f64::from(cos[i % half]), f64::from(sin[i % half]));
                out.push(head[i] * cos + if i < half { -head[i + half] } else { head[i - half] } * sin);
            }
        }
    }
    out
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

/// `w . u(x) + b` per row.
pub(crate) fn exit_head(x: &[f64], weight: &[f64], bias: f64, rms_eps: Option<f32>) -> Vec<f64> {
    let ones = vec![1.0; weight.len()];
    let u = rms_eps.map_or_else(|| x.to_vec(), |eps| rms_norm(x, &ones, f64::from(eps)));
    linear(&u, weight, Some(&[bias]), 1, weight.len())
}

/// Log of the sum of exponentials.
pub(crate) fn log_sum_exp(x: &[f64]) -> f64 {
    let largest = x.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Attention outputs and log-sum-exps of the scores; sequence `s` starts at row `first_rows[s]` of the keys and values.
pub(crate) fn attention(
    heads: Heads,
    query_rows: &[f64],
    queries: &[Query],
    keys: &[f64],
    values: &[f64],
    first_rows: &[usize],
) -> (Vec<f64>, Vec<f64>) {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for (q, query) in query_rows.chunks_exact(n_heads * head_dim).zip(queries) {
        for (head, q) in q.chunks_exact(head_dim).enumerate() {
            let kv_head = head / (n_heads / n_kv_heads);
            let at = |position| ((first_rows[query.sequence] + position) * n_kv_heads + kv_head) * head_dim;
            let scores: Vec<f64> = (0..query.n_keys)
                .map(|position| {
                    let k = &keys[at(position)..][..head_dim];
                    q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt()
                })
                .collect();
            let total = log_sum_exp(&scores);
            lse.push(total);
            for i in 0..head_dim {
                let parts = scores.iter().enumerate();
                out.push(parts.map(|(position, score)| (score - total).exp() * values[at(position) + i]).sum());
            }
        }
    }
    (out, lse)
}

/// Log-probabilities of logits.
pub(crate) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let lse = log_sum_exp(logits);
    logits.iter().map(|x| x - lse).collect()
}

/// `KL(p || q)` of two rows of logits, nats.
pub(crate) fn kl(p: &[f64], q: &[f64]) -> f64 {
    log_softmax(p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// KL per row, student and teacher given by their logits.
pub(crate) fn distill_kl(student: &[f64], teacher: &[f64], vocabulary: usize, direction: KlDirection) -> Vec<f64> {
    let rows = student.chunks_exact(vocabulary).zip(teacher.chunks_exact(vocabulary));
    rows.map(|(student, teacher)| match direction {
        KlDirection::Reverse => kl(student, teacher),
        KlDirection::Forward => kl(teacher, student),
    })
    .collect()
}

/// Divergence of Jensen and Shannon per row, of two rows of logits, nats.
pub(crate) fn jensen_shannon(p: &[f64], q: &[f64], vocabulary: usize) -> Vec<f64> {
    let rows = p.chunks_exact(vocabulary).zip(q.chunks_exact(vocabulary));
    rows.map(|(p, q)| {
        let (log_p, log_q) = (log_softmax(p), log_softmax(q));
        let term = |(log_p, log_q): (&f64, &f64)| {
            let log_middle = f64::midpoint(log_p.exp(), log_q.exp()).ln();
            f64::midpoint(log_p.exp() * (log_p - log_middle), log_q.exp() * (log_q - log_middle))
        };
        log_p.iter().zip(&log_q).map(term).sum()
    })
    .collect()
}

/// Log-probability of each row's token under `softmax(logits / temperature)`.
pub(crate) fn token_log_probs(logits: &[f64], vocabulary: usize, tokens: &[u32], temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary).zip(tokens);
    rows.map(|(logits, token)| {
        let logits: Vec<f64> = logits.iter().map(|x| x / temperature).collect();
        log_softmax(&logits)[*token as usize]
    })
    .collect()
}

/// Entropy of each row's `softmax(logits / temperature)`, nats.
pub(crate) fn entropy(logits: &[f64], vocabulary: usize, temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary);
    rows.map(|logits| {
        let logits: Vec<f64> = logits.iter().map(|x| x / temperature).collect();
        -log_softmax(&logits).iter().map(|log_p| log_p.exp() * log_p).sum::<f64>()
    })
    .collect()
}
