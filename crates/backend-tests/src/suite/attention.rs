//! Ragged attention: values, log-sum-exps and gradients of queries, keys and values.

use aloud_kernels::backend::{Backend, Heads, KeyValues, Query};
use proptest::prelude::*;

use crate::device::{Device, values};
use crate::formulas::{self, dot};
use crate::random::{Random, for_cases};

/// A batch of sequences in one block of keys and values, with rows of no sequence between them.
struct Batch {
    heads: Heads,
    query_rows: Vec<f64>,
    queries: Vec<Query>,
    keys: Vec<f64>,
    values: Vec<f64>,
    first_rows: Vec<usize>,
}

impl Batch {
    /// Each position of sequences of the given lengths is active with probability `activity` in 8.
    fn new(heads: Heads, lengths: &[usize], activity: usize, shuffled: bool, random: &mut Random) -> Self {
        let mut n_rows = 0;
        let mut first_rows = Vec::new();
        let mut queries = Vec::new();
        for (sequence, &length) in lengths.iter().enumerate() {
            n_rows += random.below(3);
            first_rows.push(n_rows);
            n_rows += length;
            for n_keys in 1..=length {
                if random.below(8) < activity {
                    queries.push(Query { sequence, n_keys });
                }
            }
        }
        n_rows += random.below(3);
        if shuffled {
            queries = random.order(queries.len()).into_iter().map(|i| queries[i]).collect();
        }
        let kv_width = heads.n_kv_heads * heads.head_dim;
        Self {
            heads,
            query_rows: random.values(queries.len() * heads.n_heads * heads.head_dim, 2.0),
            queries,
            keys: random.values(n_rows * kv_width, 2.0),
            values: random.values(n_rows * kv_width, 2.0),
            first_rows,
        }
    }

    fn reference(&self, query_rows: &[f64], keys: &[f64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let kv_width = self.heads.n_kv_heads * self.heads.head_dim;
        let from = |row: &usize| (&keys[row * kv_width..], &values[row * kv_width..]);
        let sequences: Vec<(&[f64], &[f64])> = self.first_rows.iter().map(from).collect();
        formulas::attention(self.heads, query_rows, &self.queries, &sequences)
    }

    fn check<B: Backend>(&self, device: &Device<B>, random: &mut Random) {
        let backend = &device.backend;
        let Heads { n_heads, n_kv_heads, head_dim } = self.heads;
        let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
        let query_rows = device.rows(width, &self.query_rows);
        let (keys, value_rows) = (device.rows(kv_width, &self.keys), device.rows(kv_width, &self.values));
        let sequences: Vec<KeyValues<'_, B::Rows>> = self
            .first_rows
            .iter()
            .map(|&first_row| KeyValues { keys: &keys, values: &value_rows, first_row })
            .collect();
        let (out, lse) = backend.attention_forward(self.heads, &query_rows, &self.queries, &sequences);
        assert_eq!((backend.n_rows(&out), backend.n_rows(&lse)), (self.queries.len(), self.queries.len()));
        let (expected_out, expected_lse) = self.reference(&self.query_rows, &self.keys, &self.values);
        device.assert_rows("outputs", &out, &expected_out);
        device.assert_rows("log-sum-exps", &lse, &expected_lse);

        let d_out = random.values(self.query_rows.len(), 1.0);
        let before_keys = random.values(self.keys.len(), 1.0);
        let before_values = random.values(self.values.len(), 1.0);
        let mut d_keys = device.rows(kv_width, &before_keys);
        let mut d_values = device.rows(kv_width, &before_values);
        let d_queries = backend.attention_backward(
            self.heads,
            &query_rows,
            &self.queries,
            &sequences,
            &out,
            &lse,
            &device.rows(width, &d_out),
            &mut d_keys,
            &mut d_values,
        );
        let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&self.reference(q, k, v).0, &d_out);
        let zeros = vec![0.0; self.query_rows.len()];
        let d_queries = values(backend, &d_queries);
        device
            .assert_gradient("d_queries", &d_queries, &zeros, &self.query_rows, |q| loss(q, &self.keys, &self.values));
        let d_keys = values(backend, &d_keys);
        device
            .assert_gradient("d_keys", &d_keys, &before_keys, &self.keys, |k| loss(&self.query_rows, k, &self.values));
        let d_values = values(backend, &d_values);
        device.assert_gradient("d_values", &d_values, &before_values, &self.values, |v| {
            loss(&self.query_rows, &self.keys, v)
        });
    }
}

/// Ragged sequences, some without active queries; head widths that are and are not multiples of a vector register.
pub fn attention<B: Backend>(device: &Device<B>) {
    let head_dim = prop::sample::select(vec![1, 2, 4, 5, 8, 12, 16, 20, 32, 33, 64]);
    let lengths = prop::collection::vec(0usize..=19, 1..=4);
    let shapes = (head_dim, 1usize..=2, 1usize..=3, lengths, 0usize..=8, any::<bool>(), any::<u64>());
    for_cases(40, shapes, |(head_dim, n_kv_heads, n_rep, lengths, activity, shuffled, seed)| {
        let heads = Heads { n_heads: n_kv_heads * n_rep, n_kv_heads, head_dim };
        let mut random = Random::new(seed);
        Batch::new(heads, &lengths, activity, shuffled, &mut random).check(device, &mut random);
    });
}

/// More queries of a sequence than one tile or block holds.
pub fn attention_of_many_queries<B: Backend>(device: &Device<B>) {
    for (head_dim, lengths, activity, shuffled) in
        [(8, vec![90], 8, false), (20, vec![3, 70, 40], 6, false), (4, vec![70, 20], 7, true)]
    {
        let mut random = Random::new(head_dim as u64);
        let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim };
        Batch::new(heads, &lengths, activity, shuffled, &mut random).check(device, &mut random);
    }
}

/// No active query, or no sequence at all.
pub fn attention_without_queries<B: Backend>(device: &Device<B>) {
    let mut random = Random::new(0);
    let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 8 };
    Batch::new(heads, &[5, 3], 0, false, &mut random).check(device, &mut random);
    Batch::new(heads, &[], 0, false, &mut random).check(device, &mut random);
}

/// With whole numbers as queries and keys the scores are exact, and with unit vectors as values the outputs are the
/// probabilities: they are accurate to 1e-6 relative however small they are.
pub fn attention_is_accurate<B: Backend>(device: &Device<B>) {
    let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim: 64 };
    let mut random = Random::new(0);
    let n_keys = 64;
    let query_rows = random.integers(8 * 64, 3);
    let keys = random.integers(n_keys * 64, 3);
    let unit: Vec<f64> = (0..n_keys * 64).map(|i| if i / 64 == i % 64 { 1.0 } else { 0.0 }).collect();
    let queries = vec![Query { sequence: 0, n_keys }; 8];
    let (key_rows, value_rows) = (device.rows(64, &keys), device.rows(64, &unit));
    let sequences = [KeyValues { keys: &key_rows, values: &value_rows, first_row: 0 }];
    let (out, _) = device.backend.attention_forward(heads, &device.rows(64, &query_rows), &queries, &sequences);
    let (expected, _) = formulas::attention(heads, &query_rows, &queries, &[(&keys, &unit)]);
    for (actual, expected) in values(&device.backend, &out).iter().zip(&expected) {
        let error = (f64::from(*actual) - expected).abs();
        assert!(error <= 1e-6 * expected, "a probability of {actual} instead of {expected}");
    }
}
