//! Gradients of the [`formulas`](crate::formulas) in f64, as plain loops, each tested by finite differences of its formula.

use aloud_kernels::backend::{Heads, KlDirection, Query};

use crate::formulas::{distill_kl, divided, dot, inverse_rms, key_at, log_softmax, log_sum_exp, scores, sigmoid};

/// Of `rms_norm`: input and gain. With `r` the inverse root mean square of a part of width `n`:
/// `d_x = r (d gain) - x r^3 (x . d gain) / n`, `d_gain = sum d x r`.
pub fn rms_norm(x: &[f64], gain: &[f64], eps: f64, d_out: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = gain.len();
    let (mut d_x, mut d_gain) = (Vec::with_capacity(x.len()), vec![0.0; n]);
    for (x, d_out) in x.chunks_exact(n).zip(d_out.chunks_exact(n)) {
        let r = inverse_rms(x, eps);
        let d: Vec<f64> = d_out.iter().zip(gain).map(|(d, gain)| d * gain).collect();
        let inner = dot(x, &d) * r * r * r / n as f64;
        d_x.extend(x.iter().zip(&d).map(|(x, d)| r * d - x * inner));
        for ((d_gain, d), x) in d_gain.iter_mut().zip(d_out).zip(x) {
            *d_gain += d * x * r;
        }
    }
    (d_x, d_gain)
}

/// Of `linear` by its input: `d_out W`; `w` `[n, k]`.
pub fn linear_input(d_out: &[f64], w: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut d_x = Vec::with_capacity(d_out.len() / n * k);
    for d in d_out.chunks_exact(n) {
        let mut sums = vec![0.0; k];
        for (d, w) in d.iter().zip(w.chunks_exact(k)) {
            add_scaled(&mut sums, w, *d);
        }
        d_x.extend(sums);
    }
    d_x
}

/// Of `linear` by its weight: `d_out^T x`, `[n, k]`.
pub fn linear_weight(d_out: &[f64], x: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut d_weight = vec![0.0; n * k];
    for (d, x) in d_out.chunks_exact(n).zip(x.chunks_exact(k)) {
        for (d, row) in d.iter().zip(d_weight.chunks_exact_mut(k)) {
            add_scaled(row, x, *d);
        }
    }
    d_weight
}

fn add_scaled(out: &mut [f64], x: &[f64], scale: f64) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += scale * x;
    }
}

/// Of `swiglu`: gate and up.
pub fn swiglu(gate: &[f64], up: &[f64], d_out: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let parts = gate.iter().zip(up).zip(d_out);
    parts
        .map(|((gate, up), d)| {
            let s = sigmoid(*gate);
            (d * up * s * (1.0 + gate * (1.0 - s)), d * gate * s)
        })
        .unzip()
}

/// Of `exit_head`: rows and weight. (That of the bias is the sum of `d_logits`.)
pub fn exit_head(x: &[f64], weight: &[f64], rms_eps: Option<f32>, d_logits: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d_u: Vec<f64> = d_logits.iter().flat_map(|d| weight.iter().map(move |w| d * w)).collect();
    let Some(eps) = rms_eps.map(f64::from) else { return (d_u, linear_weight(d_logits, x, 1, weight.len())) };
    let ones = vec![1.0; weight.len()];
    let u = crate::formulas::rms_norm(x, &ones, eps);
    (rms_norm(x, &ones, eps, &d_u).0, linear_weight(d_logits, &u, 1, weight.len()))
}

/// Gradients of the keys and of the values of one sequence, from its position 0 on.
pub type OfSequence = (Vec<f64>, Vec<f64>);

/// Of `attention`: queries, and the keys and values of every sequence.
pub fn attention(
    heads: Heads,
    query_rows: &[f64],
    queries: &[Query],
    sequences: &[(&[f64], &[f64])],
    d_out: &[f64],
) -> (Vec<f64>, Vec<OfSequence>) {
    let head_dim = heads.head_dim;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut d_queries = vec![0.0; query_rows.len()];
    let mut d_sequences: Vec<OfSequence> =
        sequences.iter().map(|(keys, values)| (vec![0.0; keys.len()], vec![0.0; values.len()])).collect();
    for (i, (q, d_out)) in query_rows.chunks_exact(head_dim).zip(d_out.chunks_exact(head_dim)).enumerate() {
        let (query, head) = (queries[i / heads.n_heads], i % heads.n_heads);
        let (keys, values) = sequences[query.sequence];
        let (d_keys, d_values) = &mut d_sequences[query.sequence];
        let d_q = &mut d_queries[i * head_dim..][..head_dim];
        let scores = scores(heads, head, q, keys, query.n_keys);
        let total = log_sum_exp(&scores);
        let p: Vec<f64> = scores.iter().map(|score| (score - total).exp()).collect();
        let at = |position| key_at(heads, head, position)..key_at(heads, head, position) + head_dim;
        let d_p: Vec<f64> = (0..query.n_keys).map(|position| dot(d_out, &values[at(position)])).collect();
        let mean = dot(&p, &d_p);
        for (position, (p, d_p)) in p.iter().zip(&d_p).enumerate() {
            let d_score = p * (d_p - mean) * scale;
            add_scaled(d_q, &keys[at(position)], d_score);
            add_scaled(&mut d_keys[at(position)], q, d_score);
            add_scaled(&mut d_values[at(position)], d_out, *p);
        }
    }
    (d_queries, d_sequences)
}

/// Of `sum_rows d_kl[row] * KL[row]` by the student's logits: `s (log s - log t - KL)` of the reverse KL, `s - t` of the
/// forward one.
pub fn distill_kl_logits(
    student: &[f64],
    teacher: &[f64],
    vocabulary: usize,
    direction: KlDirection,
    d_kl: &[f64],
) -> Vec<f64> {
    let kls = distill_kl(student, teacher, vocabulary, direction);
    let mut d_logits = Vec::with_capacity(student.len());
    for (row, (student, teacher)) in student.chunks_exact(vocabulary).zip(teacher.chunks_exact(vocabulary)).enumerate()
    {
        let (log_s, log_t) = (log_softmax(student), log_softmax(teacher));
        d_logits.extend(log_s.iter().zip(&log_t).map(|(log_s, log_t)| {
            let d = match direction {
                KlDirection::Reverse => log_s.exp() * (log_s - log_t - kls[row]),
                KlDirection::Forward => log_s.exp() - log_t.exp(),
            };
            d_kl[row] * d
        }));
    }
    d_logits
}

/// Of `sum_rows d[row] * log p(tokens[row])` by the logits: `(1[token] - p) / temperature`.
pub fn token_log_probs_logits(
    logits: &[f64],
    vocabulary: usize,
    tokens: &[u32],
    temperature: f64,
    d: &[f64],
) -> Vec<f64> {
    let mut d_logits = Vec::with_capacity(logits.len());
    for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
        let scale = d[row] / temperature;
        let log_p = log_softmax(&divided(logits, temperature));
        d_logits.extend(log_p.iter().enumerate().map(|(v, log_p)| {
            let is_token = if v == tokens[row] as usize { 1.0 } else { 0.0 };
            scale * (is_token - log_p.exp())
        }));
    }
    d_logits
}
