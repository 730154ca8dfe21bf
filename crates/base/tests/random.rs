//! Random numbers: fixed by their keys alone, independent between keys, uniform.

use aloud_base::random::{Domain, KeyedRandom, normal_pair};
use proptest::prelude::*;

#[test]
fn numbers_are_fixed_for_ever() {
    // Expected values of every kind of key: `data/chacha8.py`, ChaCha8 written anew.
    let pattern = |epoch: u32, sample: u32| u64::from(epoch) | u64::from(sample) << 32;
    let training = |seed, domain, trace, pattern, token, candidate| {
        KeyedRandom::new(seed, domain, [trace, pattern]).bits_at(token, candidate)
    };
    let found = [
        training(0, Domain::TARGET_DEPTHS, 0, 0, 0, 0),
        training(42, Domain::TARGET_DEPTHS, 3, pattern(1, 2), 17, 4),
        training(u64::MAX, Domain::STUDENT_REPORT, u64::MAX, u64::MAX, u64::MAX, 5),
        training(1, Domain::TARGET_DEPTHS, 2, pattern(3, 4), 5, 11),
    ];
    let expected =
        [4_606_029_925_845_525_861, 6_134_854_868_620_826_998, 4_874_467_112_365_590_126, 4_512_671_202_832_976_577];
    assert_eq!(found, expected);

    let mut item = KeyedRandom::new(9, Domain::TASKS, [0, 0]).in_stream(4);
    assert_eq!([item.bits(), item.bits()], [17_906_932_945_094_452_766, 10_479_913_777_315_116_006]);
    let mut draw = KeyedRandom::new(7, Domain::RESAMPLE_WITHIN_CLASSES, [0, 0]).in_stream(1999);
    assert_eq!((0..9).map(|_| draw.bits()).last(), Some(13_888_383_300_406_551_235));
    let mut step = KeyedRandom::new(11, Domain::DECODING, [3, 20]);
    let found = [step.bits_at(2, 0), step.bits_at(u32::MAX.into(), 0)];
    assert_eq!(found, [13_555_338_161_818_692_058, 5_152_645_322_673_497_351]);
    let mut pairs = KeyedRandom::named(7, "judge pairs");
    assert_eq!([pairs.bits(), pairs.bits()], [3_738_114_552_715_840_312, 7_147_384_306_977_682_305]);
}

#[test]
fn every_part_of_the_key_matters() {
    let bits = |seed, domain, thing, stream, place| KeyedRandom::new(seed, domain, thing).bits_at(stream, place);
    let base = bits(1, Domain::TARGET_DEPTHS, [2, 3], 4, 5);
    let others = [
        bits(0, Domain::TARGET_DEPTHS, [2, 3], 4, 5),
        bits(1, Domain::STUDENT_REPORT, [2, 3], 4, 5),
        bits(1, Domain::TARGET_DEPTHS, [0, 3], 4, 5),
        bits(1, Domain::TARGET_DEPTHS, [2, 0], 4, 5),
        bits(1, Domain::TARGET_DEPTHS, [2, 3], 0, 5),
        bits(1, Domain::TARGET_DEPTHS, [2, 3], 4, 0),
    ];
    assert!(others.iter().all(|other| *other != base));
    let named = |seed, name| KeyedRandom::named(seed, name).bits();
    assert!(named(7, "a") != named(8, "a") && named(7, "a") != named(7, "b"));
}

/// The same numbers in a key of training and in one of decoding, however they are lined up, give different draws.
#[test]
fn training_decoding_and_tasks_share_no_number() {
    let numbers = [0, 1, 2, 3, 10];
    let all = |domain: Domain| -> Vec<u64> {
        let things = numbers.into_iter().flat_map(|a| numbers.map(|b| [a, b]));
        things.flat_map(|thing| numbers.map(|stream| KeyedRandom::new(7, domain, thing).bits_at(stream, 0))).collect()
    };
    let domains = [
        Domain::TASKS,
        Domain::TARGET_DEPTHS,
        Domain::EPOCH_ORDER,
        Domain::HELD_OUT,
        Domain::TARGET_REPORT,
        Domain::STUDENT_REPORT,
        Domain::ADAPTER_INIT,
        Domain::TEACHER_SAMPLING,
        Domain::WEIGHT_INIT,
        Domain::PRETRAIN_LEVEL,
        Domain::PRETRAIN_STYLE,
        Domain::DECODING,
    ];
    let drawn: std::collections::HashSet<u64> = domains.into_iter().flat_map(all).collect();
    assert_eq!(drawn.len(), domains.len() * numbers.len().pow(3));
}

