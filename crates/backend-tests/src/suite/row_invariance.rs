//! A row's result has the same bits whatever other rows are in its batch, in whatever order, on any number of threads.

use aloud_kernels::backend::{Backend, Heads, KeyValues, Query, Readout, Rotation, Term};
use aloud_kernels::dtype::DType;
use aloud_kernels::rope_table::RopeTable;

use crate::device::{Device, bits, rows};
use crate::random::{DTYPES, Random, narrow};

/// Most rows of a batch.
const MOST_ROWS: usize = 40;

/// Asserts that `op`, which returns the bits of the results of the rows it is given, one list a row, does not let rows
/// influence each other: all rows, runs of every length, random selections and single rows, on both of the device's
/// instances.
fn assert_invariant<B: Backend>(device: &Device<B>, what: &str, op: impl Fn(&B, &[usize]) -> Vec<Vec<u32>>) {
    let all: Vec<usize> = (0..MOST_ROWS).collect();
    let expected = op(&device.backend, &all);
    assert_eq!(expected.len(), MOST_ROWS, "{what}: one result a row");
    let mut random = Random::new(0);
    let mut batches: Vec<Vec<usize>> = vec![Vec::new(), all.iter().rev().copied().collect()];
    batches.extend((0..MOST_ROWS).map(|row| vec![row]));
    batches.extend((1..=MOST_ROWS).map(|n| all[..n].to_vec()));
    batches.extend((1..=MOST_ROWS).map(|n| random.order(MOST_ROWS)[..n].to_vec()));
    for (which, backend) in [("the device", &device.backend), ("its twin", &device.twin)] {
        for batch in &batches {
            let actual = op(backend, batch);
            assert_eq!(actual.len(), batch.len(), "{what}: one result a row");
            for (row, actual) in batch.iter().zip(actual) {
                let n = batch.len();
                assert!(actual == expected[*row], "{what}: row {row} differs in a batch of {n} on {which}");
            }
        }
    }
}

/// Splits the bits of rows into one list a row.
fn by_row<B: Backend>(backend: &B, rows: &B::Rows) -> Vec<Vec<u32>> {
    let width = backend.download(rows).width();
    bits(backend, rows).chunks_exact(width).map(<[u32]>::to_vec).collect()
}

/// The selected rows of `[.., width]` values.
fn select(values: &[f64], width: usize, selected: &[usize]) -> Vec<f64> {
    selected.iter().flat_map(|&row| values[row * width..][..width].to_vec()).collect()
}

/// Inputs of all rows.
struct Input {
    width: usize,
    values: Vec<f64>,
}

impl Input {
    fn new(width: usize, random: &mut Random) -> Self {
        Self { width, values: random.values(MOST_ROWS * width, 3.0) }
    }

    fn rows<B: Backend>(&self, backend: &B, selected: &[usize]) -> B::Rows {
        rows(backend, self.width, &select(&self.values, self.width, selected))
    }
}

/// Rows of tables in every number format.
pub fn embedding_rows<B: Backend>(device: &Device<B>) {
    for dtype in DTYPES {
        let mut random = Random::new(1);
        let (table, _) = random.matrix(dtype, 11, 96);
        let tokens = random.indices(MOST_ROWS, 11);
        assert_invariant(device, "embedding", |backend, selected| {
            let tokens: Vec<u32> = selected.iter().map(|&row| tokens[row]).collect();
            by_row(backend, &backend.embedding_forward(&backend.matrix(&table), &tokens))
        });
    }
}

/// Norms of rows and of heads.
pub fn norm_rows<B: Backend>(device: &Device<B>) {
    for (heads, width) in [(1, 7), (1, 576), (3, 64), (2, 33)] {
        let mut random = Random::new(2);
        let x = Input::new(heads * width, &mut random);
        let gain = random.values(width, 2.0);
        assert_invariant(device, "rms_norm", |backend, selected| {
            let gain = rows(backend, width, &gain);
            by_row(backend, &backend.rms_norm_forward(&x.rows(backend, selected), &gain, 1e-5))
        });
    }
}

/// Rotations, forward and back.
pub fn rope_rows<B: Backend>(device: &Device<B>) {
    for (heads, half) in [(1, 3), (9, 32)] {
        let mut random = Random::new(3);
        let x = Input::new(heads * 2 * half, &mut random);
        let table = RopeTable::new(&narrow(&random.values(half, 1.0)), 1.0, 100);
        let positions = random.indices(MOST_ROWS, 100);
        for rotation in [Rotation::Forward, Rotation::Backward] {
            assert_invariant(device, "rope", |backend, selected| {
                let mut x = x.rows(backend, selected);
                let positions: Vec<u32> = selected.iter().map(|&row| positions[row]).collect();
                backend.rope(&mut x, &table, &positions, rotation);
                by_row(backend, &x)
            });
        }
    }
}

