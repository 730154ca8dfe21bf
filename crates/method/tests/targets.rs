//! Targets: the formulas, their limits, and the sampler against its distribution.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_method::exit_distribution::{draw_depth, exit_distribution};
use aloud_method::hazard::COMPAT_CUT;
use aloud_method::savings::average_layer_savings;
use aloud_method::targets::{TargetPolicy, TargetStatistics, Targets, target_hazard};
use proptest::prelude::*;

fn targets(kl_factor: f64, policy: TargetPolicy) -> Targets {
    Targets { candidates: vec![5, 10, 15, 20, 25], n_blocks: 30, kl_factor, policy }
}

#[test]
fn hazards_match_both_forms_of_the_formula() {
    // Both sides of 2 (1 - sigmoid(x)) = 1 - tanh(x / 2), where neither loses digits.
    for (kl, kl_factor) in [(0.1, 0.25), (1.0, 1.0), (2.5, 0.5), (6.0, 1.0), (3.0, 4.0)] {
        let x: f64 = kl * kl_factor;
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        let hazard = target_hazard(kl, kl_factor);
        assert!((hazard - 2.0 * (1.0 - sigmoid)).abs() < 1e-14);
        assert!((hazard - (1.0 - (x / 2.0).tanh())).abs() < 1e-14);
    }
    // 1 - tanh(ln(3) / 2) = 1/2 by hand.
    assert!((target_hazard(3.0_f64.ln(), 1.0) - 0.5).abs() < 1e-15);
}

#[test]
fn hazards_at_the_limits() {
    assert_eq!(target_hazard(0.0, 1.0), 1.0);
    assert_eq!(target_hazard(-1e-6, 1.0), 1.0, "a KL below 0 is rounding");
    assert_eq!(target_hazard(f64::INFINITY, 1.0), 0.0);
    assert!(target_hazard(f64::NAN, 1.0).is_nan(), "no decision, and no exit at hazard 1 either");
    // 2 e^-80: 1 - tanh(40) would be 0.
    let tiny = target_hazard(80.0, 1.0);
    assert!((tiny / (2.0 * (-80.0_f64).exp()) - 1.0).abs() < 1e-12);
}

#[test]
fn only_compat_cuts_small_hazards() {
    // K = 3: hazard 0.0949; K = 2.9: hazard 0.1044.
    let lens_kl = [3.0, 2.9];
    let exact = targets(1.0, TargetPolicy::Exact).hazards(&lens_kl);
    assert!(exact[0] > 0.09 && exact[0] < COMPAT_CUT && exact[1] > COMPAT_CUT);
    let compat = targets(1.0, TargetPolicy::Compat).hazards(&lens_kl);
    assert_eq!(compat, [0.0, exact[1]]);
}

#[test]
fn token_zero_runs_at_full_depth() {
    let targets = targets(1.0, TargetPolicy::Exact);
    // Lens KLs of 0: every hazard is 1, so every token but the first stops at the first candidate.
    let depths = targets.draw_depths(&[0.0; 4 * 5], |_, _| 0.999);
    assert_eq!(depths, [30, 5, 5, 5]);
    assert!((average_layer_savings(&depths[1..], 30).unwrap_or_default() - 25.0 / 30.0).abs() < 1e-15);
    let mut statistics = TargetStatistics::new(targets);
    statistics.add_trace(&[0.0; 4 * 5], 2, |_, _, _| 0.999);
    assert_eq!(statistics.n_tokens(), 3);
    assert_eq!(statistics.histogram(), [6, 0, 0, 0, 0, 0]);
    assert!((statistics.expected_layer_savings() - 25.0 / 30.0).abs() < 1e-15);
    assert_eq!(statistics.expected_exit_rate(), 1.0);
}

#[test]
fn drawn_depths_follow_the_distribution() {
    let candidates = [5, 10, 15, 20, 25];
    let hazards = [0.3, 0.05, 0.6, 0.2, 0.01];
    let distribution = exit_distribution(&hazards);
    let n_draws = 40_000_u32;
    let mut counts = [0_u32; 6];
    let mut random = KeyedRandom::new(7, Domain::TARGET_REPORT, [0, 0]);
    for draw in 0..n_draws {
        let depth = draw_depth(&hazards, &candidates, 30, |i| random.uniform_at(u64::from(draw), i as u64));
        counts[candidates.iter().position(|&candidate| candidate == depth).unwrap_or(5)] += 1;
    }
    let chi_square: f64 = counts
        .iter()
        .zip(&distribution)
        .map(|(&count, probability)| {
            let expected = probability * f64::from(n_draws);
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum();
    // 99.99 % quantile of chi-square with 5 degrees of freedom: 25.7.
    assert!(chi_square < 25.7, "chi-square {chi_square}, counts {counts:?}");
}

#[test]
fn statistics_agree_with_their_own_draws() {
    let targets = targets(0.5, TargetPolicy::Exact);
    let mut statistics = TargetStatistics::new(targets);
    let mut random = KeyedRandom::new(3, Domain::TARGET_REPORT, [0, 0]);
    // 200 tokens with KLs that fall with depth, as a model's do.
    let lens_kl: Vec<f32> = (0..200 * 5)
        .map(|i| {
            let falling = 5.0 - (i % 5) as f64;
            (falling * 2.0 * random.uniform_at(i as u64, 0)) as f32
        })
        .collect();
    let mut draws: Vec<_> =
        (0..8).map(|draw| KeyedRandom::new(3, Domain::TARGET_REPORT, [0, (draw + 1) << 32])).collect();
    statistics.add_trace(&lens_kl, 8, |draw, token, i| draws[draw].uniform_at(token as u64, i as u64));
    let n_draws = 8.0 * statistics.n_tokens() as f64;
    assert_eq!(statistics.n_tokens(), 199);
    assert_eq!(statistics.histogram().iter().sum::<u64>(), 199 * 8);
    for (&count, probability) in statistics.histogram().iter().zip(statistics.mean_distribution()) {
        // The variance of a sum of different Bernoulli draws is at most that of equal ones.
        let deviation = (n_draws * probability * (1.0 - probability)).sqrt();
        assert!((count as f64 - n_draws * probability).abs() <= 4.0 * deviation, "{count} of {n_draws}, {probability}");
    }
}

proptest! {
    #[test]
    fn distributions_sum_to_one(lens_kl in prop::collection::vec(-1.0_f32..1e4, 1..40), kl_factor in 1e-4..1e3) {
        let candidates = (1..=lens_kl.len()).collect();
        let targets =
            Targets { candidates, n_blocks: lens_kl.len() + 1, kl_factor, policy: TargetPolicy::Exact };
        let hazards = targets.hazards(&lens_kl);
        prop_assert!(hazards.iter().all(|hazard| (0.0..=1.0).contains(hazard)));
        let distribution = exit_distribution(&hazards);
        prop_assert!(distribution.iter().all(|probability| (0.0..=1.0).contains(probability)));
        prop_assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn hazards_fall_with_the_factor_and_the_kl(kl in 0.0..1e5, more in 0.0..1e5, factor in 1e-4..1e3, larger in 0.0..1e3) {
        prop_assert!(target_hazard(kl, factor + larger) <= target_hazard(kl, factor));
        prop_assert!(target_hazard(kl + more, factor) <= target_hazard(kl, factor));
    }

    #[test]
    fn any_number_gives_a_probability(kl in any::<f64>(), factor in 0.0..1e6) {
        prop_assert!((0.0..=1.0).contains(&target_hazard(kl, factor)));
    }
}
