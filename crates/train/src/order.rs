//! In which order traces are trained on, and which are held out: functions of the seed alone.

use aloud_base::random::{Domain, KeyedRandom};

/// What a depth pattern is of, as one part of its random key: its epoch and its number.
pub(crate) fn pattern(epoch: u32, number: u32) -> u64 {
    u64::from(epoch) | u64::from(number) << 32
}

/// The order in which an epoch visits its traces: a permutation of `items` (Fisher-Yates) that depends on the seed, the
/// epoch and the items alone.
pub fn epoch_order(seed: u64, epoch: u32, mut items: Vec<usize>) -> Vec<usize> {
    let mut random = KeyedRandom::new(seed, Domain::EPOCH_ORDER, [0, epoch.into()]);
    for last in (1..items.len()).rev() {
        items.swap(last, random.below_at(last as u64, 0, last + 1));
    }
    items
}

/// Splits traces `0..n` into training and held-out indices, both in increasing order. At least one trace is held out if
/// `fraction > 0` and `n >= 2`, and at least one is trained on.
///
/// Each trace has its own number, and those with the smallest are held out: adding traces to a store moves few others.
pub fn split_held_out(seed: u64, n: usize, fraction: f64) -> (Vec<usize>, Vec<usize>) {
    if n < 2 || fraction <= 0.0 || fraction.is_nan() {
        return ((0..n).collect(), Vec::new());
    }
    let n_held_out = ((n as f64 * fraction).round() as usize).clamp(1, n - 1);
    let mut order: Vec<usize> = (0..n).collect();
    let bits = |trace: usize| KeyedRandom::new(seed, Domain::HELD_OUT, [trace as u64, 0]).bits_at(0, 0);
    order.sort_by_key(|&trace| (bits(trace), trace));
    let mut training = order.split_off(n_held_out);
    training.sort_unstable();
    order.sort_unstable();
    (training, order)
}
