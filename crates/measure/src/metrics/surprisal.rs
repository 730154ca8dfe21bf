//! Depth against how surprising a token is to the base model.

use serde_json::{Map, Value, json};

use super::item_rows::{ItemRows, MetricSetting};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::TokenRow;
use crate::statistics::{Cluster, PartialRankedPairs, RankedPairs};

/// Eligible tokens of all items, side by side.
#[derive(Default)]
struct Tokens {
    item: Vec<usize>,
    depth: Vec<f64>,
    /// Surprisal or entropy.
    bits: Vec<f64>,
    /// Place in the response, 0 to 1.
    position: Vec<f64>,
    class: Vec<usize>,
}

impl Tokens {
    fn gather(items: &[ItemRows<'_>], bits_of: fn(&TokenRow) -> &[f64]) -> Self {
        let mut tokens = Self::default();
        for (place, item) in items.iter().enumerate() {
            for (_, row) in &item.samples {
                for ((at, eligible), bits) in row.eligible().enumerate().zip(bits_of(row)) {
                    if eligible {
                        tokens.item.push(place);
                        tokens.depth.push(row.depth[at] as f64);
                        tokens.bits.push(*bits);
                        tokens.position.push(at as f64 / row.ids.len() as f64);
                        tokens.class.push(row.class.get(at).map_or(0, |class| *class as usize));
                    }
                }
            }
        }
        tokens
    }

    /// Spearman's correlation of depth with the bits, of weighted items.
    fn rho(&self) -> impl Fn(&[u32]) -> Option<f64> {
        let ranked = RankedPairs::new(&self.depth, &self.bits);
        move |weights| ranked.spearman(|at| f64::from(weights[self.item[at]]))
    }

    /// How depth goes with the bits beside their correlation, as fields of `extra`.
    fn associations(&self, n_items: usize, setting: &MetricSetting<'_>) -> [(String, Value); 3] {
        let ranked = PartialRankedPairs::new(&self.depth, &self.bits, &self.position, &self.class);
        let partial = |weights: &[u32]| ranked.spearman(|at| f64::from(weights[self.item[at]]));
        [
            ("rho_partial".to_owned(), setting.with_interval(n_items, partial)),
            ("slope".to_owned(), setting.with_interval(n_items, |weights| self.slope(weights))),
            ("deciles".to_owned(), self.deciles(n_items, setting)),
        ]
    }

    /// Slope of the least-squares line of depth over bits: blocks per bit.
    fn slope(&self, weights: &[u32]) -> Option<f64> {
        let (mut n, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for ((item, bits), depth) in self.item.iter().zip(&self.bits).zip(&self.depth) {
            let weight = f64::from(weights[*item]);
            n += weight;
            x += weight * bits;
            y += weight * depth;
            xx += weight * bits * bits;
            xy += weight * bits * depth;
        }
        let variance = n * xx - x * x;
        (n > 0.0 && variance > 1e-12 * n * n).then(|| (n * xy - x * y) / variance)
    }

    /// Mean depth of each tenth of the tokens by bits. Tokens with equal bits are in one tenth, so some may be empty.
    fn deciles(&self, n_items: usize, setting: &MetricSetting<'_>) -> Value {
        let mut order: Vec<usize> = (0..self.bits.len()).collect();
        order.sort_by(|a, b| self.bits[*a].total_cmp(&self.bits[*b]));
        let mut tenths = vec![(vec![Cluster::default(); n_items], f64::INFINITY, f64::NEG_INFINITY); 10];
        let mut below = 0;
        for run in order.chunk_by(|a, b| self.bits[*a] == self.bits[*b]) {
            let (clusters, from, to) = &mut tenths[10 * below / order.len()];
            for at in run {
                let cluster = &mut clusters[self.item[*at]];
                *cluster = *cluster + Cluster { sum: self.depth[*at], count: 1 };
                *from = from.min(self.bits[*at]);
                *to = to.max(self.bits[*at]);
            }
            below += run.len();
        }
        tenths
            .iter()
            .map(|(clusters, from, to)| {
                let n = Cluster::total(clusters).count;
                json!({"n": n, "from_bits": from, "to_bits": to, "mean_depth": setting.mean(clusters)})
            })
            .collect()
    }
}

/// Correlation of depth with the base model's surprisal of the token, at full depth. The value is Spearman's rho. In `extra`:
/// the same with position and class held fixed, the slope in blocks per bit, the mean depth by tenth of surprisal, and all of
/// it with the base model's entropy, which says more where tokens are chosen greedily.
pub fn surprisal_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let surprisal = Tokens::gather(items, |row| &row.surprisal_bits);
    let entropy = Tokens::gather(items, |row| &row.entropy_bits);
    let n_items = items.len();
    let without = items.iter().filter(|item| item.samples.iter().all(|(_, row)| row.surprisal_bits.is_empty())).count();
    let mut record = setting
        .record("depth.by_surprisal", "rho", Direction::Descriptive, n_items, surprisal.rho())
        .with_items(n_items - without)
        .with_tokens(surprisal.bits.len())
        .with_excluded("no_surprisal", without);
    record.extra.extend(surprisal.associations(n_items, setting));
    let mut variant = Map::from_iter([("rho".to_owned(), setting.with_interval(n_items, entropy.rho()))]);
    variant.extend(entropy.associations(n_items, setting));
    let reason = if surprisal.bits.is_empty() { "no_surprisal" } else { "depth_or_surprisal_does_not_vary" };
    record.with_extra("entropy_variant", variant).or_null(reason)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};

    #[test]
    fn depth_that_follows_surprisal() {
        let depths = [28, 5, 10, 15, 20, 25];
        let items = edited_items(&[&depths, &depths], |_, _, row| {
            row.surprisal_bits = depths.iter().map(|depth| *depth as f64 / 10.0).collect();
            row.entropy_bits = depths.iter().map(|depth| 3.0 - *depth as f64 / 10.0).collect();
        });
        let record = surprisal_record(&items, &setting());
        assert!((record.value.unwrap() - 1.0).abs() < 1e-9);
        assert!((record.extra["slope"]["value"].as_f64().unwrap() - 10.0).abs() < 1e-9);
        assert!((record.extra["entropy_variant"]["rho"]["value"].as_f64().unwrap() + 1.0).abs() < 1e-9);
        // Five values of two tokens each: every other tenth holds one.
        let deciles = record.extra["deciles"].as_array().unwrap();
        let counts: Vec<u64> = deciles.iter().map(|row| row["n"].as_u64().unwrap()).collect();
        assert_eq!(counts, [2, 0, 2, 0, 2, 0, 2, 0, 2, 0]);
        assert_eq!(deciles[2]["mean_depth"]["value"], 10.0);
        assert_eq!((record.n, record.n_tokens), (2, Some(10)));
        record.check().unwrap();
    }

    #[test]
    fn without_a_pass_of_the_base_there_is_a_reason() {
        let record = surprisal_record(&items(&[&[28, 5]]), &setting());
        assert_eq!(record.null_reason.as_deref(), Some("no_surprisal"));
        assert_eq!((record.n, record.n_excluded), (0, 1));
        record.check().unwrap();
    }
}
