//! Losses and readings of the unembedding, in chunks of rows: logits of the whole batch never exist.

#![allow(unsafe_code, reason = "rows are split among threads; every block states why it is sound")]

use std::ops::Range;

use super::simd::{exp, largest, ln_1p, pair_sums, sums};
use super::simd_level::multiversion;
use super::threads::Threads;
use super::{Cpu, linear};
use crate::backend::{
    KlDirection, LensReading, LensRow, Linears, MAX_LOGIT_ROWS, Readout, Term, TokenReading, Unembedding,
};
use crate::matrix::Matrix;
use crate::rows::Rows;

/// The rows `range` of `x`.
fn slice(x: &Rows, range: Range<usize>) -> Rows {
    Rows::new(x.width(), x.values()[range.start * x.width()..range.end * x.width()].to_vec())
}

/// Logits of a run of rows.
fn chunk_logits(cpu: &Cpu, readout: &Readout<'_, Rows, Matrix>, range: Range<usize>) -> Rows {
    let hidden = slice(readout.hidden, range);
    linear::forward(cpu, &hidden, &[(readout.weight, None)]).swap_remove(0)
}

/// Logits of a run of rows of the student, and those of the teacher: after them, if both have one unembedding, so that one pass
/// over it serves both; otherwise apart.
fn logits_of_both(
    cpu: &Cpu,
    student: &Readout<'_, Rows, Matrix>,
    teacher: &Readout<'_, Rows, Matrix>,
    range: Range<usize>,
) -> (Rows, Option<Rows>) {
    if !student.weight.shares_values(teacher.weight) {
        return (chunk_logits(cpu, student, range.clone()), Some(chunk_logits(cpu, teacher, range)));
    }
    let width = student.hidden.width();
    let of_range = |hidden: &Rows| hidden.values()[range.start * width..range.end * width].to_vec();
    let both = Rows::new(width, [of_range(student.hidden), of_range(teacher.hidden)].concat());
    (linear::forward(cpu, &both, &[(student.weight, None)]).swap_remove(0), None)
}

