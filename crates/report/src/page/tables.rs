//! Tables of results: the model and its base, all runs, text quality, externalisation with contrasts, dials, gates.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figures::{ACCURACY, Subject};
use super::html::{Row, difference_cell, none_cell, record_cell, table, text_cell, value_cell};
use super::measured::{depth_quantile, funnel};
use crate::summary::TRAINED;
use crate::words::{grouped, number};
use aloud_compare::paired::{ADJUSTED_AREA, AREA, Comparison, compare, shared_clusters};
use aloud_compare::verdicts::VERDICT_CONTROLS;
use aloud_measure::evaluation_run::{AT_FULL_DEPTH, EvaluationRun, RunSet, Sweep};
use aloud_measure::metric_record::{ConfidenceInterval, MetricRecord, is_of_depth};
use aloud_measure::metrics::dial_curve::{DialPoint, front_record};
use aloud_measure::metrics::item_rows::MetricSetting;

/// The metrics that stand first, in words.
const HEADLINE: [(&str, &str); 18] = [
    ("savings.average", "layers saved"),
    ("savings.operations", "operations saved"),
    ("exits.rate", "tokens that stop early"),
    ("depth.deepest_step", "deepest step of a response, blocks"),
    (ACCURACY, "accuracy, asked form"),
    ("accuracy.flexible", "accuracy, any form"),
    ("accuracy.lenient", "accuracy, other words too"),
    ("length.trace", "length of a trace, tokens"),
    ("length.truncated", "cut by the limit on tokens"),
    ("early_answering.area", "share of the trace that the answer needs"),
    ("necessity.accuracy", "accuracy won by the trace"),
    ("necessity.log_probability", "log-probability won by the trace"),
    ("horizon.without_trace", "steps that go without a trace"),
    ("written_steps.coverage", "steps that are written"),
    ("text.perplexity", "perplexity of the text under the base"),
    ("text.repeated_4", "repeated runs of 4 tokens"),
    ("quality.overall", "judged quality, points of 40"),
    ("reading.legibility", "judged legibility, points of 4"),
];

/// What a gate that is not met measured, and the metrics that depend on it.
type FailedGate<'a> = (Option<f64>, Vec<&'a str>);

/// Gates that are not met, and on which metrics that tells.
pub(super) fn gates(set: &RunSet) -> Markup {
    let mut failed: BTreeMap<(&str, &str), FailedGate<'_>> = BTreeMap::new();
    let records = set.runs.iter().flat_map(|run| run.records.iter().map(move |record| (run, record)));
    let mut n_gates = 0;
    for (run, record) in records {
        n_gates += record.context.gates.len();
        for gate in record.context.gates.iter().filter(|gate| !gate.passed) {
            failed.entry((&run.name, &gate.name)).or_insert((gate.value, Vec::new())).1.push(&record.id);
        }
    }
    let row = |((run, gate), (value, mut ids)): ((&str, &str), FailedGate<'_>)| {
        ids.dedup();
        let value = value.map_or_else(|| "not measured".to_owned(), |value| number(value, ""));
        (run.to_owned(), [gate, &value, &ids.join(", ")].map(text_cell).to_vec())
    };
    let rows: Vec<Row> = failed.into_iter().map(row).collect();
    match (n_gates, rows.is_empty()) {
        (0, _) => html! { p { "No record names a gate." } },
        (_, true) => html! { p { "All gates are met." } },
        _ => table(&["run", "gate that is not met", "measured", "metrics without a value because of it"], &rows),
    }
}

/// The model and its base: a row a metric, and the difference where there is one of each.
pub(super) fn headline(subject: &Subject<'_>) -> Markup {
    let runs: Vec<&EvaluationRun> = subject.runs().map(|(_, run)| run).collect();
    let mut columns = vec!["metric".to_owned()];
    columns.extend(runs.iter().map(|run| run.name.clone()));
    let pair = if let [base, model] = runs[..] { Some((base, model)) } else { None };
    let comparison = pair.map(|(base, model)| {
        columns.push(format!("{} − {}", model.name, base.name));
        compare(base, model, subject.bootstrap).map_err(|error| error.to_string())
    });
    let row = |(id, words): (&str, &str)| {
        runs.iter().find_map(|run| run.record(subject.task, id))?;
        let cells = runs.iter().map(|run| of_run(run, subject.task, id));
        // The recorded difference of the accuracies is the one that the answers name.
        let recorded = || {
            let record = runs.last().filter(|_| id == ACCURACY)?.record(subject.task, "accuracy.strict_minus_base")?;
            Some(difference_cell(record.value?, record.ci.as_ref(), &record.unit))
        };
        let of_pair = |comparison| recorded().unwrap_or_else(|| contrast_cell(comparison, subject.task, id));
        let difference = comparison.as_ref().map(of_pair);
        Some((words.to_owned(), cells.chain(difference).collect()))
    };
    table(&columns, &HEADLINE.into_iter().filter_map(row).collect::<Vec<_>>())
}

