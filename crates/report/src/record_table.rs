//! All records of an evaluation as a table for the command line: one row a metric, one column a model.

use aloud_measure::metric_record::MetricRecord;

use crate::table::{Align, Table};
use crate::words::{distinct, reason_of};

/// The table, in the order of the records.
pub fn record_table(records: &[MetricRecord]) -> Table {
    let models = distinct(records.iter().map(|record| record.context.model.as_str()));
    let ids = distinct(records.iter().map(|record| (record.id.as_str(), record.context.task.as_str())));
    let columns = [("metric", Align::Left), ("task", Align::Left)];
    let mut table = Table::new(columns.into_iter().chain(models.iter().map(|model| (*model, Align::Left))));
    for (id, task) in ids {
        let cell = |model: &&str| {
            let is_it = |record: &&MetricRecord| {
                (record.id.as_str(), record.context.task.as_str(), record.context.model.as_str()) == (id, task, *model)
            };
            records.iter().find(is_it).map_or_else(String::new, value)
        };
        table.row([id.to_owned(), task.to_owned()].into_iter().chain(models.iter().map(cell)));
    }
    table
}

/// A value with its interval, or why there is none.
fn value(record: &MetricRecord) -> String {
    match (record.value, &record.ci) {
        (Some(value), Some(ci)) => format!("{value:.3} ({:.3} to {:.3})", ci.lo, ci.hi),
        (Some(value), None) => format!("{value:.3}"),
        (None, _) => reason_of(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aloud_measure::metric_record::{Direction, RecordContext};
    use aloud_measure::test_runs::context;

    #[test]
    fn a_row_a_metric_a_column_a_model_and_reasons_in_words() {
        let of_model = |model: &str| RecordContext { model: model.to_owned(), ..context() };
        let record = |id: &str, model: &str| MetricRecord::new(id, "", Direction::Descriptive, &of_model(model));
        let records = [
            record("accuracy.strict", "exits").with_value(0.5),
            record("depth.regret", "exits").with_null("no_settling_depths"),
            record("accuracy.strict", "base").with_value(0.75),
        ];
        let table = record_table(&records).to_string();
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(lines[0], ["metric", "task", "exits", "base"]);
        assert_eq!((lines[2][0], lines[2][2], lines[2][3]), ("accuracy.strict", "0.500", "0.750"));
        assert_eq!(lines[3][2], "no settling depths");
    }
}
