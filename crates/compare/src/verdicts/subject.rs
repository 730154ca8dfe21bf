//! A run with what its items add to its metrics.

use std::collections::BTreeMap;

use crate::paired::{Measure, measures, withheld};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::MetricRecord;
use aloud_measure::statistics::Cluster;

/// A run whose measures were taken once.
pub(super) struct Measured<'a> {
    pub(super) run: &'a EvaluationRun,
    pub(super) measures: Vec<Measure>,
}

impl<'a> Measured<'a> {
    pub(super) fn new(run: &'a EvaluationRun) -> Self {
        Self { run, measures: measures(run) }
    }

    pub(super) fn key(&self) -> &str {
        &self.run.manifest.model
    }

    /// Why a metric has no value.
    pub(super) fn withheld(&self, task: &str, id: &str) -> Option<String> {
        withheld(self.run, task, id).map(|reason| format!("{id} of {} has no value ({reason})", self.key()))
    }

    /// Strict accuracy of a blind guess, as the record of the accuracy says; where questions are of several kinds, of one who knows the
    /// kind and its most frequent answer.
    pub(super) fn chance(&self, task: &str) -> Option<f64> {
        let is_strict = |record: &&MetricRecord| record.context.task == task && record.id == "accuracy.strict";
        let extra = &self.run.records.iter().find(is_strict)?.extra;
        let number = |field: &str| extra.get(field).and_then(serde_json::Value::as_f64);
        number("majority").or_else(|| number("chance"))
    }

    /// Share of strictly right answers to each item that both have: `[self, other]`.
    pub(super) fn accuracies_beside(&self, other: &Self, task: &str) -> Vec<[f64; 2]> {
        let (Some(of_self), Some(of_other)) = (self.strict(task), other.strict(task)) else { return Vec::new() };
        let pair = |(item, cluster): (_, &Cluster)| Some([cluster.mean()?, of_other.items.get(item)?.mean()?]);
        of_self.items.iter().filter_map(pair).collect()
    }

    fn strict(&self, task: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.task == task && measure.id.ends_with(".strict"))
    }

    /// Whether all responses to the items that both have are the same, word for word.
    pub(super) fn answers_as(&self, other: &Self, task: &str) -> bool {
        let mine: BTreeMap<&str, &str> =
            self.run.traced_samples(task).map(|sample| (sample.key.as_str(), sample.completion.as_str())).collect();
        let mut shared = (other.run.traced_samples(task))
            .filter_map(|sample| Some((*mine.get(sample.key.as_str())?, sample.completion.as_str())))
            .peekable();
        shared.peek().is_some() && shared.all(|(mine, other)| mine == other)
    }
}
