//! What the page computes from the rows of runs itself, with intervals: depth quantiles, histograms, curves.

use std::collections::{BTreeMap, HashSet};

use crate::compare::kept_share;
use crate::{
    Bootstrap, Cluster, ConfidenceInterval, ElicitationKind, EvaluationRun, SampleRow, Stop, TokenRow,
    mean_of_clusters, weighted_quantile,
};

/// A value with its interval.
pub(super) type WithInterval = (f64, Option<[f64; 2]>);

fn ends(interval: Option<ConfidenceInterval>) -> Option<[f64; 2]> {
    interval.map(|interval| [interval.lo, interval.hi])
}

/// The samples of a task with their tokens, by item.
fn items<'a>(run: &'a EvaluationRun, task: &str) -> Vec<Vec<(&'a SampleRow, &'a TokenRow)>> {
    let mut items: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for sample in run.traced_samples(task) {
        if let Some(tokens) = run.tokens.get(&sample.key) {
            items.entry(&sample.item_id).or_default().push((sample, tokens));
        }
    }
    items.into_values().collect()
}

/// The mean over tokens of what `values` gives for an item, with its interval over items.
fn mean_with_interval(clusters: &[Cluster], bootstrap: &Bootstrap) -> Option<WithInterval> {
    let statistic = |weights: &[u32]| mean_of_clusters(clusters, weights);
    let value = Bootstrap::value(clusters.len(), statistic)?;
    Some((value, ends(bootstrap.interval(clusters.len(), statistic))))
}

/// Depths of the model: its candidates, then full depth.
pub(super) fn depths(run: &EvaluationRun) -> Vec<usize> {
    let identity = &run.manifest.identity;
    identity.exit_candidates.iter().copied().chain([identity.n_blocks]).collect()
}

/// Number of eligible tokens of each item at each depth.
fn depth_counts(run: &EvaluationRun, task: &str) -> Vec<Vec<f64>> {
    let depths = depths(run);
    items(run, task)
        .iter()
        .map(|samples| {
            let mut counts = vec![0.0; depths.len()];
            for depth in samples.iter().flat_map(|(_, tokens)| tokens.eligible_depths()) {
                if let Some(place) = depths.iter().position(|known| *known == depth) {
                    counts[place] += 1.0;
                }
            }
            counts
        })
        .collect()
}

/// A quantile of the eligible tokens' depths (blocks) with its interval. None if there are no tokens.
pub(super) fn depth_quantile(
    run: &EvaluationRun,
    task: &str,
    share: f64,
    bootstrap: &Bootstrap,
) -> Option<(f64, Option<ConfidenceInterval>)> {
    let (depths, items) = (depths(run), depth_counts(run, task));
    let statistic = |weights: &[u32]| {
        let mut counts = vec![0.0; depths.len()];
        for (item, weight) in items.iter().zip(weights) {
            for (sum, count) in counts.iter_mut().zip(item) {
                *sum += f64::from(*weight) * count;
            }
        }
        weighted_quantile(depths.iter().map(|depth| *depth as f64).zip(counts.iter().copied()), share)
    };
    let value = Bootstrap::value(items.len(), statistic)?;
    Some((value, bootstrap.interval(items.len(), statistic)))
}

/// Share of eligible tokens at each depth, with its interval.
pub(super) fn depth_shares(run: &EvaluationRun, task: &str, bootstrap: &Bootstrap) -> Option<Vec<WithInterval>> {
    let items = depth_counts(run, task);
    (0..depths(run).len())
        .map(|place| {
            let clusters: Vec<Cluster> = items
                .iter()
                .map(|counts| Cluster { sum: counts[place], count: counts.iter().sum::<f64>() as usize })
                .collect();
            mean_with_interval(&clusters, bootstrap)
        })
        .collect()
}

