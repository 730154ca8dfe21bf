//! Rows of a run, gathered by item: what is resampled as a whole.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::MeasureError;
use crate::metric_record::{ConfidenceInterval, Direction, MetricRecord, RecordContext};
use crate::run_files::{Log, RunIdentity, SampleRow, TokenRow};
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters};

/// The samples of one item, with their tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRows<'a> {
    /// Name of the item.
    pub item_id: &'a str,
    /// Its samples, in the order of the log.
    pub samples: Vec<(&'a SampleRow, &'a TokenRow)>,
}

impl ItemRows<'_> {
    /// Depths (blocks) of the eligible tokens of all samples.
    pub fn eligible_depths(&self) -> impl Iterator<Item = usize> {
        self.samples.iter().flat_map(|(_, tokens)| tokens.eligible_depths())
    }
}

/// What metrics of a run share.
#[derive(Clone, Copy, Debug)]
pub struct MetricSetting<'a> {
    /// Where and how it is measured.
    pub context: &'a RecordContext,
    /// Blocks and candidates.
    pub identity: &'a RunIdentity,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

impl MetricSetting<'_> {
    /// Number of blocks.
    pub(super) fn n_blocks(&self) -> f64 {
        self.identity.n_blocks as f64
    }

    /// Depths at which tokens may end: the candidates, then full depth.
    pub(super) fn depths(&self) -> Vec<usize> {
        self.identity.exit_candidates.iter().copied().chain([self.identity.n_blocks]).collect()
    }

    /// A record of a statistic of weighted items, with its interval.
    pub(super) fn record(
        &self,
        id: &str,
        unit: &str,
        direction: Direction,
        n_items: usize,
        statistic: impl Fn(&[u32]) -> Option<f64>,
    ) -> MetricRecord {
        MetricRecord::new(id, unit, direction, self.context)
            .with_value(Bootstrap::value(n_items, &statistic))
            .with_interval(self.bootstrap.interval(n_items, statistic))
            .with_items(n_items)
    }

    /// The same of the mean over all values of all items. Items without a value are left out for the reason `without`.
    pub(super) fn mean_record(
        &self,
        id: &str,
        unit: &str,
        direction: Direction,
        clusters: &[Cluster],
        without: &str,
    ) -> MetricRecord {
        let empty = clusters.iter().filter(|cluster| cluster.count == 0).count();
        self.record(id, unit, direction, clusters.len(), |weights| mean_of_clusters(clusters, weights))
            .with_items(clusters.len() - empty)
            .with_excluded(without, empty)
    }

    /// The mean over all values of all items with its interval, for the fields of `extra`.
    pub(super) fn mean(&self, clusters: &[Cluster]) -> Value {
        self.with_interval(clusters.len(), |weights| mean_of_clusters(clusters, weights))
    }

    /// A statistic with its interval, for the fields of `extra`: `{"value", "lo", "hi"}`, null where it is not defined.
    pub(super) fn with_interval(&self, n_items: usize, statistic: impl Fn(&[u32]) -> Option<f64>) -> Value {
        let value = Bootstrap::value(n_items, &statistic);
        interval_value(value, self.bootstrap.interval(n_items, statistic).as_ref())
    }
}

/// A value with its interval, for the fields of `extra`.
pub(super) fn interval_value(value: Option<f64>, interval: Option<&ConfidenceInterval>) -> Value {
    json!({"value": value, "lo": interval.map(|interval| interval.lo), "hi": interval.map(|interval| interval.hi)})
}

/// The values that the samples of each item give.
pub(super) fn clusters_of<'a, Values: IntoIterator<Item = f64>>(
    items: &[ItemRows<'a>],
    of: impl Fn(&'a SampleRow, &'a TokenRow) -> Values,
) -> Vec<Cluster> {
    let cluster = |item: &ItemRows<'a>| Cluster::of(item.samples.iter().flat_map(|(sample, row)| of(sample, row)));
    items.iter().map(cluster).collect()
}

