//! Tables of what was run and recorded: exclusions, settings, all records.

use maud::{Markup, html};

use super::html::{Row, link, record_cell, table, text_cell};
use crate::words::{grouped, word};
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::MetricRecord;

/// What was left out, and why.
pub(super) fn exclusions(set: &RunSet) -> Markup {
    let excluded = set.runs.iter().flat_map(|run| run.records.iter().map(move |record| (run, record)));
    let rows: Vec<Row> = excluded
        .filter(|(_, record)| record.n_excluded > 0)
        .map(|(run, record)| {
            let why = record.exclusions.iter().map(|(reason, count)| format!("{} {count}", reason.replace('_', " ")));
            let cells = [
                record.context.task.clone(),
                record.id.clone(),
                grouped(record.n),
                grouped(record.n_excluded),
                why.collect::<Vec<_>>().join(", "),
            ];
            (run.name.clone(), cells.iter().map(|cell| text_cell(cell)).collect())
        })
        .collect();
    html! {
        @for left_out in &set.left_out {
            p.alarm { strong { "Left out:" } " " (left_out.folder.display().to_string()) " (" (left_out.reason) ")" }
        }
        @for (run, remark) in set.runs.iter().flat_map(|run| run.remarks.iter().map(move |remark| (run, remark))) {
            p.alarm { strong { (run.name) ":" } " " (remark) }
        }
        @if rows.is_empty() {
            p { "No metric left items out." }
        } @else {
            (table(&["run", "task", "metric", "items counted", "left out", "why"], &rows))
        }
    }
}

/// Settings of all runs; those that differ are marked.
pub(super) fn settings(set: &RunSet) -> Markup {
    let of_runs: Vec<Vec<(&str, String)>> = set.runs.iter().map(settings_of).collect();
    let Some(first) = of_runs.first() else { return html! {} };
    let columns: Vec<&str> = ["setting"].into_iter().chain(set.runs.iter().map(|run| run.name.as_str())).collect();
    let row = |(place, (name, value)): (usize, &(&str, String))| {
        let values: Vec<&str> = of_runs.iter().map(|of_run| of_run[place].1.as_str()).collect();
        let differs = values.iter().any(|other| *other != value.as_str());
        let cell = |value: &&str| html! { td.words.differs[differs] { (value) } };
        ((*name).to_owned(), values.iter().map(cell).collect())
    };
    let rows: Vec<Row> = first.iter().enumerate().map(row).collect();
    html! {
        (table(&columns, &rows))
        @for run in &set.runs {
            details.settings {
                summary { "manifest of " (run.name) }
                pre { (serde_json::to_string_pretty(&run.manifest).unwrap_or_default()) }
            }
        }
    }
}

fn settings_of(run: &EvaluationRun) -> Vec<(&'static str, String)> {
    let manifest = &run.manifest;
    let identity = &manifest.identity;
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let adapter = identity.adapter_sha256.as_deref();
    let items: Vec<String> = manifest.item_ids.iter().map(|(task, items)| format!("{task} {}", items.len())).collect();
    let dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let optional = |value: Option<f64>| dash(value.map(|value| value.to_string()));
    vec![
        ("folder", run.folder.display().to_string()),
        ("model", manifest.model_source.clone()),
        ("model hash", short(&identity.model_sha256)),
        ("trained part", dash(manifest.adapter_source.clone())),
        ("hash of it", dash(adapter.map(short))),
        ("tokenizer hash", short(&identity.tokenizer_sha256)),
        ("blocks", identity.n_blocks.to_string()),
        ("exit candidates", format!("{:?}", identity.exit_candidates)),
        ("depth policy", word(manifest.dial.policy)),
        ("exit offset", optional(manifest.dial.offset)),
        ("KL factor", optional(manifest.dial.kl_factor)),
        ("depth penalty", optional(manifest.dial.depth_penalty)),
        ("static depth", dash(manifest.dial.static_depth.map(|depth| depth.to_string()))),
        ("temperature", manifest.decoding.temperature.to_string()),
        ("top p", manifest.decoding.top_p.to_string()),
        ("most new tokens", manifest.decoding.max_new_tokens.to_string()),
        ("number format", manifest.dtype.clone()),
        ("numerics", dash(manifest.numerics.as_ref().map(ToString::to_string))),
        ("tier", word(manifest.tier)),
        ("items", items.join(", ")),
        ("seeds", format!("{:?}", manifest.seeds)),
        ("program", manifest.code_version.clone()),
        ("wall time", format!("{:.0} s", manifest.wall_seconds)),
    ]
}

/// Every record of every run.
pub(super) fn appendix(set: &RunSet) -> Markup {
    let columns =
        ["metric", "task", "value", "unit", "items", "tokens", "left out", "mode", "interval by", "further fields"];
    let rows = |run: &EvaluationRun| -> Vec<Row> {
        run.records.iter().map(|record| (record.id.clone(), appendix_cells(record))).collect()
    };
    html! {
        @for run in &set.runs {
            details.records {
                summary { (run.name) ": " (run.records.len()) " records" }
                (link("metrics.json", "application/json", &serde_json::to_string(&run.records).unwrap_or_default(), "all as JSON"))
                (table(&columns, &rows(run)))
            }
        }
    }
}

fn appendix_cells(record: &MetricRecord) -> Vec<Markup> {
    let extra = html! {
        td.words {
            @if !record.extra.is_empty() {
                details {
                    summary { (record.extra.keys().cloned().collect::<Vec<_>>().join(", ")) }
                    pre { (serde_json::to_string(&record.extra).unwrap_or_default()) }
                }
            }
        }
    };
    let words = [
        record.unit.clone(),
        grouped(record.n),
        record.n_tokens.map(grouped).unwrap_or_default(),
        grouped(record.n_excluded),
        record.context.mode.map(word).unwrap_or_default(),
        record.ci.as_ref().map(|ci| word(ci.method)).unwrap_or_default().replace('_', " "),
    ];
    let mut cells = vec![text_cell(&record.context.task), record_cell(Some(record))];
    cells.extend(words.iter().map(|word| text_cell(word)));
    cells.push(extra);
    cells
}