/// Mean depth of eligible tokens by a key of theirs, with its interval and the number of tokens, in order of the keys.
pub(super) fn depth_by<Key: Ord>(
    run: &EvaluationRun,
    task: &str,
    bootstrap: &Bootstrap,
    key: impl Fn(&TokenRow, usize) -> Option<Key>,
) -> Vec<(Key, WithInterval, usize)> {
    let items = items(run, task);
    let mut by_key: BTreeMap<Key, Vec<Cluster>> = BTreeMap::new();
    for (item, samples) in items.iter().enumerate() {
        for (_, tokens) in samples {
            for (index, _) in tokens.eligible().enumerate().filter(|(_, eligible)| *eligible) {
                let (Some(key), Some(depth)) = (key(tokens, index), tokens.depth.get(index)) else { continue };
                let clusters = by_key.entry(key).or_insert_with(|| vec![Cluster::default(); items.len()]);
                clusters[item].sum += *depth as f64;
                clusters[item].count += 1;
            }
        }
    }
    by_key
        .into_iter()
        .filter_map(|(key, clusters)| {
            let n_tokens = clusters.iter().map(|cluster| cluster.count).sum();
            Some((key, mean_with_interval(&clusters, bootstrap)?, n_tokens))
        })
        .collect()
}

/// Nine cuts between tenths of the eligible tokens' surprisals (bits). None without surprisals.
pub(super) fn surprisal_deciles(run: &EvaluationRun, task: &str) -> Option<Vec<f64>> {
    let mut bits: Vec<f64> = items(run, task)
        .iter()
        .flatten()
        .flat_map(|(_, tokens)| tokens.eligible().zip(&tokens.surprisal_bits))
        .filter(|(eligible, _)| *eligible)
        .map(|(_, bits)| *bits)
        .collect();
    bits.sort_by(f64::total_cmp);
    (1..10).map(|tenth| crate::quantile(&bits, f64::from(tenth) / 10.0)).collect()
}

/// Share of eligible tokens with each pair of depth and first settling depth. None without settling depths.
///
/// # Shapes
/// `[depth][settling depth]`, both over the depths of the model; settling depths are rounded up to the next of them.
pub(super) fn depth_against_settling(run: &EvaluationRun, task: &str) -> Option<Vec<Vec<f64>>> {
    let depths = depths(run);
    let mut counts = vec![vec![0.0; depths.len()]; depths.len()];
    let mut n_tokens = 0.0;
    for (_, tokens) in items(run, task).iter().flatten() {
        for ((depth, [settled, _]), _) in
            tokens.depth.iter().zip(&tokens.settle).zip(tokens.eligible()).filter(|(_, eligible)| *eligible)
        {
            let row = depths.iter().position(|known| known == depth);
            let column = depths.iter().position(|known| known >= settled);
            if let (Some(row), Some(column)) = (row, column) {
                counts[row][column] += 1.0;
                n_tokens += 1.0;
            }
        }
    }
    (n_tokens > 0.0).then(|| counts.iter().map(|row| row.iter().map(|count| count / n_tokens).collect()).collect())
}

/// One item's curve: whether the answer after a share of the trace is that after all of it.
type SameCurve = Vec<(f64, f64)>;

/// The share of items whose answer after 0, 10, ... 100 % of the trace's parts is that after all of them, with intervals,
/// and the number of items. None without such answers. The curve of an item is linear between the parts asked after.
pub(super) fn same_answer_curve(
    run: &EvaluationRun,
    task: &str,
    bootstrap: &Bootstrap,
) -> Option<(Vec<WithInterval>, usize)> {
    let samples: HashSet<&str> = run.traced_samples(task).map(|sample| sample.key.as_str()).collect();
    let mut curves: BTreeMap<&str, SameCurve> = BTreeMap::new();
    for row in run.default_elicitations() {
        let of_task = samples.contains(row.sample.as_str());
        if let (true, Some(same), Some(kept)) = (of_task, row.same, kept_share(row)) {
            curves.entry(&row.sample).or_default().push((kept, f64::from(u8::from(same))));
        }
    }
    curves.retain(|_, curve| {
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        curve.dedup_by(|a, b| a.0 == b.0);
        curve.first().is_some_and(|first| first.0 == 0.0) && curve.last().is_some_and(|last| last.0 == 1.0)
    });
    let grid = (0..=10).map(|tenth| f64::from(tenth) / 10.0);
    let points: Option<Vec<WithInterval>> = grid
        .map(|kept| {
            let clusters: Vec<Cluster> =
                curves.values().map(|curve| Cluster { sum: along(curve, kept), count: 1 }).collect();
            mean_with_interval(&clusters, bootstrap)
        })
        .collect();
    points.map(|points| (points, curves.len()))
}

