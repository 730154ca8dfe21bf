//! A7: time saved by exits, as timed.

use serde_json::json;

use crate::metric_record::{Direction, MetricRecord, RecordContext};
use crate::statistics::Bootstrap;
use crate::statistics::quantile;

/// Seconds that one prompt took, once for each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptTimes {
    /// With exits.
    pub with_exits: Vec<f64>,
    /// With exits off, on the same engine, for the same number of tokens.
    pub without_exits: Vec<f64>,
}

/// How many times as fast exits make decoding: the ratio of tokens a second with and without them, at equal numbers of
/// tokens, so the ratio of the times over all prompts. The value takes the median of each prompt's runs; the interval
/// resamples prompts. In `extra`: the ratio of the least and of the greatest times, and what was timed.
pub fn speed_record(
    prompts: &[PromptTimes],
    batch_size: usize,
    tokens_per_prompt: usize,
    context: &RecordContext,
    bootstrap: Bootstrap,
) -> MetricRecord {
    let speedup = |share: f64| {
        move |weights: &[u32]| {
            let time = |of: fn(&PromptTimes) -> &[f64]| -> Option<f64> {
                let mut sum = 0.0;
                for (prompt, weight) in prompts.iter().zip(weights) {
                    let mut times = of(prompt).to_vec();
                    times.sort_by(f64::total_cmp);
                    sum += f64::from(*weight) * quantile(&times, share)?;
                }
                Some(sum)
            };
            let with_exits = time(|prompt| &prompt.with_exits)?;
            Some(time(|prompt| &prompt.without_exits)? / with_exits).filter(|ratio| ratio.is_finite())
        }
    };
    let value = |share: f64| Bootstrap::value(prompts.len(), speedup(share));
    let record = MetricRecord::new(format!("A7.speed_b{batch_size}"), "ratio", Direction::HigherIsBetter, context)
        .with_value(value(0.5))
        .with_interval(bootstrap.paired_interval(prompts.len(), speedup(0.5)))
        .with_items(prompts.len())
        .with_tokens(prompts.len() * tokens_per_prompt)
        .with_extra("speedup_of_least_times", json!(value(0.0)))
        .with_extra("speedup_of_greatest_times", json!(value(1.0)))
        .with_extra("batch_size", batch_size)
        .with_extra("tokens_per_prompt", tokens_per_prompt)
        .with_extra("runs", prompts.first().map_or(0, |prompt| prompt.with_exits.len()));
    if value(0.5).is_none() { record.with_null("not_timed") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::context;

    #[test]
    fn medians_are_compared() {
        let prompt =
            |with: [f64; 3], without: [f64; 3]| PromptTimes { with_exits: with.into(), without_exits: without.into() };
        let prompts = [prompt([1.0, 9.0, 2.0], [3.0, 4.0, 5.0]), prompt([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])];
        let bootstrap = Bootstrap { n_draws: 200, ..Bootstrap::default() };
        let record = speed_record(&prompts, 1, 128, &context(), bootstrap);
        assert_eq!((record.id.as_str(), record.value), ("A7.speed_b1", Some(1.5)));
        assert_eq!(record.extra["speedup_of_least_times"], 5.0 / 3.0);
        assert_eq!(record.extra["speedup_of_greatest_times"], 7.0 / 11.0);
        let interval = record.ci.unwrap();
        assert_eq!((interval.lo, interval.hi), (1.0, 2.0));
        let record = speed_record(&[PromptTimes::default()], 8, 128, &context(), bootstrap);
        assert_eq!(record.null_reason.as_deref(), Some("not_timed"));
    }
}
