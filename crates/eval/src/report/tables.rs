//! The tables of the page: gates, headline, quality, externalisation with contrasts, exclusions, settings, all records.

use std::collections::BTreeMap;

use serde_json::Value;

use super::figures::{FLEXIBLE, STRICT, Subject};
use super::html::{
    Estimate, difference, estimate_cell, link, none_cell, number, paragraph, record_cell, table, text_cell,
};
use super::measured::{depth_quantile, funnel};
use crate::compare::{Comparison, compare};
use crate::text::{escape, grouped};
use crate::{EvaluationRun, MetricRecord, RunSet};

/// Models that the trained one is set against, with what the contrast separates.
const CONTRASTS: [&str; 3] = ["base", "base_noise", "ee_off"];
/// Key of the trained model with its own exits.
const TRAINED: &str = "ee";

/// Gates that are not met, and on which metrics that tells.
pub(super) fn gates(set: &RunSet) -> String {
    let mut failed: BTreeMap<(&str, &str), (Option<f64>, Vec<&str>)> = BTreeMap::new();
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
                if none && run.is_at_full_depth() && ids.iter().any(|id| id.starts_with('A')) {
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
                of(&["A1.als"]),
                of(&["A2.eer"]),
                quantile,
                of(&STRICT),
                of(&FLEXIBLE),
                of(&["B4.len"]),
                of(&["B5.trunc"]),
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
    ids
}

/// Quality by a judge, and the stand-in, apart from each other.
pub(super) fn quality(subject: &Subject<'_>) -> String {
    let judged = ids(subject, &["C1.", "C2.", "C3.", "C5."]);
    let has_value =
        |id: &&str| subject.runs().any(|(_, run)| run.record(subject.task, id).is_some_and(|r| r.value.is_some()));
    let mut html = String::new();
    if judged.iter().any(has_value) {
        let mut judges: Vec<&str> = subject
            .runs()
            .flat_map(|(_, run)| &run.records)
            .filter_map(|record| record.extra.get("judge_model")?.as_str())
            .collect();
        judges.sort_unstable();
        judges.dedup();
        html += &paragraph(&format!(
            "Judge: {}.",
            if judges.is_empty() { "not named".to_owned() } else { judges.join(", ") }
        ));
    } else {
        html += "<p><strong>No judge was run. These are surface statistics; they do not measure coherence or correctness.</strong></p>";
    }
    html += &by_run(subject, &judged);
    let stand_in = ids(subject, &["C4."]);
    if !stand_in.is_empty() {
        html += "<h4>Stand-in (proxy_quality)</h4>";
        html += &by_run(subject, &stand_in);
    }
    html
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
    for control in CONTRASTS {
        columns.push(format!("{} − {control}", trained.name));
        differences.push(match of_model(control) {
            None => Err(format!("no run `{control}`")),
            Some(run) => compare(run, trained, subject.bootstrap).map_err(|error| error.to_string()),
        });
    }
    let rows: Vec<(String, Vec<String>)> = ids
        .iter()
        .map(|id| {
            let cells = differences.iter().map(|comparison| contrast_cell(comparison, subject.task, id));
            (metric_name(subject, id), cells.collect())
        })
        .collect();
    html += &table(&columns, &rows);
    html + &paragraph(
        "Paired differences on the same items. Bold: the interval leaves out 0. A claim of externalisation needs all three \
             to point the same way.",
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

/// What was left out, and why.
pub(super) fn exclusions(set: &RunSet) -> String {
    let mut html = String::new();
    for left_out in &set.left_out {
        html += &format!(
            "<p class=\"alarm\"><strong>Left out:</strong> {} ({})</p>",
            escape(&left_out.folder.display().to_string()),
            escape(&left_out.reason)
        );
    }
    for run in &set.runs {
        for remark in &run.remarks {
            html += &format!("<p class=\"alarm\"><strong>{}:</strong> {}</p>", escape(&run.name), escape(remark));
        }
    }
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for run in &set.runs {
        for record in run.records.iter().filter(|record| record.n_excluded > 0) {
            let reasons: Vec<String> = record
                .exclusions
                .iter()
                .map(|(reason, count)| format!("{} {count}", reason.replace('_', " ")))
                .collect();
            let cells = [
                record.context.task.clone(),
                record.id.clone(),
                grouped(record.n),
                grouped(record.n_excluded),
                reasons.join(", "),
            ];
            rows.push((run.name.clone(), cells.iter().map(|cell| text_cell(cell)).collect()));
        }
    }
    if rows.is_empty() {
        return html + &paragraph("No metric left items out.");
    }
    let columns = ["run", "task", "metric", "items counted", "left out", "why"];
    html + &table(&columns.map(str::to_owned), &rows)
}

/// Settings of all runs; those that differ are marked.
pub(super) fn settings(set: &RunSet) -> String {
    let of_runs: Vec<Vec<(&str, String)>> = set.runs.iter().map(settings_of).collect();
    let Some(first) = of_runs.first() else { return String::new() };
    let columns: Vec<String> =
        ["setting".to_owned()].into_iter().chain(set.runs.iter().map(|run| run.name.clone())).collect();
    let rows: Vec<(String, Vec<String>)> = first
        .iter()
        .enumerate()
        .map(|(place, (name, value))| {
            let values: Vec<&str> = of_runs.iter().map(|of_run| of_run[place].1.as_str()).collect();
            let differs = values.iter().any(|other| *other != value.as_str());
            let cells = values.iter().map(|value| {
                if differs {
                    text_cell(value).replace("class=\"words\"", "class=\"words differs\"")
                } else {
                    text_cell(value)
                }
            });
            ((*name).to_owned(), cells.collect())
        })
        .collect();
    let mut html = table(&columns, &rows);
    for run in &set.runs {
        let text = serde_json::to_string_pretty(&run.manifest).unwrap_or_default();
        html += &format!(
            "<details class=\"settings\"><summary>manifest of {}</summary><pre>{}</pre></details>",
            escape(&run.name),
            escape(&text)
        );
    }
    html
}

fn settings_of(run: &EvaluationRun) -> Vec<(&'static str, String)> {
    let manifest = &run.manifest;
    let identity = &manifest.identity;
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let adapter = identity.adapter_sha256.as_deref();
    let items: Vec<String> = manifest.item_ids.iter().map(|(task, items)| format!("{task} {}", items.len())).collect();
    let tier = serde_json::to_value(manifest.tier).ok().and_then(|tier| tier.as_str().map(str::to_owned));
    let policy = serde_json::to_value(manifest.dial.policy).ok().and_then(|policy| policy.as_str().map(str::to_owned));
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    vec![
        ("folder", run.folder.display().to_string()),
        ("model", manifest.model_source.clone()),
        ("model hash", short(&identity.model_sha256)),
        ("trained part", manifest.adapter_source.clone().unwrap_or_else(|| "–".to_owned())),
        ("hash of it", adapter.map_or_else(|| "–".to_owned(), short)),
        ("tokenizer hash", short(&identity.tokenizer_sha256)),
        ("blocks", identity.n_blocks.to_string()),
        ("exit candidates", format!("{:?}", identity.exit_candidates)),
        ("depth policy", policy.unwrap_or_default()),
        ("exit offset", optional(manifest.dial.offset)),
        ("KL factor", optional(manifest.dial.kl_factor)),
        ("depth penalty", optional(manifest.dial.depth_penalty)),
        ("static depth", manifest.dial.static_depth.map_or_else(|| "–".to_owned(), |depth| depth.to_string())),
        ("temperature", manifest.decoding.temperature.to_string()),
        ("top p", manifest.decoding.top_p.to_string()),
        ("most new tokens", manifest.decoding.max_new_tokens.to_string()),
        ("number format", manifest.dtype.clone()),
        ("tier", tier.unwrap_or_default()),
        ("items", items.join(", ")),
        ("seeds", format!("{:?}", manifest.seeds)),
        ("program", manifest.code_version.clone()),
        ("wall time", format!("{:.0} s", manifest.wall_seconds)),
    ]
}

/// Every record of every run.
pub(super) fn appendix(set: &RunSet) -> String {
    let columns =
        ["metric", "task", "value", "unit", "items", "tokens", "left out", "mode", "interval by", "further fields"];
    let mut html = String::new();
    for run in &set.runs {
        let rows: Vec<(String, Vec<String>)> =
            run.records.iter().map(|record| (record.id.clone(), appendix_cells(record))).collect();
        let json = serde_json::to_string(&run.records).unwrap_or_default();
        html += &format!(
            "<details class=\"records\"><summary>{}: {} records</summary>{}{}</details>",
            escape(&run.name),
            run.records.len(),
            link("metrics.json", "application/json", &json, "all as JSON"),
            table(&columns.map(str::to_owned), &rows)
        );
    }
    html
}

fn appendix_cells(record: &MetricRecord) -> Vec<String> {
    let word = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let mode = word(record.context.mode.and_then(|mode| serde_json::to_value(mode).ok()));
    let method = word(record.ci.as_ref().and_then(|ci| serde_json::to_value(ci.method).ok())).replace('_', " ");
    let tokens = record.n_tokens.map(grouped).unwrap_or_default();
    let extra = if record.extra.is_empty() {
        "<td></td>".to_owned()
    } else {
        let json = serde_json::to_string(&record.extra).unwrap_or_default();
        format!(
            "<td class=\"words\"><details><summary>{}</summary><pre>{}</pre></details></td>",
            escape(&record.extra.keys().cloned().collect::<Vec<_>>().join(", ")),
            escape(&json)
        )
    };
    let mut cells = vec![text_cell(&record.context.task), record_cell(Some(record))];
    let words = [record.unit.clone(), grouped(record.n), tokens, grouped(record.n_excluded), mode, method];
    cells.extend(words.iter().map(|word| text_cell(word)));
    cells.push(extra);
    cells
}
