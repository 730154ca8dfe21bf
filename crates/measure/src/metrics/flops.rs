//! Arithmetic saved by exits. What is saved in time has to be timed.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::item_rows::{ItemRows, MetricSetting};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{SampleRow, TokenRow};
use crate::statistics::Cluster;

/// How an exit head is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitHeadKind {
    /// One inner product: `2 h` operations.
    #[default]
    Linear,
    /// Two layers with `2 h` hidden units: `4 h^2 + 4 h` operations.
    TwoLayer,
}

/// What the cost of a token depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Width `h` of the residual.
    pub hidden_size: usize,
    /// Number of blocks `L`.
    pub n_blocks: usize,
    /// Number of query heads.
    pub n_query_heads: usize,
    /// Number of key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Width `m` of the MLP, which has three matrices.
    pub mlp_size: usize,
    /// Size `V` of the vocabulary.
    pub vocabulary_size: usize,
    /// How exit heads are built.
    pub exit_head: ExitHeadKind,
}

impl ModelShape {
    /// Operations of one block for one token that attends to `context` positions.
    fn block(&self, context: usize) -> f64 {
        let [h, queries, mlp] =
            [self.hidden_size, self.n_query_heads * self.head_size, self.mlp_size].map(|n| n as f64);
        2.0 * h * queries + self.keys_and_values() + 2.0 * queries * h + 4.0 * queries * context as f64 + 6.0 * h * mlp
    }

    /// Operations of a skipped block: its keys and values.
    fn keys_and_values(&self) -> f64 {
        4.0 * (self.hidden_size * self.n_kv_heads * self.head_size) as f64
    }

    /// Operations of one exit head.
    fn exit_head(&self) -> f64 {
        let h = self.hidden_size as f64;
        match self.exit_head {
            ExitHeadKind::Linear => 2.0 * h,
            ExitHeadKind::TwoLayer => 4.0 * h * h + 4.0 * h,
        }
    }

    /// Operations of a token of `depth` blocks (a mean may be given), of which `n_heads` exit heads were read, and of its
    /// unembedding.
    fn token(&self, context: usize, depth: f64, n_heads: f64) -> f64 {
        let skipped = self.n_blocks as f64 - depth;
        let unembedding = 2.0 * (self.hidden_size * self.vocabulary_size) as f64;
        depth * self.block(context) + skipped * self.keys_and_values() + unembedding + n_heads * self.exit_head()
    }

    /// Operations of a token at full depth without exit heads.
    fn full_token(&self, context: usize) -> f64 {
        self.token(context, self.n_blocks as f64, 0.0)
    }

    /// The average layer savings at which exits pay for their heads.
    fn break_even(&self, context: usize, n_heads: f64) -> f64 {
        n_heads * self.exit_head() / (self.n_blocks as f64 * (self.block(context) - self.keys_and_values()))
    }
}

/// Operations of one item's response tokens.
#[derive(Clone, Copy, Default)]
struct Cost {
    spent: f64,
    full: f64,
    heads: f64,
    /// Exit heads read, tokens, and positions attended to.
    n_heads: f64,
    n_tokens: f64,
    context: f64,
}

impl Cost {
    fn of(item: &ItemRows<'_>, shape: &ModelShape, candidates: &[usize]) -> Self {
        let mut cost = Self::default();
        for (sample, row) in &item.samples {
            cost.add(sample, row, shape, candidates);
        }
        cost
    }

    fn add(&mut self, sample: &SampleRow, row: &TokenRow, shape: &ModelShape, candidates: &[usize]) {
        for (at, (depth, forced)) in row.depth.iter().zip(&row.forced_full).enumerate() {
            let context = sample.n_prompt + at;
            let n_heads = match row.exit_hazard.get(at) {
                Some(read) => read.len(),
                // A token whose depth was no choice reads no head; the others read those up to where they stopped.
                None if *forced => 0,
                None => candidates.iter().filter(|at| *at <= depth).count(),
            } as f64;
            self.spent += shape.token(context, *depth as f64, n_heads);
            self.full += shape.full_token(context);
            self.heads += n_heads * shape.exit_head();
            self.n_heads += n_heads;
            self.n_tokens += 1.0;
            self.context += context as f64;
        }
    }
}

/// What one response adds to `savings.operations`, which is a mean over the operations that full depth would take: those that were saved,
/// and all of them.
pub fn saved_operations(sample: &SampleRow, row: &TokenRow, shape: &ModelShape, candidates: &[usize]) -> Cluster {
    let mut cost = Cost::default();
    cost.add(sample, row, shape, candidates);
    Cluster { sum: cost.full - cost.spent, count: cost.full as usize }
}

