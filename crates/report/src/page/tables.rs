//! Tables of results: gates, headline, quality, externalisation with contrasts, dials, attrition.

use std::collections::BTreeMap;

use super::figures::{FLEXIBLE, STRICT, Subject};
use super::html::{Estimate, difference, estimate_cell, none_cell, number, paragraph, record_cell, table, text_cell};
use super::measured::{depth_quantile, funnel};
use crate::text::{escape, grouped};
use aloud_compare::paired::{ADJUSTED_AREA, AREA, Comparison, compare, shared_clusters};
use aloud_compare::verdicts::VERDICT_CONTROLS;
use aloud_measure::evaluation_run::AT_FULL_DEPTH;
use aloud_measure::evaluation_run::{EvaluationRun, RunSet, Sweep};
use aloud_measure::metric_record::{ConfidenceInterval, MetricRecord, is_of_depth};
use aloud_measure::metrics::dial_curve::{DialPoint, front_record};
use aloud_measure::metrics::item_rows::MetricSetting;

/// Key of the trained model with its own exits.
pub(super) const TRAINED: &str = "exits";

/// What a gate that is not met measured, and the metrics that depend on it.
type FailedGate<'a> = (Option<f64>, Vec<&'a str>);

/// Gates that are not met, and on which metrics that tells.
pub(super) fn gates(set: &RunSet) -> String {
    let mut failed: BTreeMap<(&str, &str), FailedGate<'_>> = BTreeMap::new();
    let mut n_gates = 0;
    for run in &set.runs {
        for record in &run.records {
            for gate in &record.context.gates {
                n_gates += 1;
                if !gate.passed {
                    let entry = failed.entry((&run.name, &gate.name)).or_insert((gate.value, Vec::new()));
                    entry.1.push(&record.id);
                }
            }
        }
    }
    if n_gates == 0 {
        return paragraph("No record names a gate.");
    }
    if failed.is_empty() {
        return paragraph("All gates are met.");
    }
    let rows: Vec<(String, Vec<String>)> = failed
        .into_iter()
        .map(|((run, gate), (value, mut ids))| {
            ids.dedup();
            let value = value.map_or_else(|| "not measured".to_owned(), |value| number(value, ""));
            (run.to_owned(), vec![text_cell(gate), text_cell(&value), text_cell(&ids.join(", "))])
        })
        .collect();
    let columns = ["run", "gate that is not met", "measured", "metrics without a value because of it"];
    table(&columns.map(str::to_owned), &rows)
}

/// Base, trained model and controls: depth, accuracy, length.
pub(super) fn headline(subject: &Subject<'_>) -> String {
    let columns = [
        "run",
        "layer savings",
        "exit rate",
        "depth, 95 % quantile",
        "accuracy, strict",
        "accuracy, flexible",
        "length",
        "truncated",
    ];
    let rows: Vec<(String, Vec<String>)> = subject
        .runs()
        .map(|(_, run)| {
            let of = |ids: &[&str]| {
                let found = ids.iter().find_map(|id| run.record(subject.task, id));
                let none = found.is_none_or(|record| record.value.is_none());
                if none && run.is_at_full_depth() && ids.iter().any(|id| is_of_depth(id)) {
                    return none_cell("exits are off");
                }
                record_cell(found)
            };
            let quantile = match depth_quantile(run, subject.task, 0.95, subject.bootstrap) {
                Some((value, interval)) => {
                    let estimate = Estimate { value, interval, unit: "blocks".to_owned() };
                    estimate_cell(&estimate, number).replace(" class=\"decided\"", "")
                }
                None if run.is_at_full_depth() => none_cell("exits are off"),
                None => none_cell("no tokens"),
            };
            let cells = vec![
                of(&["savings.average"]),
                of(&["exits.rate"]),
                quantile,
                of(&STRICT),
                of(&FLEXIBLE),
                of(&["length.trace"]),
                of(&["length.truncated"]),
            ];
            (run_name(run), cells)
        })
        .collect();
    table(&columns.map(str::to_owned), &rows)
}

fn run_name(run: &EvaluationRun) -> String {
    let control = run.records.iter().find_map(|record| record.context.control_of.as_deref());
    control.map_or_else(|| run.name.clone(), |of| format!("{} (control of {of})", run.name))
}

/// Ids of a family that some run has for the task, in order.
fn ids<'a>(subject: &Subject<'a>, families: &[&str]) -> Vec<&'a str> {
    let mut ids: Vec<&str> = subject
        .runs()
        .flat_map(|(_, run)| &run.records)
        .filter(|record| {
            record.context.task == subject.task && families.iter().any(|family| record.id.starts_with(family))
        })
        .map(|record| record.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let alone = ids.clone();
    // A model without exits has its values at full depth in the row of the others' recorded ones.
    ids.retain(|id| id.strip_suffix(AT_FULL_DEPTH).is_none_or(|short| !alone.contains(&short)));
    ids
}

