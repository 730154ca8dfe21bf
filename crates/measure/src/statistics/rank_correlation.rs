//! Correlation of ranks (Spearman, 1904), with ties, of weighted pairs.

/// Pairs whose order was found once, so that the correlation of many weightings of them is cheap.
#[derive(Clone, Debug)]
pub struct RankedPairs {
    first: Ordered,
    second: Ordered,
}

/// Positions of values in increasing order, in runs of equal values.
#[derive(Clone, Debug)]
struct Ordered {
    order: Vec<usize>,
    /// Ends of the runs in `order`.
    ends: Vec<usize>,
}

impl Ordered {
    fn of(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ends: Vec<usize> = (1..order.len()).filter(|at| values[order[*at - 1]] != values[order[*at]]).collect();
        ends.push(order.len());
        Self { order, ends }
    }

    /// Ranks if each value stood there `weight` times; equal values have the mean of their ranks.
    fn ranks(&self, weight: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut ranks = vec![0.0; self.order.len()];
        let (mut start, mut below) = (0, 0.0);
        for end in &self.ends {
            let run = &self.order[start..*end];
            let total: f64 = run.iter().map(|at| weight(*at)).sum();
            for at in run {
                ranks[*at] = below + f64::midpoint(total, 1.0);
            }
            below += total;
            start = *end;
        }
        ranks
    }
}

impl RankedPairs {
    /// Pairs of values; those beyond the shorter list do not count.
    pub fn new(first: &[f64], second: &[f64]) -> Self {
        let n = first.len().min(second.len());
        Self { first: Ordered::of(&first[..n]), second: Ordered::of(&second[..n]) }
    }

    /// Spearman's rho, if pair `i` stood there `weight(i)` times. `None` if one side has only one value.
    pub fn spearman(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (first, second) = (self.first.ranks(&weight), self.second.ranks(&weight));
        correlation(&first, &second, weight)
    }
}

/// Spearman's rho of pairs. `None` if one side has only one value.
pub fn spearman(first: &[f64], second: &[f64]) -> Option<f64> {
    RankedPairs::new(first, second).spearman(|_| 1.0)
}

/// Two quantities, and a third one and a class that are held fixed, whose orders were found once.
#[derive(Clone, Debug)]
pub struct PartialRankedPairs {
    first: Ordered,
    second: Ordered,
    third: Ordered,
    class: Vec<usize>,
}

impl PartialRankedPairs {
    /// Observations of the quantities and the class; those beyond the shortest list do not count.
    pub fn new(first: &[f64], second: &[f64], third: &[f64], class: &[usize]) -> Self {
        let n = first.len().min(second.len()).min(third.len()).min(class.len());
        Self {
            first: Ordered::of(&first[..n]),
            second: Ordered::of(&second[..n]),
            third: Ordered::of(&third[..n]),
            class: class[..n].to_vec(),
        }
    }

    /// The partial correlation of the first two, if observation `i` stood there `weight(i)` times: that of their ranks, less
    /// the means of each class, given the ranks of the third. `None` if nothing is left to vary.
    pub fn spearman(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let ranks = |ordered: &Ordered| within_classes(ordered.ranks(&weight), &self.class, &weight);
        let (a, b, c) = (ranks(&self.first), ranks(&self.second), ranks(&self.third));
        let ab = correlation(&a, &b, &weight)?;
        // A third quantity that does not vary within classes explains nothing.
        let ac = correlation(&a, &c, &weight).unwrap_or(0.0);
        let bc = correlation(&b, &c, &weight).unwrap_or(0.0);
        let left = (1.0 - ac * ac) * (1.0 - bc * bc);
        (left > 1e-12).then(|| ((ab - ac * bc) / left.sqrt()).clamp(-1.0, 1.0))
    }
}

/// Values less the weighted mean of their class.
fn within_classes(mut values: Vec<f64>, class: &[usize], weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let n_classes = class.iter().max().map_or(0, |last| last + 1);
    let mut sums = vec![(0.0, 0.0); n_classes];
    for (at, (value, class)) in values.iter().zip(class).enumerate() {
        sums[*class].0 += weight(at) * value;
        sums[*class].1 += weight(at);
    }
    for (value, class) in values.iter_mut().zip(class) {
        let (sum, count) = sums[*class];
        *value -= if count > 0.0 { sum / count } else { 0.0 };
    }
    values
}

