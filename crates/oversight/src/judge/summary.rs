//! Grades of a whole set of responses, by model.

use std::collections::BTreeMap;

use serde::Serialize;

use super::statistics::{correlation, mean, slope, standard_deviation};
use super::{JudgeRow, JudgeStatus, Rubric};

/// Grades of one model by one criterion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CriterionSummary {
    /// The criterion.
    pub name: String,
    /// Mean grade.
    pub mean: Option<f64>,
    /// Standard deviation of the grades.
    pub standard_deviation: Option<f64>,
    /// Number of responses by grade, rounded to whole grades, from the lowest to the highest.
    pub histogram: Vec<usize>,
}

/// What the judge said about one model. Responses that were judged twice count with their first grades.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The model.
    pub model: String,
    /// Responses by how their judging ended.
    pub n_scored: usize,
    /// Replies, and none could be read.
    pub n_unreadable: usize,
    /// No reply: the judging is partial if this is not 0.
    pub n_no_reply: usize,
    /// Nothing to judge.
    pub n_empty: usize,
    /// `n_unreadable` of those with a reply; `None` if there are none.
    pub parse_failure_rate: Option<f64>,
    /// Grades by criterion, in the rubric's order.
    pub criteria: Vec<CriterionSummary>,
    /// Mean sum of the grades.
    pub overall_mean: Option<f64>,
    /// Standard deviation of the sums.
    pub overall_standard_deviation: Option<f64>,
    /// Mean of the sums that the judge itself reported, divided by the highest possible sum: the figure of the original
    /// method's script.
    pub source_compat: Option<f64>,
    /// Reported sums that are not the sum of the grades.
    pub n_overall_mismatch: usize,
    /// Reported sums on the scale of one criterion.
    pub n_overall_scale_conflict: usize,
    /// Mean length of the scored responses whose length is known, in tokens.
    pub mean_tokens: Option<f64>,
}

/// How the sum of grades depends on the length of responses, within models: each model's means are taken out first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthRelation {
    /// Number of scored responses of known length.
    pub n: usize,
    /// Correlation of the sum with the natural logarithm of the length in tokens.
    pub correlation: Option<f64>,
    /// Change of the sum where the length grows e-fold.
    pub slope_per_nat: Option<f64>,
}

/// Grades by model, in alphabetical order.
pub fn summarise_models(rubric: &Rubric, rows: &[JudgeRow]) -> Vec<ModelSummary> {
    by_model(rows).into_iter().map(|(model, rows)| summarise_model(rubric, model, &rows)).collect()
}

/// The rows of the first judging, by model.
pub(super) fn by_model(rows: &[JudgeRow]) -> BTreeMap<&str, Vec<&JudgeRow>> {
    let mut by_model: BTreeMap<&str, Vec<&JudgeRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.repeat == 0) {
        by_model.entry(&row.model).or_default().push(row);
    }
    by_model
}

/// The share of unreadable replies among rows with a reply.
pub(super) fn parse_failure_rate(rows: &[&JudgeRow]) -> Option<f64> {
    let n_unreadable = count(rows, JudgeStatus::Unreadable);
    let n_replied = n_unreadable + count(rows, JudgeStatus::Scored);
    (n_replied > 0).then(|| n_unreadable as f64 / n_replied as f64)
}

fn count(rows: &[&JudgeRow], status: JudgeStatus) -> usize {
    rows.iter().filter(|row| row.status == status).count()
}

fn summarise_model(rubric: &Rubric, model: &str, rows: &[&JudgeRow]) -> ModelSummary {
    let scores = || rows.iter().filter_map(|row| row.scores.as_ref());
    let sums: Vec<f64> = scores().map(|scores| scores.sum).collect();
    let reported: Vec<f64> = scores().filter_map(|scores| scores.overall_reported).collect();
    let highest_sum = f64::from(rubric.highest) * rubric.criteria.len() as f64;
    let lengths: Vec<f64> = rows.iter().filter_map(|row| scored_length(row)).map(|(length, _)| length).collect();
    let criteria = rubric.criteria.iter().map(|name| {
        let grades: Vec<f64> = scores().filter_map(|scores| scores.criteria.get(*name).copied()).collect();
        summarise_criterion(rubric, name, &grades)
    });
    ModelSummary {
        model: model.to_owned(),
        n_scored: count(rows, JudgeStatus::Scored),
        n_unreadable: count(rows, JudgeStatus::Unreadable),
        n_no_reply: count(rows, JudgeStatus::NoReply),
        n_empty: count(rows, JudgeStatus::EmptyResponse),
        parse_failure_rate: parse_failure_rate(rows),
        criteria: criteria.collect(),
        overall_mean: mean(&sums),
        overall_standard_deviation: standard_deviation(&sums),
        source_compat: mean(&reported).map(|mean| mean / highest_sum),
        n_overall_mismatch: scores().filter(|scores| scores.overall_mismatch).count(),
        n_overall_scale_conflict: scores().filter(|scores| scores.overall_scale_conflict).count(),
        mean_tokens: mean(&lengths),
    }
}

fn summarise_criterion(rubric: &Rubric, name: &str, grades: &[f64]) -> CriterionSummary {
    let mut histogram = vec![0; (rubric.highest - rubric.lowest + 1) as usize];
    for grade in grades {
        // Grades are within the rubric's range, or they would not have been read.
        if let Some(bin) = histogram.get_mut((grade.round() - f64::from(rubric.lowest)) as usize) {
            *bin += 1;
        }
    }
    CriterionSummary {
        name: name.to_owned(),
        mean: mean(grades),
        standard_deviation: standard_deviation(grades),
        histogram,
    }
}

/// Length in tokens and sum of grades of a scored row whose length is known.
fn scored_length(row: &JudgeRow) -> Option<(f64, f64)> {
    let length = row.n_tokens.filter(|n_tokens| *n_tokens > 0)?;
    Some((length as f64, row.scores.as_ref()?.sum))
}

/// How the sum of grades depends on the length of responses.
pub fn length_relation(rows: &[JudgeRow]) -> LengthRelation {
    let mut pairs = Vec::new();
    for rows in by_model(rows).values() {
        let (lengths, sums): (Vec<f64>, Vec<f64>) =
            rows.iter().filter_map(|row| scored_length(row)).map(|(length, sum)| (length.ln(), sum)).unzip();
        if let (Some(mean_length), Some(mean_sum)) = (mean(&lengths), mean(&sums)) {
            pairs.extend(lengths.iter().zip(&sums).map(|(length, sum)| (length - mean_length, sum - mean_sum)));
        }
    }
    LengthRelation { n: pairs.len(), correlation: correlation(&pairs), slope_per_nat: slope(&pairs) }
}
