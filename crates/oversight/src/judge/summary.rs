//! Judgings of a whole set of responses, by model: how they ended, and how grades go with length.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::{JudgeRow, JudgeStatus};
use super::statistics::{correlation, mean, slope};

/// How the sum of grades depends on the length of responses, within models: each model's means are taken out first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct LengthRelation {
    /// Number of scored responses of known length.
    pub(super) n: usize,
    /// Correlation of the sum with the natural logarithm of the length in tokens.
    pub(super) correlation: Option<f64>,
    /// Change of the sum where the length grows e-fold.
    pub(super) slope_per_nat: Option<f64>,
}

/// The rows of the first judging, by model in alphabetical order.
pub(super) fn by_model<'a>(rows: impl IntoIterator<Item = &'a JudgeRow>) -> BTreeMap<&'a str, Vec<&'a JudgeRow>> {
    let mut by_model: BTreeMap<&str, Vec<&JudgeRow>> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.repeat == 0) {
        by_model.entry(&row.model).or_default().push(row);
    }
    by_model
}

/// Number of rows that ended so.
pub(super) fn count(rows: &[&JudgeRow], status: JudgeStatus) -> usize {
    rows.iter().filter(|row| row.status == status).count()
}

/// The share of unreadable replies among rows with a reply.
pub(super) fn failure_rate(rows: &[&JudgeRow]) -> Option<f64> {
    let n_unreadable = count(rows, JudgeStatus::Unreadable);
    let n_replied = n_unreadable + count(rows, JudgeStatus::Scored);
    (n_replied > 0).then(|| n_unreadable as f64 / n_replied as f64)
}

/// Length in tokens and sum of grades of the scored rows whose length is known.
pub(super) fn scored_lengths(rows: &[&JudgeRow]) -> impl Iterator<Item = (f64, f64)> {
    rows.iter().filter_map(|row| {
        let length = row.n_tokens.filter(|n_tokens| *n_tokens > 0)?;
        Some((length as f64, row.scores.as_ref()?.sum))
    })
}

/// How the sum of grades depends on the length of responses.
pub(super) fn length_relation<'a>(rows: impl IntoIterator<Item = &'a JudgeRow>) -> LengthRelation {
    let mut pairs = Vec::new();
    for rows in by_model(rows).values() {
        let (lengths, sums): (Vec<f64>, Vec<f64>) =
            scored_lengths(rows).map(|(length, sum)| (length.ln(), sum)).unzip();
        if let (Some(mean_length), Some(mean_sum)) = (mean(&lengths), mean(&sums)) {
            pairs.extend(lengths.iter().zip(&sums).map(|(length, sum)| (length - mean_length, sum - mean_sum)));
        }
    }
    LengthRelation { n: pairs.len(), correlation: correlation(&pairs), slope_per_nat: slope(&pairs) }
}
