//! What `aloud eval --output` prints: the answers, or with `--all` every metric.

use std::path::Path;

use aloud_lab::evaluation::question_kinds::kinds_text;
use aloud_measure::evaluation_run::open_runs;
use aloud_measure::metric_record::MetricRecord;
use aloud_report::record_table::record_table;
use aloud_report::summary::{Answers, answers, verdict_lines, verdicts_of_runs};

/// What was saved, what it cost and what may be claimed, from the files of the evaluation; then where these are.
pub(crate) fn answers_of(output: &Path) -> anyhow::Result<String> {
    let set = open_runs(&[output.to_owned()])?;
    let found = answers(&set, &verdicts_of_runs(&set));
    let lines: Vec<String> = found.iter().flat_map(Answers::lines).collect();
    let folder = output.display();
    Ok(format!(
        "{}\nfiles    {folder}; as a page: aloud report {folder} --output FILE.html\n         every metric of every model: the same \
         command with --all\n",
        lines.join("\n")
    ))
}

/// One row a metric and one column a model, accuracy by kind of question, and the verdicts with their contrasts.
pub(crate) fn all_of_it(records: &[MetricRecord], output: &Path) -> anyhow::Result<String> {
    let set = open_runs(&[output.to_owned()])?;
    let verdicts: Vec<String> = verdicts_of_runs(&set).iter().flatten().flat_map(verdict_lines).collect();
    let verdicts = if verdicts.is_empty() { String::new() } else { format!("\n{}\n", verdicts.join("\n")) };
    let (table, kinds) = (record_table(records), kinds_text(records));
    Ok(format!("{table}\nwritten to {}\n{kinds}{verdicts}", output.display()))
}