/// The cell of a metric; depths are no metric of runs at full depth.
fn of_run(run: &EvaluationRun, task: &str, id: &str) -> Markup {
    let found = run.record(task, id);
    if run.is_at_full_depth() && is_of_depth(id) && found.is_none_or(|record| record.value.is_none()) {
        return none_cell("exits are off");
    }
    record_cell(found)
}

/// A row a run: depth, accuracy, length.
pub(super) fn runs(subject: &Subject<'_>) -> Markup {
    const IDS: [(&str, &str); 7] = [
        ("savings.average", "layers saved"),
        ("exits.rate", "tokens that stop early"),
        ("depth.deepest_step", "deepest step, blocks"),
        (ACCURACY, "accuracy"),
        ("accuracy.strict_minus_base", "less the base's"),
        ("length.trace", "length, tokens"),
        ("length.truncated", "cut at the limit"),
    ];
    let row = |(_, run): (usize, &EvaluationRun)| {
        let mut cells: Vec<Markup> = IDS.iter().map(|(id, _)| of_run(run, subject.task, id)).collect();
        let quantile = match depth_quantile(run, subject.task, 0.95, subject.bootstrap) {
            Some((value, interval)) => value_cell(value, interval.as_ref(), "blocks"),
            None => none_cell(if run.is_at_full_depth() { "exits are off" } else { "no tokens" }),
        };
        cells.insert(3, quantile);
        cells.extend(funnel(run, subject.task).iter().map(|count| text_cell(&grouped(*count))));
        (run_name(run), cells)
    };
    let mut columns: Vec<&str> = ["run"].into_iter().chain(IDS.iter().map(|(_, words)| *words)).collect();
    columns.insert(4, "depth, 95 % quantile");
    columns.extend(["responses", "of these trace closed", "of these answer found", "of these ended by itself"]);
    table(&columns, &subject.runs().map(row).collect::<Vec<_>>())
}

fn run_name(run: &EvaluationRun) -> String {
    let control = run.records.iter().find_map(|record| record.context.control_of.as_deref());
    control.map_or_else(|| run.name.clone(), |of| format!("{} (control of {of})", run.name))
}

/// Ids that begin so and that some run has for the task, in order.
fn ids<'a>(subject: &Subject<'a>, beginnings: &[&str]) -> Vec<&'a str> {
    let ids = subject.ids(beginnings);
    // A model without exits has its values at full depth in the row of the others' recorded ones.
    let is_alone = |id: &&str| id.strip_suffix(AT_FULL_DEPTH).is_none_or(|short| !ids.contains(short));
    ids.iter().copied().filter(is_alone).collect()
}

/// Quality by a judge, and the stand-in, apart from each other.
pub(super) fn quality(subject: &Subject<'_>) -> Markup {
    let judged = ids(subject, &JUDGED);
    let stand_in = ids(subject, &["text."]);
    html! {
        (by_run(subject, &judged))
        @if !stand_in.is_empty() {
            h4 { "Surface statistics, a stand-in for quality" }
            (by_run(subject, &stand_in))
            (agreement(subject, &stand_in))
        }
    }
}

/// Beginnings of the ids of what a judge graded.
const JUDGED: [&str; 3] = ["quality.", "judge.", "reading."];