/// Counts of equal bins against their expectation.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn numbers_are_uniform() {
    let mut bins = [0_u32; 64];
    for token in 0..8000 {
        let mut random = KeyedRandom::new(11, Domain::TARGET_DEPTHS, [token % 100, token / 100]);
        for candidate in 0..8 {
            bins[(random.uniform_at(token, candidate) * 64.0) as usize] += 1;
        }
    }
    // 99.99 % quantile of chi-square with 63 degrees of freedom: 112.
    assert!(chi_square(&bins) < 112.0, "{bins:?}");
}

#[test]
fn ranges_are_covered_evenly() {
    let mut random = KeyedRandom::new(1, Domain::HALVES, [0, 0]).in_stream(3);
    let (mut below, mut between) = ([0_u32; 5], [0_u32; 5]);
    for _ in 0..5000 {
        below[random.below(5)] += 1;
        between[(random.between(-3, 1) + 3) as usize] += 1;
    }
    // 99.99 % quantile of chi-square with 4 degrees of freedom: 23.5.
    assert!(chi_square(&below) < 23.5 && chi_square(&between) < 23.5, "{below:?} {between:?}");
    assert_eq!((random.below(0), random.between(3, 3), random.between(3, 1)), (0, 3, 3));
    assert_eq!(random.pick::<u8>(&[]), None);
    assert_eq!(random.pick(&[7]), Some(&7));
}

#[test]
fn every_order_is_about_as_frequent() {
    for shuffle in [KeyedRandom::shuffle::<u8>, KeyedRandom::shuffle_from_start::<u8>] {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut items = [0, 1, 2];
            shuffle(&mut KeyedRandom::named(seed, "shuffle"), &mut items);
            *counts.entry(items).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 99.99 % quantile of chi-square with 5 degrees of freedom: 25.7.
        assert!(chi_square(&counts.values().copied().collect::<Vec<_>>()) < 25.7, "{counts:?}");
    }
}

#[test]
fn normal_numbers_have_mean_0_and_variance_1() {
    let mut random = KeyedRandom::named(3, "normal");
    let numbers: Vec<f64> = (0..4000).flat_map(|_| normal_pair([random.uniform(), random.uniform()])).collect();
    let mean = numbers.iter().sum::<f64>() / 8000.0;
    let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / 8000.0;
    // Standard errors 0.011 and 0.016.
    assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07, "{mean} {variance}");
    assert!(normal_pair([0.0, 0.5]).iter().all(|number| number.abs() < 1e-12));
}

proptest! {
    #[test]
    fn order_of_drawing_does_not_matter(places in prop::collection::vec((0_u64..1000, 0_u64..40), 1..50), seed: u64) {
        let key = || KeyedRandom::new(seed, Domain::TARGET_DEPTHS, [1, 2]);
        let mut random = key();
        let forward: Vec<f64> = places.iter().map(|(stream, place)| random.uniform_at(*stream, *place)).collect();
        let mut backward: Vec<f64> =
            places.iter().rev().map(|(stream, place)| random.uniform_at(*stream, *place)).collect();
        backward.reverse();
        prop_assert!(forward.iter().all(|number| (0.0..1.0).contains(number)));
        prop_assert_eq!(&forward, &backward);
        // In order is by place: the numbers of a stream one after the other.
        let (stream, place) = places[0];
        let mut in_order = key().in_stream(stream);
        prop_assert_eq!((0..=place).map(|_| in_order.uniform()).last(), Some(forward[0]));
    }

    #[test]
    fn shuffled_lists_are_permutations(n in 0_usize..200, seed: u64) {
        for shuffle in [KeyedRandom::shuffle::<usize>, KeyedRandom::shuffle_from_start::<usize>] {
            let mut list: Vec<usize> = (0..n).collect();
            shuffle(&mut KeyedRandom::named(seed, "n"), &mut list);
            list.sort_unstable();
            prop_assert_eq!(list, (0..n).collect::<Vec<_>>());
        }
    }
}