/// Quality by a judge, and the stand-in, apart from each other.
pub(super) fn quality(subject: &Subject<'_>) -> String {
    let judged = ids(subject, &["quality.", "judge.", "reading."]);
    let mut html = judges(subject, &judged);
    html += &by_run(subject, &judged);
    let stand_in = ids(subject, &["text."]);
    if !stand_in.is_empty() {
        html += "<h4>Stand-in (proxy_quality)</h4>";
        html += &by_run(subject, &stand_in);
        html += &agreement(subject, &stand_in);
    }
    html
}

/// Who judged, and what a reader of the grades has to know; or that nobody did.
fn judges(subject: &Subject<'_>, judged: &[&str]) -> String {
    let of_run = |run| judged.iter().filter_map(move |id| Some((run, EvaluationRun::record(run, subject.task, id)?)));
    let records: Vec<(&EvaluationRun, &MetricRecord)> = subject.runs().flat_map(|(_, run)| of_run(run)).collect();
    let mut judges: Vec<&str> =
        records.iter().filter_map(|(_, record)| record.extra.get("judge_model")?.as_str()).collect();
    judges.sort_unstable();
    judges.dedup();
    let was_judged = !judges.is_empty() || records.iter().any(|(_, record)| record.value.is_some());
    if !was_judged {
        return "<p><strong>No judge was run. These are surface statistics; they do not measure coherence or \
                correctness.</strong></p>"
            .to_owned();
    }
    let names = if judges.is_empty() { "not named".to_owned() } else { judges.join(", ") };
    let mut html = paragraph(&format!("Judge: {names}."));
    let is_set = |record: &MetricRecord, key: &str| record.extra.get(key) == Some(&serde_json::Value::Bool(true));
    for (key, words) in [
        ("self_judged", "Self-judged: the judge is of the family of the judged model, and may favour it"),
        ("partial", "Partial: the judge did not reply to all questions"),
    ] {
        let marked = records.iter().filter(|(_, record)| is_set(record, key));
        let mut runs: Vec<&str> = marked.map(|(run, _)| run.name.as_str()).collect();
        runs.dedup();
        if !runs.is_empty() {
            let words = escape(&format!("{words} ({}).", runs.join("; ")));
            html = format!("{html}<p><strong>{words}</strong></p>");
        }
    }
    let has_grades = records.iter().any(|(_, record)| !record.id.starts_with("judge.") && record.value.is_some());
    if !has_grades {
        html += "<p><strong>No grade may be used: the table says why. What stands below it are surface statistics; they do not \
                 measure coherence or correctness.</strong></p>";
    }
    html
}

/// How the stand-ins rank responses against the judge, where there were enough.
fn agreement(subject: &Subject<'_>, stand_in: &[&str]) -> String {
    let of_id = |id: &&str| {
        let found = |(_, run): (usize, &EvaluationRun)| {
            run.record(subject.task, id)?.extra.get("judge_spearman")?.as_object().cloned()
        };
        let field = subject.runs().find_map(found)?;
        let of_key = |key: &str| field.get(key).and_then(serde_json::Value::as_f64);
        let verdict = field.get("verdict").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let value = match (of_key("value"), of_key("lo"), of_key("hi")) {
            (Some(value), Some(lo), Some(hi)) => {
                format!("{} ({} to {})", number(value, ""), number(lo, ""), number(hi, ""))
            }
            _ => "–".to_owned(),
        };
        let n = of_key("n").map_or_else(String::new, |n| grouped(n as usize));
        Some(((*id).to_owned(), vec![text_cell(&value), text_cell(&n), text_cell(&verdict)]))
    };
    let rows: Vec<(String, Vec<String>)> = stand_in.iter().filter_map(of_id).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["stand-in", "Spearman's correlation with the judge's overall grade", "responses", "verdict"];
    format!("<h4>Stand-ins against the judge</h4>{}", table(&columns.map(str::to_owned), &rows))
}