/// Who judged, and what a reader of the grades has to know; or that nobody did.
pub(super) fn judges(subject: &Subject<'_>) -> Markup {
    let judged = ids(subject, &JUDGED);
    let of_run = |run| judged.iter().filter_map(move |id| Some((run, EvaluationRun::record(run, subject.task, id)?)));
    let records: Vec<(&EvaluationRun, &MetricRecord)> = subject.runs().flat_map(|(_, run)| of_run(run)).collect();
    let judges: BTreeSet<&str> =
        records.iter().filter_map(|(_, record)| record.extra.get("judge_model")?.as_str()).collect();
    let judges: Vec<&str> = judges.into_iter().collect();
    if judges.is_empty() && records.iter().all(|(_, record)| record.value.is_none()) {
        return html! {
            p {
                strong { "No judge was run. These are surface statistics; they do not measure coherence or correctness." }
            }
        };
    }
    let is_set = |record: &MetricRecord, key: &str| record.extra.get(key) == Some(&serde_json::Value::Bool(true));
    let marked = |key: &str| {
        let mut runs: Vec<&str> =
            records.iter().filter(|(_, record)| is_set(record, key)).map(|(run, _)| run.name.as_str()).collect();
        runs.dedup();
        runs.join("; ")
    };
    let has_grades = records.iter().any(|(_, record)| !record.id.starts_with("judge.") && record.value.is_some());
    html! {
        p { "Judge: " @if judges.is_empty() { "not named" } @else { (judges.join(", ")) } "." }
        @for (runs, words) in [
            (marked("self_judged"), "Self-judged: the judge is of the family of the judged model, and may favour it"),
            (marked("partial"), "Partial: the judge did not reply to all questions"),
        ] {
            @if !runs.is_empty() { p { strong { (words) " (" (runs) ")." } } }
        }
        @if !has_grades {
            p {
                strong {
                    "No grade may be used: the table of all runs says why. What is shown are surface statistics; they do not \
                     measure coherence or correctness."
                }
            }
        }
    }
}

/// How the stand-ins rank responses against the judge, where there were enough.
fn agreement(subject: &Subject<'_>, stand_in: &[&str]) -> Markup {
    let of_id = |id: &&str| {
        let found = |(_, run): (usize, &EvaluationRun)| {
            run.record(subject.task, id)?.extra.get("judge_spearman")?.as_object().cloned()
        };
        let field = subject.runs().find_map(found)?;
        let of_key = |key: &str| field.get(key).and_then(serde_json::Value::as_f64);
        let verdict = field.get("verdict").and_then(serde_json::Value::as_str).unwrap_or_default();
        let value = match (of_key("value"), of_key("lo"), of_key("hi")) {
            (Some(value), Some(lo), Some(hi)) => {
                format!("{} ({} to {})", number(value, ""), number(lo, ""), number(hi, ""))
            }
            _ => "–".to_owned(),
        };
        let n = of_key("n").map_or_else(String::new, |n| grouped(n as usize));
        Some(((*id).to_owned(), [&value, &n, verdict].map(text_cell).to_vec()))
    };
    let rows: Vec<Row> = stand_in.iter().filter_map(of_id).collect();
    let columns = ["stand-in", "Spearman's correlation with the judge's overall grade", "responses", "verdict"];
    html! { @if !rows.is_empty() { h4 { "Stand-ins against the judge" } (table(&columns, &rows)) } }
}

/// A row for each metric, a column for each run.
fn by_run(subject: &Subject<'_>, ids: &[&str]) -> Markup {
    let columns: Vec<&str> = ["metric"].into_iter().chain(subject.runs().map(|(_, run)| run.name.as_str())).collect();
    let row = |id: &&str| {
        let cells = subject.runs().map(|(_, run)| record_cell(run.record(subject.task, id)));
        (metric_name(subject, id), cells.collect())
    };
    let rows: Vec<Row> = ids.iter().map(row).collect();
    html! { @if !rows.is_empty() { (table(&columns, &rows)) } }
}

/// The id with its unit, where that is not a share.
fn metric_name(subject: &Subject<'_>, id: &str) -> String {
    let unit = subject.runs().find_map(|(_, run)| Some(run.record(subject.task, id)?.unit.as_str()));
    match unit {
        None | Some("fraction" | "") => id.to_owned(),
        Some(unit) => format!("{id} ({unit})"),
    }
}

/// Externalisation: a row for each metric, the runs, then what the trained model differs by from base and controls.
pub(super) fn externalisation(subject: &Subject<'_>) -> Markup {
    let ids = ids(subject, &["early_answering.", "necessity.", "horizon.", "written_steps."]);
    if ids.is_empty() {
        return html! { p { "No metric of externalisation was measured." } };
    }
    html! { (by_run(subject, &ids)) h4 { "Contrasts" } (contrasts(subject, &ids)) }
}

