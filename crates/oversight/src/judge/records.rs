//! What a judge said of a model, as metric records behind the gates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ask::JudgeSettings;
use super::corruption::Corruption;
use super::gates::{
    GateResult, failure_gates, judged_twice, ladder_drops, ladder_gate, mean_absolute_difference, reliability_gate,
};
use super::judgement::Judgement;
use super::kinship::{Kinship, kinship};
use super::pairwise::summarise_pairs;
use super::rows::{JudgeRow, JudgeStatus};
use super::rubric::{LEGIBILITY, OVERALL, QUALITY, Rubric};
use super::statistics::{krippendorff_alpha, mean, standard_deviation};
use super::summary::{by_model, count, failure_rate, length_relation, scored_lengths};
use aloud_measure::metric_record::{ConfidenceInterval, Direction, MetricRecord, RecordContext};
use aloud_measure::statistics::{Bootstrap, Cluster, mean_of_clusters, wilson_confidence};

/// Unit of differences of grades.
const POINTS: &str = "points";

/// What records of several models are made from.
#[derive(Clone, Copy, Debug)]
pub struct JudgedRecords<'a> {
    /// What the judge said.
    pub judgement: &'a Judgement,
    /// Who judged.
    pub settings: &'a JudgeSettings,
    /// Name of the base model's run in the rows, if it was judged.
    pub base: Option<&'a str>,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

impl JudgedRecords<'_> {
    /// The records of one run, `name` in the rows: `quality.*` of its rubric with the differences to the base,
    /// `reading.*` of the legibility rubric, and `judge.*` of the judge itself. `source` says which model the run is of, for the
    /// question whether the judge is of its family.
    ///
    /// A gate that is not met leaves the grades behind it without a value.
    pub fn of_run(&self, name: &str, source: &str, context: &RecordContext) -> Vec<MetricRecord> {
        let ladder = ladder_gate(&self.judgement.ladder);
        let one = One { all: self, name, kinship: kinship(&self.settings.judge_model, source), context, ladder };
        let mut records = one.graded("quality", &QUALITY, &self.judgement.quality);
        records.extend(one.graded("reading", &LEGIBILITY, &self.judgement.legibility));
        records.push(one.ladder_record());
        records.push(one.reliability_record());
        records.push(one.markup_record());
        records.extend(one.pair_records());
        records
    }
}

/// One run's records in the making.
struct One<'a> {
    all: &'a JudgedRecords<'a>,
    name: &'a str,
    kinship: Kinship,
    context: &'a RecordContext,
    ladder: GateResult,
}

