//! Memory of the ops: no block of logits or of attention scores as large as the batch.
//!
//! One test in a binary of its own, because its allocator counts what the whole process allocates.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aloud_kernels::backend::{Attention, Heads, KeyValues, KlDirection, MAX_LOGIT_ROWS, Query, Readout, Unembedding};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rows::Rows;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does the work; here bytes are counted only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: contract of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: contract of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Asserts that `op` takes at most `limit` bytes more than there are.
fn assert_takes<T>(what: &str, limit: usize, op: impl FnOnce() -> T) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = op();
    let taken = PEAK.load(Relaxed) - before;
    drop(result);
    assert!(taken <= limit, "{what} takes {taken} bytes, {limit} are allowed");
}

#[test]
fn no_op_holds_a_block_of_logits_or_scores_of_the_whole_batch() {
    /// For hidden states, results a row and the packing buffers of matrix products, which are as large as a core's cache.
    const SLACK: usize = 8 << 20;
    // All logits would take 80 MB, 64 rows of them 26 MB, the widened unembedding 13 MB.
    let (n, width, vocabulary) = (200, 32, 100_000);
    let hidden = Rows::zeros(n, width);
    let logits = MAX_LOGIT_ROWS * vocabulary * 4;
    let d = vec![1.0; n];
    let tokens = vec![0; n];
    let weights = [
        Matrix::from_f32(vocabulary, width, vec![0.5; vocabulary * width]).expect("shape"),
        Matrix::new(DType::Q8_0, vocabulary, width, &vec![1; vocabulary * 34]).expect("shape"),
    ];
    let cpu = Cpu::new(2);
    for weight in &weights {
        let mut d_weight = Rows::zeros(vocabulary, width);
        let readout = || Readout { hidden: &hidden, weight };
        let limit = logits + SLACK;
        for direction in [KlDirection::Reverse, KlDirection::Forward] {
            assert_takes("distill_kl", limit, || {
                cpu.distill_kl(readout(), readout(), direction, Some(&d), Some(&mut d_weight))
            });
        }
        assert_takes("token_log_probs", limit, || cpu.token_log_probs(readout(), &tokens, 1.0));
        assert_takes("token_log_probs_backward", limit, || {
            cpu.token_log_probs_backward(readout(), &tokens, 1.0, &d, Some(&mut d_weight))
        });
        assert_takes("lens_kl", limit, || cpu.lens_kl(readout(), &[&hidden; 5], &tokens, true));
    }

    let (length, heads) = (1000, Heads { n_heads: 8, n_kv_heads: 4, head_dim: 8 });
    let (x, keys) = (Rows::zeros(length, 64), Rows::zeros(length, 32));
    let (mut d_keys, mut d_values) = (keys.clone(), keys.clone());
    let queries: Vec<Query> = (1..=length).map(|n_keys| Query { sequence: 0, n_keys }).collect();
    let sequences = [KeyValues { keys: &keys, values: &keys, first_row: 0 }];
    // Scores of one head would take 4 MB, those of all heads 32 MB.
    let limit = 4 * length * length;
    assert_takes("attention_forward", limit, || cpu.attention_forward(heads, &x, &queries, &sequences));
    let (out, lse) = cpu.attention_forward(heads, &x, &queries, &sequences);
    assert_takes("attention_backward", limit, || {
        let (d_keys, d_values) = (&mut d_keys, &mut d_values);
        cpu.attention_backward(heads, &x, &queries, &sequences, &out, &lse, &x, d_keys, d_values)
    });
}
