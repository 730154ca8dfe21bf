//! Random numbers: fixed by their keys alone, independent between keys, uniform.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_train::random::{Purpose, SampleRandom, epoch_order, split_held_out, uniform};
use proptest::prelude::*;

#[test]
fn numbers_are_fixed_for_ever() {
    // Expected values: `crates/base/tests/data/chacha8.py`, ChaCha8 written anew.
    let values = [
        SampleRandom::new(0, Purpose::TargetDepths, 0, 0, 0).bits(0, 0),
        SampleRandom::new(42, Purpose::TargetDepths, 3, 1, 2).bits(17, 4),
        SampleRandom::new(u64::MAX, Purpose::StudentReport, u64::MAX, u32::MAX, u32::MAX).bits(u64::MAX, 5),
        SampleRandom::new(1, Purpose::TargetDepths, 2, 3, 4).bits(5, 11),
    ];
    let expected =
        [4_606_029_925_845_525_861, 6_134_854_868_620_826_998, 4_874_467_112_365_590_126, 4_512_671_202_832_976_577];
    assert_eq!(values, expected);
}

#[test]
fn every_part_of_the_key_matters() {
    let base = uniform(1, Purpose::TargetDepths, 2, 3, 4, 5, 6);
    let others = [
        uniform(0, Purpose::TargetDepths, 2, 3, 4, 5, 6),
        uniform(1, Purpose::StudentReport, 2, 3, 4, 5, 6),
        uniform(1, Purpose::TargetDepths, 0, 3, 4, 5, 6),
        uniform(1, Purpose::TargetDepths, 2, 0, 4, 5, 6),
        uniform(1, Purpose::TargetDepths, 2, 3, 0, 5, 6),
        uniform(1, Purpose::TargetDepths, 2, 3, 4, 0, 6),
        uniform(1, Purpose::TargetDepths, 2, 3, 4, 5, 0),
        // Epoch and sample share a word of the key, but not its bits.
        uniform(1, Purpose::TargetDepths, 2, 4, 3, 5, 6),
    ];
    assert!(others.iter().all(|&other| other != base));
}

/// The same numbers in a key of training and in one of decoding, however they are lined up, give different draws.
#[test]
fn training_and_decoding_share_no_number() {
    let numbers = [0_u32, 1, 2, 3, 10];
    let training: Vec<u64> = (numbers.iter())
        .flat_map(|trace| numbers.map(|epoch| (u64::from(*trace), epoch)))
        .flat_map(|(trace, epoch)| {
            [Purpose::TargetDepths, Purpose::EpochOrder, Purpose::HeldOut, Purpose::PretrainStyle]
                .map(|purpose| uniform(7, purpose, trace, epoch, 0, 0, 0).to_bits())
        })
        .collect();
    for sequence in numbers {
        for step in numbers {
            for head in numbers {
                let drawn = KeyedRandom::new(7, Domain::DECODING, [sequence.into(), step.into()])
                    .uniform_at(head.into(), 0)
                    .to_bits();
                assert!(!training.contains(&drawn), "sequence {sequence}, step {step}, head {head}");
            }
        }
    }
}

#[test]
fn numbers_are_uniform() {
    let n = 64_000_u32;
    let mut bins = [0_u32; 64];
    for token in 0..n / 8 {
        let mut random = SampleRandom::new(11, Purpose::TargetDepths, u64::from(token % 100), 0, token / 100);
        for candidate in 0..8 {
            bins[(random.uniform(u64::from(token), candidate) * 64.0) as usize] += 1;
        }
    }
    let expected = f64::from(n) / 64.0;
    let chi_square: f64 = bins.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    // 99.99 % quantile of chi-square with 63 degrees of freedom: 112.
    assert!(chi_square < 112.0, "chi-square {chi_square}");
}

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
    fn order_of_drawing_does_not_matter(keys in prop::collection::vec((0_u64..1000, 0_u64..40), 1..50), seed: u64) {
        let mut random = SampleRandom::new(seed, Purpose::TargetDepths, 1, 2, 3);
        let forward: Vec<f64> = keys.iter().map(|&(token, candidate)| random.uniform(token, candidate)).collect();
        let mut backward: Vec<f64> =
            keys.iter().rev().map(|&(token, candidate)| random.uniform(token, candidate)).collect();
        backward.reverse();
        prop_assert!(forward.iter().all(|number| (0.0..1.0).contains(number)));
        prop_assert_eq!(&forward, &backward);
        let (token, candidate) = keys[0];
        prop_assert_eq!(forward[0], uniform(seed, Purpose::TargetDepths, 1, 2, 3, token, candidate));
    }

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
