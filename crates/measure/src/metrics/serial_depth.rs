//! How long hidden chains of computation may be, and whether depth that was given up came back as tokens.
//!
//! A chain of computation that ends in emitting token `t`, without passing through a sampled token, has at most `d_t` blocks.
//! That bounds its length and says nothing of its width.

use serde_json::json;

use super::item_rows::{ItemRows, MetricSetting, PairedItems, clusters_of};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::TokenRow;
use crate::statistics::{Cluster, weighted_quantile, weighted_sums};

/// Depth of the deepest eligible token of a trace, in blocks: the mean over traces. In `extra`: the depth that 95 % of a
/// trace's eligible tokens do not exceed, and the depths of all tokens of a trace together, means over traces.
pub fn opaque_depth_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let deepest = clusters_of(items, |_, row| row.eligible_depths().max().map(|depth| depth as f64));
    let covered = |row: &TokenRow| {
        let mut depths: Vec<usize> = row.eligible_depths().collect();
        depths.sort_unstable();
        weighted_quantile(depths.iter().map(|depth| (*depth as f64, 1.0)), 0.95)
    };
    setting
        .mean_record("depth.deepest_step", "blocks", Direction::Descriptive, &deepest, "no_eligible_tokens")
        .with_extra("opaque_q95", setting.mean(&clusters_of(items, |_, row| covered(row))))
        .with_extra("serial_total", setting.mean(&clusters_of(items, |_, row| Some(serial(row)))))
        .or_null("no_eligible_tokens")
}

/// Depths of all tokens together, in blocks.
fn serial(row: &TokenRow) -> f64 {
    row.depth.iter().sum::<usize>() as f64
}

/// Tokens, depth of all of them, depth of the eligible ones, and their number: of one item of one model, means over its samples.
fn sums(item: &ItemRows<'_>) -> [f64; 4] {
    let n = item.samples.len() as f64;
    let mut sums = [0.0; 4];
    for (_, row) in &item.samples {
        sums[0] += row.ids.len() as f64 / n;
        sums[1] += serial(row) / n;
        for depth in row.eligible_depths() {
            sums[2] += depth as f64 / n;
            sums[3] += 1.0 / n;
        }
    }
    sums
}

/// Smallest share of depth given up for which an exchange rate means anything.
const MIN_SAVING: f64 = 0.03;

/// How depth given up was exchanged for tokens, against the base model on the same items:
/// `ln(T / T_base) / -ln(mean depth / L)`, of sums over items on which all samples of both models have an answer. 1: every
/// serial step that left depth came back as tokens. 0: depth fell and traces did not grow. No value if less than 3 % of
/// depth was given up. In `extra`: both ratios, and mean serial totals of both models.
///
/// `paired` has the model first and the base second; the setting is the model's.
pub fn exchange_record(paired: &PairedItems<'_>, setting: &MetricSetting<'_>) -> MetricRecord {
    let answered: Vec<_> =
        paired.pairs.iter().filter(|(model, base)| is_answered(model) && is_answered(base)).collect();
    let model: Vec<[f64; 4]> = answered.iter().map(|(model, _)| sums(model)).collect();
    let base: Vec<[f64; 4]> = answered.iter().map(|(_, base)| sums(base)).collect();
    let n_items = answered.len();
    let length_ratio = |weights: &[u32]| {
        let ([length, ..], [of_base, ..]) = (weighted_sums(&model, weights), weighted_sums(&base, weights));
        (of_base > 0.0).then(|| length / of_base)
    };
    let depth_ratio = |weights: &[u32]| {
        let [.., depth, n_tokens] = weighted_sums(&model, weights);
        (n_tokens > 0.0).then(|| depth / n_tokens / setting.n_blocks())
    };
    let exchange = |weights: &[u32]| {
        let (length, depth) = (length_ratio(weights)?, depth_ratio(weights)?);
        (1.0 - depth >= MIN_SAVING && length > 0.0).then(|| length.ln() / -depth.ln())
    };
    let serial = |items: &[[f64; 4]]| Cluster::of(items.iter().map(|[_, serial, ..]| *serial)).mean();
    setting
        .record("depth.exchange_rate", "ratio", Direction::Descriptive, n_items, exchange)
        .paired()
        .with_excluded("only_one_model_has_the_item", paired.n_unpaired)
        .with_excluded("not_answered_by_both", paired.pairs.len() - n_items)
        .with_extra("t_ratio", setting.with_interval(n_items, length_ratio))
        .with_extra("depth_ratio", setting.with_interval(n_items, depth_ratio))
        .with_extra("serial_total", json!(serial(&model)))
        .with_extra("serial_base", json!(serial(&base)))
        .or_null(if n_items == 0 { "no_item_answered_by_both" } else { "depth_too_near_full" })
}

fn is_answered(item: &ItemRows<'_>) -> bool {
    !item.samples.is_empty() && item.samples.iter().all(|(sample, _)| sample.has_answer())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::pair_items;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};
    use crate::run_files::Extracted;

    #[test]
    fn the_deepest_token_is_not_hidden_by_the_mean() {
        let depths = [vec![28], vec![5; 39], vec![28]].concat();
        let record = opaque_depth_record(&items(&[&depths, &[28, 5, 5]]), &setting());
        assert_eq!(record.value, Some(16.5));
        assert_eq!(record.extra["opaque_q95"]["value"], 5.0);
        assert_eq!(record.extra["serial_total"]["value"], f64::from(28 + 39 * 5 + 28 + 38) / 2.0);
        record.check().unwrap();
    }

    #[test]
    fn one_for_one_is_exchange_1() {
        // Half of the depth on all but the first token, twice the tokens.
        let model = [28, 10, 10, 10, 10, 10, 25, 15, 20, 20];
        let (model, base) = (items(&[&model, &model]), items(&[&[28; 5], &[28; 5]]));
        let record = exchange_record(&pair_items(&model, &base), &setting());
        let depth = 130.0 / 9.0 / 28.0;
        let value = record.value.unwrap();
        assert!((value - 2.0_f64.ln() / -f64::ln(depth)).abs() < 1e-12);
        assert_eq!(record.extra["t_ratio"]["value"], 2.0);
        assert_eq!(record.extra["serial_base"], 140.0);
        assert!((record.ci.as_ref().unwrap().lo - value).abs() < 1e-9);
        record.check().unwrap();
    }

    #[test]
    fn without_savings_there_is_no_rate() {
        let base = items(&[&[28; 5]]);
        let record = exchange_record(&pair_items(&items(&[&[28; 9]]), &base), &setting());
        assert_eq!(record.null_reason.as_deref(), Some("depth_too_near_full"));
        let silent = edited_items(&[&[28, 5]], |_, sample, _| sample.extracted = Extracted::default());
        let record = exchange_record(&pair_items(&silent, &base), &setting());
        assert_eq!(record.null_reason.as_deref(), Some("no_item_answered_by_both"));
        assert_eq!(record.exclusions["not_answered_by_both"], 1);
    }
}
