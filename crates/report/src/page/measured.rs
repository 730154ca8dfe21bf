//! What the page computes from the rows of runs itself, with intervals: depth quantiles, histograms, curves.

use std::collections::BTreeMap;

use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::ConfidenceInterval;
use aloud_measure::run_files::{ElicitationKind, SampleRow, Stop, TokenRow};
use aloud_measure::statistics::{Bootstrap, Cluster, mean_of_clusters, weighted_quantile};

pub(super) type WithInterval = (f64, Option<[f64; 2]>);

fn ends(interval: Option<ConfidenceInterval>) -> Option<[f64; 2]> {
    interval.map(|interval| [interval.lo, interval.hi])
}

/// The samples of a task with their tokens, by item.
fn items<'a>(run: &'a EvaluationRun, task: &str) -> Vec<Vec<(&'a SampleRow, &'a TokenRow)>> {
    let mut items: BTreeMap<(&str, &str), Vec<_>> = BTreeMap::new();
    for sample in run.traced_samples(task) {
        if let Some(tokens) = run.tokens.get(&sample.key) {
            items.entry((&sample.task, &sample.item_id)).or_default().push((sample, tokens));
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
    (1..10).map(|tenth| aloud_measure::statistics::quantile(&bits, f64::from(tenth) / 10.0)).collect()
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
    use aloud_measure::test_runs::{Fixture, write_run};

    fn run() -> EvaluationRun {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture::default());
        EvaluationRun::open(folder.path()).unwrap()
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
        let without_tokens = EvaluationRun { tokens: BTreeMap::new(), ..run };
        assert_eq!(depth_quantile(&without_tokens, "gsm8k", 0.5, &bootstrap), None);
    }
}
