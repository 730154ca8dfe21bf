//! What a judge said of a model, as metric records behind the gates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::gates::judged_twice;
use super::statistics::krippendorff_alpha;
use super::{
    Corruption, GateResult, JudgeRow, JudgeSettings, Judgement, Kinship, LEGIBILITY, ModelSummary, QUALITY, Rubric,
    Scores, failure_difference_gate, failure_rate_gate, kinship, ladder_drops, ladder_gate, length_relation,
    mean_absolute_difference, reliability_gate, summarise_models, summarise_pairs,
};
use aloud_measure::metric_record::{ConfidenceInterval, Direction, Gate, MetricRecord, RecordContext};
use aloud_measure::statistics::wilson_confidence;
use aloud_measure::statistics::{Bootstrap, Cluster, mean_of_clusters};

/// Unit of differences of grades.
const POINTS: &str = "points";

/// The key of the sum of all grades in tables of grades.
const OVERALL: &str = "overall";

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

/// Grades of one model by item: every criterion's, and their sum.
type Grades = BTreeMap<String, BTreeMap<String, f64>>;

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
        let compared: Vec<JudgeRow> = rows
            .iter()
            .filter(|row| row.model == self.name || Some(row.model.as_str()) == self.all.base)
            .cloned()
            .collect();
        vec![
            self.ladder.clone(),
            reliability_gate(rows),
            failure_difference_gate(&compared),
            failure_rate_gate(&compared),
        ]
    }

    /// A record for each criterion of a rubric; where it has a sum, also that of the sum and of its difference to the base.
    fn graded(&self, family: &str, rubric: &Rubric, rows: &[JudgeRow]) -> Vec<MetricRecord> {
        let mine: Vec<JudgeRow> = rows.iter().filter(|row| row.model == self.name).cloned().collect();
        let Some(summary) = summarise_models(rubric, &mine).pop() else {
            let names = rubric.criteria.iter().copied().chain(rubric.has_overall.then_some(OVERALL));
            let none = |name| {
                let highest = if name == OVERALL { highest_sum(rubric) } else { rubric.highest };
                self.record(&format!("{family}.{name}"), &points_of(highest), Direction::HigherIsBetter)
            };
            return names.map(|name| none(name).with_null("nothing_to_judge")).collect();
        };
        let gates = self.gates(rows);
        let grades = grades(&mine, rubric);
        let base = self.all.base.filter(|base| *base != self.name).map(|base| {
            let of_base: Vec<JudgeRow> = rows.iter().filter(|row| row.model == base).cloned().collect();
            self::grades(&of_base, rubric)
        });
        let finish = |record: MetricRecord| {
            let record = with_counts(record, &summary).with_extra("rubric", rubric.version);
            let record = record.with_extra("rubric_hash", rubric.hash());
            behind(record, &gates, &summary)
        };
        let mut records: Vec<MetricRecord> = Vec::new();
        for criterion in &summary.criteria {
            let record =
                self.mean_record(&format!("{family}.{}", criterion.name), &criterion.name, rubric.highest, &grades);
            let record = record
                .with_extra("standard_deviation", json!(criterion.standard_deviation))
                .with_extra("lowest", rubric.lowest)
                .with_extra("highest", rubric.highest)
                .with_extra("histogram", json!(criterion.histogram))
                .with_extra(
                    "minus_base",
                    json!(base.as_ref().map(|base| self.minus(&criterion.name, &grades, base).json())),
                );
            records.push(finish(record));
        }
        if rubric.has_overall {
            records.push(finish(self.overall_record(family, rubric, &summary, &grades, rows, &mine)));
            if let Some(base) = &base {
                let Difference { value, interval, n, n_unpaired } = self.minus(OVERALL, &grades, base);
                let id = format!("{family}.{OVERALL}_minus_base");
                let record = self
                    .record(&id, POINTS, Direction::HigherIsBetter)
                    .with_value(value)
                    .with_interval(interval)
                    .with_items(n)
                    .with_excluded("not_graded_for_both", n_unpaired)
                    .with_extra("partial", summary.n_no_reply > 0);
                let record = if value.is_none() { record.with_null("no_item_graded_for_both") } else { record };
                records.push(gates.iter().fold(record, |record, gate| record.with_gate(gate.into())));
            }
        }
        records
    }

    fn mean_record(&self, id: &str, criterion: &str, highest: u32, grades: &Grades) -> MetricRecord {
        let clusters: Vec<Cluster> =
            grades.values().map(|of_item| Cluster::of(of_item.get(criterion).copied())).collect();
        let mean = |weights: &[u32]| mean_of_clusters(&clusters, weights);
        self.record(id, &points_of(highest), Direction::HigherIsBetter)
            .with_value(Bootstrap::value(clusters.len(), mean))
            .with_interval(self.all.bootstrap.interval(clusters.len(), mean))
            .with_items(clusters.len())
    }

    fn overall_record(
        &self,
        family: &str,
        rubric: &Rubric,
        summary: &ModelSummary,
        grades: &Grades,
        all: &[JudgeRow],
        mine: &[JudgeRow],
    ) -> MetricRecord {
        let (lowest, highest) = (rubric.lowest * rubric.criteria.len() as u32, highest_sum(rubric));
        let mut histogram = vec![0_usize; (highest - lowest + 1) as usize];
        for sum in grades.values().filter_map(|of_item| of_item.get(OVERALL)) {
            if let Some(bin) = histogram.get_mut((sum.round() - f64::from(lowest)) as usize) {
                *bin += 1;
            }
        }
        self.mean_record(&format!("{family}.{OVERALL}"), OVERALL, highest, grades)
            .with_extra("standard_deviation", json!(summary.overall_standard_deviation))
            .with_extra("lowest", lowest)
            .with_extra("highest", highest)
            .with_extra("histogram", json!(histogram))
            .with_extra("overall_mismatch", summary.n_overall_mismatch)
            .with_extra("overall_scale_conflict", summary.n_overall_scale_conflict)
            .with_extra("source_compat", json!(summary.source_compat))
            .with_extra("mean_tokens", json!(summary.mean_tokens))
            .with_extra("length", json!(length_relation(mine)))
            .with_extra("length_within_all_models", json!(length_relation(all)))
    }

    /// The mean difference to the base over items that both have grades of.
    fn minus(&self, criterion: &str, grades: &Grades, base: &Grades) -> Difference {
        let differences: Vec<Cluster> = grades
            .iter()
            .filter_map(|(item, mine)| Some(Cluster::of([mine.get(criterion)? - base.get(item)?.get(criterion)?])))
            .collect();
        let n = differences.len();
        let mean = |weights: &[u32]| mean_of_clusters(&differences, weights);
        Difference {
            value: Bootstrap::value(n, mean),
            interval: self.all.bootstrap.paired_interval(n, mean),
            n,
            n_unpaired: grades.len() + base.len() - 2 * n,
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
        let record = self
            .record("judge.sanity_ladder", "fraction", Direction::HigherIsBetter)
            .with_value(self.ladder.value)
            .with_interval(wilson_confidence(n_drops, drops.len()))
            .with_items(drops.len())
            .with_extra("passed", self.ladder.passed)
            .with_extra("threshold", self.ladder.threshold)
            .with_extra("by_corruption", json!(by_corruption));
        if self.ladder.value.is_none() { record.with_null("no_pair_was_graded") } else { record }
    }

    /// `judge.reliability`: Krippendorff's alpha of the sums of responses that were graded twice, all runs together.
    fn reliability_record(&self) -> MetricRecord {
        let rows = &self.all.judgement.quality;
        let gate = reliability_gate(rows);
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
            .with_extra("threshold", gate.threshold)
            .with_extra("graded_twice", gate.n)
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
        let mut by_item: BTreeMap<&str, Cluster> = BTreeMap::new();
        let rows = &self.all.judgement.stripped;
        let mut n = 0;
        for row in rows {
            let plain = plain.get(&(row.model.as_str(), row.item.as_str()));
            if let Some((stripped, plain)) = sum(row).zip(plain) {
                let cluster = by_item.entry(&row.item).or_default();
                *cluster = Cluster { sum: cluster.sum + stripped - plain, count: cluster.count + 1 };
                n += 1;
            }
        }
        let clusters: Vec<Cluster> = by_item.into_values().collect();
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
        let rows: Vec<_> =
            (self.all.judgement.pairs.iter()).filter(|row| row.models[1] == self.name).cloned().collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let summary = summarise_pairs(&rows);
        let record = |id: &str, value: Option<f64>, successes: usize, n: usize| {
            let record = self
                .record(id, "fraction", Direction::HigherIsBetter)
                .with_value(value)
                .with_interval(wilson_confidence(successes, n))
                .with_items(n)
                .with_excluded("no_verdict_in_both_orders", summary.n_excluded)
                .with_extra("ties", summary.n_ties);
            if value.is_none() { record.with_null("no_consistent_verdict") } else { record }
        };
        let n_decided = summary.n_consistent - summary.n_ties;
        vec![
            record("judge.swap_consistency", summary.swap_consistency, summary.n_consistent, summary.n),
            record("judge.win_rate", summary.second_win_rate, summary.n_second_wins, n_decided)
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

/// The unit of grades on a scale.
fn points_of(highest: u32) -> String {
    format!("{POINTS} of {highest}")
}

/// The highest sum of all grades.
fn highest_sum(rubric: &Rubric) -> u32 {
    rubric.highest * rubric.criteria.len() as u32
}

/// Grades of first judgings.
fn grades(rows: &[JudgeRow], rubric: &Rubric) -> Grades {
    let of = |scores: &Scores| {
        let mut grades = scores.criteria.clone();
        if rubric.has_overall {
            grades.insert(OVERALL.to_owned(), scores.sum);
        }
        grades
    };
    rows.iter()
        .filter(|row| row.repeat == 0)
        .filter_map(|row| Some((row.item.clone(), of(row.scores.as_ref()?))))
        .collect()
}

/// How the judging of a model's responses ended.
fn with_counts(record: MetricRecord, summary: &ModelSummary) -> MetricRecord {
    record
        .with_excluded("unreadable", summary.n_unreadable)
        .with_excluded("no_reply", summary.n_no_reply)
        .with_excluded("empty_response", summary.n_empty)
        .with_extra("partial", summary.n_no_reply > 0)
        .with_extra("parse_failures", summary.n_unreadable)
        .with_extra("parse_failure_rate", json!(summary.parse_failure_rate))
}

/// A record behind gates. Where nobody replied there is nothing that a gate could be about.
fn behind(record: MetricRecord, gates: &[GateResult], summary: &ModelSummary) -> MetricRecord {
    let record = gates.iter().fold(record, |record, gate| record.with_gate(gate.into()));
    match (summary.n_scored + summary.n_unreadable, summary.n_no_reply) {
        (0, 0) => record.with_null("only_empty_responses"),
        (0, _) => record.with_null("judge_did_not_reply"),
        _ => record,
    }
}

impl From<&GateResult> for Gate {
    fn from(result: &GateResult) -> Self {
        Self { name: result.name.to_owned(), passed: result.passed, value: result.value }
    }
}

#[cfg(test)]
mod tests;
