//! Orders and splits: permutations and partitions that follow from the seed.

use aloud_train::order::{epoch_order, split_held_out};
use proptest::prelude::*;

#[test]
fn epochs_have_different_orders() {
    let items: Vec<usize> = (0..50).collect();
    let first = epoch_order(5, 0, items.clone());
    assert_eq!(first, epoch_order(5, 0, items.clone()));
    assert_ne!(first, epoch_order(5, 1, items.clone()));
    assert_ne!(first, epoch_order(6, 0, items.clone()));
    assert_ne!(first, items);
}

#[test]
fn every_order_of_three_is_equally_likely() {
    let mut counts = std::collections::BTreeMap::new();
    for epoch in 0..6000 {
        *counts.entry(epoch_order(1, epoch, vec![0, 1, 2])).or_insert(0_i32) += 1;
    }
    assert_eq!(counts.len(), 6);
    // Five standard deviations of a count with mean 1000: 5 sqrt(6000 / 6 * 5 / 6) = 144.
    assert!(counts.values().all(|count| (count - 1000).abs() < 144), "{counts:?}");
}

proptest! {
    #[test]
    fn orders_are_permutations(n in 0_usize..200, seed: u64, epoch: u32) {
        let mut order = epoch_order(seed, epoch, (0..n).collect());
        order.sort_unstable();
        prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn splits_are_partitions(n in 0_usize..200, seed: u64, fraction in 0.0..1.0) {
        let (training, held_out) = split_held_out(seed, n, fraction);
        prop_assert!(training.is_sorted() && held_out.is_sorted());
        prop_assert!(n < 2 || !training.is_empty());
        prop_assert!(n < 2 || fraction == 0.0 || !held_out.is_empty());
        let mut all = [training, held_out].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn growth_moves_no_trace_back_into_training(n in 2_usize..200, seed: u64) {
        // Held out: the traces with the smallest numbers. With n + 1 of n + 1 as many held out, only the border moves.
        let (_, before) = split_held_out(seed, n, 10.0 / n as f64);
        let (_, after) = split_held_out(seed, n + 1, 10.0 / (n + 1) as f64);
        let moved = before.iter().filter(|trace| !after.contains(trace)).count();
        prop_assert!(moved <= 1);
    }
}