/// The value of a curve at `x`, linear between its points.
fn along(curve: &[(f64, f64)], x: f64) -> f64 {
    let after = curve.iter().position(|point| point.0 >= x - 1e-9).unwrap_or(curve.len().saturating_sub(1));
    let (x1, y1) = curve.get(after).copied().unwrap_or_default();
    match after.checked_sub(1).and_then(|before| curve.get(before)) {
        Some((x0, y0)) if x1 > *x0 => y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).clamp(0.0, 1.0),
        _ => y1,
    }
}

/// Log-probabilities (nats) of the reference answer without the trace and after all of it, by sample.
pub(super) fn answer_log_probabilities(run: &EvaluationRun, task: &str) -> Vec<(f64, f64)> {
    let mut pairs: BTreeMap<&str, (Option<f64>, Option<f64>)> = BTreeMap::new();
    for row in run.default_elicitations() {
        let pair = pairs.entry(&row.sample).or_default();
        match row.kind {
            ElicitationKind::NoTrace => pair.0 = row.logp,
            ElicitationKind::Prefix if row.position == row.n_positions => pair.1 = row.logp,
            ElicitationKind::Prefix => {}
        }
    }
    run.traced_samples(task)
        .filter_map(|sample| pairs.get(sample.key.as_str()))
        .filter_map(|(without, with)| without.zip(*with))
        .collect()
}

/// How many responses there are, of these how many closed their trace, of these how many have an answer that could be read,
/// and of these how many ended by themselves.
pub(super) fn funnel(run: &EvaluationRun, task: &str) -> [usize; 4] {
    let mut stages = [0; 4];
    for sample in run.traced_samples(task) {
        let parsed = sample.extracted.strict.is_some() || sample.extracted.flex.is_some();
        let reached = [true, sample.closed, parsed, sample.stop != Stop::Cap];
        for (stage, _) in stages.iter_mut().zip(reached).take_while(|(_, reached)| *reached) {
            *stage += 1;
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::{Fixture, write_run};

    fn run() -> EvaluationRun {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture::default());
        EvaluationRun::open(folder.path()).unwrap()
    }

    #[test]
    fn curves_are_linear_between_their_points() {
        let curve = [(0.0, 0.0), (0.5, 0.0), (1.0, 1.0)];
        for (x, expected) in [(0.0, 0.0), (0.3, 0.0), (0.75, 0.5), (1.0, 1.0)] {
            assert!((along(&curve, x) - expected).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn quantiles_and_shares_are_of_the_same_tokens() {
        let run = run();
        let bootstrap = Bootstrap { n_draws: 200, ..Bootstrap::default() };
        let shares = depth_shares(&run, "gsm8k", &bootstrap).unwrap();
        let sum: f64 = shares.iter().map(|share| share.0).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        let (median, interval) = depth_quantile(&run, "gsm8k", 0.5, &bootstrap).unwrap();
        let below: f64 =
            shares.iter().zip(depths(&run)).filter(|(_, depth)| *depth as f64 <= median).map(|(s, _)| s.0).sum();
        assert!(below >= 0.5, "{median} {below}");
        assert!(interval.unwrap().lo <= median);
        let joint = depth_against_settling(&run, "gsm8k").unwrap();
        for (row, share) in joint.iter().zip(&shares) {
            assert!((row.iter().sum::<f64>() - share.0).abs() < 1e-9);
        }
        assert_eq!(depth_quantile(&run, "none", 0.5, &bootstrap), None);
    }

    #[test]
    fn the_same_answer_curve_ends_at_one() {
        let (curve, n_items) =
            same_answer_curve(&run(), "gsm8k", &Bootstrap { n_draws: 200, ..Bootstrap::default() }).unwrap();
        assert_eq!((curve.len(), curve[10].0), (11, 1.0));
        assert!(curve[0].0 < 1.0 && n_items == 24);
    }
}
