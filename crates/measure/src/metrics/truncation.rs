//! Responses that were cut, traces that were not closed, loops, and how many responses are left at each stage.

use serde::Serialize;
use serde_json::json;

use super::item_rows::{ItemRows, MetricSetting, clusters_of, interval_value};
use super::text_statistics::has_loop;
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{SampleRow, Stop, TokenRow};
use crate::statistics::Cluster;

/// How many responses are left at each stage. Every stage is a part of the one before.
#[derive(Default, Serialize)]
struct Funnel {
    generated: usize,
    /// Whose trace was closed.
    closed: usize,
    /// That have an answer.
    parsed: usize,
    /// That ended by themselves.
    eligible: usize,
}

impl Funnel {
    fn of(items: &[ItemRows<'_>]) -> Self {
        let mut funnel = Self::default();
        for (sample, _) in items.iter().flat_map(|item| &item.samples) {
            let parsed = sample.closed && sample.has_answer();
            funnel.generated += 1;
            funnel.closed += usize::from(sample.closed);
            funnel.parsed += usize::from(parsed);
            funnel.eligible += usize::from(parsed && sample.stop != Stop::Cap);
        }
        funnel
    }
}

/// Share of samples that the limit on tokens cut. In `extra`: the share whose trace was not closed, the share that ends in a
/// loop, the limit and the funnel.
pub fn truncation_record(items: &[ItemRows<'_>], cap: usize, setting: &MetricSetting<'_>) -> MetricRecord {
    let share =
        |of: &dyn Fn(&SampleRow, &TokenRow) -> bool| clusters_of(items, |sample, row| Some(f64::from(of(sample, row))));
    let interval = |clusters: &[Cluster]| setting.bootstrap.share_of_samples_interval(clusters);
    let field = |clusters: &[Cluster]| interval_value(Cluster::total(clusters).mean(), interval(clusters).as_ref());
    let cut = share(&|sample, _| sample.stop == Stop::Cap);
    MetricRecord::new("length.truncated", "fraction", Direction::LowerIsBetter, setting.context)
        .with_value(Cluster::total(&cut).mean())
        .with_interval(interval(&cut))
        .with_items(items.len())
        .with_extra("cap", cap)
        .with_extra("no_close", field(&share(&|sample, _| !sample.closed)))
        .with_extra("loop_rate", field(&share(&|_, row| has_loop(&row.ids))))
        .with_extra("funnel", json!(Funnel::of(items)))
        .or_null("no_samples")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};
    use crate::run_files::Extracted;

    #[test]
    fn stages_and_shares() {
        let five = edited_items(&[&[28], &[28], &[28], &[28; 64], &[28]], |number, sample, row| {
            sample.stop = if number >= 3 { Stop::Cap } else { Stop::Eos };
            sample.closed = number != 3;
            if number == 0 {
                sample.extracted = Extracted::default();
            }
            if number == 3 {
                row.ids = (0..row.ids.len() as u32).map(|at| at % 8).collect();
            }
        });
        let record = truncation_record(&five, 64, &setting());
        assert_eq!(record.value, Some(0.4));
        assert_eq!(record.extra["funnel"], json!({"generated": 5, "closed": 4, "parsed": 3, "eligible": 2}));
        assert_eq!(record.extra["no_close"]["value"], 0.2);
        assert_eq!(record.extra["loop_rate"]["value"], 0.2);
        record.check().unwrap();
        assert_eq!(truncation_record(&items(&[]), 64, &setting()).null_reason.as_deref(), Some("no_samples"));
    }
}
