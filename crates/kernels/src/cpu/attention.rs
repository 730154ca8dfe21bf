//! Ragged causal attention with grouped queries: active query rows against all keys of their sequence.

#![allow(unsafe_code, reason = "heads and queries are split among threads; every block states why it is sound")]

use std::ops::Range;

use super::Cpu;
use super::product::{Left, Right, Write, product};
use super::scratch::with_scratch;
use super::simd::{exp, largest};
use super::simd_level::multiversion;
use super::strided::StridedMut;
use super::widen::transpose;
use crate::backend::{Attention, Heads, KeyValues, Query};
use crate::panels::WIDTH;
use crate::rows::Rows;

/// Keys whose transposes stay in the first-level cache.
const BLOCK_KEYS: usize = 4 * WIDTH;

/// `out[i, j] = x_i . y_j` of rows `x` of `k` values and `n` rows `y`, `stride` apart.
///
/// # Safety
/// `out` must hold the rows of `x`, of `n` values, and no other thread may use them meanwhile.
unsafe fn inner_products(x: Left, m: usize, y: &[f32], stride: usize, n: usize, k: usize, out: StridedMut) {
    with_scratch(BLOCK_KEYS * k, |scratch| {
        for block in (0..n).step_by(BLOCK_KEYS) {
            let n = (n - block).min(BLOCK_KEYS);
            for (first, panel) in (0..n).step_by(WIDTH).zip(scratch.chunks_exact_mut(k * WIDTH)) {
                transpose(&y[(block + first) * stride..], stride, (n - first).min(WIDTH), k, panel);
            }
            // SAFETY: the scratch has these panels; the rest is the contract of the caller.
            unsafe { product(m, n, k, x, Right::panels(scratch, k), out.at(0, block), Write::Scaled(1.0)) };
        }
    });
}

/// Query rows handled together: they share one pass over the keys.
const TILE_QUERIES: usize = 16;

/// Runs of at most `most` consecutive queries of one sequence.
fn runs(queries: &[Query], most: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, query) in queries.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.len() < most && queries[run.start].sequence == query.sequence => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

fn most_keys(queries: &[Query]) -> usize {
    queries.iter().map(|query| query.n_keys).max().unwrap_or(0)
}

multiversion! {
    /// Turns scores into unnormalised probabilities; returns their sum and the largest score.
    fn exponentiate(scores: &mut [f32]) -> (f32, f32) {
        let largest = largest::<16>(scores);
        let mut sums = [0.0f32; 16];
        let (chunks, rest) = scores.as_chunks_mut::<16>();
        for chunk in chunks {
            for (sum, score) in sums.iter_mut().zip(chunk) {
                *score = exp(*score - largest);
                *sum += *score;
            }
        }
        for (sum, score) in sums.iter_mut().zip(rest) {
            *score = exp(*score - largest);
            *sum += *score;
        }
        (sums.iter().sum(), largest)
    }
}