impl One<'_> {
    fn record(&self, id: &str, unit: &str, direction: Direction) -> MetricRecord {
        MetricRecord::new(id, unit, direction, self.context)
            .with_extra("judge_model", self.all.settings.judge_model.clone())
            .with_extra("self_judged", self.kinship == Kinship::SameFamily)
            .with_extra("kinship", json!(self.kinship))
    }

    /// Whether failures to grade this run, and the base that it is compared with, leave its grades usable, and whether the
    /// judge is any good.
    fn gates(&self, rows: &[JudgeRow]) -> Vec<GateResult> {
        let is_compared = |row: &&JudgeRow| row.model == self.name || Some(row.model.as_str()) == self.all.base;
        let of_failures = failure_gates(rows.iter().filter(is_compared));
        [self.ladder.clone(), reliability_gate(rows)].into_iter().chain(of_failures).collect()
    }

    /// A record for each criterion of a rubric; where it has a sum, also that of the sum and of its difference to the base.
    fn graded(&self, family: &str, rubric: &Rubric, rows: &[JudgeRow]) -> Vec<MetricRecord> {
        let names = || rubric.criteria.iter().copied().chain(rubric.has_overall.then_some(OVERALL));
        let empty = |name: &str| {
            let unit = format!("{POINTS} of {}", rubric.range(name).1);
            self.record(&format!("{family}.{name}"), &unit, Direction::HigherIsBetter)
        };
        let mut by_model = by_model(rows);
        let Some(mine) = by_model.remove(self.name) else {
            return names().map(|name| empty(name).with_null("nothing_to_judge")).collect();
        };
        let gates = self.gates(rows);
        let base =
            self.all.base.filter(|base| *base != self.name).map(|base| by_model.remove(base).unwrap_or_default());
        let of_grade = |name: &str| {
            let (lowest, highest) = rubric.range(name);
            let in_order: Vec<f64> = grades(&mine, name).map(|(_, grade)| grade).collect();
            let by_item: BTreeMap<&str, f64> = grades(&mine, name).collect();
            let clusters: Vec<Cluster> = by_item.into_values().map(|grade| Cluster::of([grade])).collect();
            let mean = |weights: &[u32]| mean_of_clusters(&clusters, weights);
            let record = empty(name)
                .with_value(Bootstrap::value(clusters.len(), mean))
                .with_interval(self.all.bootstrap.interval(clusters.len(), mean))
                .with_items(clusters.len())
                .with_extra("standard_deviation", json!(standard_deviation(&in_order)))
                .with_extra("lowest", lowest)
                .with_extra("highest", highest)
                .with_extra("histogram", json!(histogram(&in_order, lowest, highest)));
            let record = if name == OVERALL {
                with_totals(record, rubric, &mine, rows)
            } else {
                record.with_extra("minus_base", json!(base.as_ref().map(|base| self.minus(name, &mine, base).json())))
            };
            behind(with_counts(record, rubric, &mine), &gates, &mine)
        };
        let mut records: Vec<MetricRecord> = names().map(of_grade).collect();
        if let (true, Some(base)) = (rubric.has_overall, &base) {
            let Difference { value, interval, n, n_unpaired } = self.minus(OVERALL, &mine, base);
            let record = self
                .record(&format!("{family}.{OVERALL}_minus_base"), POINTS, Direction::HigherIsBetter)
                .with_value(value)
                .with_interval(interval)
                .with_items(n)
                .with_excluded("not_graded_for_both", n_unpaired)
                .with_extra("partial", count(&mine, JudgeStatus::NoReply) > 0);
            let record = if value.is_none() { record.with_null("no_item_graded_for_both") } else { record };
            records.push(with_gates(record, &gates));
        }
        records
    }

    /// The mean difference to the base over items that both have grades of.
    fn minus(&self, name: &str, mine: &[&JudgeRow], base: &[&JudgeRow]) -> Difference {
        let [mine, base] = [mine, base].map(|rows| grades(rows, name).collect::<BTreeMap<_, _>>());
        let differences: Vec<Cluster> =
            mine.iter().filter_map(|(item, grade)| Some(Cluster::of([grade - base.get(item)?]))).collect();
        let n = differences.len();
        let mean = |weights: &[u32]| mean_of_clusters(&differences, weights);
        Difference {
            value: Bootstrap::value(n, mean),
            interval: self.all.bootstrap.paired_interval(n, mean),
            n,
            n_unpaired: mine.len() + base.len() - 2 * n,
        }
    }

    /// `judge.sanity_ladder`: share of corruptions that lower the grade that they concern. The same for all runs.
    fn ladder_record(&self) -> MetricRecord {
        let drops = ladder_drops(&self.all.judgement.ladder);
        let by_corruption: BTreeMap<&str, Value> = Corruption::ALL
            .into_iter()
            .map(|corruption| {
                let of_it: Vec<bool> =
                    drops.iter().filter(|(of, _)| *of == corruption).map(|(_, drop)| *drop).collect();
                let n_drops = of_it.iter().filter(|drop| **drop).count();
                (corruption.name(), json!({"drops": n_drops, "n": of_it.len(), "criterion": corruption.criterion()}))
            })
            .collect();
        let n_drops = drops.iter().filter(|(_, drop)| *drop).count();
        let GateResult { gate, threshold, .. } = &self.ladder;
        let record = self
            .record("judge.sanity_ladder", "fraction", Direction::HigherIsBetter)
            .with_value(gate.value)
            .with_interval(wilson_confidence(n_drops, drops.len()))
            .with_items(drops.len())
            .with_extra("passed", gate.passed)
            .with_extra("threshold", *threshold)
            .with_extra("by_corruption", json!(by_corruption));
        if gate.value.is_none() { record.with_null("no_pair_was_graded") } else { record }
    }

    /// `judge.reliability`: Krippendorff's alpha of the sums of responses that were graded twice, all runs together.
    fn reliability_record(&self) -> MetricRecord {
        let rows = &self.all.judgement.quality;
        let GateResult { gate, threshold, n } = reliability_gate(rows);
        // An item with the responses of all models is drawn as a whole.
        let mut by_item: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
        for ((_, item), sums) in judged_twice(rows) {
            by_item.entry(item).or_default().push(sums);
        }
        let items: Vec<Vec<Vec<f64>>> = by_item.into_values().collect();
        let interval = self.all.bootstrap.interval(items.len(), |weights| {
            let drawn = items.iter().zip(weights).flat_map(|(units, weight)| (0..*weight).flat_map(move |_| units));
            krippendorff_alpha(&drawn.cloned().collect::<Vec<_>>())
        });
        let record = self
            .record("judge.reliability", "alpha", Direction::HigherIsBetter)
            .with_value(gate.value)
            .with_interval(interval)
            .with_items(items.len())
            .with_extra("passed", gate.passed)
            .with_extra("threshold", threshold)
            .with_extra("graded_twice", n)
            .with_extra("mean_absolute_difference", json!(mean_absolute_difference(rows)));
        if gate.value.is_none() { record.with_null("no_grades_that_differ_were_given_twice") } else { record }
    }

    /// `judge.markup_shift`: how much the sum changes where the markup is taken off, all runs together.
    fn markup_record(&self) -> MetricRecord {
        let sum = |row: &JudgeRow| row.scores.as_ref().map(|scores| scores.sum);
        let plain: BTreeMap<(&str, &str), f64> = (self.all.judgement.quality.iter())
            .filter(|row| row.repeat == 0)
            .filter_map(|row| Some(((row.model.as_str(), row.item.as_str()), sum(row)?)))
            .collect();
        let rows = &self.all.judgement.stripped;
        let mut by_item: BTreeMap<&str, Cluster> = BTreeMap::new();
        for row in rows {
            let plain = plain.get(&(row.model.as_str(), row.item.as_str()));
            if let Some((stripped, plain)) = sum(row).zip(plain) {
                let cluster = by_item.entry(&row.item).or_default();
                *cluster = Cluster { sum: cluster.sum + stripped - plain, count: cluster.count + 1 };
            }
        }
        let clusters: Vec<Cluster> = by_item.into_values().collect();
        let n: usize = clusters.iter().map(|cluster| cluster.count).sum();
        let mean = |weights: &[u32]| mean_of_clusters(&clusters, weights);
        let value = Bootstrap::value(clusters.len(), mean);
        let record = self
            .record("judge.markup_shift", POINTS, Direction::Descriptive)
            .with_value(value)
            .with_interval(self.all.bootstrap.paired_interval(clusters.len(), mean))
            .with_items(clusters.len())
            .with_extra("responses", n)
            .with_excluded("not_graded_both_ways", rows.len() - n);
        match value {
            Some(_) => record,
            None if rows.is_empty() => record.with_null("no_response_has_markup"),
            None => record.with_null("no_response_graded_both_ways"),
        }
    }

    /// `judge.swap_consistency` and `judge.win_rate` of a run that was set against the base.
    fn pair_records(&self) -> Vec<MetricRecord> {
        let rows = || self.all.judgement.pairs.iter().filter(|row| row.models[1] == self.name);
        if rows().next().is_none() {
            return Vec::new();
        }
        let summary = summarise_pairs(rows());
        let record = |id: &str, successes: usize, n: usize| {
            let record = self
                .record(id, "fraction", Direction::HigherIsBetter)
                .with_value((n > 0).then(|| successes as f64 / n as f64))
                .with_interval(wilson_confidence(successes, n))
                .with_items(n)
                .with_excluded("no_verdict_in_both_orders", summary.n_excluded)
                .with_extra("ties", summary.n_ties);
            if n == 0 { record.with_null("no_consistent_verdict") } else { record }
        };
        vec![
            record("judge.swap_consistency", summary.n_consistent(), summary.n),
            record("judge.win_rate", summary.n_second_wins, summary.n_first_wins + summary.n_second_wins)
                .with_extra("wins", summary.n_second_wins)
                .with_extra("against", self.all.base.unwrap_or_default()),
        ]
    }
}