/// A row for each metric, a column for each run.
fn by_run(subject: &Subject<'_>, ids: &[&str]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let columns: Vec<String> =
        ["metric".to_owned()].into_iter().chain(subject.runs().map(|(_, run)| run.name.clone())).collect();
    let rows: Vec<(String, Vec<String>)> = ids
        .iter()
        .map(|id| {
            let cells = subject.runs().map(|(_, run)| record_cell(run.record(subject.task, id)));
            (metric_name(subject, id), cells.collect())
        })
        .collect();
    table(&columns, &rows)
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
pub(super) fn externalisation(subject: &Subject<'_>) -> String {
    let ids = ids(subject, &["D"]);
    if ids.is_empty() {
        return paragraph("No metric of externalisation was measured.");
    }
    let mut html = by_run(subject, &ids);
    let of_model = |model: &str| subject.runs().map(|(_, run)| run).find(|run| run.manifest.model == model);
    html += "<h4>Contrasts</h4>";
    let Some(trained) = of_model(TRAINED) else {
        return html + &paragraph(&format!("There are no contrasts: no run is of the model `{TRAINED}`."));
    };
    let mut columns = vec!["metric".to_owned()];
    let mut differences: Vec<Result<Comparison, String>> = Vec::new();
    for control in VERDICT_CONTROLS {
        columns.push(format!("{} − {control}", trained.name));
        differences.push(match of_model(control) {
            None => Err(format!("no run `{control}`")),
            Some(run) => compare(run, trained, subject.bootstrap).map_err(|error| error.to_string()),
        });
    }
    // D1 once more, at equal length: a difference only.
    let rows: Vec<(String, Vec<String>)> = ids
        .iter()
        .flat_map(|id| [Some(*id), (*id == AREA).then_some(ADJUSTED_AREA)].into_iter().flatten())
        .map(|id| {
            let cells = differences.iter().map(|comparison| contrast_cell(comparison, subject.task, id));
            (metric_name(subject, id), cells.collect())
        })
        .collect();
    html += &table(&columns, &rows);
    html + &paragraph(
        "Paired differences on the same items. Bold: the interval leaves out 0. A claim of externalisation needs base, base_noise \
         and exits_off (or same_training) to point the same way, and each of them to be a control: see the hypotheses.",
    )
}

fn contrast_cell(comparison: &Result<Comparison, String>, task: &str, id: &str) -> String {
    let comparison = match comparison {
        Ok(comparison) => comparison,
        Err(reason) => return none_cell(reason),
    };
    let Some(found) = comparison.metrics.iter().find(|metric| metric.id == id && metric.task == task) else {
        return none_cell("not in both");
    };
    match found.difference {
        Some(value) if found.ci.is_some() => {
            let estimate = Estimate { value, interval: found.ci.clone(), unit: found.unit.clone() };
            estimate_cell(&estimate, difference)
        }
        _ => none_cell(found.null_reason.as_deref().unwrap_or("no interval")),
    }
}

/// What the points of each sweep say together: how much can be saved for one point of accuracy.
pub(super) fn dials(subject: &Subject<'_>) -> String {
    let columns = ["dial", "points", "savings within 1 pp of accuracy with exits off", "area covered"];
    let rows: Vec<(String, Vec<String>)> = subject
        .set
        .sweeps
        .iter()
        .filter_map(|sweep| Some((sweep.index.dial.replace('_', " "), dial_cells(subject, sweep)?)))
        .collect();
    if rows.is_empty() { String::new() } else { table(&columns.map(str::to_owned), &rows) }
}

fn dial_cells(subject: &Subject<'_>, sweep: &Sweep) -> Option<Vec<String>> {
    let of_task = |run: &&EvaluationRun| run.tasks().contains(&subject.task);
    let mut runs: Vec<&EvaluationRun> =
        sweep.runs.iter().flatten().filter_map(|place| subject.set.runs.get(*place)).filter(of_task).collect();
    runs.retain(|run| run.manifest.model != "base");
    let n_points = runs.len();
    // The accuracy with exits off is that of a point of the sweep, or of the trained model's run without exits.
    let is_off = |run: &&EvaluationRun| run.is_at_full_depth();
    if !runs.iter().any(is_off) {
        runs.extend(subject.set.runs.iter().filter(of_task).find(|run| run.manifest.model == "exits_off"));
    }
    let id = STRICT.iter().find(|id| runs.iter().any(|run| run.record(subject.task, id).is_some()))?;
    let cells = |found: [String; 2]| Some([vec![text_cell(&n_points.to_string())], found.to_vec()].concat());
    let none = |reason: &str| cells([none_cell(reason), none_cell(reason)]);
    let Some(off) = runs.iter().position(|run| run.is_at_full_depth()) else { return none("no run with exits off") };
    let Some(clusters) = shared_clusters(&runs, subject.task, ["savings.average", id]) else {
        return none("no shared items");
    };
    let points: Vec<DialPoint> = runs
        .iter()
        .zip(clusters)
        .map(|(run, [savings, accuracy])| DialPoint { label: run.name.clone(), savings, accuracy })
        .collect();
    let context = &runs.first()?.record(subject.task, id)?.context;
    let setting = MetricSetting { context, identity: &runs.first()?.manifest.identity, bootstrap: *subject.bootstrap };
    let record = front_record(&points, off, 0.0, &[], &setting);
    let within = record.extra.get("als_at_1pp").and_then(|field| {
        let number = |key: &str| field.get(key)?.as_f64();
        let interval = ConfidenceInterval { lo: number("lo")?, hi: number("hi")?, ..record.ci.clone()? };
        Some(Estimate { value: number("value")?, interval: Some(interval), unit: "fraction".to_owned() })
    });
    let within = within.map_or_else(
        || none_cell("not defined"),
        |within| estimate_cell(&within, number).replace(" class=\"decided\"", ""),
    );
    cells([within, record_cell(Some(&record))])
}

/// How many responses reach each stage of being counted.
pub(super) fn funnels(subject: &Subject<'_>) -> String {
    let columns = ["run", "generated", "trace closed", "answer found", "ended by itself"];
    let rows: Vec<(String, Vec<String>)> = subject
        .runs()
        .map(|(_, run)| {
            let cells = funnel(run, subject.task).iter().map(|count| text_cell(&grouped(*count))).collect();
            (run.name.clone(), cells)
        })
        .collect();
    table(&columns.map(str::to_owned), &rows)
}
