//! Tables of what was run and recorded: exclusions, settings, all records.

use std::fmt::Write;

use serde_json::Value;

use super::html::{link, paragraph, record_cell, table, text_cell};
use crate::text::{escape, grouped};
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::MetricRecord;

/// What was left out, and why.
pub(super) fn exclusions(set: &RunSet) -> String {
    let mut html = String::new();
    for left_out in &set.left_out {
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<p class=\"alarm\"><strong>Left out:</strong> {} ({})</p>",
            escape(&left_out.folder.display().to_string()),
            escape(&left_out.reason)
        );
    }
    for run in &set.runs {
        for remark in &run.remarks {
            // Writing to a string cannot fail.
            let _ = write!(html, "<p class=\"alarm\"><strong>{}:</strong> {}</p>", escape(&run.name), escape(remark));
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
        // Writing to a string cannot fail.
        let _ = write!(
            html,
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
        // Writing to a string cannot fail.
        let _ = write!(
            html,
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