/// Puts the samples of a run and their tokens together, by item, in the order in which items first appear. Both logs have
/// to be of one run. `path` is that of the tokens' log, for messages.
///
/// # Errors
/// If the logs are of different models, tokenizers or candidates, or a sample has no tokens or another number of them.
pub fn join_items<'a>(
    samples: &'a Log<SampleRow>,
    tokens: &'a Log<TokenRow>,
    path: &Path,
) -> Result<Vec<ItemRows<'a>>, MeasureError> {
    tokens.identity.same_run_as(&samples.identity, path)?;
    let by_key: HashMap<&str, &TokenRow> = tokens.rows.iter().map(|row| (row.key.as_str(), row)).collect();
    let mut items: Vec<ItemRows<'a>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for sample in &samples.rows {
        let error = |reason| MeasureError::file(path, reason);
        let Some(row) = by_key.get(sample.key.as_str()) else {
            return Err(error(format!(
                "sample `{}` has no tokens here; run the evaluation again to go on",
                sample.key
            )));
        };
        if row.ids.len() != sample.n_tokens() {
            let (found, expected) = (row.ids.len(), sample.n_tokens());
            return Err(error(format!("`{}` has {found} tokens, but its sample has {expected}", sample.key)));
        }
        let place = *places.entry(&sample.item_id).or_insert_with(|| {
            items.push(ItemRows { item_id: &sample.item_id, samples: Vec::new() });
            items.len() - 1
        });
        items[place].samples.push((sample, row));
    }
    Ok(items)
}

/// Items of two runs that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedItems<'a> {
    /// The rows of both runs, by item.
    pub pairs: Vec<(&'a ItemRows<'a>, &'a ItemRows<'a>)>,
    /// Number of items that only one of the runs has.
    pub n_unpaired: usize,
}

/// Pairs the items of two runs by name, in the order of the first.
pub fn pair_items<'a>(first: &'a [ItemRows<'a>], second: &'a [ItemRows<'a>]) -> PairedItems<'a> {
    let by_id: HashMap<&str, &ItemRows<'a>> = second.iter().map(|item| (item.item_id, item)).collect();
    let pairs: Vec<_> = first.iter().filter_map(|item| by_id.get(item.item_id).map(|other| (item, *other))).collect();
    let n_unpaired = first.len() + second.len() - 2 * pairs.len();
    PairedItems { pairs, n_unpaired }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::{context, identity, sample, token_row};

    /// The rows of a run with these depths: one sample an item.
    pub(crate) fn items(depths: &[&[usize]]) -> Vec<ItemRows<'static>> {
        edited_items(depths, |_, _, _| {})
    }

    /// The same, after `edit` has changed the rows of each item.
    pub(crate) fn edited_items(
        depths: &[&[usize]],
        edit: impl Fn(usize, &mut SampleRow, &mut TokenRow),
    ) -> Vec<ItemRows<'static>> {
        let rows = depths.iter().enumerate().map(|(number, depths)| {
            let mut sample = SampleRow { n_cot: depths.len(), n_answer: 0, ..sample(&format!("i{number}")) };
            let mut row = token_row(&sample.key, depths);
            edit(number, &mut sample, &mut row);
            (sample, row)
        });
        let (samples, tokens) = rows.unzip();
        let (samples, tokens) = (Box::leak(Box::new(log(samples))), Box::leak(Box::new(log(tokens))));
        join_items(samples, tokens, Path::new("tokens.jsonl")).unwrap()
    }

    /// What the metrics of these rows share.
    pub(crate) fn setting() -> MetricSetting<'static> {
        let (context, identity) = (Box::leak(Box::new(context())), Box::leak(Box::new(identity())));
        MetricSetting { context, identity, bootstrap: Bootstrap { n_draws: 200, ..Bootstrap::default() } }
    }

    fn log<Row>(rows: Vec<Row>) -> Log<Row> {
        Log { identity: identity(), rows, cut: false }
    }

    #[test]
    fn what_does_not_join_is_named() {
        let samples = log(vec![sample("a")]);
        let join = |tokens: &Log<TokenRow>| {
            join_items(&samples, tokens, Path::new("tokens.jsonl")).map(|items| items.len()).map_err(|e| e.to_string())
        };
        let key = sample("a").key;
        assert_eq!(join(&log(vec![token_row(&key, &[28; 8])])), Ok(1));
        assert!(join(&log(vec![])).unwrap_err().contains("sample `chain/a/plain/0` has no tokens here"));
        assert!(join(&log(vec![token_row(&key, &[28])])).unwrap_err().contains("has 1 tokens, but its sample has 8"));
        let mut other = log(vec![token_row(&key, &[28; 8])]);
        other.identity.tokenizer_sha256 = "dd".to_owned();
        assert!(join(&other).unwrap_err().contains("tokens.jsonl: tokenizer_sha256 is dd, expected cc"));
    }

    #[test]
    fn items_are_paired_by_name() {
        let item = |sample: &'static str| ItemRows { item_id: sample, samples: Vec::new() };
        let first = [item("a"), item("b")];
        let second = [item("b"), item("c"), item("d")];
        let paired = pair_items(&first, &second);
        assert_eq!(
            paired.pairs.iter().map(|(one, other)| (one.item_id, other.item_id)).collect::<Vec<_>>(),
            [("b", "b")]
        );
        assert_eq!(paired.n_unpaired, 3);
    }
}