/// A mean difference of two models over the same items.
struct Difference {
    value: Option<f64>,
    interval: Option<ConfidenceInterval>,
    n: usize,
    n_unpaired: usize,
}

impl Difference {
    fn json(&self) -> Value {
        let end = |end: fn(&ConfidenceInterval) -> f64| self.interval.as_ref().map(end);
        json!({"value": self.value, "lo": end(|ci| ci.lo), "hi": end(|ci| ci.hi), "n": self.n})
    }
}

/// The grades of a criterion, or the sums of all, with their items.
fn grades<'a>(rows: &[&'a JudgeRow], name: &str) -> impl Iterator<Item = (&'a str, f64)> {
    rows.iter().filter_map(move |row| Some((row.item.as_str(), row.scores.as_ref()?.grade(name)?)))
}

/// Number of grades, rounded to whole ones, from the lowest to the highest.
fn histogram(grades: &[f64], lowest: u32, highest: u32) -> Vec<usize> {
    let mut histogram = vec![0; (highest - lowest + 1) as usize];
    for grade in grades {
        // Grades are within the rubric's range, or they would not have been read.
        if let Some(bin) = histogram.get_mut((grade.round() - f64::from(lowest)) as usize) {
            *bin += 1;
        }
    }
    histogram
}

/// What only the record of the sum has. `source_compat` is the figure of the original method's script: the mean of the sums
/// that the judge itself reported, divided by the highest possible one.
fn with_totals(record: MetricRecord, rubric: &Rubric, mine: &[&JudgeRow], all: &[JudgeRow]) -> MetricRecord {
    let scores = || mine.iter().filter_map(|row| row.scores.as_ref());
    let reported: Vec<f64> = scores().filter_map(|scores| scores.overall_reported).collect();
    let highest = f64::from(rubric.range(OVERALL).1);
    let lengths: Vec<f64> = scored_lengths(mine).map(|(length, _)| length).collect();
    record
        .with_extra("overall_mismatch", scores().filter(|scores| scores.overall_mismatch).count())
        .with_extra("overall_scale_conflict", scores().filter(|scores| scores.overall_scale_conflict).count())
        .with_extra("source_compat", json!(mean(&reported).map(|mean| mean / highest)))
        .with_extra("mean_tokens", json!(mean(&lengths)))
        .with_extra("length", json!(length_relation(mine.iter().copied())))
        .with_extra("length_within_all_models", json!(length_relation(all)))
}