/// The sum in f64 of sums in f32.
fn total<const N: usize>(sums: [f32; N]) -> f64 {
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

multiversion! {
    /// Log of the sum of exponentials.
    fn log_sum_exp(x: &[f32]) -> f32 {
        let largest = largest::<32>(x);
        largest + total(sums::<32>(x, |x| exp(x - largest))).ln() as f32
    }
}

multiversion! {
    /// `sum_v p_v (log p_v - log q_v)` of two rows of logits with their log-sum-exps.
    fn kl(p: &[f32], p_lse: f32, q: &[f32], q_lse: f32) -> f32 {
        let term = |p: f32, q: f32| {
            let log_p = p - p_lse;
            exp(log_p) * (log_p - (q - q_lse))
        };
        total(pair_sums::<32>(p, q, term)) as f32
    }
}

multiversion! {
    /// Divergence of Jensen and Shannon, `(KL(p || m) + KL(q || m)) / 2` with `m = (p + q) / 2`, nats, of two rows of logits
    /// with their log-sum-exps.
    fn jensen_shannon(p: &[f32], p_lse: f32, q: &[f32], q_lse: f32) -> f32 {
        let term = |p: f32, q: f32| {
            let (log_p, log_q) = (p - p_lse, q - q_lse);
            let log_middle = log_p.max(log_q) + ln_1p(exp(-(log_p - log_q).abs())) - std::f32::consts::LN_2;
            exp(log_p) * (log_p - log_middle) + exp(log_q) * (log_q - log_middle)
        };
        total(pair_sums::<32>(p, q, term)) as f32 / 2.0
    }
}

multiversion! {
    /// Gradient of `scale * KL(student || teacher)` with respect to the student's logits, in their place:
    /// `scale * s_v (log s_v - log t_v - KL)`.
    fn reverse_kl_gradient(student: &mut [f32], lse: f32, teacher: &[f32], teacher_lse: f32, kl: f32, scale: f32) {
        for (s, t) in student.iter_mut().zip(teacher) {
            let log_s = *s - lse;
            *s = scale * exp(log_s) * (log_s - (t - teacher_lse) - kl);
        }
    }
}

multiversion! {
    /// Gradient of `scale * KL(teacher || student)` with respect to the student's logits, in their place:
    /// `scale * (s_v - t_v)`.
    fn forward_kl_gradient(student: &mut [f32], lse: f32, teacher: &[f32], teacher_lse: f32, scale: f32) {
        for (s, t) in student.iter_mut().zip(teacher) {
            *s = scale * (exp(*s - lse) - exp(t - teacher_lse));
        }
    }
}

multiversion! {
    /// Gradient of `scale * log p(token)` of logits already divided by the temperature, without the token's own `scale`.
    fn log_probability_gradient(logits: &mut [f32], lse: f32, scale: f32) {
        for x in logits {
            *x = -scale * exp(*x - lse);
        }
    }
}

multiversion! {
    /// Entropy, nats.
    fn entropy(logits: &[f32], lse: f32) -> f32 {
        let term = |x: f32| {
            let log_p = x - lse;
            -(exp(log_p) * log_p)
        };
        total(sums::<16>(logits, term)) as f32
    }
}

multiversion! {
    fn multiply(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}

/// Index of the largest value, the first among equals; 0 for an empty row.
pub(super) fn argmax(x: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (start, chunk) in x.chunks(256).enumerate() {
        let largest = chunk.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
        if largest > best.1
            && let Some(at) = chunk.iter().position(|x| *x == largest)
        {
            best = (start * 256 + at, largest);
        }
    }
    best.0 as u32
}

/// Calls `f(row, row_of_logits) -> T` for every row, in parallel, and returns the results in order.
fn map_rows<T: Send + Sync>(
    threads: &Threads,
    logits: &mut [f32],
    width: usize,
    f: impl Fn(usize, &mut [f32]) -> T + Send + Sync,
) -> Vec<T> {
    let n = logits.len() / width.max(1);
    let target = super::strided::StridedMut::new(logits, width);
    // SAFETY: every row is given to one thread once.
    threads.map(n, n * width * 10, |row| f(row, unsafe { target.row(row, 0, width) }))
}

fn chunks(n_rows: usize, chunk: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n_rows).step_by(chunk).map(move |start| start..(start + chunk).min(n_rows))
}

impl Unembedding for Cpu {
    fn logits(&self, readout: Readout<'_, Rows, Matrix>) -> Rows {
        let n = readout.hidden.n_rows();
        assert!(n <= MAX_LOGIT_ROWS, "{n} rows of logits asked for, at most {MAX_LOGIT_ROWS} may exist");
        linear::forward(self, readout.hidden, &[(readout.weight, None)]).swap_remove(0)
    }

    fn distill_kl(
        &self,
        student: Readout<'_, Rows, Matrix>,
        teacher: Readout<'_, Rows, Matrix>,
        direction: KlDirection,
        d_kl: Option<&[f32]>,
        mut d_weight: Option<&mut Rows>,
    ) -> (Vec<f32>, Option<Rows>) {
        let n = student.hidden.n_rows();
        assert_eq!(n, teacher.hidden.n_rows(), "distill_kl: rows of student and teacher");
        assert_eq!(student.weight.rows(), teacher.weight.rows(), "distill_kl: vocabularies of student and teacher");
        assert!(d_kl.is_none_or(|d_kl| d_kl.len() == n), "distill_kl: one gradient a row");
        let mut kls = Vec::with_capacity(n);
        let mut d_hidden = d_kl.map(|_| Rows::zeros(n, student.hidden.width()));
        for range in chunks(n, MAX_LOGIT_ROWS / 2) {
            let (mut student_logits, teacher_logits) = logits_of_both(self, &student, &teacher, range.clone());
            let (first, width) = (range.start, student_logits.width());
            let (logits, after) = student_logits.values_mut().split_at_mut(range.len() * width);
            let teacher_logits = teacher_logits.as_ref().map_or(&*after, Rows::values);
            kls.extend(map_rows(&self.threads, logits, width, |row, s| {
                let t = &teacher_logits[row * width..][..width];
                let (s_lse, t_lse) = (log_sum_exp(s), log_sum_exp(t));
                let value = match direction {
                    KlDirection::Reverse => kl(s, s_lse, t, t_lse),
                    KlDirection::Forward => kl(t, t_lse, s, s_lse),
                };
                if let Some(d_kl) = d_kl {
                    match direction {
                        KlDirection::Reverse => reverse_kl_gradient(s, s_lse, t, t_lse, value, d_kl[first + row]),
                        KlDirection::Forward => forward_kl_gradient(s, s_lse, t, t_lse, d_kl[first + row]),
                    }
                }
                value
            }));
            if let Some(d_hidden) = &mut d_hidden {
                student_logits.truncate(range.len());
                chunk_backward(self, &student, range, &student_logits, d_hidden, d_weight.as_deref_mut());
            }
        }
        (kls, d_hidden)
    }

    fn token_log_probs(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
    ) -> Vec<TokenReading> {
        let n = readout.hidden.n_rows();
        assert_eq!(n, tokens.len(), "token_log_probs: one token a row");
        let mut readings = Vec::with_capacity(n);
        for range in chunks(n, MAX_LOGIT_ROWS) {
            let mut logits = chunk_logits(self, &readout, range.clone());
            let width = logits.width();
            let tokens = &tokens[range];
            readings.extend(map_rows(&self.threads, logits.values_mut(), width, |row, x| {
                let top_token = argmax(x);
                multiply(x, 1.0 / temperature);
                let lse = log_sum_exp(x);
                let log_probability = x[tokens[row] as usize] - lse;
                TokenReading { log_probability, entropy: entropy(x, lse), top_token }
            }));
        }
        readings
    }

    fn token_log_probs_backward(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
        d_log_probability: &[f32],
        mut d_weight: Option<&mut Rows>,
    ) -> Rows {
        let n = readout.hidden.n_rows();
        assert_eq!((n, n), (tokens.len(), d_log_probability.len()), "token_log_probs_backward: one token a row");
        let mut d_hidden = Rows::zeros(n, readout.hidden.width());
        for range in chunks(n, MAX_LOGIT_ROWS) {
            let mut logits = chunk_logits(self, &readout, range.clone());
            let width = logits.width();
            let first = range.start;
            map_rows(&self.threads, logits.values_mut(), width, |row, x| {
                multiply(x, 1.0 / temperature);
                let scale = d_log_probability[first + row] / temperature;
                let lse = log_sum_exp(x);
                log_probability_gradient(x, lse, scale);
                x[tokens[first + row] as usize] += scale;
            });
            chunk_backward(self, &readout, range, &logits, &mut d_hidden, d_weight.as_deref_mut());
        }
        d_hidden
    }

    fn lens_kl(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        lenses: &[&Rows],
        tokens: &[u32],
        with_js: bool,
    ) -> Vec<LensRow> {
        // A row's final distribution and its lenses are compared within one chunk of logits.
        let (first, more) = lenses.split_at(lenses.len().min(MAX_LOGIT_ROWS - 1));
        let mut rows = few_lenses_kl(self, &readout, first, tokens, with_js);
        for lenses in more.chunks(MAX_LOGIT_ROWS - 1) {
            for (row, more) in rows.iter_mut().zip(few_lenses_kl(self, &readout, lenses, tokens, with_js)) {
                row.lenses.extend(more.lenses);
            }
        }
        rows
    }
}

/// Adds the part of a chunk to the gradients: `d_hidden = d_logits W`, `d_W += d_logits^T hidden`.
fn chunk_backward(
    cpu: &Cpu,
    readout: &Readout<'_, Rows, Matrix>,
    range: Range<usize>,
    d_logits: &Rows,
    d_hidden: &mut Rows,
    d_weight: Option<&mut Rows>,
) {
    let hidden = slice(readout.hidden, range.clone());
    let part = cpu.linears_backward_input(&[Term { rows: d_logits, weight: readout.weight, scale: 1.0 }]);
    let width = hidden.width();
    d_hidden.values_mut()[range.start * width..range.end * width].copy_from_slice(part.values());
    if let Some(d_weight) = d_weight {
        cpu.linear_backward_weight(d_logits, &hidden, 1.0, d_weight);
    }
}

/// [`Unembedding::lens_kl`] of fewer than [`MAX_LOGIT_ROWS`] lenses.
fn few_lenses_kl(
    cpu: &Cpu,
    readout: &Readout<'_, Rows, Matrix>,
    lenses: &[&Rows],
    tokens: &[u32],
    with_js: bool,
) -> Vec<LensRow> {
    let n = readout.hidden.n_rows();
    let views = lenses.len() + 1;
    let shape = (n, readout.hidden.width());
    assert!(lenses.iter().all(|lens| (lens.n_rows(), lens.width()) == shape), "lens_kl: shapes of lenses");
    assert_eq!(n, tokens.len(), "lens_kl: one token a row");
    let width = readout.hidden.width();
    let mut rows = Vec::with_capacity(n);
    for range in chunks(n, MAX_LOGIT_ROWS / views) {
        // All views of a row stand together, so that one pass over the unembedding serves them.
        let mut hidden = Vec::with_capacity(range.len() * views * width);
        for row in range.clone() {
            hidden.extend_from_slice(readout.hidden.row(row));
            for lens in lenses {
                hidden.extend_from_slice(lens.row(row));
            }
        }
        let mut all = linear::forward(cpu, &Rows::new(width, hidden), &[(readout.weight, None)]).swap_remove(0);
        let vocabulary = all.width();
        let sums = map_rows(&cpu.threads, all.values_mut(), vocabulary, |_, x| (log_sum_exp(x), argmax(x)));
        let (all, tokens) = (&all, &tokens[range.clone()]);
        // The entropy of a final distribution; KL and divergence of a lens.
        let n_rows = range.len() * views;
        let measured = cpu.threads.map(n_rows, n_rows * all.width() * 10, |view| {
            let last = view - view % views;
            if view == last {
                return (entropy(all.row(last), sums[last].0), None);
            }
            let (p, p_lse, q, q_lse) = (all.row(last), sums[last].0, all.row(view), sums[view].0);
            // Rounding may take either a little below 0. What is not a number stays so.
            let kl = kl(p, p_lse, q, q_lse);
            let js = with_js.then(|| jensen_shannon(p, p_lse, q, q_lse).clamp(0.0, std::f32::consts::LN_2));
            (if kl <= 0.0 { 0.0 } else { kl }, js)
        });
        for (i, token) in tokens.iter().enumerate() {
            let last = i * views;
            let (lse, top_token) = sums[last];
            let log_probability = all.row(last)[*token as usize] - lse;
            let lens = |view: usize| {
                let (kl, js) = measured[view];
                LensReading { kl, js, top_token: sums[view].1 }
            };
            rows.push(LensRow {
                token: TokenReading { log_probability, entropy: measured[last].0, top_token },
                lenses: (last + 1..last + views).map(lens).collect(),
            });
        }
    }
    rows
}