/// Share of the operations of response tokens that exits save, exit heads paid for: `1 - sum cost / sum full cost`. Prompts
/// are not counted; they run at full depth in any case. Heads are those that a token's row says were read; where rows do not say
/// it, all up to its depth. In `extra`: the share that exit heads cost, the layer savings at which
/// exits begin to pay, and operations and tokens per correct answer by `scorer`: savings in depth may be spent on longer traces.
pub fn flops_record(
    items: &[ItemRows<'_>],
    shape: &ModelShape,
    scorer: &str,
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let costs: Vec<Cost> = items.iter().map(|item| Cost::of(item, shape, &setting.identity.exit_candidates)).collect();
    let sum = |weights: &[u32], of: fn(&Cost) -> f64| -> f64 {
        costs.iter().zip(weights).map(|(cost, weight)| f64::from(*weight) * of(cost)).sum()
    };
    let n_correct: Vec<f64> = items
        .iter()
        .map(|item| item.samples.iter().filter(|(sample, _)| sample.correct.get(scorer) == Some(&true)).count() as f64)
        .collect();
    let ratio = |above: f64, below: f64| (below > 0.0).then(|| above / below);
    let per_correct = |of: fn(&Cost) -> f64| {
        setting.with_interval(items.len(), |weights| {
            let correct = n_correct.iter().zip(weights).map(|(n, weight)| n * f64::from(*weight)).sum();
            ratio(sum(weights, of), correct)
        })
    };
    let saved = |weights: &[u32]| {
        ratio(sum(weights, |cost| cost.spent), sum(weights, |cost| cost.full)).map(|spent| 1.0 - spent)
    };
    let once = |of: fn(&Cost) -> f64| sum(&vec![1; items.len()], of);
    let n_tokens = once(|cost| cost.n_tokens);
    let per_token = |of: fn(&Cost) -> f64| ratio(once(of), n_tokens);
    let break_even = per_token(|cost| cost.n_heads)
        .zip(per_token(|cost| cost.context))
        .map(|(heads, context)| shape.break_even(context as usize, heads));
    let record = setting
        .record("savings.operations", "fraction", Direction::HigherIsMoreSaving, items.len(), saved)
        .with_tokens(n_tokens as usize)
        .with_extra("scorer", scorer)
        .with_extra("overhead_share", json!(ratio(once(|cost| cost.heads), once(|cost| cost.full))))
        .with_extra("break_even_als", json!(break_even))
        .with_extra("flops_per_correct", per_correct(|cost| cost.spent))
        .with_extra("tokens_per_correct", per_correct(|cost| cost.n_tokens));
    if n_tokens == 0.0 { record.with_null("no_tokens") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};

    const SHAPE: ModelShape = ModelShape {
        hidden_size: 1536,
        n_blocks: 28,
        n_query_heads: 12,
        n_kv_heads: 2,
        head_size: 128,
        mlp_size: 8960,
        vocabulary_size: 151_936,
        exit_head: ExitHeadKind::TwoLayer,
    };

    #[test]
    fn golden_values() {
        let close = |found: f64, expected: f64, half_unit: f64| {
            assert!((found - expected).abs() <= half_unit, "{found} is not {expected}");
        };
        close(SHAPE.full_token(700) / 1e9, 3.2076, 5e-5);
        close(SHAPE.block(700) / 1e6, 97.9, 5e-2);
        close(SHAPE.exit_head() / 1e6, 9.44, 5e-3);
        close(SHAPE.exit_head() / SHAPE.block(700), 0.096, 5e-4);
        let saved = |shape: &ModelShape, als: f64, n_heads: f64| {
            1.0 - shape.token(700, (1.0 - als) * 28.0, n_heads) / shape.full_token(700)
        };
        close(saved(&SHAPE, 0.05, 5.0), 0.0273, 5e-5);
        close(saved(&SHAPE, 0.05, 0.0), 0.0420, 5e-5);
        close(saved(&SHAPE, 0.10, 5.0), 0.069, 5e-4);
        close(saved(&SHAPE, 0.20, 5.0), 0.153, 5e-4);
        close(SHAPE.break_even(700, 5.0), 0.0175, 5e-5);
        close(saved(&SHAPE, SHAPE.break_even(700, 5.0), 5.0), 0.0, 1e-12);
        let linear = ModelShape { exit_head: ExitHeadKind::Linear, ..SHAPE };
        close(saved(&linear, 0.05, 5.0), 0.0420, 5e-5);
    }

    #[test]
    fn a_run_costs_what_its_tokens_cost() {
        let (items, setting) = (edited_items(&[&[28, 5, 10]], |_, sample, _| sample.n_prompt = 7), setting());
        let record = flops_record(&items, &SHAPE, "strict", &setting);
        let spent = SHAPE.token(7, 28.0, 0.0) + SHAPE.token(8, 5.0, 1.0) + SHAPE.token(9, 10.0, 2.0);
        let full = SHAPE.full_token(7) + SHAPE.full_token(8) + SHAPE.full_token(9);
        assert!((record.value.unwrap() - (1.0 - spent / full)).abs() < 1e-12);
        assert!((record.extra["flops_per_correct"]["value"].as_f64().unwrap() - spent).abs() < 1.0);
        assert_eq!(record.extra["tokens_per_correct"]["value"], 3.0);
        assert!((record.extra["break_even_als"].as_f64().unwrap() - SHAPE.break_even(8, 1.0)).abs() < 1e-12);
        let record = flops_record(&items, &SHAPE, "other", &setting);
        assert_eq!(record.extra["tokens_per_correct"]["value"], serde_json::Value::Null);
        record.check().unwrap();
        let (sample, row) = items[0].samples[0];
        let saved = saved_operations(sample, row, &SHAPE, &setting.identity.exit_candidates);
        assert!((saved.sum - (full - spent)).abs() < 1.0 && saved.count == full as usize);
    }

    #[test]
    fn only_heads_that_were_read_are_paid_for() {
        let saved = |items: &[ItemRows<'_>]| flops_record(items, &SHAPE, "strict", &setting()).value.unwrap();
        // A model without exits writes that none was read.
        assert_eq!(saved(&edited_items(&[&[28, 28]], |_, _, row| row.exit_hazard = vec![Vec::new(); 2])), 0.0);
        assert!(saved(&items(&[&[28, 28]])) < 0.0);
    }
}
