//! Responses that were cut, traces that were not closed, loops, and how many responses are left at each stage.

use serde_json::{Value, json};

use super::text_statistics::has_loop;
use crate::metric_record::{Direction, MetricRecord};
use crate::metrics::item_rows::{ItemRows, MetricSetting};
use crate::run_files::{SampleRow, Stop, TokenRow};
use crate::statistics::wilson_confidence;
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters};

/// How many responses are left at each stage. Every stage is a part of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Funnel {
    /// Responses.
    pub generated: usize,
    /// Whose trace was closed.
    pub closed: usize,
    /// That have an answer.
    pub parsed: usize,
    /// That ended by themselves.
    pub eligible: usize,
}

impl Funnel {
    /// The funnel of the samples of items.
    pub fn of(items: &[ItemRows<'_>]) -> Self {
        let mut funnel = Self::default();
        for (sample, _) in items.iter().flat_map(|item| &item.samples) {
            let parsed = sample.extracted.strict.is_some() || sample.extracted.flex.is_some();
            funnel.generated += 1;
            funnel.closed += usize::from(sample.closed);
            funnel.parsed += usize::from(sample.closed && parsed);
            funnel.eligible += usize::from(sample.closed && parsed && sample.stop != Stop::Cap);
        }
        funnel
    }

    /// As fields of a record.
    fn to_value(self) -> Value {
        let Self { generated, closed, parsed, eligible } = self;
        json!({"generated": generated, "closed": closed, "parsed": parsed, "eligible": eligible})
    }
}

/// Share of samples that the limit on tokens cut. In `extra`: the share whose trace was not closed, the share that ends in a
/// loop, the limit and the funnel.
pub fn truncation_record(items: &[ItemRows<'_>], cap: usize, setting: &MetricSetting<'_>) -> MetricRecord {
    let share = |of: &dyn Fn(&SampleRow, &TokenRow) -> bool| -> Vec<Cluster> {
        let number = |(sample, row): &(&SampleRow, &TokenRow)| f64::from(u8::from(of(sample, row)));
        items.iter().map(|item| Cluster::of(item.samples.iter().map(number))).collect()
    };
    let interval = |clusters: &[Cluster]| {
        if clusters.iter().all(|cluster| cluster.count <= 1) {
            let count = clusters.iter().map(|cluster| cluster.count).sum();
            wilson_confidence(clusters.iter().map(|cluster| cluster.sum).sum::<f64>() as usize, count)
        } else {
            setting.bootstrap.share_interval(clusters)
        }
    };
    let value = |clusters: &[Cluster]| Bootstrap::value(clusters.len(), |weights| mean_of_clusters(clusters, weights));
    let field = |clusters: &[Cluster]| super::item_rows::interval_value(value(clusters), interval(clusters).as_ref());
    let cut = share(&|sample, _| sample.stop == Stop::Cap);
    let record = MetricRecord::new("length.truncated", "fraction", Direction::LowerIsBetter, setting.context)
        .with_value(value(&cut))
        .with_interval(interval(&cut))
        .with_items(items.len())
        .with_extra("cap", cap)
        .with_extra("no_close", field(&share(&|sample, _| !sample.closed)))
        .with_extra("loop_rate", field(&share(&|_, row| has_loop(&row.ids))))
        .with_extra("funnel", Funnel::of(items).to_value());
    if value(&cut).is_none() { record.with_null("no_samples") } else { record }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::with_edited_items;

    #[test]
    fn stages_and_shares() {
        let edit = |number: usize, sample: &mut SampleRow, row: &mut TokenRow| {
            sample.stop = if number >= 3 { Stop::Cap } else { Stop::Eos };
            sample.closed = number != 3;
            if number == 0 {
                sample.extracted = crate::run_files::Extracted::default();
            }
            if number == 3 {
                row.ids = (0..row.ids.len() as u32).map(|at| at % 8).collect();
            }
        };
        let long = [28; 64];
        with_edited_items(&[&[28], &[28], &[28], &long, &[28]], edit, |items, setting| {
            let record = truncation_record(items, 64, setting);
            assert_eq!(record.value, Some(0.4));
            assert_eq!(record.extra["funnel"], json!({"generated": 5, "closed": 4, "parsed": 3, "eligible": 2}));
            assert_eq!(record.extra["no_close"]["value"], 0.2);
            assert_eq!(record.extra["loop_rate"]["value"], 0.2);
            record.check().unwrap();
        });
        with_edited_items(&[], edit, |items, setting| {
            assert_eq!(truncation_record(items, 64, setting).null_reason.as_deref(), Some("no_samples"));
        });
    }
}