/// Gates.
pub fn swiglu_rows<B: Backend>(device: &Device<B>) {
    for width in [5, 300] {
        let mut random = Random::new(4);
        let (gate, up) = (Input::new(width, &mut random), Input::new(width, &mut random));
        assert_invariant(device, "swiglu", |backend, selected| {
            by_row(backend, &backend.swiglu_forward(&gate.rows(backend, selected), &up.rows(backend, selected)))
        });
    }
}

/// Outputs and inputs of layers: ragged against every tile, and large enough for one row to be split among threads.
fn shapes(dtype: DType) -> [(usize, usize); 3] {
    [(5, 3), (50, 70), (203usize, 190usize)].map(|(n, k)| (n, k.next_multiple_of(dtype.block_len())))
}

/// Linear layers of every number format.
pub fn linear_rows<B: Backend>(device: &Device<B>) {
    for dtype in DTYPES {
        for (n, k) in shapes(dtype) {
            let mut random = Random::new(5);
            let x = Input::new(k, &mut random);
            let (matrix, _) = random.matrix(dtype, n, k);
            let bias = random.values(n, 2.0);
            assert_invariant(device, dtype.name(), |backend, selected| {
                let (matrix, bias) = (backend.matrix(&matrix), rows(backend, n, &bias));
                by_row(backend, &backend.linear_forward(&x.rows(backend, selected), &matrix, Some(&bias)))
            });
        }
    }
}

/// Several layers at once give the bits that each gives alone.
pub fn linears_rows<B: Backend>(device: &Device<B>) {
    let mut random = Random::new(6);
    let x = Input::new(96, &mut random);
    let matrices = [(DType::Q4_1, 130), (DType::F32, 41), (DType::Q8_0, 7), (DType::F16, 220)]
        .map(|(dtype, n)| random.matrix(dtype, n, 96).0);
    for together in [true, false] {
        assert_invariant(device, "linears", |backend, selected| {
            let x = x.rows(backend, selected);
            let matrices = matrices.each_ref().map(|matrix| backend.matrix(matrix));
            let mut out = vec![Vec::new(); selected.len()];
            // The first call, with all rows, sets the expectation: the other way must agree with it.
            let all_at_once = if selected.len() % 2 == 0 { together } else { !together };
            let parts = if all_at_once {
                backend.linears_forward(&x, &matrices.each_ref().map(|matrix| (matrix, None)))
            } else {
                matrices.iter().map(|matrix| backend.linear_forward(&x, matrix, None)).collect()
            };
            for part in parts {
                for (out, part) in out.iter_mut().zip(by_row(backend, &part)) {
                    out.extend(part);
                }
            }
            out
        });
    }
}

/// The second factor of an adapter.
pub fn linear_add_rows<B: Backend>(device: &Device<B>) {
    for dtype in [DType::F32, DType::Q4_1] {
        for (n, k) in shapes(dtype) {
            let mut random = Random::new(7);
            let (x, before) = (Input::new(k, &mut random), Input::new(n, &mut random));
            let (matrix, _) = random.matrix(dtype, n, k);
            assert_invariant(device, "linear_add", |backend, selected| {
                let mut out = before.rows(backend, selected);
                let matrix = backend.matrix(&matrix);
                let term = Term { rows: &x.rows(backend, selected), weight: &matrix, scale: 0.3 };
                backend.linears_add_forward(&[term], &mut [&mut out]);
                by_row(backend, &out)
            });
        }
    }
}

/// Exit logits, with and without the norm.
pub fn exit_head_rows<B: Backend>(device: &Device<B>) {
    for (width, rms_eps) in [(7, None), (7, Some(1e-5)), (576, None), (576, Some(1e-5))] {
        let mut random = Random::new(8);
        let x = Input::new(width, &mut random);
        let weight = narrow(&random.values(width, 2.0));
        assert_invariant(device, "exit_head", |backend, selected| {
            let logits = backend.exit_head_forward(&x.rows(backend, selected), &weight, 0.1, rms_eps);
            logits.into_iter().map(|logit| vec![logit.to_bits()]).collect()
        });
    }
}

