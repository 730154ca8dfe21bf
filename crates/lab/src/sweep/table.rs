//! The table of a sweep, for people.

use aloud_report::table::Table;
use serde_json::Value;

use super::points::SweptDial;
use super::row::SweepRow;
use crate::words::{columns, or_dash, percent};

/// A row a value of the dial and one of the base, with notes on the judge.
pub fn sweep_table(rows: &[SweepRow], dial: SweptDial) -> String {
    let has_judge = rows.iter().any(|row| row.quality.get("coherence").is_some_and(Value::is_number));
    let quality = if has_judge {
        ["coherence (judge)", "overall (judge)"]
    } else {
        ["repetition (stand-in)", "perplexity (stand-in)"]
    };
    let own = [dial.name(), "exit rate", "ALS", "target ALS", "accuracy", "GFLOP per right answer"];
    let mut table = Table::new(columns(&[], &[&own[..], &quality].concat()));
    for row in rows {
        let quality =
            |name: &str| or_dash(row.quality.get(name).and_then(Value::as_f64), |score| format!("{score:.2}"));
        let (first, second) =
            if has_judge { ("coherence", "overall") } else { ("proxy_repeated_4", "proxy_perplexity") };
        table.row([
            row.value.map_or_else(|| "base".to_owned(), |value| value.to_string()),
            percent(row.early_exit_rate),
            percent(row.average_layer_savings),
            percent(row.target_als),
            percent(row.accuracy),
            or_dash(row.cost_per_correct, |flops| format!("{:.3}", flops / 1e9)),
            quality(first),
            quality(second),
        ]);
    }
    let mut notes = judge_notes(rows);
    if !has_judge {
        notes += "The stand-ins are surface statistics; they do not measure coherence or correctness.\n";
    }
    format!("{table}\n{notes}")
}

/// Who judged, and what could not be used.
fn judge_notes(rows: &[SweepRow]) -> String {
    let Some(judge) = rows.iter().find_map(|row| row.judged.as_ref()).map(|(judge, _)| judge) else {
        return "No judge was run. ".to_owned();
    };
    let of_row = |row: &SweepRow| {
        let (_, reason) = row.judged.as_ref()?;
        let value = row.value.map_or_else(|| "base".to_owned(), |value| value.to_string());
        Some(format!("{value}: no judged quality ({}).\n", reason.as_ref()?))
    };
    let missing: String = rows.iter().filter_map(of_row).collect();
    format!("Judge: {judge}; coherence is out of 10, overall out of 40.\n{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_judge_the_table_says_so() {
        let rows = [SweepRow::new(Some(0.5), &[]), SweepRow::new(None, &[])];
        assert!(sweep_table(&rows, SweptDial::KlFactor).contains("No judge was run"));
    }
}