impl Attention for Cpu {
    fn attention_forward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
    ) -> (Rows, Rows) {
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let n_rep = n_heads / n_kv_heads;
        let width = n_heads * head_dim;
        let kv_width = n_kv_heads * head_dim;
        assert_eq!(n_rep * n_kv_heads, n_heads, "attention: {n_heads} heads in {n_kv_heads} groups");
        assert_eq!(
            (query_rows.n_rows(), query_rows.width()),
            (queries.len(), width),
            "attention: shape of the queries"
        );
        for query in queries {
            let KeyValues { keys, values, first_row } = sequences[query.sequence];
            assert!(keys.width() == kv_width && values.width() == kv_width, "attention: width of keys and values");
            assert!(first_row + query.n_keys <= keys.n_rows().min(values.n_rows()), "attention: keys beyond the block");
        }
        let mut out = Rows::zeros(queries.len(), width);
        let mut log_sum_exp = Rows::zeros(queries.len(), n_heads);
        let out_target = StridedMut::new(out.values_mut(), width);
        let lse_target = StridedMut::new(log_sum_exp.values_mut(), n_heads);
        let tiles = runs(queries, TILE_QUERIES);
        let work: usize = queries.iter().map(|query| query.n_keys * width * 2).sum();
        let scale = 1.0 / (head_dim as f32).sqrt();
        self.threads.for_each(tiles.len() * n_kv_heads, work, |task| {
            // Later tiles see more keys: they go first.
            let tile = tiles[tiles.len() - 1 - task / n_kv_heads].clone();
            let kv_head = task % n_kv_heads;
            let tile_queries = &queries[tile.clone()];
            let n_keys = most_keys(tile_queries);
            let rows = tile_queries.len() * n_rep;
            let KeyValues { keys, values, first_row } = sequences[tile_queries[0].sequence];
            let group = kv_head * n_rep * head_dim;
            let mut tile_rows = Vec::with_capacity(rows * head_dim);
            for query in tile.clone() {
                tile_rows.extend(query_rows.row(query)[group..][..n_rep * head_dim].iter().map(|q| q * scale));
            }
            let mut scores = vec![0.0; rows * n_keys];
            let mut sums = vec![0.0; rows * head_dim];
            let at = first_row * kv_width + kv_head * head_dim;
            let (keys, values) = (&keys.values()[at..], &values.values()[at..]);
            // SAFETY: scratch sizes are as computed above.
            unsafe {
                let tile_rows = Left::rows(&tile_rows, head_dim);
                let scores = StridedMut::new(&mut scores, n_keys);
                inner_products(tile_rows, rows, keys, kv_width, n_keys, head_dim, scores);
            }
            let mut totals = Vec::with_capacity(rows);
            for (i, scores) in scores.chunks_exact_mut(n_keys).enumerate() {
                let (visible, hidden) = scores.split_at_mut(tile_queries[i / n_rep].n_keys);
                let (total, largest) = exponentiate(visible);
                hidden.fill(0.0);
                totals.push(total);
                // SAFETY: one element of a query and a head of this task alone.
                let lse = unsafe { lse_target.row(tile.start + i / n_rep, kv_head * n_rep + i % n_rep, 1) };
                lse.fill(largest + total.ln());
            }
            // SAFETY: as for the scores, and `n_keys` rows of this head lie inside the block (asserted).
            unsafe {
                let (scores, values) = (Left::rows(&scores, n_keys), Right::rows(values, kv_width));
                product(
                    rows,
                    head_dim,
                    n_keys,
                    scores,
                    values,
                    StridedMut::new(&mut sums, head_dim),
                    Write::Scaled(1.0),
                );
            }
            for (i, (sums, total)) in sums.chunks_exact(head_dim).zip(totals).enumerate() {
                // SAFETY: this query's part of this task's heads, which no other task writes.
                let out = unsafe { out_target.row(tile.start + i / n_rep, group + i % n_rep * head_dim, head_dim) };
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum / total;
                }
            }
        });
        (out, log_sum_exp)
    }

    fn attention_backward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
        out: &Rows,
        log_sum_exp: &Rows,
        d_out: &Rows,
        d_keys: &mut Rows,
        d_values: &mut Rows,
    ) -> Rows {
        /// Query rows per matrix product.
        const BLOCK_QUERIES: usize = 64;
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let n_rep = n_heads / n_kv_heads;
        let width = n_heads * head_dim;
        let kv_width = n_kv_heads * head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        assert_eq!([d_keys.width(), d_values.width()], [kv_width; 2], "attention_backward: width of keys and values");
        let shapes = [query_rows, out, d_out].map(|rows| (rows.n_rows(), rows.width()));
        assert_eq!(shapes, [(queries.len(), width); 3], "attention_backward: shapes of queries and outputs");
        let mut d_queries = Rows::zeros(queries.len(), width);
        let d_queries_target = StridedMut::new(d_queries.values_mut(), width);
        let runs = runs(queries, usize::MAX);
        let work: usize = queries.iter().map(|query| query.n_keys * width * 5).sum();
        // Each task has one query head of one sequence and gradients of keys and values of its own; they are added up below
        // in a fixed order, so the result does not depend on the self.threads.
        let partial = self.threads.map(runs.len() * n_heads, work, |task| {
            let run = runs[task / n_heads].clone();
            let head = task % n_heads;
            let KeyValues { keys, values, first_row } = sequences[queries[run.start].sequence];
            let run_keys = most_keys(&queries[run.clone()]);
            let at = first_row * kv_width + head / n_rep * head_dim;
            let (k, v) = (&keys.values()[at..], &values.values()[at..]);
            let mut d_k = vec![0.0; run_keys * head_dim];
            let mut d_v = vec![0.0; run_keys * head_dim];
            for start in run.clone().step_by(BLOCK_QUERIES) {
                let block = start..(start + BLOCK_QUERIES).min(run.end);
                let (m, n_keys) = (block.len(), most_keys(&queries[block.clone()]));
                let here = block.start * width + head * head_dim;
                let (q, d_o) = (&query_rows.values()[here..], &d_out.values()[here..]);
                let mut p = vec![0.0; m * n_keys];
                let mut d_s = vec![0.0; m * n_keys];
                // SAFETY: scratch of this task, of the stated sizes.
                unsafe {
                    let (p, d_s) = (StridedMut::new(&mut p, n_keys), StridedMut::new(&mut d_s, n_keys));
                    inner_products(Left::rows(q, width), m, k, kv_width, n_keys, head_dim, p);
                    inner_products(Left::rows(d_o, width), m, v, kv_width, n_keys, head_dim, d_s);
                }
                for (i, query) in block.clone().enumerate() {
                    let p = &mut p[i * n_keys..][..n_keys];
                    probabilities(p, queries[query].n_keys, scale, log_sum_exp.row(query)[head]);
                    let parts = out.row(query)[head * head_dim..][..head_dim].iter();
                    let along = parts.zip(&d_out.row(query)[head * head_dim..][..head_dim]).map(|(o, d)| o * d).sum();
                    score_gradients(&mut d_s[i * n_keys..][..n_keys], p, along);
                }
                // SAFETY: gradients of this task's head and queries, which no other task writes; operands of the stated sizes.
                unsafe {
                    let by_key = |scores: &[f32]| Left::columns(scores, n_keys);
                    let d_q = d_queries_target.at(block.start, head * head_dim);
                    let (scaled, whole) = (Write::AddScaled(scale), Write::AddScaled(1.0));
                    product(m, head_dim, n_keys, Left::rows(&d_s, n_keys), Right::rows(k, kv_width), d_q, scaled);
                    let d_k = StridedMut::new(&mut d_k, head_dim);
                    product(n_keys, head_dim, m, by_key(&d_s), Right::rows(q, width), d_k, scaled);
                    let d_v = StridedMut::new(&mut d_v, head_dim);
                    product(n_keys, head_dim, m, by_key(&p), Right::rows(d_o, width), d_v, whole);
                }
            }
            (d_k, d_v)
        });
        for (task, (d_k, d_v)) in partial.into_iter().enumerate() {
            let first_row = sequences[queries[runs[task / n_heads].start].sequence].first_row;
            let column = task % n_heads / n_rep * head_dim;
            for (total, part) in [(&mut *d_keys, d_k), (&mut *d_values, d_v)] {
                for (i, part) in part.chunks_exact(head_dim).enumerate() {
                    super::linear::add(&mut total.row_mut(first_row + i)[column..][..head_dim], part);
                }
            }
        }
        d_queries
    }
}

multiversion! {
    /// Probabilities of the visible keys from inner products, in place; the rest is 0.
    fn probabilities(scores: &mut [f32], n_keys: usize, scale: f32, log_sum_exp: f32) {
        let (visible, hidden) = scores.split_at_mut(n_keys);
        for score in visible {
            *score = exp(scale * *score - log_sum_exp);
        }
        hidden.fill(0.0);
    }
}

multiversion! {
    /// `dS = P (dP - D)`, in place of `dP`.
    fn score_gradients(d_probabilities: &mut [f32], probabilities: &[f32], along: f32) {
        for (d, p) in d_probabilities.iter_mut().zip(probabilities) {
            *d = p * (*d - along);
        }
    }
}