/// By which rubric a model's responses were judged, and how that ended.
fn with_counts(record: MetricRecord, rubric: &Rubric, mine: &[&JudgeRow]) -> MetricRecord {
    let [n_unreadable, n_no_reply, n_empty] =
        [JudgeStatus::Unreadable, JudgeStatus::NoReply, JudgeStatus::EmptyResponse].map(|status| count(mine, status));
    record
        .with_excluded("unreadable", n_unreadable)
        .with_excluded("no_reply", n_no_reply)
        .with_excluded("empty_response", n_empty)
        .with_extra("partial", n_no_reply > 0)
        .with_extra("parse_failures", n_unreadable)
        .with_extra("parse_failure_rate", json!(failure_rate(mine)))
        .with_extra("rubric", rubric.version)
        .with_extra("rubric_hash", rubric.hash())
}

fn with_gates(record: MetricRecord, gates: &[GateResult]) -> MetricRecord {
    gates.iter().fold(record, |record, found| record.with_gate(found.gate.clone()))
}

/// A record behind gates. Where nobody replied there is nothing that a gate could be about.
fn behind(record: MetricRecord, gates: &[GateResult], mine: &[&JudgeRow]) -> MetricRecord {
    let record = with_gates(record, gates);
    match (failure_rate(mine), count(mine, JudgeStatus::NoReply)) {
        (None, 0) => record.with_null("only_empty_responses"),
        (None, _) => record.with_null("judge_did_not_reply"),
        _ => record,
    }
}

#[cfg(test)]
mod tests;