/// Pearson's correlation of weighted pairs.
fn correlation(first: &[f64], second: &[f64], weight: impl Fn(usize) -> f64) -> Option<f64> {
    let (mut total, mut sum_a, mut sum_b) = (0.0, 0.0, 0.0);
    for (at, (a, b)) in first.iter().zip(second).enumerate() {
        let w = weight(at);
        total += w;
        sum_a += w * a;
        sum_b += w * b;
    }
    let (mean_a, mean_b) = (sum_a / total, sum_b / total);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (at, (a, b)) in first.iter().zip(second).enumerate() {
        let (w, a, b) = (weight(at), a - mean_a, b - mean_b);
        aa += w * a * a;
        bb += w * b * b;
        ab += w * a * b;
    }
    // What is left of equal values is rounding.
    let smallest = 1e-12 * total * total;
    (total > 0.0 && aa > smallest && bb > smallest).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_examples() {
        // Ranks 1..5 against 2, 1, 4, 3, 5: 1 - 6 * 4 / (5 * 24).
        let rho = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[20.0, 10.0, 40.0, 30.0, 50.0]).unwrap();
        assert!((rho - 0.8).abs() < 1e-12);
        // Ties share ranks: 1.5, 1.5, 3 against 1, 2, 3.
        let rho = spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap();
        assert!((rho - 0.866_025_403_784).abs() < 1e-9, "{rho}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[], &[]), None);
    }

    #[test]
    fn what_is_held_fixed_does_not_count() {
        // Both grow with the third, and by chance of each other otherwise.
        let third: Vec<f64> = (0..200).map(f64::from).collect();
        let noise = |i: usize, of: usize| ((i * of) % 197) as f64 / 4.0;
        let a: Vec<f64> = (0..200).map(|i| i as f64 + noise(i, 71)).collect();
        let b: Vec<f64> = (0..200).map(|i| i as f64 + noise(i, 113)).collect();
        let one_class = vec![0; 200];
        let partial = |a: &[f64], b: &[f64], third: &[f64], class: &[usize]| {
            PartialRankedPairs::new(a, b, third, class).spearman(|_| 1.0).unwrap()
        };
        assert!(spearman(&a, &b).unwrap() > 0.8);
        assert!(partial(&a, &b, &third, &one_class).abs() < 0.2);
        // Two classes with different means, nothing within them.
        let class: Vec<usize> = (0..200).map(|i| i % 2).collect();
        let a: Vec<f64> = (0..200).map(|i| 1000.0 * (i % 2) as f64 + noise(i, 71)).collect();
        let b: Vec<f64> = (0..200).map(|i| 1000.0 * (i % 2) as f64 + noise(i, 113)).collect();
        assert!(spearman(&a, &b).unwrap() > 0.7);
        assert!(partial(&a, &b, &vec![0.0; 200], &class).abs() < 0.2);
    }

    proptest! {
        #[test]
        fn weights_are_repetitions(pairs in prop::collection::vec((0_i32..6, 0_i32..6, 0_u32..4), 2..20)) {
            let first: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
            let second: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let repeat = |values: &[f64]| -> Vec<f64> {
                values.iter().zip(&pairs).flat_map(|(value, pair)| vec![*value; pair.2 as usize]).collect()
            };
            let weighted = RankedPairs::new(&first, &second).spearman(|at| f64::from(pairs[at].2));
            let repeated = spearman(&repeat(&first), &repeat(&second));
            prop_assert_eq!(weighted.is_some(), repeated.is_some());
            if let (Some(weighted), Some(repeated)) = (weighted, repeated) {
                prop_assert!((weighted - repeated).abs() < 1e-9, "{} {}", weighted, repeated);
                prop_assert!((-1.0..=1.0).contains(&weighted));
            }
            // Only the order counts.
            let cubes: Vec<f64> = first.iter().map(|value| value * value * value - 7.0).collect();
            prop_assert_eq!(RankedPairs::new(&cubes, &second).spearman(|at| f64::from(pairs[at].2)), weighted);
        }
    }
}