fn contrasts(subject: &Subject<'_>, ids: &[&str]) -> Markup {
    let of_model = |model: &str| subject.runs().map(|(_, run)| run).find(|run| run.manifest.model == model);
    let Some(trained) = of_model(TRAINED) else {
        return html! { p { "There are no contrasts: no run is of the model `" (TRAINED) "`." } };
    };
    let mut columns = vec!["metric".to_owned()];
    columns.extend(VERDICT_CONTROLS.map(|control| format!("{} − {control}", trained.name)));
    let differences = VERDICT_CONTROLS.map(|control| match of_model(control) {
        None => Err(format!("no run `{control}`")),
        Some(run) => compare(run, trained, subject.bootstrap).map_err(|error| error.to_string()),
    });
    // Early answering once more, at equal length: a difference only.
    let with_adjusted =
        ids.iter().flat_map(|id| [Some(*id), (*id == AREA).then_some(ADJUSTED_AREA)].into_iter().flatten());
    let row = |id: &str| {
        let cells = differences.iter().map(|comparison| contrast_cell(comparison, subject.task, id));
        (metric_name(subject, id), cells.collect())
    };
    html! {
        (table(&columns, &with_adjusted.map(row).collect::<Vec<Row>>()))
        p {
            "Paired differences on the same items. Bold: the interval leaves out 0. A claim of externalisation needs base, \
             base_noise and exits_off (or same_training) to point the same way, and each of them to be a control: see the \
             hypotheses."
        }
    }
}

fn contrast_cell(comparison: &Result<Comparison, String>, task: &str, id: &str) -> Markup {
    let found = match comparison {
        Err(reason) => return none_cell(reason),
        Ok(comparison) => comparison.metrics.iter().find(|metric| metric.id == id && metric.task == task),
    };
    match found {
        None => none_cell("not in both"),
        Some(found) => match found.difference {
            Some(value) if found.ci.is_some() => difference_cell(value, found.ci.as_ref(), &found.unit),
            _ => none_cell(found.null_reason.as_deref().unwrap_or("no interval")),
        },
    }
}

/// What the points of each sweep say together: how much can be saved for one point of accuracy.
pub(super) fn dials(subject: &Subject<'_>) -> Markup {
    let columns = ["dial", "points", "savings within 1 pp of accuracy with exits off", "area covered"];
    let row = |sweep: &Sweep| Some((sweep.index.dial.replace('_', " "), dial_cells(subject, sweep)?));
    let rows: Vec<Row> = subject.set.sweeps.iter().filter_map(row).collect();
    html! { @if !rows.is_empty() { (table(&columns, &rows)) } }
}

fn dial_cells(subject: &Subject<'_>, sweep: &Sweep) -> Option<Vec<Markup>> {
    let of_task = |run: &&EvaluationRun| run.tasks().contains(&subject.task);
    let mut runs: Vec<&EvaluationRun> =
        sweep.runs.iter().flatten().filter_map(|place| subject.set.runs.get(*place)).filter(of_task).collect();
    runs.retain(|run| run.manifest.model != "base");
    let n_points = runs.len();
    // The accuracy with exits off is that of a point of the sweep, or of the trained model's run without exits.
    if !runs.iter().any(|run| run.is_at_full_depth()) {
        runs.extend(subject.set.runs.iter().filter(of_task).find(|run| run.manifest.model == "exits_off"));
    }
    runs.iter().find_map(|run| run.record(subject.task, ACCURACY))?;
    let cells = |[first, second]: [Markup; 2]| Some(vec![text_cell(&n_points.to_string()), first, second]);
    let none = |reason: &str| cells([none_cell(reason), none_cell(reason)]);
    let Some(off) = runs.iter().position(|run| run.is_at_full_depth()) else { return none("no run with exits off") };
    let Some(clusters) = shared_clusters(&runs, subject.task, ["savings.average", ACCURACY]) else {
        return none("no shared items");
    };
    let points: Vec<DialPoint> = runs
        .iter()
        .zip(clusters)
        .map(|(run, [savings, accuracy])| DialPoint { label: run.name.clone(), savings, accuracy })
        .collect();
    let context = &runs.first()?.record(subject.task, ACCURACY)?.context;
    let setting = MetricSetting { context, identity: &runs.first()?.manifest.identity, bootstrap: *subject.bootstrap };
    let record = front_record(&points, off, 0.0, &[], &setting);
    let within = record.extra.get("als_at_1pp").and_then(|field| {
        let number = |key: &str| field.get(key)?.as_f64();
        let interval = ConfidenceInterval { lo: number("lo")?, hi: number("hi")?, ..record.ci.clone()? };
        Some(value_cell(number("value")?, Some(&interval), "fraction"))
    });
    cells([within.unwrap_or_else(|| none_cell("not defined")), record_cell(Some(&record))])
}