/// Queries keep their bits whatever other queries and sequences there are, in what order, and wherever the keys and
/// values lie: packed into one block, or each sequence in one of its own.
pub fn attention_rows<B: Backend>(device: &Device<B>) {
    const LENGTHS: [usize; 5] = [1, 40, 3, 17, 75];
    for (n_kv_heads, n_rep, head_dim) in [(3, 3, 64), (1, 1, 4), (2, 4, 20), (1, 5, 33)] {
        let mut random = Random::new(9);
        let heads = Heads { n_heads: n_kv_heads * n_rep, n_kv_heads, head_dim };
        let kv_width = n_kv_heads * head_dim;
        let x = Input::new(heads.n_heads * head_dim, &mut random);
        let keys = LENGTHS.map(|length| random.values(length * kv_width, 2.0));
        let values = LENGTHS.map(|length| random.values(length * kv_width, 2.0));
        let filler = random.values(kv_width, 2.0);
        // Half of the queries are a run of the longest sequence, so that tiles fill up.
        let queries: Vec<Query> = (0..MOST_ROWS)
            .map(|row| {
                if row < MOST_ROWS / 2 {
                    return Query { sequence: 4, n_keys: 30 + 2 * row };
                }
                let sequence = random.below(LENGTHS.len());
                Query { sequence, n_keys: 1 + random.below(LENGTHS[sequence]) }
            })
            .collect();
        for packed in [true, false] {
            assert_invariant(device, "attention", |backend, selected| {
                // Sequences stand in the order in which the selected queries name them.
                let mut order: Vec<usize> = Vec::new();
                for &row in selected {
                    if !order.contains(&queries[row].sequence) {
                        order.push(queries[row].sequence);
                    }
                }
                let local: Vec<Query> = selected
                    .iter()
                    .map(|&row| {
                        let Query { sequence, n_keys } = queries[row];
                        Query { sequence: order.iter().position(|s| *s == sequence).expect("listed"), n_keys }
                    })
                    .collect();
                let (mut key_blocks, mut value_blocks) = (Vec::<Vec<f64>>::new(), Vec::<Vec<f64>>::new());
                let mut places = Vec::new();
                for &sequence in &order {
                    if !packed || key_blocks.is_empty() {
                        key_blocks.push(Vec::new());
                        value_blocks.push(Vec::new());
                    }
                    let block = key_blocks.len() - 1;
                    let (key_block, value_block) = (&mut key_blocks[block], &mut value_blocks[block]);
                    key_block.extend(&filler);
                    value_block.extend(&filler);
                    places.push((block, key_block.len() / kv_width));
                    key_block.extend(&keys[sequence]);
                    value_block.extend(&values[sequence]);
                }
                let upload = |blocks: Vec<Vec<f64>>| -> Vec<B::Rows> {
                    blocks.iter().map(|block| rows(backend, kv_width, block)).collect()
                };
                let (key_blocks, value_blocks) = (upload(key_blocks), upload(value_blocks));
                let sequences: Vec<KeyValues<'_, B::Rows>> = places
                    .iter()
                    .map(|&(block, first_row)| KeyValues {
                        keys: &key_blocks[block],
                        values: &value_blocks[block],
                        first_row,
                    })
                    .collect();
                let (out, lse) = backend.attention_forward(heads, &x.rows(backend, selected), &local, &sequences);
                let lses = by_row(backend, &lse);
                by_row(backend, &out).into_iter().zip(lses).map(|(out, lse)| [out, lse].concat()).collect()
            });
        }
    }
}

/// Logits.
pub fn logits_rows<B: Backend>(device: &Device<B>) {
    for dtype in [DType::F32, DType::Q4_1] {
        let mut random = Random::new(10);
        let x = Input::new(64, &mut random);
        let (matrix, _) = random.matrix(dtype, 1001, 64);
        assert_invariant(device, "logits", |backend, selected| {
            let hidden = x.rows(backend, selected);
            let logits = backend.logits(Readout { hidden: &hidden, weight: &backend.matrix(&matrix) });
            by_row(backend, &backend.upload(logits))
        });
    }
}

/// Readings of a row: log-probability, entropy, lenses.
pub fn unembedding_rows<B: Backend>(device: &Device<B>) {
    let mut random = Random::new(11);
    let (x, lens) = (Input::new(32, &mut random), Input::new(32, &mut random));
    let (matrix, _) = random.matrix(DType::Q8_0, 501, 32);
    let tokens = random.indices(MOST_ROWS, 501);
    assert_invariant(device, "token_log_probs and lens_kl", |backend, selected| {
        let matrix = backend.matrix(&matrix);
        let (hidden, lens) = (x.rows(backend, selected), lens.rows(backend, selected));
        let tokens: Vec<u32> = selected.iter().map(|&row| tokens[row]).collect();
        let readout = || Readout { hidden: &hidden, weight: &matrix };
        let readings = backend.token_log_probs(readout(), &tokens, 0.7);
        let lens_rows = backend.lens_kl(readout(), &[&lens, &hidden], &tokens, true);
        let readings = readings.iter().zip(&lens_rows).map(|(reading, row)| {
            let of_tokens = [reading, &row.token].into_iter();
            let mut bits: Vec<u32> =
                of_tokens.flat_map(|t| [t.log_probability.to_bits(), t.entropy.to_bits(), t.top_token]).collect();
            bits.extend(
                row.lenses.iter().flat_map(|lens| [lens.kl.to_bits(), lens.js.map_or(0, f32::to_bits), lens.top_token]),
            );
            bits
        });
        readings.collect()
    });
}
