//! The report as Markdown: the answers, gates, and every record of every run, for terminals, reviews and notes.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::summary::{CLAIM, answers, tasks_of, verdicts_of_runs};
use crate::words::{number, reason_of};
use aloud_measure::evaluation_run::RunSet;
use aloud_measure::metric_record::MetricRecord;

/// The records of these runs as tables, a row a metric and a column a run. Numbers without an interval are not printed.
pub fn render_markdown(set: &RunSet, title: &str) -> String {
    let title = if title.trim().is_empty() { "Evaluation" } else { title };
    let mut text = format!("# {}\n\n{CLAIM}\n", escape(title));
    // Writing to a string cannot fail.
    for found in answers(set, &verdicts_of_runs(set)) {
        let _ = write!(text, "\n## {}\n\n", escape(&found.heading));
        for (question, answers) in found.questions() {
            for answer in answers {
                let _ = writeln!(text, "- **{question}:** {}", escape(answer));
            }
        }
    }
    for left_out in &set.left_out {
        let (folder, reason) = (left_out.folder.display().to_string(), &left_out.reason);
        let _ = write!(text, "\n**Left out:** {} ({})\n", escape(&folder), escape(reason));
    }
    for run in &set.runs {
        for remark in &run.remarks {
            let _ = write!(text, "\n**{}:** {}\n", escape(&run.name), escape(remark));
        }
    }
    text += "\n## Gates that are not met\n\n";
    text += &gates(set);
    for task in tasks_of(set) {
        let _ = write!(text, "\n## {}\n\n", escape(task));
        text += &of_task(set, task);
    }
    text
}

fn gates(set: &RunSet) -> String {
    let mut lines: Vec<String> = Vec::new();
    for run in &set.runs {
        for record in &run.records {
            for gate in record.context.gates.iter().filter(|gate| !gate.passed) {
                let value = gate.value.map_or_else(|| "not measured".to_owned(), |value| number(value, ""));
                let [run, id, gate] = [&run.name, &record.id, &gate.name].map(|name| escape(name));
                lines.push(format!("- {run}, {id}: {gate} ({value})\n"));
            }
        }
    }
    if lines.is_empty() { "None.\n".to_owned() } else { lines.concat() }
}

/// One table: the metrics that some run has for the task, in the order of their ids.
fn of_task(set: &RunSet, task: &str) -> String {
    let runs: Vec<_> = set.runs.iter().filter(|run| run.tasks().contains(&task)).collect();
    let records = runs.iter().flat_map(|run| &run.records).filter(|record| record.context.task == task);
    let ids: BTreeSet<&str> = records.map(|record| record.id.as_str()).collect();
    let mut text = String::from("| metric | unit |");
    for run in &runs {
        let _ = write!(text, " {} |", escape(&run.name));
    }
    let _ = write!(text, "\n|---|---|{}\n", "---|".repeat(runs.len()));
    for id in ids {
        let unit = runs.iter().find_map(|run| Some(run.record(task, id)?.unit.as_str())).unwrap_or_default();
        let _ = write!(text, "| {} | {} |", escape(id), escape(unit));
        for run in &runs {
            let _ = write!(text, " {} |", run.record(task, id).map_or_else(|| "–".to_owned(), cell));
        }
        text.push('\n');
    }
    text
}

fn cell(record: &MetricRecord) -> String {
    match (record.value, &record.ci) {
        (Some(value), Some(interval)) => {
            let [value, low, high] = [value, interval.lo, interval.hi].map(|value| number(value, &record.unit));
            format!("{value} ({low} to {high})")
        }
        (Some(_), None) => "– (no interval)".to_owned(),
        (None, _) => format!("– ({})", escape(&reason_of(record))),
    }
}

/// Names of runs and reasons are free text; marks that end a cell or begin markup are taken literally.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '#' | '\\' => escaped.extend(['\\', character]),
            '\n' | '\r' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_cannot_break_a_table() {
        assert_eq!(escape("a|b\n<i>_x_"), "a\\|b \\<i\\>\\_x\\_");
    }
}
